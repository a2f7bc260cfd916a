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

	"github.com/svc-supervisor/svc-supervisor/internal/publish"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/etcdtest"
)

// deadline is how long a test waits for an expected event. It is no statement about performance.
const deadline = 30 * time.Second

// shared is a cluster of three members for the tests that do not damage their cluster. The first of those tests starts
// it.
var shared struct {
	once    sync.Once
	cluster *etcdtest.Cluster
	tb      *processTB
}

// processTB is a testing.TB whose cleanups run at the end of the process.
type processTB struct {
	testing.TB
	dir      string
	cleanups []func()
}

func (p *processTB) Cleanup(f func())         { p.cleanups = append(p.cleanups, f) }
func (p *processTB) TempDir() string          { return p.dir }
func (p *processTB) Skipf(f string, a ...any) { p.TB.Helper(); p.TB.Skipf(f, a...) }

func TestMain(m *testing.M) {
	code := m.Run()
	if p := shared.tb; p != nil {
		for i := len(p.cleanups) - 1; i >= 0; i-- {
			p.cleanups[i]()
		}
		_ = os.RemoveAll(p.dir)
	}
	os.Exit(code)
}

func sharedCluster(t *testing.T) *etcdtest.Cluster {
	t.Helper()
	shared.once.Do(func() {
		dir, err := os.MkdirTemp("", "etcd")
		if err != nil {
			t.Fatal(err)
		}
		shared.tb = &processTB{TB: t, dir: dir}
		shared.cluster = etcdtest.Start(shared.tb, 3)
	})
	if shared.cluster == nil {
		t.Skip("no etcd server here")
	}
	return shared.cluster
}

// fixture is a key prefix with a host h, a binding p and all objects that it refers to. It records the sets and the log
// lines of Run.
type fixture struct {
	*testing.T
	cluster *etcdtest.Cluster
	root    string
	nsdb    *NSDB
	rpcs    *rpcs
	stop    func()

	mu     sync.Mutex
	log    []string
	sets   []spec.Desired
	notify chan struct{}
}

// newFixture returns a fixture in the shared cluster.
func newFixture(t *testing.T) *fixture {
	t.Helper()
	c := sharedCluster(t)
	t.Parallel()
	f := newFixtureIn(t, c, c.URL)
	f.nsdb.conn.timeouts.request = 20 * time.Second // no member hangs, but the machine may be busy
	f.nsdb.conn.timeouts.streamIdle = 30 * time.Second
	return f
}

// newFixtureIn returns a fixture in a cluster, with an NSDB at the URL that address returns for the prefix.
func newFixtureIn(t *testing.T, c *etcdtest.Cluster, address func(root string) string) *fixture {
	t.Helper()
	root := strings.ReplaceAll(t.Name(), "/", "-")
	f := &fixture{T: t, cluster: c, root: root, notify: make(chan struct{}, 1), rpcs: new(rpcs)}
	f.nsdb = f.open(address(f.root))
	f.putObjects()
	return f
}

// open opens an NSDB with short timeouts.
func (f *fixture) open(address string) *NSDB {
	f.Helper()
	n := open(f.T, address, f)
	n.conn.dialOptions = append(n.conn.dialOptions, grpc.WithStatsHandler(f.rpcs))
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
	n.conn.timeouts.request = time.Second
	n.conn.timeouts.streamIdle = 1500 * time.Millisecond
	n.conn.timeouts.maxBackoff = 500 * time.Millisecond
	t.Cleanup(func() { _ = n.Close() })
	return n
}

// publish runs a publisher, as the supervisor does, until the test ends or stop is called.
func (f *fixture) publish(n *NSDB) (p *publish.Publisher, stop func()) {
	p = publish.New(n, slog.New(f))
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { p.Run(ctx) })
	stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	f.Cleanup(stop)
	return p, stop
}

// put writes the status of a container once.
func put(ctx context.Context, n *NSDB, id spec.ContainerID, status spec.ContainerStatus) error {
	value, err := n.EncodeContainer(status)
	if err != nil {
		return err
	}
	return n.PutStatus(ctx, id, value)
}

// putHost writes the status of the host once.
func putHost(ctx context.Context, n *NSDB, status spec.HostStatus) error {
	value, err := n.EncodeHost(status)
	if err != nil {
		return err
	}
	return n.PutStatus(ctx, "", value)
}

func (f *fixture) path(key string) string { return "/" + f.root + "/" + key }

// putObjects writes the host h, and the binding p with its container and configuration.
func (f *fixture) putObjects() {
	f.Helper()
	f.put("hosts/h", `{"id":"h"}`)
	f.put("configurations/k", `{"id":"k"}`)
	f.put("containers/c", container("c"))
	f.put("bindings/h/p", binding("p", "vpn-p", "c"))
}

func binding(port, name, container string) string {
	return fmt.Sprintf(`{"portId":%q,"hostId":"h","interfaceName":%q,"containerId":%q}`, port, name, container)
}

func container(id string) string {
	return fmt.Sprintf(`{"id":%q,"serviceType":"IPSEC","groupId":"g","configurationId":"k"}`, id)
}

func (f *fixture) check(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// txn commits operations in one transaction of another client, and repeats that until the cluster accepts it.
func (f *fixture) txn(operations ...clientv3.Op) {
	f.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	for {
		attempt, stop := context.WithTimeout(ctx, 3*time.Second)
		_, err := f.cluster.Client().Txn(attempt).Then(operations...).Commit()
		stop()
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			f.Fatal(err)
		}
	}
}

