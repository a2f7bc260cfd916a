package endpoint

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
)

// text returns the actions in their order.
func text(list []Action) string {
	var all []string
	for _, action := range list {
		all = append(all, action.String())
	}
	return strings.Join(all, ", ")
}

var peerA, peerB = netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("192.0.2.11")

// conns returns conns to peerA. The conns named b… are those of peerB, and the conns named r… are response-only.
func conns(names ...string) (list []Conn) {
	for _, name := range names {
		c := &config.Connection{PeerAddress: peerA, ResponseOnly: strings.HasPrefix(name, "r")}
		if strings.HasPrefix(name, "b") {
			c.PeerAddress = peerB
		}
		list = append(list, Conn{Name: name, Text: []byte("conn " + name), Former: []byte("conn " + name + ", former"),
			Connection: c})
	}
	return list
}

func TestPlanUnit(t *testing.T) {
	for _, test := range []struct {
		name        string
		unit        Unit
		wanted      []Conn
		running     bool
		stop, start bool
		load        []string
	}{
		{"a new container without conns needs no daemon", Unit{New: true}, nil, false, false, false, nil},
		{"a daemon without wanted conns is stopped", Unit{Exists: true, Database: true}, nil, false, true, false, nil},
		{"the files of a killed daemon without wanted conns are removed", Unit{Database: true}, nil, false, true, false,
			nil},
		{"nothing is left of a daemon without wanted conns", Unit{}, nil, false, false, false, nil},
		{"a new container gets a daemon", Unit{New: true}, conns("a"), false, false, true, []string{"a"}},
		{"a daemon whose state was lost is replaced", Unit{New: true, Exists: true}, conns("a"), false, true, true,
			[]string{"a"}},
		{"a daemon that is gone is started", Unit{Database: true}, conns("a"), false, false, true, []string{"a"}},
		{"a daemon that failed for good is started", Unit{Exists: true, Failed: true}, conns("a"), false, false, true,
			[]string{"a"}},
		{"a running daemon is compared", Unit{Exists: true}, conns("a"), true, false, false, nil},
	} {
		plan, running := PlanUnit(test.unit, test.wanted)
		if running != test.running || plan.Stop != test.stop || plan.Start != test.start ||
			!slices.Equal(Names(plan.Load), test.load) || len(plan.Files)+len(plan.Delete)+len(plan.Keep) > 0 {
			t.Errorf("%s: %+v, %v", test.name, plan, running)
		}
		if test.stop != (text(plan.Retire()) == "stop the daemon") {
			t.Errorf("%s: retire: %s", test.name, text(plan.Retire()))
		}
	}
}

func TestCompare(t *testing.T) {
	for _, test := range []struct {
		name         string
		wanted       []Conn
		files        map[string]string
		loaded       map[string]Loaded
		retire, load string
		keep         []string
	}{
		{"an unchanged conn is kept", conns("a"), map[string]string{"a": "conn a"}, map[string]Loaded{"a": {}},
			"", "", []string{"a"}},
		{"an unwanted conn is deleted, its file first", nil, map[string]string{"a": "conn a"},
			map[string]Loaded{"a": {}}, "remove files a, delete a", "reread secrets", nil},
		{"a changed conn is replaced", conns("a"), map[string]string{"a": "conn a, edited"}, map[string]Loaded{"a": {}},
			"remove files a, delete a", "listen", nil},
		{"an unoriented conn is replaced", conns("a"), map[string]string{"a": "conn a"},
			map[string]Loaded{"a": {Unoriented: true}},
			"remove files a, delete a", "listen", nil},
		{"a conn that an earlier ADD loaded and did not record is deleted", conns("a"),
			map[string]string{"a": "conn a"},
			map[string]Loaded{"a": {}, "c": {}}, "delete c", "reread secrets", []string{"a"}},
		{"a wanted conn that an earlier ADD loaded and did not record is replaced", conns("a"), nil,
			map[string]Loaded{"a": {}}, "delete a", "listen", nil},
		{"a conn that an earlier ADD deleted and did not load again is loaded", conns("a"), nil, nil,
			"", "listen", nil},
		{"a conn that the daemon has lost is loaded again", conns("a"), map[string]string{"a": "conn a"}, nil,
			"remove files a", "listen", nil},
		{"the file of an earlier version is kept while a tunnel to the peer is up", conns("b"),
			map[string]string{"b": "conn b, former"}, map[string]Loaded{"b": {}}, "", "", []string{"b"}},
		{"the file of an earlier version is replaced if no tunnel to the peer is up", conns("a"),
			map[string]string{"a": "conn a, former"}, map[string]Loaded{"a": {}},
			"remove files a, delete a", "listen", nil},
		{"several conns", conns("b1", "a3", "a2", "a1"),
			map[string]string{"a1": "conn a1", "a2": "x", "a9": "conn a9", "a8": "conn a8"},
			map[string]Loaded{"a1": {}, "a2": {}, "a8": {}, "a9": {}},
			"remove files a2 a8 a9, delete a2 a8 a9", "listen", []string{"a1"}},
	} {
		files := map[string][]byte{}
		for name, text := range test.files {
			files[name] = []byte(text)
		}
		plan := Compare(test.wanted, files, test.loaded, map[netip.Addr]bool{peerB: true})
		if text(plan.Retire()) != test.retire || text(plan.Prepare(false)) != test.load ||
			!slices.Equal(Names(plan.Keep), test.keep) || plan.Stop || plan.Start {
			t.Errorf("%s: %s; %s; keep %v", test.name, text(plan.Retire()), text(plan.Prepare(false)),
				Names(plan.Keep))
		}
		if plan.Changes() != (test.retire+test.load != "") {
			t.Errorf("%s: changes: %v", test.name, plan.Changes())
		}
		if len(files) != len(test.files) {
			t.Errorf("%s: the caller's map was changed", test.name)
		}
	}
}

