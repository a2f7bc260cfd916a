package etcd

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/etcdtest"
)

// deadline is how long a test waits for what must come. It says nothing about speed.
const deadline = 30 * time.Second

// shared is a cluster of three for the tests that break nothing. It is started by the first of them.
var shared struct {
	once    sync.Once
	cluster *etcdtest.Cluster
	tb      *lasting
}

// lasting is a test that ends with the process.
type lasting struct {
	testing.TB
	dir      string
	cleanups []func()
}

func (l *lasting) Cleanup(f func())         { l.cleanups = append(l.cleanups, f) }
func (l *lasting) TempDir() string          { return l.dir }
func (l *lasting) Skipf(f string, a ...any) { l.TB.Helper(); l.TB.Skipf(f, a...) }

func TestMain(m *testing.M) {
	code := m.Run()
	if l := shared.tb; l != nil {
		for i := len(l.cleanups) - 1; i >= 0; i-- {
			l.cleanups[i]()
		}
		_ = os.RemoveAll(l.dir)
	}
	os.Exit(code)
}

func commonCluster(t *testing.T) *etcdtest.Cluster {
	t.Helper()
	shared.once.Do(func() {
		dir, err := os.MkdirTemp("", "etcd")
		if err != nil {
			t.Fatal(err)
		}
		shared.tb = &lasting{TB: t, dir: dir}
		shared.cluster = etcdtest.Start(shared.tb, 3)
	})
	if shared.cluster == nil {
		t.Skip("no etcd server here")
	}
	return shared.cluster
}

// ground is a prefix with a host `h`, a binding `p` with all it refers to, and what Run makes of it.
type ground struct {
	*testing.T
	cluster *etcdtest.Cluster
	root    string
	nsdb    *NSDB
	rpcs    *rpcs
	stop    func()

	mu   sync.Mutex
	log  []string
	sets []spec.Desired
	news chan struct{}
}

// newGround makes a prefix of its own in the common cluster.
func newGround(t *testing.T) *ground {
	t.Helper()
	c := commonCluster(t)
	t.Parallel()
	return groundIn(t, c, c.URL)
}

// groundIn makes one in a cluster, with an NSDB at the URL that is made of the prefix.
func groundIn(t *testing.T, c *etcdtest.Cluster, address func(root string) string) *ground {
	t.Helper()
	g := &ground{T: t, cluster: c, root: strings.ReplaceAll(t.Name(), "/", "-"), news: make(chan struct{}, 1), rpcs: new(rpcs)}
	g.nsdb = g.open(address(g.root))
	g.fill()
	return g
}

// open opens an NSDB as impatient as tests are.
func (g *ground) open(address string) *NSDB {
	g.Helper()
	n := open(g.T, address, g)
	n.dial = append(n.dial, grpc.WithStatsHandler(g.rpcs))
	return n
}

func open(t testing.TB, address string, log slog.Handler) *NSDB {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	location, err := ParseURL(u)
	if err != nil {
		t.Fatal(err)
	}
	n := Open(location, "h", slog.New(log))
	n.patience.try = time.Second
	n.patience.silence = 1500 * time.Millisecond
	n.patience.retry = 500 * time.Millisecond
	t.Cleanup(func() { _ = n.Close() })
	return n
}

func (g *ground) path(key string) string { return "/" + g.root + "/" + key }

// fill writes the usual objects.
func (g *ground) fill() {
	g.Helper()
	g.put("hosts/h", `{"id":"h"}`)
	g.put("configurations/k", `{"id":"k"}`)
	g.put("containers/c", container("c"))
	g.put("bindings/h/p", binding("p", "vpn-p", "c"))
}

func binding(port, name, container string) string {
	return fmt.Sprintf(`{"portId":%q,"hostId":"h","interfaceName":%q,"containerId":%q}`, port, name, container)
}

func container(id string) string {
	return fmt.Sprintf(`{"id":%q,"serviceType":"IPSEC","groupId":"g","configurationId":"k"}`, id)
}

func (g *ground) check(err error) {
	g.Helper()
	if err != nil {
		g.Fatal(err)
	}
}

