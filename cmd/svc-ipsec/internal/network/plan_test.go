package network

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func decodeConfig(t *testing.T, document string) *config.Configuration {
	t.Helper()
	c, err := config.Decode(json.RawMessage(document))
	if err != nil {
		t.Fatal(err)
	}
	c.Resolve(nil)
	for _, connection := range c.Connections {
		if connection.Refused != nil {
			t.Fatal(connection.Refused)
		}
	}
	return c
}

const twoPeers = `{"externalIps":["100.100.100.2","2001:db8::2"],"externalMac":"ca:08:1a:94:29:0e","connections":[
	{"id":"a","peerAddress":"200.200.200.2","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.2.0.0/24"],"psk":"k",` +
	`"mtu":1400},
	{"id":"b","peerAddress":"200.200.200.3","localCidrs":["10.1.0.0/24"],"peerCidrs":["0.0.0.0/0"],"psk":"k",` +
	`"ikePolicy":{"ikeVersion":"v1"}},
	{"id":"c","peerAddress":"2001:db8::3","localCidrs":["fd01::/64"],"peerCidrs":["fd02::/64"],"psk":"k"}]}`

func TestNewPlan(t *testing.T) {
	for _, test := range []struct {
		name string
		port *spec.Port
		want []string
	}{
		{"gateways of both families", &spec.Port{Addresses: []string{"169.254.0.1/30", "fd00::1/126"},
			MAC: "02:00:00:00:00:01", Bridge: "br0"}, []string{
			"address 100.100.100.2/32", "address 2001:db8::2/128", "address 169.254.0.2/30", "address fd00::2/126",
			"neighbour 169.254.0.1 02:00:00:00:00:01", "neighbour fd00::1 02:00:00:00:00:01",
			"200.200.200.2/32 via 169.254.0.1 src 100.100.100.2 mtu 0",
			"200.200.200.3/32 via 169.254.0.1 src 100.100.100.2 mtu 0",
			"10.1.0.0/24 via 169.254.0.1 src invalid IP mtu 0", "10.2.0.0/24 via 169.254.0.1 src invalid IP mtu 1400",
			"0.0.0.0/0 via 169.254.0.1 src invalid IP mtu 1500",
			"2001:db8::3/128 via fd00::1 src 2001:db8::2 mtu 0", "fd01::/64 via fd00::1 src invalid IP mtu 0",
			"fd02::/64 via fd00::1 src invalid IP mtu 1500"}},
		{"on-link routes without an address of the port", &spec.Port{Bridge: "br0"}, []string{
			"address 100.100.100.2/32", "address 2001:db8::2/128",
			"200.200.200.2/32 via invalid IP src 100.100.100.2 mtu 0",
			"200.200.200.3/32 via invalid IP src 100.100.100.2 mtu 0",
			"10.1.0.0/24 via invalid IP src invalid IP mtu 0", "10.2.0.0/24 via invalid IP src invalid IP mtu 1400",
			"0.0.0.0/0 via invalid IP src invalid IP mtu 1500",
			"2001:db8::3/128 via invalid IP src 2001:db8::2 mtu 0", "fd01::/64 via invalid IP src invalid IP mtu 0",
			"fd02::/64 via invalid IP src invalid IP mtu 1500"}},
		{"the address next to the port's is an external address",
			&spec.Port{Addresses: []string{"100.100.100.1/24", "2001:db8::1/64"}}, []string{
				"address 100.100.100.2/24", "address 2001:db8::2/64",
				"200.200.200.2/32 via 100.100.100.1 src 100.100.100.2 mtu 0",
				"200.200.200.3/32 via 100.100.100.1 src 100.100.100.2 mtu 0",
				"10.1.0.0/24 via 100.100.100.1 src invalid IP mtu 0",
				"10.2.0.0/24 via 100.100.100.1 src invalid IP mtu 1400",
				"0.0.0.0/0 via 100.100.100.1 src invalid IP mtu 1500",
				"2001:db8::3/128 via 2001:db8::1 src 2001:db8::2 mtu 0",
				"fd01::/64 via 2001:db8::1 src invalid IP mtu 0",
				"fd02::/64 via 2001:db8::1 src invalid IP mtu 1500"}},
	} {
		p, err := NewPlan("svc0", test.port, decodeConfig(t, twoPeers))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, a := range p.Addresses {
			got = append(got, "address "+a.String())
		}
		for _, n := range p.Neighbours {
			got = append(got, "neighbour "+n.Address.String()+" "+n.MAC.String())
		}
		for _, r := range p.Routes {
			got = append(got, fmt.Sprintf("%s via %s src %s mtu %d", r.Destination, r.Gateway, r.Source, r.MTU))
		}
		if !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: got\n%s", test.name, strings.Join(got, "\n"))
		}
	}
}

