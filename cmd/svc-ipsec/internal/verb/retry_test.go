package verb

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/libreswan"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/state"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func TestRetryDelayDoublesUpToFiveMinutes(t *testing.T) {
	var r retry
	var delays []time.Duration
	now := noon
	for range 9 {
		if !r.due(now, lastRetry) {
			t.Fatalf("not due at %v, %+v", now, r)
		}
		if r.due(now.Add(r.Delay-1), lastRetry) {
			t.Errorf("due again before %v", r.Delay)
		}
		delays = append(delays, r.Delay/time.Second)
		now = r.Next
	}
	if want := []time.Duration{5, 10, 20, 40, 80, 160, 300, 300, 300}; !slices.Equal(delays, want) {
		t.Errorf("delays %d, want %d", delays, want)
	}
}

func TestNextADDIsRequestedWhileConnsAreStalled(t *testing.T) {
	next := retry{Changed: noon, Next: noon.Add(7500 * time.Millisecond)}
	for _, test := range []struct {
		name    string
		stalled bool
		at      time.Duration
		after   int // -1: no request
	}{
		{"every conn is up or negotiating", false, 0, -1},
		{"a conn is stalled: when its delay is over", true, 0, 8},
		{"a conn is stalled and its delay is over: at once", true, 8 * time.Second, 0},
	} {
		got := next.nextADD(test.stalled, noon.Add(test.at), lastRetry)
		if got == nil && test.after != -1 || got != nil && got.After != test.after {
			t.Errorf("%s: %+v, want %d", test.name, got, test.after)
		}
	}
}

func TestRefusedConnIsRetriedAfterFiveMinutes(t *testing.T) {
	for _, test := range []struct {
		refused map[string]string
		passed  time.Duration
		after   int // -1: no request
	}{
		{nil, time.Hour, -1},
		{map[string]string{"a-0-0": "pluto refused it"}, 0, 300},
		{map[string]string{"a-0-0": "pluto refused it"}, 100 * time.Second, 200},
		{map[string]string{"a-0-0": "pluto refused it"}, time.Hour, 0},
		{map[string]string{"a-0-0": "pluto refused it"}, -time.Hour, 300},
		{map[string]string{"a-0-0": "peerId x: Libreswan takes it for y (ID_FQDN)"}, time.Hour, -1},
		{map[string]string{"a-0-0": "peerId x: Libreswan takes it for y (ID_FQDN)", "b-0-0": "pluto refused it"}, 0, 300},
	} {
		got := againForRefused(test.refused, noon, noon.Add(test.passed))
		if got == nil && test.after != -1 || got != nil && got.After != test.after {
			t.Errorf("%v after %s: %+v, want %d", test.refused, test.passed, got, test.after)
		}
	}
}

func TestScheduleIsResetWhenClockIsSetBack(t *testing.T) {
	for _, test := range []struct {
		name string
		kept string
		want retry
	}{
		{"the clock is right", `{"changed":"2026-01-01T11:59:00Z","delay":300000000000,"next":"2026-01-01T12:05:00Z"}`,
			retry{noon.Add(-time.Minute), lastRetry, noon.Add(lastRetry)}},
		{"the next attempt is too far in the future",
			`{"changed":"2026-01-01T11:59:00Z","delay":300000000000,"next":"2026-01-02T12:00:00Z"}`, retry{}},
		{"the last change is in the future", `{"changed":"2026-01-02T12:00:00Z"}`, retry{}},
	} {
		var recorded state.Retry
		if err := json.Unmarshal([]byte(test.kept), &recorded); err != nil {
			t.Fatal(err)
		}
		if got := readRetry(recorded, noon); got != test.want {
			t.Errorf("%s: %+v, want %+v", test.name, got, test.want)
		}
	}
}

func TestEarliestOfTwoRequests(t *testing.T) {
	late, early := &spec.Again{After: 300}, &spec.Again{After: 2}
	if earliest(nil, nil) != nil || earliest(nil, late, early) != early || earliest(early, late) != early {
		t.Error("not the earliest request")
	}
}

// Connection a is initiated by this end, b by its peer. Connection c is administratively down.
func TestStalledConns(t *testing.T) {
	c, err := config.Decode([]byte(`{"externalIps":["192.0.2.1"],"connections":[
		{"id":"a","peerAddress":"192.0.2.2","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.2.0.0/24","10.3.0.0/24"],"psk":"k"},
		{"id":"b","peerAddress":"192.0.2.3","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.4.0.0/24"],"psk":"k","initiator":"response-only"},
		{"id":"c","peerAddress":"192.0.2.4","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.5.0.0/24"],"psk":"k","adminStateUp":false}]}`))
	if err != nil {
		t.Fatal(err)
	}
	c.Resolve(nil)
	first, second := c.Connections[0].Pairs()[0].Conn, c.Connections[0].Pairs()[1].Conn
	peers := c.Connections[1].Pairs()[0].Conn
	status := &daemonStatus{conns: map[string]libreswan.Conn{first: {}, second: {}, peers: {}},
		up: map[string]libreswan.Traffic{}}
	expect := func(when string, conns ...string) {
		t.Helper()
		if got := stalledConns(c.Wanted(), status); !slices.Equal(got, conns) {
			t.Errorf("%s: stalled conns %v, want %v", when, got, conns)
		}
	}
	expect("both are down", first, second)
	status.up[first] = libreswan.Traffic{}
	expect("one is up", second)
	status.conns[second] = libreswan.Conn{Negotiating: true}
	expect("one is up, one is negotiating")
	delete(status.conns, second)
	expect("one is up, one was refused and is not loaded")
}