func TestChangedKeysAreRereadWithoutOtherChanges(t *testing.T) {
	plan := Plan{Keep: conns("a")}
	if got := text(plan.Prepare(true)); got != "reread secrets" {
		t.Errorf("got %q", got)
	}
	if got := text(plan.Prepare(false)); got != "" {
		t.Errorf("got %q", got)
	}
}

// The IKE SA of orphan was deleted with a changed conn. The daemon still has its Child SA.
func TestKeptConnsThatLostTheirTunnelAreInitiated(t *testing.T) {
	plan := Plan{Keep: conns("up", "orphan", "lost", "r-lost", "never")}
	before := Status{Up: map[string]bool{"up": true, "orphan": true, "lost": true, "r-lost": true}}
	after := Status{Up: map[string]bool{"up": true}, Orphans: []string{"orphan"}}
	if got := text(plan.Revive(before, after)); got != "terminate orphan, initiate orphan lost" {
		t.Errorf("got %q", got)
	}
	if got := text(plan.Revive(before, before)); got != "" {
		t.Errorf("no tunnel was lost: got %q", got)
	}
}

func TestConnectedPeers(t *testing.T) {
	got := ConnectedPeers(conns("a1", "a2", "b"), Status{Up: map[string]bool{"a2": true, "gone": true}})
	if !got[peerA] || got[peerB] || len(got) != 1 {
		t.Errorf("got %v", got)
	}
}

func TestFilesMatch(t *testing.T) {
	for _, test := range []struct {
		name    string
		files   map[string]string
		refused map[string]string
		edited  bool
		same    bool
	}{
		{"the daemon has all conns", map[string]string{"a": "conn a", "b": "conn b"}, nil, true, true},
		{"an earlier version wrote a file", map[string]string{"a": "conn a", "b": "conn b, former"}, nil, true, true},
		{"a conn was edited", map[string]string{"a": "conn a", "b": "conn b, edited"}, nil, true, false},
		{"a conn is missing", map[string]string{"a": "conn a"}, nil, false, false},
		{"the daemon has refused a conn", map[string]string{"a": "conn a"}, map[string]string{"b": "why"}, false, true},
		{"the daemon has refused a conn, before the edit", map[string]string{"a": "conn a"},
			map[string]string{"b": "why"}, true, false},
		{"an unwanted conn is left", map[string]string{"a": "conn a", "b": "conn b", "c": "conn c"}, nil, true, false},
	} {
		files := map[string][]byte{}
		for name, text := range test.files {
			files[name] = []byte(text)
		}
		refused, same := FilesMatch(conns("a", "b"), files, test.refused, test.edited)
		if same != test.same || same && len(refused) != len(test.refused) {
			t.Errorf("%s: %v, %v", test.name, refused, same)
		}
	}
}
