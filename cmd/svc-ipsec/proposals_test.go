package main

import (
	"fmt"
	"slices"
	"testing"
)

func TestDaemonAcceptsListsOfProposals(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-lists")
	connection := func(n int, more string) string {
		return fmt.Sprintf(`,{"id":"c%d","peerAddress":"198.51.100.%d","localCidrs":["10.1.0.0/24"],`+
			`"peerCidrs":["10.%d.0.0/24"],"psk":"k",%s}`, n, n, n+2, more)
	}
	const list = `"proposals":[{"encryptionAlgorithm":"aes-256-ctr"},` +
		`{"encryptionAlgorithm":"aes-128","authAlgorithm":"sha512","pfs":"group14"},{}]`
	c.configuration = fmt.Sprintf(oneConnection,
		connection(1, `"ikePolicy":{`+list+`},"ipsecPolicy":{`+list+`}`)+
			connection(2, `"ikePolicy":{"ikeVersion":"v1",`+list+`},"ipsecPolicy":{`+list+`}`)+
			connection(3, `"ikePolicy":{"proposals":[{"pfs":"group19"},`+
				`{"pfs":"group31","encryptionAlgorithm":"chacha20poly1305"}]},`+
				`"ipsecPolicy":{"transformProtocol":"ah",`+list+`}`)+
			connection(4, `"ipsecPolicy":{"proposals":[{},{"pfs":"group15"}]}`))
	c.must("ADD")
	for i, connection := range c.health().Connections {
		if i == 4 {
			contains(t, "the reason", connection.Reason, "ipsecPolicy.proposals[1].pfs")
		} else if connection.Reason != "" && !slices.Contains(absentPeerReasons, connection.Reason) {
			t.Errorf("%s: %s", connection.ID, connection.Reason)
		}
	}
	contains(t, "the status", c.whack("--status"),
		"AES_CTR_256-HMAC_SHA2_256-MODP2048, AES_CBC_128-HMAC_SHA2_512-MODP2048",
		"AES_CBC_256-HMAC_SHA2_256-DH19, CHACHA20_POLY1305-HMAC_SHA2_256-DH31", "HMAC_SHA2_512_256")
	c.must("CHECK")
}
