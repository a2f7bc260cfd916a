package verb

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/libreswan"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/state"
)

// talking is a daemon with the given status and traffic status; said is what it was told.
func talking(t *testing.T, status, traffic string) (d *libreswan.Daemon, said func() string) {
	t.Helper()
	dir := t.TempDir()
	whack, calls := filepath.Join(dir, "whack"), filepath.Join(dir, "calls")
	put(t, whack, `#!/bin/sh
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
	return &libreswan.Daemon{Tools: libreswan.Tools{Whack: whack}, Folder: dir}, func() string {
		text, _ := os.ReadFile(calls)
		return strings.TrimSpace(string(text))
	}
}

// Of orphan-0-0 the daemon still has its half, without the IKE SA that went with the changed conn.
func TestWhatWentDownWithAChangedConnIsBegunAgain(t *testing.T) {
	d, said := talking(t, `"up-0-0":     oriented; my_ip=unset
"orphan-0-0":     oriented; my_ip=unset
#2: "up-0-0":500 STATE_V2_ESTABLISHED_CHILD_SA (established Child SA); newest; eroute owner; IKE SA #1; idle;
#1: "up-0-0":500 STATE_V2_ESTABLISHED_IKE_SA (established IKE SA); newest; idle;
#3: "orphan-0-0":500 STATE_V2_ESTABLISHED_CHILD_SA (established Child SA); newest; eroute owner; IKE SA #9; idle;`,
		`#2: "up-0-0", type=ESP, add_time=1700000000, inBytes=84, outBytes=84
#3: "orphan-0-0", type=ESP, add_time=1700000000, inBytes=84, outBytes=84`)
	same := []libreswan.Spec{{Name: "up-0-0", Start: true}, {Name: "orphan-0-0", Start: true}, {Name: "peers-0-0"}, {Name: "never-0-0", Start: true}}
	before := map[string]libreswan.Traffic{"up-0-0": {}, "orphan-0-0": {}, "peers-0-0": {}}
	if err := new(change).reviveSiblings(t.Context(), d, same, before); err != nil {
		t.Fatal(err)
	}
	if got := said(); got != "--name orphan-0-0 --terminate\n--name orphan-0-0 --asynchronous --initiate" {
		t.Errorf("told %q", got)
	}
}

func TestATunnelWithoutItsIKESAIsNotUp(t *testing.T) {
	v := viewOf(libreswan.Answer{
		Conns: map[string]libreswan.Conn{"orphan-0-0": {Orphaned: true}, "on-its-way-0-0": {Orphaned: true, Negotiating: true},
			"a-0-0": {}},
		Traffic: map[string]libreswan.Traffic{"orphan-0-0": {}, "on-its-way-0-0": {}},
	}, nil)
	if len(v.up) != 0 || len(v.conns) != 3 || !slices.Equal(v.orphans, []string{"orphan-0-0"}) {
		t.Errorf("%+v", v)
	}
}

// The ADD before this one wrote the file of the keys, and failed before the daemon read it.
func TestTheKeyOfAConnThatGoesIsForgotten(t *testing.T) {
	d, said := talking(t, `"a-0-0":     oriented; my_ip=unset`, "")
	c := &change{folder: &state.Directory{Path: d.Folder}, recorded: new(state.State), refused: map[string]string{}}
	var err error
	if c.request, err = decode(ask(whole)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"conns", "run"} {
		if err := c.folder.SharedDir(name); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.folder.Write("conns/a-0-0.conf", []byte("conn a-0-0\n")); err != nil {
		t.Fatal(err)
	}
	files, err := d.Loaded()
	if err != nil {
		t.Fatal(err)
	}
	c.view = new(view)
	c.changes = compareConns(nil, files, map[string]libreswan.Conn{"a-0-0": {}}, nil)
	if err := c.retire(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if err := c.loadRunning(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if got := said(); got != "--name a-0-0 --delete\n--rereadsecrets" {
		t.Errorf("told %q", got)
	}
	if files, err := d.Loaded(); err != nil || len(files) != 0 {
		t.Errorf("files %v, %v", files, err)
	}
}