func (f *fixture) opPut(key, value string) clientv3.Op { return clientv3.OpPut(f.path(key), value) }

func (f *fixture) put(key, value string) {
	f.Helper()
	f.txn(f.opPut(key, value))
}

func (f *fixture) remove(key string) {
	f.Helper()
	f.txn(clientv3.OpDelete(f.path(key)))
}

// stored returns the value, the lease and the last revision of a key.
func (f *fixture) stored(key string) (value string, lease, revision int64) {
	f.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	answer, err := f.cluster.Client().Get(ctx, f.path(key))
	f.check(err)
	if len(answer.Kvs) == 0 {
		return "", 0, 0
	}
	return string(answer.Kvs[0].Value), answer.Kvs[0].Lease, answer.Kvs[0].ModRevision
}

func (f *fixture) await(what string, condition func() bool) {
	f.Helper()
	for timeout := time.Now().Add(deadline); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(timeout) {
			f.Fatalf("%s: not in %v; log: %q", what, deadline, f.log)
		}
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
	f.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	f.Cleanup(f.stop)
}

func (f *fixture) startAndReadAll() {
	f.Helper()
	f.start()
	if first := f.waitForSet("the first set", func(spec.Desired) bool { return true }); !whole(first) {
		f.Fatalf("got %+v", first)
	}
}

func (f *fixture) changed(desired spec.Desired) {
	f.mu.Lock()
	f.sets = append(f.sets, desired)
	f.mu.Unlock()
	select {
	case f.notify <- struct{}{}:
	default:
	}
}

func (f *fixture) since(mark int) []spec.Desired {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sets[mark:]
}

// waitForSet waits until the last set is as wanted, and returns it.
func (f *fixture) waitForSet(what string, wanted func(spec.Desired) bool) spec.Desired {
	f.Helper()
	timeout := time.After(deadline)
	for {
		if sets := f.since(0); len(sets) > 0 && wanted(sets[len(sets)-1]) {
			return sets[len(sets)-1]
		}
		select {
		case <-f.notify:
		case <-timeout:
			sets := f.since(0)
			f.Fatalf("%s: not reported in %v; the last of %d sets was %+v; log: %q",
				what, deadline, len(sets), sets[max(0, len(sets)-1):], f.log)
		}
	}
}

// awaitLaterChange makes another change and waits until it is reported. All earlier changes were then handled too.
func (f *fixture) awaitLaterChange() {
	f.Helper()
	now := time.Now().UnixNano()
	mac := fmt.Sprintf("02:00:00:%02x:%02x:%02x", macCounter.Add(1)%200, now>>8&255, now&255)
	f.put("bindings/h/p",
		fmt.Sprintf(`{"portId":"p","hostId":"h","interfaceName":"vpn-p","containerId":"c","mac":%q}`, mac))
	f.waitForSet(
		"a later change", func(d spec.Desired) bool { b := find(d, "p"); return b != nil && b.Port.MAC == mac })
}

var macCounter atomic.Int64

func find(d spec.Desired, port spec.PortID) *spec.Binding {
	for i := range d.Bindings {
		if d.Bindings[i].PortID == port {
			return &d.Bindings[i]
		}
	}
	return nil
}

// whole reports whether a set was read and contains the binding p without a fault.
func whole(d spec.Desired) bool {
	b := find(d, "p")
	return d.Unread == "" && b != nil && b.Reading == spec.Complete
}

// secret writes a file that only its owner may read, and returns its path.
func secret(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// rpcs counts requests by method, and received messages and their bytes.
type rpcs struct {
	mu       sync.Mutex
	requests map[string]int
	servers  map[string]string // the address to which the last request of a method was sent
	messages int
	bytes    int
}

type methodKey struct{}

func (r *rpcs) TagRPC(ctx context.Context, tag *stats.RPCTagInfo) context.Context {
	return context.WithValue(ctx, methodKey{}, tag.FullMethodName)
}

func (r *rpcs) HandleRPC(ctx context.Context, s stats.RPCStats) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch s := s.(type) {
	case *stats.OutHeader:
		if r.servers == nil {
			r.servers = map[string]string{}
		}
		r.servers[s.FullMethod[strings.LastIndexByte(s.FullMethod, '/')+1:]] = s.RemoteAddr.String()
	case *stats.Begin:
		if r.requests == nil {
			r.requests = map[string]int{}
		}
		method, _ := ctx.Value(methodKey{}).(string)
		r.requests[method[strings.LastIndexByte(method, '/')+1:]]++
	case *stats.InPayload:
		r.messages++
		r.bytes += s.Length
	}
}

func (r *rpcs) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (r *rpcs) HandleConn(context.Context, stats.ConnStats)                       {}

// count returns the number of requests so far, streams included, and the number of watch streams.
func (r *rpcs) count() (requests, watches int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.requests {
		requests += n
	}
	return requests, r.requests["Watch"]
}

// The fixture is the slog.Handler of its NSDB's log.

func (f *fixture) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }
func (f *fixture) WithAttrs([]slog.Attr) slog.Handler               { return f }
func (f *fixture) WithGroup(string) slog.Handler                    { return f }
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
