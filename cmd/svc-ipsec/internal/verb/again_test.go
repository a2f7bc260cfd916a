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

func TestWhatRestsIsInitiatedWithDelaysThatDoubleUpToFiveMinutes(t *testing.T) {
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

func TestADDIsWishedForAsLongAsItCanHelp(t *testing.T) {
	next := retry{Changed: noon, Next: noon.Add(7500 * time.Millisecond)}
	for _, test := range []struct {
		what    string
		resting bool
		at      time.Duration
		after   int // -1: none
	}{
		{"all is up, or the daemon is at work on it", false, 0, -1},
		{"a tunnel rests: when its delay is over", true, 0, 8},
		{"and at once when it is", true, 8 * time.Second, 0},
	} {
		got := next.wish(test.resting, noon.Add(test.at), lastRetry)
		if got == nil && test.after != -1 || got != nil && got.After != test.after {
			t.Errorf("%s: %+v, want %d", test.what, got, test.after)
		}
	}
}

func TestWhatTheDaemonRefusedIsTriedAgainInFiveMinutes(t *testing.T) {
	for _, test := range []struct {
		refused map[string]string
		passed  time.Duration
		after   int // -1: none
	}{
		{nil, time.Hour, -1},
		{map[string]string{"a-0-0": "pluto refused it"}, 0, 300},
		{map[string]string{"a-0-0": "pluto refused it"}, 100 * time.Second, 200},
		{map[string]string{"a-0-0": "pluto refused it"}, time.Hour, 0},
		{map[string]string{"a-0-0": "pluto refused it"}, -time.Hour, 300},
		{map[string]string{"a-0-0": "peerId x: Libreswan takes it for y (ID_FQDN)"}, time.Hour, -1},
		{map[string]string{"a-0-0": "peerId x: Libreswan takes it for y (ID_FQDN)", "b-0-0": "pluto refused it"}, 0, 300},
	} {
		got := nextTry(test.refused, noon, noon.Add(test.passed))
		if got == nil && test.after != -1 || got != nil && got.After != test.after {
			t.Errorf("%v after %s: %+v, want %d", test.refused, test.passed, got, test.after)
		}
	}
}

func TestAClockThatWasSetBackDelaysNothing(t *testing.T) {
	for _, test := range []struct {
		what string
		kept string
		want retry
	}{
		{"of now", `{"changed":"2026-01-01T11:59:00Z","delay":300000000000,"next":"2026-01-01T12:05:00Z"}`,
			retry{noon.Add(-time.Minute), lastRetry, noon.Add(lastRetry)}},
		{"of tomorrow", `{"changed":"2026-01-01T11:59:00Z","delay":300000000000,"next":"2026-01-02T12:00:00Z"}`, retry{}},
		{"changed tomorrow", `{"changed":"2026-01-02T12:00:00Z"}`, retry{}},
	} {
		var recorded state.Retry
		if err := json.Unmarshal([]byte(test.kept), &recorded); err != nil {
			t.Fatal(err)
		}
		if got := readRetry(recorded, noon); got != test.want {
			t.Errorf("%s: %+v, want %+v", test.what, got, test.want)
		}
	}
}

func TestTheEarliestOfSeveralWishesCounts(t *testing.T) {
	late, early := &spec.Again{After: 300}, &spec.Again{After: 2}
	if soonest(nil, nil) != nil || soonest(nil, late, early) != early || soonest(early, late) != early {
		t.Error("another one")
	}
}

// The connections are a (ours to begin), b (the peer's), c (down by its administrator).
func TestATunnelRestsIfItIsOursToBeginAndNobodyIsAtWorkOnIt(t *testing.T) {
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
	v := &view{conns: map[string]libreswan.Conn{first: {}, second: {}, peers: {}}, up: map[string]libreswan.Traffic{}}
	expect := func(when string, conns ...string) {
		t.Helper()
		if got := resting(c.Wanted(), v); !slices.Equal(got, conns) {
			t.Errorf("%s: %v rests, want %v", when, got, conns)
		}
	}
	expect("nothing is up", first, second)
	v.up[first] = libreswan.Traffic{}
	expect("one is up", second)
	v.conns[second] = libreswan.Conn{Negotiating: true}
	expect("one is up, one on its way")
	delete(v.conns, second)
	expect("one is not loaded: it was refused")
}

func TestAnAbsentPeerIsTriedEveryMinute(t *testing.T) {
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
		{"both peers refuse", map[string]libreswan.Conn{"a-0-0": {IKE: true}, "a-0-1": {}, "b-0-0": {IKE: true}}, lastRetry},
		{"one is absent", map[string]libreswan.Conn{"a-0-0": {IKE: true}, "a-0-1": {}, "b-0-0": {}}, absentRetry},
		{"one is absent and on its way", map[string]libreswan.Conn{"a-0-0": {IKE: true}, "a-0-1": {}, "b-0-0": {Negotiating: true}}, lastRetry},
	} {
		v := &view{conns: test.conns, up: map[string]libreswan.Traffic{}}
		if got := longestDelay(c.Wanted(), v, resting(c.Wanted(), v)); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
	// A long delay of the time when its peer refused does not hold now that it is absent.
	r := retry{Delay: lastRetry, Next: noon.Add(lastRetry)}
	if got := r.wish(true, noon, absentRetry); got.After != 60 {
		t.Errorf("it asks for ADD after %d s", got.After)
	}
	if r.due(noon.Add(59*time.Second), absentRetry) || !r.due(noon.Add(60*time.Second), absentRetry) || r.Delay != absentRetry {
		t.Errorf("the schedule is %+v", r)
	}
}

func TestOnlyANewIKESABringsATunnelUpWhoseGroupThePeerRefuses(t *testing.T) {
	for _, test := range []struct {
		name, policy string
		conns        map[string]libreswan.Conn
		up           []string
		want         []string
	}{
		{"all are down", "", map[string]libreswan.Conn{"a-0-0": {IKE: true}, "a-0-1": {}}, nil, []string{"a-0-0", "a-0-1"}},
		{"one is up", "", map[string]libreswan.Conn{"a-0-0": {IKE: true}, "a-0-1": {}}, []string{"a-0-1"}, nil},
		{"one is on its way", "", map[string]libreswan.Conn{"a-0-0": {IKE: true}, "a-0-1": {Negotiating: true}}, nil, nil},
		{"there is no IKE SA", "", map[string]libreswan.Conn{"a-0-0": {}, "a-0-1": {}}, nil, nil},
		{"one is not loaded", "", map[string]libreswan.Conn{"a-0-0": {IKE: true}}, nil, []string{"a-0-0"}},
		{"without PFS", `"ipsecPolicy":{"pfs":"none"},`, map[string]libreswan.Conn{"a-0-0": {IKE: true}, "a-0-1": {}}, nil, nil},
		{"the peer initiates", `"initiator":"response-only",`, map[string]libreswan.Conn{"a-0-0": {IKE: true}, "a-0-1": {}}, nil, nil},
		{"IKEv1", `"ikePolicy":{"ikeVersion":"v1"},`, map[string]libreswan.Conn{"a-0-0": {IKE: true}, "a-0-1": {}}, nil, nil},
	} {
		c, err := config.Decode([]byte(`{"externalIps":["192.0.2.1"],"connections":[
			{"id":"a","peerAddress":"192.0.2.2","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.2.0.0/24","10.3.0.0/24"],` + test.policy + `"psk":"k"}]}`))
		if err != nil {
			t.Fatal(err)
		}
		c.Resolve(nil)
		v := &view{conns: test.conns, up: map[string]libreswan.Traffic{}}
		for _, conn := range test.up {
			v.up[conn] = libreswan.Traffic{}
		}
		if got := deadEnds(c.Wanted(), v, resting(c.Wanted(), v)); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}
