package verb

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

func TestAPeersAddressChangesOnlyWhenItsNameHasItNoMore(t *testing.T) {
	a, b, six := netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("2001:db8::9")
	for _, test := range []struct {
		what    string
		answers []netip.Addr
		fails   string
		last    config.Name
		want    config.Name
	}{
		{"the first look takes the first in order, IPv4 before IPv6", []netip.Addr{six, a, b}, "", config.Name{}, config.Name{Address: b}},
		{"the address in use stays, whatever stands first", []netip.Addr{b, a, six}, "", config.Name{Address: a}, config.Name{Address: a}},
		{"one that is gone is followed", []netip.Addr{b, six}, "", config.Name{Address: a}, config.Name{Address: b}},
		{"an answer ends a fault", []netip.Addr{a}, "", config.Name{Address: a, Fault: "no answer from DNS"}, config.Name{Address: a}},
		{"no answer keeps the last one", nil, "no answer", config.Name{Address: a}, config.Name{Address: a, Fault: "no answer"}},
		{"a name never found has none", nil, "no answer", config.Name{}, config.Name{Fault: "no answer"}},
	} {
		c := &change{Executable: &Executable{LookUp: func(context.Context, string, string) ([]netip.Addr, error) {
			if test.fails != "" {
				return nil, errors.New(test.fails)
			}
			return test.answers, nil
		}}}
		var err error
		if c.request, err = decode(ask(strings.Replace(whole, `"configuration":{}`, `"configuration":{"externalIps":["192.0.2.1","2001:db8::1"],"connections":[
			{"id":"a","peerAddress":"vpn.example.org","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.2.0.0/24"],"psk":"k"}]}`, 1))); err != nil {
			t.Fatal(err)
		}
		if got := c.lookUpPeers(t.Context(), map[string]config.Name{"vpn.example.org": test.last}); got["vpn.example.org"] != test.want {
			t.Errorf("%s: got %+v, want %+v", test.what, got, test.want)
		}
	}
}

func TestTheNextLookIsAskedForUntilItComes(t *testing.T) {
	at := time.Now()
	good, bad := map[string]config.Name{"a": {Address: netip.MustParseAddr("192.0.2.1")}}, map[string]config.Name{"a": {}, "b": {Fault: "no such host"}}
	for _, test := range []struct {
		names  map[string]config.Name
		passed time.Duration
		after  int
	}{{good, 0, 300}, {good, 100 * time.Second, 200}, {good, time.Hour, 0}, {good, -time.Hour, 300}, {bad, 0, 30}, {bad, 29 * time.Second, 1}} {
		again := nextLook(config.Found{Names: test.names, At: at}, at.Add(test.passed))
		if again == nil || again.After != test.after || !strings.HasPrefix(again.Reason, "peer name") {
			t.Errorf("%v after %s: got %+v, want %d", test.names, test.passed, again, test.after)
		}
	}
	if again := nextLook(config.Found{At: at}, at); again != nil {
		t.Errorf("without names: %+v", again)
	}
}

func TestTheSoonestWishWins(t *testing.T) {
	early, late := &spec.Again{After: 5}, &spec.Again{After: 9}
	for _, test := range []struct {
		wishes []*spec.Again
		want   *spec.Again
	}{{nil, nil}, {[]*spec.Again{nil, nil}, nil}, {[]*spec.Again{nil, late}, late}, {[]*spec.Again{late, early, nil}, early}} {
		if got := soonest(test.wishes...); got != test.want {
			t.Errorf("%v: got %v", test.wishes, got)
		}
	}
}
