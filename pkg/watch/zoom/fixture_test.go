package zoom

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/svc-supervisor/svc-supervisor/internal/publish"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zktest"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/model"
)

// deadline is how long a test waits for an expected event. It is no statement about performance.
const deadline = 30 * time.Second

// TestMain stops the servers that the tests share.
func TestMain(m *testing.M) {
	code := m.Run()
	sharedServers.end()
	os.Exit(code)
}

// sharedServers is one cluster for all tests that do not damage its members. Each test uses a root of its own.
var sharedServers serverPool

type serverPool struct {
	once    sync.Once
	cluster *zktest.Cluster
	fault   string
	skip    bool
	ends    []func()
	dir     string
}

func (s *serverPool) Helper()          {}
func (s *serverPool) Cleanup(f func()) { s.ends = append(s.ends, f) }
func (s *serverPool) TempDir() string {
	s.dir, _ = os.MkdirTemp("", "zoom")
	return s.dir
}
func (s *serverPool) Fatalf(format string, args ...any) {
	s.fault = fmt.Sprintf(format, args...)
	panic(s)
}
func (s *serverPool) Skipf(format string, args ...any) {
	s.skip = true
	s.Fatalf(format, args...)
}
func (s *serverPool) end() {
	for i := len(s.ends) - 1; i >= 0; i-- {
		s.ends[i]()
	}
	_ = os.RemoveAll(s.dir)
}

func (s *serverPool) start(t *testing.T) *zktest.Cluster {
	t.Helper()
	s.once.Do(func() {
		defer func() { _ = recover() }()
		s.cluster = zktest.Start(s, 3)
	})
	if s.skip {
		t.Skip(s.fault)
	}
	if s.fault != "" {
		t.Fatal(s.fault)
	}
	return s.cluster
}

var roots atomic.Int32

// fixture is a MidoNet tree with one host. It records the sets and the log of Run.
type fixture struct {
	*testing.T
	cluster *zktest.Cluster
	conn    syncedConn
	tree    model.Tree
	host    spec.HostID

	log    logBuffer
	mu     sync.Mutex
	sets   []spec.Desired
	notify chan struct{}
}

// logBuffer is a log that a test can read.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func newFixture(t *testing.T, cluster *zktest.Cluster) *fixture {
	t.Helper()
	tree, err := model.ParseRoot(fmt.Sprintf("/m%d", roots.Add(1)))
	if err != nil {
		t.Fatal(err)
	}
	return &fixture{
		T: t, cluster: cluster, conn: syncedConn{cluster.Dial()}, tree: tree,
		host: spec.HostID(id(1)), notify: make(chan struct{}, 1),
	}
}

// id returns a UUID that contains n. Its upper half does not fit into a signed number.
func id(n int) string {
	return fmt.Sprintf("f00dcafe-0000-4000-8000-%012x", n)
}

// uuid returns a UUID field in the format of protobuf-java.
func uuid(field, id string) string {
	raw, _ := hex.DecodeString(strings.ReplaceAll(id, "-", ""))
	msb, lsb := binary.BigEndian.Uint64(raw[:8]), binary.BigEndian.Uint64(raw[8:])
	return fmt.Sprintf("%s {\n  msb: %d\n  lsb: %d\n}\n", field, msb, lsb)
}

func v4(field, address string) string {
	return fmt.Sprintf("%s {\n  version: V4\n  address: %q\n}\n", field, address)
}

// Offsets of the ids of the objects of binding i.
const (
	ports, containers, routers, uplinks, services, connections, groups = 1e6, 2e6, 3e6, 4e6, 5e6, 6e6, 7e6
)

func (f *fixture) check(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) object(class model.Class, id string) string {
	return f.tree.Object(class, model.UUID(id))
}

// put writes an object.
func (f *fixture) put(class model.Class, id, text string) {
	f.Helper()
	f.cluster.Put(f.conn.Conn, f.object(class, id), uuid("id", id)+text)
}

// putHost writes the Host object with the ports of the first n bindings.
func (f *fixture) putHost(n int) {
	f.Helper()
	var text strings.Builder
	text.WriteString("name: \"h\"\ncontainer_weight: 1\n")
	for i := range n {
		text.WriteString(uuid("port_ids", id(ports+i)))
	}
	f.put(model.Host, string(f.host), text.String())
}

