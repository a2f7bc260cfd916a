package verb

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/cni"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
)

func TestPeerAddressIsKeptWhileNameResolvesToIt(t *testing.T) {
	a, b, six := netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("2001:db8::9")
	for _, test := range []struct {
		name    string
		answers []netip.Addr
		fails   string
		last    config.Name
		want    config.Name
	}{
		{"the first lookup takes the lowest address, IPv4 before IPv6", []netip.Addr{six, a, b}, "", config.Name{},
			config.Name{Address: b}},
		{"the address in use is kept, whatever the order", []netip.Addr{b, a, six}, "", config.Name{Address: a},
			config.Name{Address: a}},
		{"an address that was removed is replaced", []netip.Addr{b, six}, "", config.Name{Address: a},
			config.Name{Address: b}},
		{"an answer clears the fault", []netip.Addr{a}, "", config.Name{Address: a, Fault: "no answer from DNS"},
			config.Name{Address: a}},
		{"without an answer the last address is kept", nil, "no answer", config.Name{Address: a},
			config.Name{Address: a, Fault: "no answer"}},
		{"a name that was never resolved has no address", nil, "no answer", config.Name{},
			config.Name{Fault: "no answer"}},
	} {
		in := &inputs{
			resolver: func(context.Context, string, string) ([]netip.Addr, error) {
				if test.fails != "" {
					return nil, errors.New(test.fails)
				}
				return test.answers, nil
			},
			last: config.Found{Names: map[string]config.Name{"vpn.example.org": test.last}},
		}
		r, err := cni.Decode(cniArgs(strings.Replace(fullConf, `"configuration":{}`,
			`"configuration":{"externalIps":["192.0.2.1","2001:db8::1"],"connections":[
			{"id":"a","peerAddress":"vpn.example.org","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.2.0.0/24"],`+
				`"psk":"k"}]}`, 1)))
		if err != nil {
			t.Fatal(err)
		}
		if got := in.lookUpPeers(t.Context(), r.Configuration)["vpn.example.org"]; got != test.want {
			t.Errorf("%s: got %+v, want %+v", test.name, got, test.want)
		}
	}
}

func TestNextLookupOfPeerNames(t *testing.T) {
	at := time.Now()
	good, bad := map[string]config.Name{"a": {Address: netip.MustParseAddr("192.0.2.1")}},
		map[string]config.Name{"a": {}, "b": {Fault: "no such host"}}
	for _, test := range []struct {
		names  map[string]config.Name
		passed time.Duration
		after  int
	}{{good, 0, 300}, {good, 100 * time.Second, 200}, {good, time.Hour, 0}, {good, -time.Hour, 300}, {bad, 0, 30},
		{bad, 29 * time.Second, 1}} {
		again := againForNames(config.Found{Names: test.names, At: at}, at.Add(test.passed))
		if again == nil || again.After != test.after || !strings.HasPrefix(again.Reason, "peer name") {
			t.Errorf("%v after %s: got %+v, want %d", test.names, test.passed, again, test.after)
		}
	}
	if again := againForNames(config.Found{At: at}, at); again != nil {
		t.Errorf("without names: %+v", again)
	}
}
