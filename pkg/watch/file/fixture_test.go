package file

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// deadline is how long a test waits for an expected result. It is no performance requirement.
const deadline = 20 * time.Second

// fixture is an NSDB directory with a host `h`, a binding `p` and the objects to which it refers. It records the sets
// and log lines of Run.
type fixture struct {
	*testing.T
	dir  string
	nsdb *NSDB

	mu      sync.Mutex
	log     []string
	sets    []spec.Desired
	updated chan struct{}
}

// newFixture creates the directory. There are no rescans during a test, so changes are found by events only. A test
// that needs rescans sets Rescan before run.
func newFixture(t *testing.T) *fixture {
	t.Parallel()
	f := &fixture{T: t, dir: filepath.Join(t.TempDir(), "nsdb"), updated: make(chan struct{}, 1)}
	f.nsdb = Open(Location{Dir: f.dir, Status: filepath.Join(t.TempDir(), "status"), Rescan: time.Hour}, "h",
		slog.New(f))
	f.nsdb.timing.removalDelay = 300 * time.Millisecond
	f.writeObjects(f.dir)
	return f
}

// writeObjects writes the default objects into a directory.
func (f *fixture) writeObjects(dir string) {
	f.Helper()
	f.write(dir, "hosts/h.yaml", "id: h\n")
	f.write(dir, "bindings/h/p.yaml", binding("p", "vpn-p", "c"))
	f.write(dir, "containers/c.yaml", container("c"))
	f.write(dir, "configurations/k.yaml", "id: k\n")
}

func binding(port, name, container string) string {
	return fmt.Sprintf("portId: %s\nhostId: h\ninterfaceName: %s\ncontainerId: %s\n", port, name, container)
}

func container(id string) string {
	return fmt.Sprintf("id: %s\nserviceType: IPSEC\ngroupId: g\nconfigurationId: k\n", id)
}

func (f *fixture) check(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// write writes a file in place, with one write.
func (f *fixture) write(dir, name, content string) {
	f.Helper()
	path := filepath.Join(dir, name)
	f.check(os.MkdirAll(filepath.Dir(path), 0o755))
	f.check(os.WriteFile(path, []byte(content), 0o644))
}

// writeRenamed writes another file and renames it to name, so that no reader sees partial content.
func (f *fixture) writeRenamed(name, content string) {
	f.Helper()
	f.write(f.dir, "aside", content)
	f.rename("aside", name)
}

func (f *fixture) path(name string) string { return filepath.Join(f.dir, name) }

func (f *fixture) rename(from, to string) {
	f.Helper()
	f.check(os.Rename(f.path(from), f.path(to)))
}

func (f *fixture) remove(name string) {
	f.Helper()
	f.check(os.RemoveAll(f.path(name)))
}

// run starts Run and waits for the first set.
func (f *fixture) run() spec.Desired {
	f.Helper()
	f.start()
	return f.waitFor("the first set", func(spec.Desired) bool { return true })
}

// startWithWholeSet starts Run and checks that the first set contains exactly the default objects.
func (f *fixture) startWithWholeSet() {
	f.Helper()
	if first := f.run(); !hasWholeBinding(first) || mac(first) != "" || len(first.Bindings) != 1 {
		f.Fatalf("got %+v", first)
	}
}

func (f *fixture) start() {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := f.nsdb.Run(ctx, f.changed); err != nil {
			f.Error(err)
		}
	})
	f.Cleanup(func() {
		cancel()
		running.Wait()
	})
}

func (f *fixture) changed(desired spec.Desired) {
	f.mu.Lock()
	f.sets = append(f.sets, desired)
	f.mu.Unlock()
	select {
	case f.updated <- struct{}{}:
	default:
	}
}

// countSets returns the number of sets so far, for setsSince.
func (f *fixture) countSets() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.sets)
}

func (f *fixture) setsSince(mark int) []spec.Desired {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sets[mark:]
}

// waitFor waits until wanted returns true for the last set.
func (f *fixture) waitFor(what string, wanted func(spec.Desired) bool) spec.Desired {
	f.Helper()
	late := time.After(deadline)
	for {
		sets := f.setsSince(0)
		if len(sets) > 0 && wanted(sets[len(sets)-1]) {
			return sets[len(sets)-1]
		}
		select {
		case <-f.updated:
		case <-late:
			f.Fatalf("no set with %s within %v; the sets were %+v", what, deadline, sets)
		}
	}
}

// waitForLaterChange makes another change and waits for its set, so that earlier changes have been scanned, too.
func (f *fixture) waitForLaterChange() {
	f.Helper()
	port := fmt.Sprintf("z%d", time.Now().UnixNano())
	f.write(f.dir, "bindings/h/"+port+".yaml", binding(port, port[:10], "c"))
	f.waitFor("a later change", func(d spec.Desired) bool { return find(d, spec.PortID(port)) != nil })
}

func find(d spec.Desired, port spec.PortID) *spec.Binding {
	for i := range d.Bindings {
		if d.Bindings[i].PortID == port {
			return &d.Bindings[i]
		}
	}
	return nil
}

// hasWholeBinding reports whether the host was read and the default binding is complete and without faults.
func hasWholeBinding(d spec.Desired) bool {
	b := find(d, "p")
	return d.Unread == "" && b != nil && b.Reading == spec.Complete
}

func mac(d spec.Desired) string {
	if b := find(d, "p"); b != nil {
		return b.Port.MAC
	}
	return ""
}

// The fixture implements slog.Handler to record log lines.

func (f *fixture) Enabled(context.Context, slog.Level) bool { return true }
func (f *fixture) WithAttrs([]slog.Attr) slog.Handler       { return f }
func (f *fixture) WithGroup(string) slog.Handler            { return f }
func (f *fixture) Handle(_ context.Context, r slog.Record) error {
	line := r.Level.String() + " " + r.Message
	r.Attrs(func(a slog.Attr) bool { line += " " + a.Value.String(); return true })
	f.mu.Lock()
	defer f.mu.Unlock()
	f.log = append(f.log, line)
	return nil
}

func (f *fixture) logged(part string) (count int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, line := range f.log {
		if strings.Contains(line, part) {
			count++
		}
	}
	return count
}
