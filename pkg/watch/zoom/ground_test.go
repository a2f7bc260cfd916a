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

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zktest"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/model"
)

// deadline is how long a test waits for what must come. It says nothing about speed.
const deadline = 30 * time.Second

// TestMain stops the servers that the tests share.
func TestMain(m *testing.M) {
	code := m.Run()
	common.end()
	os.Exit(code)
}

// common is one cluster for all tests that do no harm to its members; each has a root of its own.
var common shared

type shared struct {
	once    sync.Once
	cluster *zktest.Cluster
	fault   string
	skip    bool
	ends    []func()
	dir     string
}

func (s *shared) Helper()          {}
func (s *shared) Cleanup(f func()) { s.ends = append(s.ends, f) }
func (s *shared) TempDir() string {
	s.dir, _ = os.MkdirTemp("", "zoom")
	return s.dir
}
func (s *shared) Fatalf(format string, args ...any) {
	s.fault = fmt.Sprintf(format, args...)
	panic(s)
}
func (s *shared) Skipf(format string, args ...any) {
	s.skip = true
	s.Fatalf(format, args...)
}
func (s *shared) end() {
	for i := len(s.ends) - 1; i >= 0; i-- {
		s.ends[i]()
	}
	_ = os.RemoveAll(s.dir)
}

func (s *shared) start(t *testing.T) *zktest.Cluster {
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

// ground is a MidoNet tree with one host, and what Run makes of it.
type ground struct {
	*testing.T
	cluster *zktest.Cluster
	conn    syncedConn
	tree    model.Tree
	host    spec.HostID

	log  lines
	mu   sync.Mutex
	sets []spec.Desired
	news chan struct{}
}

// lines is a log whose lines can be looked at.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func newGround(t *testing.T, cluster *zktest.Cluster) *ground {
	t.Helper()
	tree, err := model.ParseRoot(fmt.Sprintf("/m%d", roots.Add(1)))
	if err != nil {
		t.Fatal(err)
	}
	return &ground{T: t, cluster: cluster, conn: syncedConn{cluster.Dial()}, tree: tree, host: spec.HostID(id(1)), news: make(chan struct{}, 1)}
}

// id makes a UUID of a number; its upper half is beyond what a signed number holds.
func id(n int) string {
	return fmt.Sprintf("f00dcafe-0000-4000-8000-%012x", n)
}

// uuid prints a UUID field by the rules of protobuf-java.
func uuid(field, id string) string {
	raw, _ := hex.DecodeString(strings.ReplaceAll(id, "-", ""))
	return fmt.Sprintf("%s {\n  msb: %d\n  lsb: %d\n}\n", field, binary.BigEndian.Uint64(raw[:8]), binary.BigEndian.Uint64(raw[8:]))
}

func v4(field, address string) string {
	return fmt.Sprintf("%s {\n  version: V4\n  address: %q\n}\n", field, address)
}

// The numbers of the objects of binding i.
const (
	ports, containers, routers, uplinks, services, connections, groups = 1e6, 2e6, 3e6, 4e6, 5e6, 6e6, 7e6
)

func (g *ground) check(err error) {
	g.Helper()
	if err != nil {
		g.Fatal(err)
	}
}

func (g *ground) object(class model.Class, id string) string {
	return g.tree.Object(class, model.UUID(id))
}

// put writes an object.
func (g *ground) put(class model.Class, id, text string) {
	g.Helper()
	g.cluster.Put(g.conn.Conn, g.object(class, id), uuid("id", id)+text)
}

// hostWith writes the Host object with the ports of the first n bindings.
func (g *ground) hostWith(n int) {
	g.Helper()
	var text strings.Builder
	text.WriteString("name: \"h\"\ncontainer_weight: 1\n")
	for i := range n {
		text.WriteString(uuid("port_ids", id(ports+i)))
	}
	g.put(model.Host, string(g.host), text.String())
}

func (g *ground) portText(i int, name string) string {
	return uuid("router_id", id(routers+i)) + uuid("host_id", string(g.host)) + fmt.Sprintf("interface_name: %q\nadmin_state_up: true\n", name) +
		"port_subnet {\n  version: V4\n  address: \"169.254.0.0\"\n  prefix_length: 30\n}\n" + v4("port_address", "169.254.0.1") +
		"port_mac: \"ac:ca:ba:00:00:01\"\n" + uuid("service_container_id", id(containers+i))
}

func name(i int) string { return fmt.Sprintf("vpn-%08x", i) }

func (g *ground) connectionText(i int, psk string) string {
	return "name: \"c\"\nadmin_state_up: true\npeer_address: \"203.0.113.9\"\npeer_id: \"203.0.113.9\"\n" +
		"peer_cidrs {\n  version: V4\n  address: \"10.2.0.0\"\n  prefix_length: 24\n}\n" +
		"local_cidrs {\n  version: V4\n  address: \"10.1.0.0\"\n  prefix_length: 24\n}\n" +
		"mtu: 1500\ninitiator: BI_DIRECTIONAL\nauth_mode: PSK\n" + fmt.Sprintf("psk: %q\n", psk) +
		"dpd_action: HOLD\ndpd_interval: 30\ndpd_timeout: 120\n" + uuid("vpnservice_id", id(services+i)) +
		"ikepolicy {\n  auth_algorithm: SHA1\n  encryption_algorithm: AES_128\n  phase1_negotiation_mode: MAIN\n  ike_version: V2\n  pfs: GROUP14\n  lifetime_value: 3600\n}\n" +
		"ipsecpolicy {\n  transform_protocol: ESP\n  auth_algorithm: SHA1\n  encryption_algorithm: AES_128\n  encapsulation_mode: TUNNEL\n  pfs: GROUP14\n  lifetime_value: 3600\n}\n"
}

