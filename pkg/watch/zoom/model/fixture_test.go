package model

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/text/texttest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// The objects of testdata/midonet: a host with a port without a container and a port with the container of a VPN
// router. Some objects set every field of their proto, and others set as few as possible.
const (
	hostID       UUID = "2a6e9f0c-8d4b-4c11-9f3e-0123456789ab"
	portID       UUID = "60df5fda-0000-4000-8000-000000000001"
	plainPort    UUID = "60df5fda-0000-4000-8000-000000000002"
	externalPort UUID = "60df5fda-0000-4000-8000-000000000003"
	ipv6Port     UUID = "60df5fda-0000-4000-8000-000000000004"
	containerID  UUID = "c0000000-0000-4000-8000-000000000001"
	groupID      UUID = "90000000-0000-4000-8000-000000000001"
	routerID     UUID = "70000000-0000-4000-8000-000000000001"
	serviceID    UUID = "50000000-0000-4000-8000-000000000001"
	downService  UUID = "50000000-0000-4000-8000-000000000002"
	wholeConn    UUID = "f0000000-0000-4000-8000-000000000001"
	unsetConn    UUID = "f0000000-0000-4000-8000-000000000002"
	downConn     UUID = "f0000000-0000-4000-8000-000000000003"
	unseenConn   UUID = "f0000000-0000-4000-8000-000000000004"
)

var midonet = Tree{DefaultRoot}

// fakeSnapshot is a Snapshot that a test can change. An entry in states overrides the data of the node.
type fakeSnapshot struct {
	data   map[string][]byte
	states map[string]State
	gets   map[string]int
}

func newFakeSnapshot() *fakeSnapshot {
	return &fakeSnapshot{map[string][]byte{}, map[string]State{}, map[string]int{}}
}

func (s *fakeSnapshot) Get(path string) ([]byte, State) {
	s.gets[path]++
	if state, ok := s.states[path]; ok {
		if state == Unreadable {
			return []byte("no permission"), state
		}
		return nil, state
	}
	return treeSnapshot(s.data).Get(path)
}

// fixture returns the tree of testdata/midonet, with the root key /midonet.
func fixture(t testing.TB) *fakeSnapshot {
	t.Helper()
	s := newFakeSnapshot()
	err := filepath.WalkDir("testdata/midonet", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		s.data["/"+strings.TrimPrefix(filepath.ToSlash(path), "testdata/")], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// replace replaces a part of the data of an object.
func (s *fakeSnapshot) replace(t testing.TB, path, old, with string) {
	t.Helper()
	if !bytes.Contains(s.data[path], []byte(old)) {
		t.Fatalf("%s has no %q", path, old)
	}
	s.data[path] = bytes.Replace(s.data[path], []byte(old), []byte(with), 1)
}

func golden(t *testing.T, name string, value any) {
	t.Helper()
	var got bytes.Buffer
	if err := json.Indent(&got, marshal(value), "", "  "); err != nil {
		t.Fatal(err)
	}
	got.WriteByte('\n')
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%s: %v: got\n%s", path, err, got.Bytes())
	}
}

func TestFixturesHaveTextFormatLayout(t *testing.T) {
	s := fixture(t)
	for _, class := range Classes {
		found := 0
		for path, data := range s.data {
			if !strings.HasPrefix(path, midonet.Objects(class)+"/") {
				continue
			}
			found++
			if err := texttest.Check(string(class), data); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
		if found == 0 {
			t.Errorf("no object of class %s", class)
		}
	}
}

func faultTexts(r Result) string {
	var lines []string
	for _, fault := range r.Faults {
		lines = append(lines, fault.String())
	}
	return strings.Join(lines, "\n")
}

func isFault(err error) bool {
	_, ok := errors.AsType[*spec.Fault](err)
	return ok
}
