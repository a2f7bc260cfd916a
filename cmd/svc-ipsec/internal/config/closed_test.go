package config

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// TestRefusedConnectionClosesItsNetworks has refused connections. Packets to their peers' networks must not leave the
// container unencrypted, whatever the fault is.
func TestRefusedConnectionClosesItsNetworks(t *testing.T) {
	var many []string
	for i := range 70 {
		many = append(many, fmt.Sprintf(`"10.%d.0.0/16"`, i))
	}
	const (
		id        = `"id":"a","psk":"k","peerAddress":"192.0.2.9"`
		networks  = id + `,"localCidrs":["10.1.0.0/24"],"peerCidrs":["10.2.0.0/24"]`
		transport = `"encapsulationMode":"transport"`
	)
	for _, row := range []struct{ sentence, connection, closed string }{
		{"an unknown key", networks + `,"mtuu":1`, "10.2.0.0/24"},
		{"an invalid id", strings.Replace(networks, `"a"`, `""`, 1), "10.2.0.0/24"},
		{"an invalid network beside valid ones", id + `,"peerCidrs":["10.2.0.0/24","x",7,"10.4.0.9/16"]`,
			"10.2.0.0/24 10.4.0.0/16"},
		{"a network whose host part is a loopback address", id + `,"peerCidrs":["127.0.0.1/1"]`, "0.0.0.0/1"},
		{"more networks than are allowed", id + `,"peerCidrs":["2001:db8::/64",` + strings.Join(many, ",") + `]`,
			"2001:db8::/64 10.0.0.0/9"},
		{"administratively down", networks + `,"adminStateUp":false,"mtuu":1`, ""},
		{"administratively down, with an invalid id",
			strings.Replace(networks, `"a"`, `""`, 1) + `,"adminStateUp":false`, ""},
		{"an invalid state", networks + `,"adminStateUp":"false"`, "10.2.0.0/24"},
		{"transport mode, a fault of the IKE policy",
			id + `,"ikePolicy":{"encryptionAlgorithm":"des"},"ipsecPolicy":{` + transport + `}`, "192.0.2.9/32"},
		{"transport mode, a fault of the IPsec policy",
			id + `,"ipsecPolicy":{"transformProtocol":"x",` + transport + `}`, "192.0.2.9/32"},
		{"transport mode, an unknown key", id + `,"mtuu":1,"ipsecPolicy":{` + transport + `}`, "192.0.2.9/32"},
		{"transport mode, an unknown key of the policy",
			id + `,"ipsecPolicy":{"mode":1,` + transport + `}`, "192.0.2.9/32"},
	} {
		c, err := Decode(json.RawMessage(`{"externalIps":["192.0.2.1"],"connections":[{` + row.connection + `}]}`))
		if err != nil {
			t.Errorf("%s: %v", row.sentence, err)
			continue
		}
		c.Resolve(nil)
		var closed []string
		for _, network := range c.Connections[0].BlockedNetworks() {
			closed = append(closed, network.String())
		}
		if got := strings.Join(closed, " "); got != row.closed || c.Connections[0].Refused == nil {
			t.Errorf("%s: closed %q, refused: %v", row.sentence, got, c.Connections[0].Refused)
		}
	}
}