// txn does operations as somebody else, in one transaction, again until the cluster takes them.
func (g *ground) txn(operations ...clientv3.Op) {
	g.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	for {
		once, stop := context.WithTimeout(ctx, 3*time.Second)
		_, err := g.cluster.Client().Txn(once).Then(operations...).Commit()
		stop()
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			g.Fatal(err)
		}
	}
}

func (g *ground) opPut(key, value string) clientv3.Op { return clientv3.OpPut(g.path(key), value) }

func (g *ground) put(key, value string) {
	g.Helper()
	g.txn(g.opPut(key, value))
}

func (g *ground) remove(key string) {
	g.Helper()
	g.txn(clientv3.OpDelete(g.path(key)))
}

// stands is what stands under a key: its value, its lease and the revision of its last change.
func (g *ground) stands(key string) (value string, lease, revision int64) {
	g.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	answer, err := g.cluster.Client().Get(ctx, g.path(key))
	g.check(err)
	if len(answer.Kvs) == 0 {
		return "", 0, 0
	}
	return string(answer.Kvs[0].Value), answer.Kvs[0].Lease, answer.Kvs[0].ModRevision
}

func (g *ground) await(what string, good func() bool) {
	g.Helper()
	for late := time.Now().Add(deadline); !good(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(late) {
			g.Fatalf("%s: not in %v; log: %q", what, deadline, g.log)
		}
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
	g.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	g.Cleanup(g.stop)
}

func (g *ground) startsWell() {
	g.Helper()
	g.start()
	if first := g.until("the first set", func(spec.Desired) bool { return true }); !whole(first) {
		g.Fatalf("got %+v", first)
	}
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
		if sets := g.since(0); len(sets) > 0 && wanted(sets[len(sets)-1]) {
			return sets[len(sets)-1]
		}
		select {
		case <-g.news:
		case <-late:
			sets := g.since(0)
			g.Fatalf("%s did not come in %v; the last of %d sets was %+v; log: %q", what, deadline, len(sets), sets[max(0, len(sets)-1):], g.log)
		}
	}
}

// settle makes another change and waits until it is seen: what happened before it was looked at, too.
func (g *ground) settle() {
	g.Helper()
	mac := fmt.Sprintf("02:00:00:%02x:%02x:%02x", settled.Add(1)%200, time.Now().UnixNano()>>8&255, time.Now().UnixNano()&255)
	g.put("bindings/h/p", fmt.Sprintf(`{"portId":"p","hostId":"h","interfaceName":"vpn-p","containerId":"c","mac":%q}`, mac))
	g.until("a later change", func(d spec.Desired) bool { b := find(d, "p"); return b != nil && b.Port.MAC == mac })
}

var settled atomic.Int64

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

// secret writes a file that nobody else may read.
func secret(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// rpcs counts requests by their method, and messages that come in.
type rpcs struct {
	mu       sync.Mutex
	begun    map[string]int
	messages int
}

type methodKey struct{}

func (r *rpcs) TagRPC(ctx context.Context, tag *stats.RPCTagInfo) context.Context {
	return context.WithValue(ctx, methodKey{}, tag.FullMethodName)
}

func (r *rpcs) HandleRPC(ctx context.Context, s stats.RPCStats) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch s.(type) {
	case *stats.Begin:
		if r.begun == nil {
			r.begun = map[string]int{}
		}
		method, _ := ctx.Value(methodKey{}).(string)
		r.begun[method[strings.LastIndexByte(method, '/')+1:]]++
	case *stats.InPayload:
		r.messages++
	}
}

func (r *rpcs) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (r *rpcs) HandleConn(context.Context, stats.ConnStats)                       {}

// count returns the requests so far, streams included.
func (r *rpcs) count() (requests, watches int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.begun {
		requests += n
	}
	return requests, r.begun["Watch"]
}

// The ground is the handler of its own log.

func (g *ground) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }
func (g *ground) WithAttrs([]slog.Attr) slog.Handler               { return g }
func (g *ground) WithGroup(string) slog.Handler                    { return g }
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