// texts are the objects of binding i, by path.
func (g *ground) texts(i int) [][2]string {
	of := func(class model.Class, n int, text string) [2]string {
		return [2]string{g.object(class, id(n)), uuid("id", id(n)) + text}
	}
	return [][2]string{
		of(model.Port, ports+i, g.portText(i, name(i))),
		of(model.ServiceContainer, containers+i, uuid("service_group_id", id(groups+i))+uuid("port_id", id(ports+i))+
			"service_type: \"IPSEC\"\n"+uuid("configuration_id", id(routers+i))),
		of(model.Router, routers+i, "name: \"r\"\nadmin_state_up: true\n"+uuid("port_ids", id(uplinks+i))+
			uuid("port_ids", id(ports+i))+uuid("vpn_service_ids", id(services+i))),
		of(model.Port, uplinks+i, uuid("router_id", id(routers+i))+v4("port_address", "192.0.2.1")+"port_mac: \"ac:ca:ba:00:00:02\"\n"),
		of(model.VpnService, services+i, "admin_state_up: true\n"+uuid("router_id", id(routers+i))+v4("external_ip", "192.0.2.1")+
			uuid("ipsec_site_connection_ids", id(connections+i))),
		of(model.IPSecSiteConnection, connections+i, g.connectionText(i, "secret")),
	}
}

// fill writes a host with n bindings, many nodes in one multi.
func (g *ground) fill(n int) {
	g.Helper()
	g.hostWith(n)
	var all [][2]string
	for i := range n {
		all = append(all, g.texts(i)...)
	}
	g.create(all)
}

func (g *ground) create(nodes [][2]string) {
	g.Helper()
	for _, class := range model.Classes {
		g.cluster.Put(g.conn.Conn, g.tree.Objects(class), "")
	}
	for len(nodes) > 0 {
		n := min(len(nodes), 500)
		var operations []any
		for _, node := range nodes[:n] {
			operations = append(operations, &zk.CreateRequest{Path: node[0], Data: []byte(node[1]), Acl: everybody})
		}
		_, err := g.conn.Multi(operations...)
		g.check(err)
		nodes = nodes[n:]
	}
}

// open opens the NSDB at a URL's servers, closed with the test. Its session lasts 2 s.
func (g *ground) open(rawURL string) *NSDB {
	g.Helper()
	u, err := url.Parse(rawURL)
	g.check(err)
	location, err := ParseURL(u)
	g.check(err)
	if location.SessionTimeout == DefaultSessionTimeout {
		location.SessionTimeout = 2 * time.Second
	}
	n := Open(location, g.host, slog.New(slog.NewTextHandler(&g.log, nil)))
	g.Cleanup(func() { _ = n.Close() })
	return n
}

// run runs it until the test ends, or stop is called.
func (g *ground) run(n *NSDB) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := n.Run(ctx, func(d spec.Desired) {
			g.mu.Lock()
			g.sets = append(g.sets, d)
			g.mu.Unlock()
			select {
			case g.news <- struct{}{}:
			default:
			}
		}); err != nil {
			g.Error(err)
		}
	})
	stop = func() {
		cancel()
		running.Wait()
	}
	g.Cleanup(stop)
	return stop
}

func (g *ground) last() (spec.Desired, int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.sets) == 0 {
		return spec.Desired{}, 0
	}
	return g.sets[len(g.sets)-1], len(g.sets)
}

// await waits for a set.
func (g *ground) await(what string, is func(spec.Desired) bool) spec.Desired {
	g.Helper()
	var found spec.Desired
	g.until(what, func() bool {
		d, n := g.last()
		found = d
		return n > 0 && is(d)
	})
	return found
}

// until waits for a condition.
func (g *ground) until(what string, holds func() bool) {
	g.Helper()
	g.within(deadline, what, holds)
}

func (g *ground) within(limit time.Duration, what string, holds func() bool) {
	g.Helper()
	for end := time.Now().Add(limit); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			d, n := g.last()
			g.Fatalf("not within %v: %s; the last of %d sets: %+v\nlog:\n%s", limit, what, n, d, &g.log)
		}
	}
}

// whole says that n bindings are there, and all are whole.
func whole(n int) func(spec.Desired) bool {
	return func(d spec.Desired) bool {
		for _, b := range d.Bindings {
			if b.Reading != spec.Whole {
				return false
			}
		}
		return d.Unread == "" && len(d.Bindings) == n
	}
}

// stands returns what a node holds and which session owns it.
func (g *ground) stands(path string) (string, int64) {
	g.Helper()
	data, stat, err := g.conn.Get(path)
	if err != nil {
		return "", 0
	}
	return string(data), stat.EphemeralOwner
}

// syncedConn is a connection whose reads see every write that has ended before: the members lag behind each other.
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

// sync waits until the member has what the leader has. Where it cannot, the read that follows has the error.
func (c syncedConn) sync(path string) { _, _ = c.Conn.Sync(path) }

func (g *ground) hostState() string { return g.tree.HostState(model.UUID(g.host)) }

func (g *ground) containerState(i int) string {
	return g.tree.ContainerState(model.UUID(g.host), model.UUID(id(containers+i)))
}

func container(i int) spec.ContainerID { return spec.ContainerID(id(containers + i)) }

func (g *ground) running(i int) spec.ContainerStatus {
	return spec.ContainerStatus{Code: spec.Running, Message: "up", HostID: g.host, NamespaceName: name(i), InterfaceName: spec.Name(name(i))}
}