func TestAbsentPeerIsRetriedEveryMinute(t *testing.T) {
	c, err := config.Decode([]byte(`{"externalIps":["192.0.2.1"],"connections":[
		{"id":"a","peerAddress":"192.0.2.2","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.2.0.0/24","10.3.0.0/24"],"psk":"k"},
		{"id":"b","peerAddress":"192.0.2.3","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.4.0.0/24"],"psk":"k"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	c.Resolve(nil)
	for _, test := range []struct {
		name  string
		conns map[string]libreswan.Conn
		want  time.Duration
	}{
		{"both peers refuse the Child SA", map[string]libreswan.Conn{"a-0-0": {IKE: true}, "a-0-1": {}, "b-0-0": {IKE: true}},
			lastRetry},
		{"one peer is absent", map[string]libreswan.Conn{"a-0-0": {IKE: true}, "a-0-1": {}, "b-0-0": {}}, absentRetry},
		{"one peer is absent and a negotiation is in progress", map[string]libreswan.Conn{"a-0-0": {IKE: true}, "a-0-1": {},
			"b-0-0": {Negotiating: true}}, lastRetry},
	} {
		status := &daemonStatus{conns: test.conns, up: map[string]libreswan.Traffic{}}
		if got := maxRetryDelay(c.Wanted(), status, stalledConns(c.Wanted(), status)); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
	// A long delay, recorded while the peer refused, is shortened when the peer becomes absent.
	r := retry{Delay: lastRetry, Next: noon.Add(lastRetry)}
	if got := r.nextADD(true, noon, absentRetry); got.After != 60 {
		t.Errorf("ADD is requested after %d s", got.After)
	}
	if r.due(noon.Add(59*time.Second), absentRetry) || !r.due(noon.Add(60*time.Second), absentRetry) ||
		r.Delay != absentRetry {
		t.Errorf("the schedule is %+v", r)
	}
}

func TestConnsNeedingIKESA(t *testing.T) {
	for _, test := range []struct {
		name, policy string
		conns        map[string]libreswan.Conn
		up           []string
		want         []string
	}{
		{"all are down", "", map[string]libreswan.Conn{"a-0-0": {IKE: true}, "a-0-1": {}}, nil, []string{"a-0-0", "a-0-1"}},
		{"one is up", "", map[string]libreswan.Conn{"a-0-0": {IKE: true}, "a-0-1": {}}, []string{"a-0-1"}, nil},
		{"one is negotiating", "", map[string]libreswan.Conn{"a-0-0": {IKE: true}, "a-0-1": {Negotiating: true}}, nil, nil},
		{"there is no IKE SA", "", map[string]libreswan.Conn{"a-0-0": {}, "a-0-1": {}}, nil, nil},
		{"one is not loaded", "", map[string]libreswan.Conn{"a-0-0": {IKE: true}}, nil, []string{"a-0-0"}},
		{"without PFS", `"ipsecPolicy":{"pfs":"none"},`, map[string]libreswan.Conn{"a-0-0": {IKE: true}, "a-0-1": {}}, nil,
			nil},
		{"the peer initiates", `"initiator":"response-only",`, map[string]libreswan.Conn{"a-0-0": {IKE: true}, "a-0-1": {}},
			nil, nil},
		{"IKEv1", `"ikePolicy":{"ikeVersion":"v1"},`, map[string]libreswan.Conn{"a-0-0": {IKE: true}, "a-0-1": {}}, nil, nil},
	} {
		c, err := config.Decode([]byte(`{"externalIps":["192.0.2.1"],"connections":[
			{"id":"a","peerAddress":"192.0.2.2","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.2.0.0/24","10.3.0.0/24"],` + test.policy + `"psk":"k"}]}`))
		if err != nil {
			t.Fatal(err)
		}
		c.Resolve(nil)
		status := &daemonStatus{conns: test.conns, up: map[string]libreswan.Traffic{}}
		for _, conn := range test.up {
			status.up[conn] = libreswan.Traffic{}
		}
		if got := connsNeedingIKESA(c.Wanted(), status, stalledConns(c.Wanted(), status)); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}
