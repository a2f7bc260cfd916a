package verb

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/libreswan"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

func TestRestartIsAdvisedOnlyIfItHelps(t *testing.T) {
	for _, test := range []struct {
		running, installed, contains string
		advised                      bool
	}{
		{"4.10", "4.11", "the daemon runs Libreswan 4.10, and 4.11 is installed now", true},
		{"4.10", "4.10", "the daemon runs a former build of Libreswan 4.10", true},
		{"4.10", "?", "no usable Libreswan is installed", false},
	} {
		got := outdated(&libreswan.Build{Running: test.running, Installed: test.installed}, "vpn1")
		if !strings.Contains(got, test.contains) ||
			strings.Contains(got, "svc-supervisor restart vpn1") != test.advised {
			t.Errorf("%s, installed %s: %s", test.running, test.installed, got)
		}
	}
}

// The edit from 10.2.0.0/24 to 10.9.0.0/24 was loaded, and then its ADD failed. The wanted network is still
// 10.2.0.0/24.
func TestTunnelOfOtherNetworksIsNotUp(t *testing.T) {
	c, err := config.Decode([]byte(`{"externalIps":["192.0.2.1"],"connections":[
		{"id":"a","peerAddress":"192.0.2.2","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.2.0.0/24","10.3.0.0/24"],` +
		`"psk":"k"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	loaded := map[string]config.Networks{
		"a-0-0": {Local: netip.MustParsePrefix("10.1.0.0/24"), Peer: netip.MustParsePrefix("10.9.0.0/24")},
		"a-0-1": {Local: netip.MustParsePrefix("10.1.0.0/24"), Peer: netip.MustParsePrefix("10.3.0.0/24")},
	}
	c.Loaded = loaded
	c.Resolve(nil)
	status := &daemonStatus{up: map[string]libreswan.Traffic{"a-0-0": {}, "a-0-1": {}}}
	status.removeMismatched(c.Wanted(), loaded)
	if got := slices.Sorted(maps.Keys(status.up)); !slices.Equal(got, []string{"a-0-1"}) {
		t.Errorf("conns that are up: %v, want a-0-1", got)
	}
}

func TestReasonOfResponseOnlyConnection(t *testing.T) {
	up, down := spec.Pair{Local: "10.1.0.0/24", Peer: "10.2.0.0/24", Status: spec.Active},
		spec.Pair{Local: "10.1.0.0/24", Peer: "10.3.0.0/24", Status: spec.Down}
	for want, pairs := range map[string][]spec.Pair{
		"the peer has not initiated": {down, down},
		"the peer has initiated no Child SA for 10.1.0.0/24 and 10.3.0.0/24 alone": {up, down},
	} {
		if got := waitsForPeer(pairs); !strings.Contains(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestRefusedPacketOverridesNoAnswer(t *testing.T) {
	c, err := config.Decode([]byte(`{"externalIps":["192.0.2.1"],"connections":[
		{"id":"a","peerAddress":"192.0.2.2","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.2.0.0/24","10.3.0.0/24"],` +
		`"psk":"k"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	c.Resolve(nil)
	for _, test := range []struct {
		reasons map[string]string
		want    string
	}{
		{nil, ""},
		{map[string]string{"a-0-1": "TS_UNACCEPTABLE"}, "TS_UNACCEPTABLE"},
		{map[string]string{"192.0.2.2": "another version"}, "another version"},
		{map[string]string{"192.0.2.3": "another version"}, ""},
		{map[string]string{"192.0.2.2": "another version", "a-0-0": libreswan.NoAnswer}, "another version"},
		{map[string]string{"192.0.2.2": "another version", "a-0-0": "AUTHENTICATION_FAILED"}, "AUTHENTICATION_FAILED"},
		{map[string]string{"a-0-0": libreswan.NoAnswer}, libreswan.NoAnswer},
	} {
		if got := failureReason(&c.Connections[0], test.reasons); got != test.want {
			t.Errorf("%v: %q, want %q", test.reasons, got, test.want)
		}
	}
}