func (f *fixture) portText(i int, name string) string {
	return uuid("router_id", id(routers+i)) + uuid("host_id", string(f.host)) +
		fmt.Sprintf("interface_name: %q\nadmin_state_up: true\n", name) +
		"port_subnet {\n  version: V4\n  address: \"169.254.0.0\"\n  prefix_length: 30\n}\n" +
		v4("port_address", "169.254.0.1") +
		"port_mac: \"ac:ca:ba:00:00:01\"\n" + uuid("service_container_id", id(containers+i))
}

func name(i int) string { return fmt.Sprintf("vpn-%08x", i) }

func (f *fixture) connectionText(i int, psk string) string {
	return "name: \"c\"\nadmin_state_up: true\npeer_address: \"203.0.113.9\"\npeer_id: \"203.0.113.9\"\n" +
		"peer_cidrs {\n  version: V4\n  address: \"10.2.0.0\"\n  prefix_length: 24\n}\n" +
		"local_cidrs {\n  version: V4\n  address: \"10.1.0.0\"\n  prefix_length: 24\n}\n" +
		"mtu: 1500\ninitiator: BI_DIRECTIONAL\nauth_mode: PSK\n" + fmt.Sprintf("psk: %q\n", psk) +
		"dpd_action: HOLD\ndpd_interval: 30\ndpd_timeout: 120\n" + uuid("vpnservice_id", id(services+i)) +
		"ikepolicy {\n  auth_algorithm: SHA1\n  encryption_algorithm: AES_128\n  phase1_negotiation_mode: MAIN\n" +
		"  ike_version: V2\n  pfs: GROUP14\n  lifetime_value: 3600\n}\n" +
		"ipsecpolicy {\n  transform_protocol: ESP\n  auth_algorithm: SHA1\n  encryption_algorithm: AES_128\n" +
		"  encapsulation_mode: TUNNEL\n  pfs: GROUP14\n  lifetime_value: 3600\n}\n"
}

// bindingObjects returns the paths and texts of the objects of binding i.
func (f *fixture) bindingObjects(i int) [][2]string {
	of := func(class model.Class, n int, text string) [2]string {
		return [2]string{f.object(class, id(n)), uuid("id", id(n)) + text}
	}
	return [][2]string{
		of(model.Port, ports+i, f.portText(i, name(i))),
		of(model.ServiceContainer, containers+i, uuid("service_group_id", id(groups+i))+uuid("port_id", id(ports+i))+
			"service_type: \"IPSEC\"\n"+uuid("configuration_id", id(routers+i))),
		of(model.Router, routers+i, "name: \"r\"\nadmin_state_up: true\n"+uuid("port_ids", id(uplinks+i))+
			uuid("port_ids", id(ports+i))+uuid("vpn_service_ids", id(services+i))),
		of(model.Port, uplinks+i, uuid("router_id", id(routers+i))+
			v4("port_address", "192.0.2.1")+"port_mac: \"ac:ca:ba:00:00:02\"\n"),
		of(model.VpnService, services+i, "admin_state_up: true\n"+uuid("router_id", id(routers+i))+
			v4("external_ip", "192.0.2.1")+uuid("ipsec_site_connection_ids", id(connections+i))),
		of(model.IPSecSiteConnection, connections+i, f.connectionText(i, "secret")),
	}
}

// putBindings writes a host with n bindings, many nodes in one multi request.
func (f *fixture) putBindings(n int) {
	f.Helper()
	f.putHost(n)
	var all [][2]string
	for i := range n {
		all = append(all, f.bindingObjects(i)...)
	}
	f.create(all)
}

func (f *fixture) create(nodes [][2]string) {
	f.Helper()
	for _, class := range model.Classes {
		f.cluster.Put(f.conn.Conn, f.tree.Objects(class), "")
	}
	for len(nodes) > 0 {
		n := min(len(nodes), 500)
		var operations []any
		for _, node := range nodes[:n] {
			operations = append(operations, &zk.CreateRequest{Path: node[0], Data: []byte(node[1]), Acl: worldACL})
		}
		_, err := f.conn.Multi(operations...)
		f.check(err)
		nodes = nodes[n:]
	}
}

// open opens the NSDB at a URL and closes it when the test ends. Unless the URL has another session timeout, it is 2 s.
func (f *fixture) open(rawURL string) *NSDB {
	f.Helper()
	u, err := url.Parse(rawURL)
	f.check(err)
	location, err := ParseURL(u)
	f.check(err)
	if location.SessionTimeout == DefaultSessionTimeout {
		location.SessionTimeout = 2 * time.Second
	}
	n := Open(location, f.host, slog.New(slog.NewTextHandler(&f.log, nil)))
	f.Cleanup(func() { _ = n.Close() })
	return n
}

