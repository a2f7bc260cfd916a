package verb

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/endpoint"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/libreswan"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/state"
)

// fakeDaemon returns a daemon with the given status and traffic status. whackCalls returns the other calls of whack.
func fakeDaemon(t *testing.T, status, traffic string) (d *libreswan.Daemon, whackCalls func() string) {
	t.Helper()
	dir := t.TempDir()
	whack, calls := filepath.Join(dir, "whack"), filepath.Join(dir, "calls")
	writeFile(t, whack, `#!/bin/sh
shift 2
case "$*" in
--status*) cat <<END
`+status+`
`+traffic+`
END
;;
*) echo "$*" >>`+calls+` ;;
esac
`, 0o700)
	return &libreswan.Daemon{Tools: libreswan.Tools{Whack: whack}, Dir: dir}, func() string {
		text, _ := os.ReadFile(calls)
		return strings.TrimSpace(string(text))
	}
}

// The IKE SA of orphan-0-0 was deleted with the changed conn. The daemon still has its Child SA.
func TestSiblingsOfChangedConnAreInitiated(t *testing.T) {
	d, whackCalls := fakeDaemon(t, `"up-0-0":     oriented; my_ip=unset
"orphan-0-0":     oriented; my_ip=unset
#2: "up-0-0":500 STATE_V2_ESTABLISHED_CHILD_SA (established Child SA); newest; eroute owner; IKE SA #1; idle;
#1: "up-0-0":500 STATE_V2_ESTABLISHED_IKE_SA (established IKE SA); newest; idle;
#3: "orphan-0-0":500 STATE_V2_ESTABLISHED_CHILD_SA (established Child SA); newest; eroute owner; IKE SA #9; idle;`,
		`#2: "up-0-0", type=ESP, add_time=1700000000, inBytes=84, outBytes=84
#3: "orphan-0-0", type=ESP, add_time=1700000000, inBytes=84, outBytes=84`)
	initiator, responder := new(config.Connection), &config.Connection{ResponseOnly: true}
	plan := endpoint.Plan{Keep: []endpoint.Conn{{Name: "up-0-0", Connection: initiator},
		{Name: "orphan-0-0", Connection: initiator}, {Name: "peers-0-0", Connection: responder},
		{Name: "never-0-0", Connection: initiator}}}
	before := endpoint.Status{Up: map[string]bool{"up-0-0": true, "orphan-0-0": true, "peers-0-0": true}}
	answer, err := d.Control().Query(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := (&daemonChange{daemon: d}).do(t.Context(),
		plan.Revive(before, statusOf(answer, nil).plain())); err != nil {
		t.Fatal(err)
	}
	if got := whackCalls(); got != "--name orphan-0-0 --terminate\n--name orphan-0-0 --asynchronous --initiate" {
		t.Errorf("whack calls %q", got)
	}
}

func TestOrphanedChildSAIsNotUp(t *testing.T) {
	status := statusOf(libreswan.Answer{
		Conns: map[string]libreswan.Conn{"orphan-0-0": {Orphaned: true},
			"on-its-way-0-0": {Orphaned: true, Negotiating: true},
			"a-0-0":          {}},
		Traffic: map[string]libreswan.Traffic{"orphan-0-0": {}, "on-its-way-0-0": {}},
	}, nil)
	if len(status.up) != 0 || len(status.conns) != 3 || !slices.Equal(status.orphans, []string{"orphan-0-0"}) {
		t.Errorf("%+v", status)
	}
}

// The previous ADD wrote the file of keys and failed before the daemon reread it.
func TestKeyOfDeletedConnIsRemoved(t *testing.T) {
	d, whackCalls := fakeDaemon(t, `"a-0-0":     oriented; my_ip=unset`, "")
	dir := &state.Directory{Path: d.Dir}
	c := &daemonChange{daemon: d, files: daemonFiles{dir}, result: daemonResult{status: new(daemonStatus)}}
	for _, name := range []string{"conns", "run"} {
		if err := dir.Files().SharedDir(name); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := dir.Files().Write("conns/a-0-0.conf", []byte("conn a-0-0\n")); err != nil {
		t.Fatal(err)
	}
	files, err := d.Files().Loaded()
	if err != nil {
		t.Fatal(err)
	}
	c.plan = endpoint.Compare(nil, files, map[string]endpoint.Loaded{"a-0-0": {}}, nil)
	if err := c.do(t.Context(), c.plan.Retire()); err != nil {
		t.Fatal(err)
	}
	if err := c.loadRunning(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := whackCalls(); got != "--name a-0-0 --delete\n--rereadsecrets" {
		t.Errorf("whack calls %q", got)
	}
	if files, err := d.Files().Loaded(); err != nil || len(files) != 0 {
		t.Errorf("files %v, %v", files, err)
	}
}

// The answer from which Revive decides is older than the negotiation of the new conn. The health of ADD is not.
func TestNewConnIsInitiatedAfterRevivedOnes(t *testing.T) {
	d, whackCalls := fakeDaemon(t, `"new-0-0":     oriented; my_ip=unset
"lost-0-0":     oriented; my_ip=unset`, "")
	d.Tools.Addconn = filepath.Join(filepath.Dir(d.Tools.Whack), "addconn")
	writeFile(t, d.Tools.Addconn, "#!/bin/sh\n", 0o700)
	dir := &state.Directory{Path: d.Dir}
	for _, name := range []string{"conns", "run"} {
		if err := dir.Files().SharedDir(name); err != nil {
			t.Fatal(err)
		}
	}
	initiator := new(config.Connection)
	c := &daemonChange{
		daemon: d, files: daemonFiles{dir},
		plan: endpoint.Plan{
			Keep: []endpoint.Conn{{Name: "lost-0-0", Connection: initiator}},
			Load: []endpoint.Conn{{Name: "new-0-0", Text: []byte("conn new-0-0\n"), Connection: initiator}},
		},
		result: daemonResult{
			refused: map[string]string{},
			status:  &daemonStatus{up: map[string]libreswan.Traffic{"lost-0-0": {}}},
		},
	}
	if err := c.loadRunning(t.Context()); err != nil {
		t.Fatal(err)
	}
	const want = "--listen\n--name lost-0-0 --asynchronous --initiate\n--name new-0-0 --asynchronous --initiate"
	if got := whackCalls(); got != want {
		t.Errorf("whack calls %q", got)
	}
	if c.result.status != nil || !c.result.connsLoaded {
		t.Errorf("%+v", c.result)
	}
}
