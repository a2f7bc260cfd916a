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

// deadline is how long a test waits for what must come. It says nothing about speed.
const deadline = 20 * time.Second

// ground is an NSDB directory with a host `h`, a binding `p` with all it refers to, and what Run makes of it.
type ground struct {
	*testing.T
	dir  string
	nsdb *NSDB

	mu   sync.Mutex
	log  []string
	sets []spec.Desired
	news chan struct{}
}

// newGround makes the directory. The rescan never comes, so that what is seen is seen by events; a test that says
// otherwise sets it before run.
func newGround(t *testing.T) *ground {
	t.Parallel()
	g := &ground{T: t, dir: filepath.Join(t.TempDir(), "nsdb"), news: make(chan struct{}, 1)}
	g.nsdb = Open(Location{Dir: g.dir, Status: filepath.Join(t.TempDir(), "status"), Rescan: time.Hour}, "h", slog.New(g))
	g.nsdb.patience.doubt = 300 * time.Millisecond
	g.fill(g.dir)
	return g
}

// fill writes the usual objects into a directory.
func (g *ground) fill(dir string) {
	g.Helper()
	g.write(dir, "hosts/h.yaml", "id: h\n")
	g.write(dir, "bindings/h/p.yaml", binding("p", "vpn-p", "c"))
	g.write(dir, "containers/c.yaml", container("c"))
	g.write(dir, "configurations/k.yaml", "id: k\n")
}

func binding(port, name, container string) string {
	return fmt.Sprintf("portId: %s\nhostId: h\ninterfaceName: %s\ncontainerId: %s\n", port, name, container)
}

func container(id string) string {
	return fmt.Sprintf("id: %s\nserviceType: IPSEC\ngroupId: g\nconfigurationId: k\n", id)
}

func (g *ground) check(err error) {
	g.Helper()
	if err != nil {
		g.Fatal(err)
	}
}

// write writes a file in one go, in place.
func (g *ground) write(dir, name, content string) {
	g.Helper()
	path := filepath.Join(dir, name)
	g.check(os.MkdirAll(filepath.Dir(path), 0o755))
	g.check(os.WriteFile(path, []byte(content), 0o644))
}

// place renames a whole file into its place, so that no reader sees a part of it.
func (g *ground) place(name, content string) {
	g.Helper()
	g.write(g.dir, "aside", content)
	g.rename("aside", name)
}

func (g *ground) path(name string) string { return filepath.Join(g.dir, name) }

func (g *ground) rename(from, to string) {
	g.Helper()
	g.check(os.Rename(g.path(from), g.path(to)))
}

func (g *ground) remove(name string) {
	g.Helper()
	g.check(os.RemoveAll(g.path(name)))
}

// run starts Run and waits for the first set.
func (g *ground) run() spec.Desired {
	g.Helper()
	g.start()
	return g.until("the first set", func(spec.Desired) bool { return true })
}

// startsWell runs and checks that the first set is the usual one.
func (g *ground) startsWell() {
	g.Helper()
	if first := g.run(); !whole(first) || mac(first) != "" || len(first.Bindings) != 1 {
		g.Fatalf("got %+v", first)
	}
}

func (g *ground) start() {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := g.nsdb.Run(ctx, g.changed); err != nil {
			g.Error(err)
		}
	})
	g.Cleanup(func() {
		cancel()
		running.Wait()
	})
}

func (g *ground) changed(desired spec.Desired) {
	g.mu.Lock()
	g.sets = append(g.sets, desired)
	g.mu.Unlock()
	select {
	case g.news <- struct{}{}:
	default:
	}
}

// mark counts the sets so far, for since.
func (g *ground) mark() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.sets)
}

func (g *ground) since(mark int) []spec.Desired {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.sets[mark:]
}

// until waits until the last set is as wanted.
func (g *ground) until(what string, wanted func(spec.Desired) bool) spec.Desired {
	g.Helper()
	late := time.After(deadline)
	for {
		sets := g.since(0)
		if len(sets) > 0 && wanted(sets[len(sets)-1]) {
			return sets[len(sets)-1]
		}
		select {
		case <-g.news:
		case <-late:
			g.Fatalf("%s did not come in %v; the sets were %+v", what, deadline, sets)
		}
	}
}

// settle makes another change and waits until it is seen: what happened before it was looked at, too.
func (g *ground) settle() {
	g.Helper()
	port := fmt.Sprintf("z%d", time.Now().UnixNano())
	g.write(g.dir, "bindings/h/"+port+".yaml", binding(port, port[:10], "c"))
	g.until("a later change", func(d spec.Desired) bool { return find(d, spec.PortID(port)) != nil })
}

func find(d spec.Desired, port spec.PortID) *spec.Binding {
	for i := range d.Bindings {
		if d.Bindings[i].PortID == port {
			return &d.Bindings[i]
		}
	}
	return nil
}

// whole says whether a set was read and holds the usual binding, well.
func whole(d spec.Desired) bool {
	b := find(d, "p")
	return d.Unread == "" && b != nil && b.Reading == spec.Whole
}

func mac(d spec.Desired) string {
	if b := find(d, "p"); b != nil {
		return b.Port.MAC
	}
	return ""
}

// The ground is the handler of its own log.

func (g *ground) Enabled(context.Context, slog.Level) bool { return true }
func (g *ground) WithAttrs([]slog.Attr) slog.Handler       { return g }
func (g *ground) WithGroup(string) slog.Handler            { return g }
func (g *ground) Handle(_ context.Context, r slog.Record) error {
	line := r.Level.String() + " " + r.Message
	r.Attrs(func(a slog.Attr) bool { line += " " + a.Value.String(); return true })
	g.mu.Lock()
	defer g.mu.Unlock()
	g.log = append(g.log, line)
	return nil
}

func (g *ground) logged(part string) (count int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, line := range g.log {
		if strings.Contains(line, part) {
			count++
		}
	}
	return count
}
