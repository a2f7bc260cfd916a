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

// needsSandbox skips the test outside of the sandbox, because the test makes namespaces and links on the host.
func needsSandbox(t *testing.T) {
	t.Helper()
	if os.Getenv("SVC_TEST_GROUND") != "1" {
		t.Skip("needs the sandbox: make bats")
	}
}

func owner(name string) spec.Owner {
	return spec.Owner{Network: spec.Network, Name: spec.Name(name), ContainerID: spec.ContainerID("id-" + name)}
}

// ip runs the ip command of iproute2 and returns its output. An error fails the test.
func ip(t *testing.T, args ...string) string {
	t.Helper()
	out, err := runIP(args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// runIP runs the ip command of iproute2 and returns its output. The error contains the output.
func runIP(args ...string) (string, error) {
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), err
}

// make makes a namespace that is removed at the end of the test.
func (d Dir) make(t *testing.T, name string) spec.Name {
	t.Helper()
	d.cleanUp(t, name)
	if err := d.Make(owner(name), 0); err != nil {
		t.Fatal(err)
	}
	return spec.Name(name)
}

// cleanUp removes the namespaces or files with these names at the end of the test, whoever owns them.
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

// mounts counts the mounts on a path in this mount namespace. If /run is a shared mount, the mount of the directory of
// named namespaces is its peer, and each namespace has two mounts. Only the one below the directory's own mount is
// counted.
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
		if on := parents[parent]; path == Directory.directory.path || on == path || on == filepath.Dir(path) {
			count++
		}
	}
	return count
}

// oldFile creates a plain file and waits for mountGrace, in which another program could have mounted over it.
func (d Dir) oldFile(t *testing.T, name string, mode os.FileMode) spec.Name {
	t.Helper()
	d.cleanUp(t, name)
	if err := os.MkdirAll(d.directory.path, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.Path(spec.Name(name)), nil, mode); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the file is older than mountGrace", func() bool {
		return !errors.Is(checkStale(d.Path(spec.Name(name))), errBeingMade)
	})
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