// publish runs a publisher, as the supervisor does, until the test ends or stop is called.
func (f *fixture) publish(n *NSDB) (p *publish.Publisher, stop func()) {
	p = publish.New(n, slog.New(slog.NewTextHandler(&f.log, nil)))
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

// putHost writes the status of the host once.
func putHost(ctx context.Context, n *NSDB, status spec.HostStatus) error {
	value, err := n.EncodeHost(status)
	if err != nil {
		return err
	}
	return n.PutStatus(ctx, "", value)
}

// put writes the status of a container once.
func put(ctx context.Context, n *NSDB, id spec.ContainerID, status spec.ContainerStatus) error {
	value, err := n.EncodeContainer(status)
	if err != nil {
		return err
	}
	return n.PutStatus(ctx, id, value)
}

// run runs an NSDB until the test ends or stop is called.
func (f *fixture) run(n *NSDB) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := n.Run(ctx, func(d spec.Desired) {
			f.mu.Lock()
			f.sets = append(f.sets, d)
			f.mu.Unlock()
			select {
			case f.notify <- struct{}{}:
			default:
			}
		}); err != nil {
			f.Error(err)
		}
	})
	stop = func() {
		cancel()
		running.Wait()
	}
	f.Cleanup(stop)
	return stop
}

func (f *fixture) last() (spec.Desired, int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.sets) == 0 {
		return spec.Desired{}, 0
	}
	return f.sets[len(f.sets)-1], len(f.sets)
}

// waitForSet waits until the last set is as wanted, and returns it.
func (f *fixture) waitForSet(what string, condition func(spec.Desired) bool) spec.Desired {
	f.Helper()
	var found spec.Desired
	f.waitFor(what, func() bool {
		d, n := f.last()
		found = d
		return n > 0 && condition(d)
	})
	return found
}

// waitFor waits for a condition.
func (f *fixture) waitFor(what string, condition func() bool) {
	f.Helper()
	f.waitWithin(deadline, what, condition)
}

func (f *fixture) waitWithin(limit time.Duration, what string, condition func() bool) {
	f.Helper()
	for end := time.Now().Add(limit); !condition(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			d, n := f.last()
			f.Fatalf("not within %v: %s; the last of %d sets: %+v\nlog:\n%s", limit, what, n, d, &f.log)
		}
	}
}

// whole returns a condition: the set was read, and has n bindings, all without a fault.
func whole(n int) func(spec.Desired) bool {
	return func(d spec.Desired) bool {
		for _, b := range d.Bindings {
			if b.Reading != spec.Complete {
				return false
			}
		}
		return d.Unread == "" && len(d.Bindings) == n
	}
}

// stored returns the data of a node and the session that owns it.
func (f *fixture) stored(path string) (string, int64) {
	f.Helper()
	data, stat, err := f.conn.Get(path)
	if err != nil {
		return "", 0
	}
	return string(data), stat.EphemeralOwner
}

// syncedConn is a connection whose reads return all completed writes. Without it, a member may lag behind the others.
type syncedConn struct{ *zk.Conn }

func (c syncedConn) Get(path string) ([]byte, *zk.Stat, error) {
	c.sync(path)
	return c.Conn.Get(path)
}

func (c syncedConn) Exists(path string) (bool, *zk.Stat, error) {
	c.sync(path)
	return c.Conn.Exists(path)
}

func (c syncedConn) Children(path string) ([]string, *zk.Stat, error) {
	c.sync(path)
	return c.Conn.Children(path)
}

// sync waits until the member has caught up with the leader. If that fails, the following read returns the error.
func (c syncedConn) sync(path string) { _, _ = c.Conn.Sync(path) }

func (f *fixture) hostState() string { return f.tree.HostState(model.UUID(f.host)) }

func (f *fixture) containerState(i int) string {
	return f.tree.ContainerState(model.UUID(f.host), model.UUID(id(containers+i)))
}

func container(i int) spec.ContainerID { return spec.ContainerID(id(containers + i)) }

func (f *fixture) running(i int) spec.ContainerStatus {
	return spec.ContainerStatus{
		Code: spec.Running, Message: "up", HostID: f.host,
		NamespaceName: name(i), InterfaceName: spec.Name(name(i)),
	}
}
