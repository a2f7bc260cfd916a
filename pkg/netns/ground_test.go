package netns

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// ground skips a test that makes namespaces and links where that is not welcome.
func ground(t *testing.T) {
	t.Helper()
	if os.Getenv("SVC_TEST_GROUND") != "1" {
		t.Skip("needs the sandbox: make bats")
	}
}

func owner(name string) spec.Owner {
	return spec.Owner{Network: spec.Network, Name: spec.Name(name), ContainerID: spec.ContainerID("id-" + name)}
}

// ip runs iproute2's program; fallible says what it answered instead of failing the test.
func ip(t *testing.T, args ...string) string {
	t.Helper()
	out, err := fallible(args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func fallible(args ...string) (string, error) {
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), err
}

// make makes a namespace that goes with the test.
func (d Dir) make(t *testing.T, name string) spec.Name {
	t.Helper()
	d.cleanUp(t, name)
	if err := d.Make(owner(name), 0); err != nil {
		t.Fatal(err)
	}
	return spec.Name(name)
}

// cleanUp removes whatever has the name at the end of the test, ours or not.
func (d Dir) cleanUp(t *testing.T, names ...string) {
	t.Cleanup(func() {
		for _, name := range names {
			for mounts(t, d.Path(spec.Name(name))) > 0 {
				if out, err := exec.Command("umount", "-l", d.Path(spec.Name(name))).CombinedOutput(); err != nil {
					t.Fatalf("umount: %v: %s", err, out)
				}
			}
			if err := os.RemoveAll(d.Path(spec.Name(name))); err != nil {
				t.Error(err)
			}
		}
	})
}

// state fails the test unless the name has that state.
func (d Dir) state(t *testing.T, name spec.Name, want State) Namespace {
	t.Helper()
	got, err := d.Observe(name)
	if err != nil {
		t.Fatal(err)
	}
	if got.State != want {
		t.Fatalf("%s is %s, want %s", name, got.State, want)
	}
	return got
}

// mounts counts the mounts on a path in this mount namespace. The directory of named namespaces is a peer of /run's
// mount where that is shared, so a namespace there is seen twice; only those below the directory's own mount count.
func mounts(t *testing.T, path string) int {
	t.Helper()
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	parents := map[string]string{}
	var found []string
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		parents[fields[0]] = fields[4]
		if fields[4] == path {
			found = append(found, fields[1])
		}
	}
	count := 0
	for _, parent := range found {
		if on := parents[parent]; path == Directory.path || on == path || on == filepath.Dir(path) {
			count++
		}
	}
	return count
}

// oldFile makes a plain file whose maker has had time to mount over it.
func (d Dir) oldFile(t *testing.T, name string, mode os.FileMode) spec.Name {
	t.Helper()
	d.cleanUp(t, name)
	if err := os.MkdirAll(d.path, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.Path(spec.Name(name)), nil, mode); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the file has aged", func() bool { return !errors.Is(checkStale(d.Path(spec.Name(name))), errHalfMade) })
	return spec.Name(name)
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in 10 s: %s", what)
		}
	}
}
