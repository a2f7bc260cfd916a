package verb

import (
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/libreswan"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/state"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Each row is a series of CHECKs with the counters of the tunnel at each of them.
func TestSendingTunnelThatReceivesNothingHasReason(t *testing.T) {
	type check struct {
		at      time.Duration // after the tunnel came up
		in, out uint64
	}
	const down = ^uint64(0)
	for _, test := range []struct {
		name   string
		checks []check
		since  time.Duration // expected in the reason after the last CHECK; -1: no reason
	}{
		{"nothing is sent", []check{{time.Minute, 0, 0}, {time.Hour, 0, 0}}, -1},
		{"packets go both ways", []check{{time.Minute, 84, 84}, {time.Hour, 168, 168}}, -1},
		{"nothing was received since the tunnel came up", []check{{time.Minute, 0, 84}}, 0},
		{"nothing was received yet, but CHECK runs too early", []check{{29 * time.Second, 0, 84}}, -1},
		{"nothing was received since a CHECK", []check{{time.Minute, 84, 84}, {2 * time.Minute, 84, 168}}, time.Minute},
		{"the time of the last packet is kept",
			[]check{{time.Minute, 84, 84}, {2 * time.Minute, 84, 168}, {time.Hour, 84, 840}}, time.Minute},
		{"nothing was sent since, either", []check{{time.Minute, 84, 84}, {time.Hour, 84, 84}}, -1},
		{"something was received again", []check{
			{time.Minute, 84, 84}, {2 * time.Minute, 84, 168}, {time.Hour, 168, 252},
		},
			-1},
		{"a rekey resets the counters", []check{{time.Minute, 84, 84}, {2 * time.Minute, 0, 84}}, time.Minute},
		{"a rekey, and nothing was sent", []check{{time.Minute, 84, 84}, {2 * time.Minute, 0, 0}}, -1},
		{"a rekey of a tunnel that receives", []check{{time.Minute, 840, 840}, {2 * time.Minute, 84, 84}}, -1},
		{"the tunnel was down", []check{{time.Minute, 84, 84}, {2 * time.Minute, down, 0}, {3 * time.Minute, 84, 168}},
			-1},
	} {
		c, err := config.Decode([]byte(`{"externalIps":["192.0.2.1"],"connections":[
			{"id":"a","peerAddress":"192.0.2.2","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.2.0.0/24"],"psk":"k"}]}`))
		if err != nil {
			t.Fatal(err)
		}
		c.Resolve(nil)
		var traffic map[string]state.Traffic
		var got spec.Connection
		for _, check := range test.checks {
			status := &daemonStatus{
				up: map[string]libreswan.Traffic{"a-0-0": {Since: noon, In: check.in, Out: check.out}},
			}
			if check.in == down {
				status.up = nil
			}
			now := noon.Add(check.at)
			traffic = updateTraffic(traffic, status.up, now)
			got = connectionHealth(&c.Connections[0], status, nil, traffic, now)
		}
		want := ""
		if test.since >= 0 {
			want = "no packets received since " + noon.Add(test.since).Format(time.RFC3339)
		}
		if got.Status != spec.Active || got.Reason != want {
			t.Errorf("%s: %s %q, want %q", test.name, got.Status, got.Reason, want)
		}
	}
}

func TestReasonNamesThePairThatReceivesNothing(t *testing.T) {
	c, err := config.Decode([]byte(`{"externalIps":["192.0.2.1"],"connections":[
		{"id":"a","peerAddress":"192.0.2.2","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.2.0.0/24","10.3.0.0/24"],` +
		`"psk":"k"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	c.Resolve(nil)
	status := &daemonStatus{up: map[string]libreswan.Traffic{"a-0-0": {Since: noon, In: 84, Out: 84},
		"a-0-1": {Since: noon, Out: 84}}}
	now := noon.Add(time.Minute)
	got := connectionHealth(&c.Connections[0], status, nil, updateTraffic(nil, status.up, now), now)
	if want := "no packets received since 2026-01-01T12:00:00Z from 10.3.0.0/24 to 10.1.0.0/24"; got.Reason != want {
		t.Errorf("%q, want %q", got.Reason, want)
	}
}