func TestRouteMTUIsLimited(t *testing.T) {
	p, err := NewPlan("svc0", nil, decodeConfig(t, strings.Replace(twoPeers, `"mtu":1400`, `"mtu":65535`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range p.Routes {
		if r.Destination.String() == "10.2.0.0/24" && r.MTU != 65520 {
			t.Errorf("the MTU is %d", r.MTU)
		}
	}
}

func TestNoRouteHidesGateway(t *testing.T) {
	p, err := NewPlan("svc0", &spec.Port{Addresses: []string{"169.254.0.1/30", "fd00::1/126"}},
		decodeConfig(t, `{"externalIps":["100.100.100.2","2001:db8::2"],"connections":[
		{"id":"a","peerAddress":"fd00::1","localCidrs":["fd01::/64"],"peerCidrs":["fd00::/127","fd00::/64"],"psk":"k"},
		{"id":"b","peerAddress":"200.200.200.2","localCidrs":["10.1.0.0/24"],"peerCidrs":["169.254.0.1/32",`+
			`"169.254.0.0/16"],"psk":"k"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range p.Routes {
		got = append(got, r.Destination.String())
	}
	if want := "200.200.200.2/32 10.1.0.0/24 169.254.0.0/16 fd00::/64 fd01::/64"; strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
	if len(p.Guard.Peers) != 4 {
		t.Errorf("guarded networks: %v", p.Guard.Peers)
	}
}

func TestInvalidPortIsRefusedWithKey(t *testing.T) {
	for _, port := range []spec.Port{{Addresses: []string{"169.254.0.1"}}, {Addresses: []string{"10.0.0.1/32"}},
		{MAC: "x"}, {Bridge: "a/b"}} {
		_, err := NewPlan("svc0", &port, decodeConfig(t, `{}`))
		if err == nil || !strings.HasPrefix(err.Error(), "port.") {
			t.Errorf("%+v: %v", port, err)
		}
	}
}

func TestGuardRules(t *testing.T) {
	got := string(newGuard(decodeConfig(t, twoPeers)).Rules())
	if *update {
		if err := os.WriteFile("testdata/guard.nft", []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/guard.nft")
	if err != nil || got != string(want) {
		t.Errorf("error %v, rules\n%s", err, got)
	}
}

func TestGuardCoversRefusedConnections(t *testing.T) {
	const good = `{"id":"a","peerAddress":"200.200.200.2","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.2.0.0/24"],` +
		`"psk":"k"}`
	for name, test := range map[string]struct{ connection, guarded string }{
		"a PSK is missing": {
			`{"id":"b","peerAddress":"200.200.200.3","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.3.0.0/24"]}`,
			"10.3.0.0/24",
		},
		"unknown key": {
			`{"id":"b","peerAddress":"200.200.200.3","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.3.0.0/24"],` +
				`"pks":"k"}`, "10.3.0.0/24",
		},
		"invalid peer address": {
			`{"id":"b","peerAddress":"200.200.200.300","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.3.0.1/24"],` +
				`"psk":"k"}`, "10.3.0.0/24",
		},
		"invalid networks": {
			`{"id":"b","peerAddress":"200.200.200.3","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.3.0.0/24",7,` +
				`"10.4","127.0.0.0/8","fd03::/64"],"psk":"k"}`, "10.3.0.0/24 fd03::/64",
		},
		"transport mode with networks": {
			`{"id":"b","peerAddress":"200.200.200.3","peerCidrs":["10.3.0.0/24"],"psk":"k",` +
				`"ipsecPolicy":{"encapsulationMode":"transport"}}`, "200.200.200.3/32",
		},
		"networks of the wrong end": {
			`{"id":"b","peerAddress":"200.200.200.3","localCidrs":["10.3.0.0/24"],"peerCidrs":["10.1.0.0/24",` +
				`"10.1.0.128/25","10.0.0.0/8"]}`, "10.0.0.0/8",
		},
		"administratively down": {
			`{"id":"b","adminStateUp":false,"peerAddress":"200.200.200.3","localCidrs":["10.1.0.0/24"],` +
				`"peerCidrs":["10.3.0.0/24"]}`, "",
		},
		"networks of another connection": {
			`{"id":"b","peerAddress":"200.200.200.3","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.2.0.0/24"],` +
				`"psk":"k"}`, "",
		},
	} {
		c, err := config.Decode(
			json.RawMessage(`{"externalIps":["100.100.100.2"],"connections":[` + good + `,` + test.connection + `]}`))
		if err != nil {
			t.Fatal(err)
		}
		c.Resolve(nil)
		if c.Connections[1].Refused == nil && c.Connections[1].Up {
			t.Errorf("%s: the connection is not refused", name)
		}
		var got []string
		for _, network := range newGuard(c).Peers {
			if network.String() != "10.2.0.0/24" {
				got = append(got, network.String())
			}
		}
		if strings.Join(got, " ") != test.guarded {
			t.Errorf("%s: guarded networks %v, want %q", name, got, test.guarded)
		}
	}
}

func TestBlocksLeaveLocalNetworksReachable(t *testing.T) {
	got := map[string]bool{}
	for s := range newGuard(decodeConfig(t, twoPeers)).blocks(GuardPolicies) {
		got[fmt.Sprint(s.source, " > ", s.destination)] = true
	}
	want := map[string]bool{"0.0.0.0/0 > 10.2.0.0/24": true, "10.1.0.0/24 > 10.2.0.0/24": true,
		"10.1.0.0/24 > 0.0.0.0/0": true, "::/0 > fd02::/64": true}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
}
