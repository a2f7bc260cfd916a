package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/pkg/netns"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// The harness compares the lines of Observe, so each of these faults must have a line of its own.
func TestObserveShowsWrongUserIDs(t *testing.T) {
	if os.Getenv("SVC_TEST_GROUND") != "1" {
		t.Skip("requires the sandbox: SVC_TEST_GROUND=1 is not set")
	}
	aside := registryDir + ".aside" // the registry of other tests in this sandbox
	if err := os.Rename(registryDir, aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = os.RemoveAll(registryDir)
		_ = os.Rename(aside, registryDir)
	})
	const id = 2100000009
	for _, name := range []spec.Name{"right", "twin"} {
		owner := spec.Owner{Network: spec.Network, Name: name, ContainerID: "c"}
		if err := netns.Directory.Make(owner, id); err != nil {
			t.Fatal(err)
		}
		directory := filepath.Join(ipsecDir, string(name))
		write(t, filepath.Join(directory, "state.json"), fmt.Sprintf(
			`{"userId":%d,"attachment":{"network":%q,"namespace":"/run/netns/%s"}}`, id, spec.Network, name))
		if err := os.Chown(directory, 0, id); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = netns.Directory.Remove(name)
			_ = os.RemoveAll(directory)
		})
	}
	write(t, filepath.Join(registryDir, ".state"), "{}")
	write(t, filepath.Join(registryDir, fmt.Sprint(id)), spec.Network+":right:c\n")
	write(t, filepath.Join(registryDir, "2100000010"), spec.Network+":ghost:c\n")
	write(t, filepath.Join(registryDir, "2100000011"), "damaged")
	write(t, filepath.Join(registryDir, ".rest123"), "")
	for link, target := range map[string]uint32{"right": id, "astray": id, "nowhere": 2100000012} {
		if err := os.Symlink(fmt.Sprint(target), filepath.Join(registryDir, spec.Network+":"+link)); err != nil {
			t.Fatal(err)
		}
	}
	observed, err := Observe()
	if err != nil {
		t.Fatal(err)
	}
	observed = slices.DeleteFunc(observed, func(line string) bool {
		return !strings.HasPrefix(line, "user id") && !strings.HasPrefix(line, "directory")
	})
	want := []string{
		"directory right",
		"directory twin of user id 2100000009 (state.json), 2100000009 (group), 2100000009 (namespace); registered: 0",
		"user id .rest123 -> \"\", which is no registration of it",
		"user id 2100000011 of \"damaged\"",
		"user id found by svc-supervisor:right",
		"user id of svc-supervisor:ghost",
		"user id of svc-supervisor:right",
		"user id svc-supervisor:astray -> \"2100000009\", which is no registration of it",
		"user id svc-supervisor:nowhere -> \"2100000012\", which is no registration of it",
	}
	if !slices.Equal(observed, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(observed, "\n"), strings.Join(want, "\n"))
	}
}
