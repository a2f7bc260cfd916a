package endpoint

import (
	"slices"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func TestRetryDelayDoublesUpToFiveMinutes(t *testing.T) {
	var r Schedule
	var delays []time.Duration
	now := noon
	for range 9 {
		if !r.due(now, LastRetry) {
			t.Fatalf("not due at %v, %+v", now, r)
		}
		if r.due(now.Add(r.Delay-1), LastRetry) {
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
	recorded := Schedule{Changed: noon, Next: noon.Add(7500 * time.Millisecond)}
	wanted := decode(
		t, `{"id":"a","peerAddress":"192.0.2.2","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.2.0.0/24"],"psk":"k"}`)
	for _, test := range []struct {
		name    string
		loaded  Loaded
		at      time.Duration
		stalled bool
		wait    time.Duration
	}{
		{"the conn is negotiating", Loaded{Negotiating: true}, 0, false, 7500 * time.Millisecond},
		{"a conn is stalled: when its delay is over", Loaded{}, 0, true, 7500 * time.Millisecond},
		{"a conn is stalled and its delay is over: at once", Loaded{}, 8 * time.Second, true, -500 * time.Millisecond},
	} {
		c := Connections{wanted, wanted, Status{Conns: map[string]Loaded{"a-0-0": test.loaded}}}
		wait, stalled := c.NextADD(recorded, noon.Add(test.at))
		if stalled != test.stalled || wait != test.wait {
			t.Errorf("%s: %v, %v", test.name, wait, stalled)
		}
	}
}

// decode returns the wanted connections of a document.
func decode(t *testing.T, connections string) []*config.Connection {
	t.Helper()
	c, err := config.Decode([]byte(`{"externalIps":["192.0.2.1"],"connections":[` + connections + `]}`))
	if err != nil {
		t.Fatal(err)
	}
	c.Resolve(nil)
	return c.Wanted()
}

func TestRetryActions(t *testing.T) {
	const document = `{"id":"a","peerAddress":"192.0.2.2","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.2.0.0/24"],` +
		`"psk":"k"},
		{"id":"b","peerAddress":"192.0.2.3","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.3.0.0/24"],"psk":"k"}`
	wanted := decode(t, document)
	due := Schedule{Changed: noon.Add(-time.Minute), Delay: 10 * time.Second, Next: noon}
	later := Schedule{Changed: noon.Add(-time.Minute), Delay: 10 * time.Second, Next: noon.Add(time.Second)}
	for _, test := range []struct {
		name       string
		recorded   Schedule
		justLoaded bool
		supported  []*config.Connection
		status     Status
		actions    string
		want       Schedule
	}{
		{"all are up: the schedule ends", due, false, wanted,
			Status{
				Conns: map[string]Loaded{"a-0-0": {}, "b-0-0": {}}, Up: map[string]bool{"a-0-0": true, "b-0-0": true},
			},
			"", Schedule{Changed: due.Changed}},
		{"a stalled conn is initiated when it is due", due, false, wanted,
			Status{Conns: map[string]Loaded{"a-0-0": {}, "b-0-0": {}}, Up: map[string]bool{"b-0-0": true}},
			"initiate a-0-0", Schedule{due.Changed, 20 * time.Second, noon.Add(20 * time.Second)}},
		{"a stalled conn is not initiated before it is due", later, false, wanted,
			Status{Conns: map[string]Loaded{"a-0-0": {}, "b-0-0": {}}, Up: map[string]bool{"b-0-0": true}}, "", later},
		{"a conn that this ADD has loaded is not initiated again", later, true, wanted,
			Status{Conns: map[string]Loaded{"a-0-0": {}, "b-0-0": {}}}, "", later},
		{"an orphaned Child SA is terminated, even before the retry is due", later, false, wanted,
			Status{Conns: map[string]Loaded{"a-0-0": {}, "b-0-0": {}}, Up: map[string]bool{"b-0-0": true},
				Orphans: []string{"a-0-0"}}, "terminate a-0-0", later},
		{"all tunnels of a peer with an IKE SA are down: the IKE SA is terminated first", due, false, wanted,
			Status{Conns: map[string]Loaded{"a-0-0": {IKE: true}, "b-0-0": {}}, Up: map[string]bool{"b-0-0": true}},
			"terminate a-0-0, initiate a-0-0", Schedule{due.Changed, 20 * time.Second, noon.Add(20 * time.Second)}},
		{"a conn that the kernel does not support is not retried", due, false, wanted[1:],
			Status{Conns: map[string]Loaded{"a-0-0": {}, "b-0-0": {}}, Up: map[string]bool{"b-0-0": true}},
			"", Schedule{Changed: due.Changed}},
	} {
		c := Connections{wanted, test.supported, test.status}
		list, got := c.Retry(test.recorded, test.justLoaded, noon)
		if text(list) != test.actions || got != test.want {
			t.Errorf("%s: %s, %+v", test.name, text(list), got)
		}
	}
}

func TestScheduleIsResetWhenClockIsSetBack(t *testing.T) {
	for _, test := range []struct {
		name           string
		recorded, want Schedule
	}{
		{"the clock is right", Schedule{noon.Add(-time.Minute), LastRetry, noon.Add(LastRetry)},
			Schedule{noon.Add(-time.Minute), LastRetry, noon.Add(LastRetry)}},
		{"the next attempt is too far in the future",
			Schedule{noon.Add(-time.Minute), LastRetry, noon.Add(24 * time.Hour)}, Schedule{}},
		{"the last change is in the future", Schedule{Changed: noon.Add(24 * time.Hour)}, Schedule{}},
	} {
		if got := test.recorded.valid(noon); got != test.want {
			t.Errorf("%s: %+v, want %+v", test.name, got, test.want)
		}
	}
}

// Connection a is initiated by this end, b by its peer. Connection c is administratively down.
func TestStalledConns(t *testing.T) {
	c, err := config.Decode([]byte(`{"externalIps":["192.0.2.1"],"connections":[
		{"id":"a","peerAddress":"192.0.2.2","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.2.0.0/24","10.3.0.0/24"],` +
		`"psk":"k"},
		{"id":"b","peerAddress":"192.0.2.3","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.4.0.0/24"],"psk":"k",` +
		`"initiator":"response-only"},
		{"id":"c","peerAddress":"192.0.2.4","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.5.0.0/24"],"psk":"k",` +
		`"adminStateUp":false}]}`))
	if err != nil {
		t.Fatal(err)
	}
	c.Resolve(nil)
	first, second := c.Connections[0].Pairs()[0].Conn, c.Connections[0].Pairs()[1].Conn
	peers := c.Connections[1].Pairs()[0].Conn
	status := Status{Conns: map[string]Loaded{first: {}, second: {}, peers: {}},
		Up: map[string]bool{}}
	expect := func(when string, conns ...string) {
		t.Helper()
		if got := stalledConns(c.Wanted(), status); !slices.Equal(got, conns) {
			t.Errorf("%s: stalled conns %v, want %v", when, got, conns)
		}
	}
	expect("both are down", first, second)
	status.Up[first] = true
	expect("one is up", second)
	status.Conns[second] = Loaded{Negotiating: true}
	expect("one is up, one is negotiating")
	delete(status.Conns, second)
	expect("one is up, one was refused and is not loaded")
}

func TestAbsentPeerIsRetriedEveryMinute(t *testing.T) {
	c, err := config.Decode([]byte(`{"externalIps":["192.0.2.1"],"connections":[
		{"id":"a","peerAddress":"192.0.2.2","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.2.0.0/24","10.3.0.0/24"],` +
		`"psk":"k"},
		{"id":"b","peerAddress":"192.0.2.3","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.4.0.0/24"],"psk":"k"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	c.Resolve(nil)
	for _, test := range []struct {
		name  string
		conns map[string]Loaded
		want  time.Duration
	}{
		{"both peers refuse the Child SA", map[string]Loaded{"a-0-0": {IKE: true}, "a-0-1": {}, "b-0-0": {IKE: true}},
			LastRetry},
		{"one peer is absent", map[string]Loaded{"a-0-0": {IKE: true}, "a-0-1": {}, "b-0-0": {}}, absentRetry},
		{"one peer is absent and a negotiation is in progress", map[string]Loaded{"a-0-0": {IKE: true}, "a-0-1": {},
			"b-0-0": {Negotiating: true}}, LastRetry},
	} {
		status := Status{Conns: test.conns, Up: map[string]bool{}}
		if got := maxRetryDelay(c.Wanted(), status, stalledConns(c.Wanted(), status)); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
	// A long delay, recorded while the peer refused, is shortened when the peer becomes absent.
	r := Schedule{Delay: LastRetry, Next: noon.Add(LastRetry)}
	if got := r.next(absentRetry); !got.Equal(noon.Add(absentRetry)) {
		t.Errorf("the next attempt is at %v", got)
	}
	if r.due(noon.Add(59*time.Second), absentRetry) || !r.due(noon.Add(60*time.Second), absentRetry) ||
		r.Delay != absentRetry {
		t.Errorf("the schedule is %+v", r)
	}
}

func TestConnsNeedingIKESA(t *testing.T) {
	for _, test := range []struct {
		name, policy string
		conns        map[string]Loaded
		up           []string
		want         []string
	}{
		{"all are down", "", map[string]Loaded{"a-0-0": {IKE: true}, "a-0-1": {}}, nil, []string{"a-0-0", "a-0-1"}},
		{"one is up", "", map[string]Loaded{"a-0-0": {IKE: true}, "a-0-1": {}}, []string{"a-0-1"}, nil},
		{"one is negotiating", "", map[string]Loaded{"a-0-0": {IKE: true}, "a-0-1": {Negotiating: true}}, nil, nil},
		{"there is no IKE SA", "", map[string]Loaded{"a-0-0": {}, "a-0-1": {}}, nil, nil},
		{"one is not loaded", "", map[string]Loaded{"a-0-0": {IKE: true}}, nil, []string{"a-0-0"}},
		{"without PFS", `"ipsecPolicy":{"pfs":"none"},`, map[string]Loaded{"a-0-0": {IKE: true}, "a-0-1": {}}, nil,
			nil},
		{"the peer initiates", `"initiator":"response-only",`, map[string]Loaded{"a-0-0": {IKE: true}, "a-0-1": {}},
			nil, nil},
		{"IKEv1", `"ikePolicy":{"ikeVersion":"v1"},`, map[string]Loaded{"a-0-0": {IKE: true}, "a-0-1": {}}, nil, nil},
	} {
		c, err := config.Decode([]byte(`{"externalIps":["192.0.2.1"],"connections":[
			{"id":"a","peerAddress":"192.0.2.2","localCidrs":["10.1.0.0/24"],` +
			`"peerCidrs":["10.2.0.0/24","10.3.0.0/24"],` + test.policy + `"psk":"k"}]}`))
		if err != nil {
			t.Fatal(err)
		}
		c.Resolve(nil)
		status := Status{Conns: test.conns, Up: map[string]bool{}}
		for _, conn := range test.up {
			status.Up[conn] = true
		}
		got := connsNeedingIKESA(c.Wanted(), status, stalledConns(c.Wanted(), status))
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}
