package config

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
)

func TestPeerNameIsReplacedByItsAddress(t *testing.T) {
	for _, test := range []struct {
		more        string
		found       Name
		address, id string
		want        string
	}{
		{`"peerAddress":"VPN.example.org"`, Name{Address: netip.MustParseAddr("192.0.2.9")}, "192.0.2.9", "192.0.2.9",
			""},
		{`"peerAddress":"vpn.example.org"`, Name{
			Address: netip.MustParseAddr("2001:db8::9"), Fault: "no answer from DNS",
		},
			"2001:db8::9", "2001:db8::9", ""},
		{`"peerAddress":"vpn.example.org","peerId":"vpn.example.org"`, Name{Address: netip.MustParseAddr("192.0.2.9")},
			"192.0.2.9", "@vpn.example.org", ""},
		{`"peerAddress":"vpn.example.org"`, Name{Fault: "no such host"}, "", "",
			`connections[0].peerAddress "vpn.example.org": no such host: allowed: an address, or a name that has one`},
		{`"peerAddress":"vpn.example.org"`, Name{Address: netip.MustParseAddr("192.0.2.1")}, "", "",
			"another address than the external one"},
		{`"peerAddress":"vpn.example.org","adminStateUp":false`, Name{}, "", "", ""},
	} {
		c, err := Decode(document(test.more))
		if err != nil {
			t.Fatal(err)
		}
		names := c.PeerNames()
		if strings.Contains(test.more, "false") != (len(names) == 0) ||
			len(names) > 0 && names[0] != "vpn.example.org" {
			t.Errorf("%s: names %v", test.more, names)
		}
		c.Found.Names = map[string]Name{"vpn.example.org": test.found}
		c.Resolve(nil)
		connection := c.Connections[0]
		if test.want != "" {
			if connection.Refused == nil || !strings.Contains(connection.Refused.Error(), test.want) {
				t.Errorf("%s: got %v, want %s", test.more, connection.Refused, test.want)
			}
			continue
		}
		if connection.Refused != nil || test.address != "" &&
			(connection.PeerAddress.String() != test.address || connection.PeerID.String() != test.id) {
			t.Errorf("%s: %v: %s as %s", test.more, connection.Refused, connection.PeerAddress, connection.PeerID)
		}
	}
}

// TestMistypedAddressIsNoHostName has mistyped addresses that inet_aton accepts, or whose last label is a number. A
// resolver could silently return another address for them than the one that was meant.
func TestMistypedAddressIsNoHostName(t *testing.T) {
	for name, good := range map[string]bool{
		"vpn": true, "vpn.example.org": true, "VPN-1.Example": true, "under_score.example.org": true, "1e9": true,
		"0x65.example": true, "1.2.3.4.example": true, "7up": true, "0xyz": true,
		"a.0b1": true, "null": true, strings.Repeat("a", 63) + ".org": true,
		"0x65": false, "0X7F.1": false, "0x7f.0x1": false, "1.2": false, "1": false, "017700000001": false,
		"vpn.0x": false, "vpn.example.7": false, "1.2.3.256": false, "1.2.3.08": false,
		"vpn.example.org.": false, ".vpn": false, "a..b": false, "-vpn": false, "vpn-.org": false,
		"v\u00e4n.org": false, "a b": false, strings.Repeat("a", 64) + ".org": false,
	} {
		c, err := Decode(document(`"peerAddress":"` + name + `"`))
		if err != nil {
			t.Fatal(err)
		}
		connection := c.Connections[0]
		if (connection.Refused == nil) != good || good != (connection.PeerName == strings.ToLower(name)) {
			t.Errorf("%s: %v, name %q", name, connection.Refused, connection.PeerName)
		}
		if !good && !strings.HasPrefix(connection.Refused.Error(), `configuration.connections[0].peerAddress "`) {
			t.Errorf("%s: %v", name, connection.Refused)
		}
	}
}

func TestPeersAreComparedByAddress(t *testing.T) {
	replacer := strings.NewReplacer(`"id":"a"`, `"id":"b"`, "192.0.2.9", "b.example.org", "10.2.0.0", "10.3.0.0")
	other := replacer.Replace(plain) + `,"ikePolicy":{"pfs":"group15"}`
	c, err := Decode(json.RawMessage(`{"externalIps":["192.0.2.1"],"connections":[{` + plain + `},{` + other + `}]}`))
	if err != nil {
		t.Fatal(err)
	}
	c.Found.Names = map[string]Name{"b.example.org": {Address: netip.MustParseAddr("192.0.2.9")}}
	c.Resolve(nil)
	if refused := c.Connections[1].Refused; !refusedWith(refused, "one IKE policy for a peer address") {
		t.Errorf("got %v", refused)
	}
}
