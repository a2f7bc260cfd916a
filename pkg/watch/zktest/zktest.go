// Package zktest runs real ZooKeeper servers on loopback for tests, and for the command that a demonstration starts.
//
// Every member is a process of Debian's package zookeeper in a directory of its own, killed with whoever started it. A
// member can be killed, frozen and started again, and a Relay in front of all of them cuts clients off and counts what
// they ask. The tick is 200 ms, so that a session of 1 s can be had; nothing is synced to the disk.
package zktest

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/svc-supervisor/svc-supervisor/pkg/watch/internal/server"
)

// TB is what Start needs of a test; a command can stand in for one.
type TB = server.TB

const (
	java = "/usr/bin/java"
	jar  = "/usr/share/java/zookeeper.jar" // its manifest names the rest of the class path

	// Must is the variable that makes a server that is not installed a failure: otherwise the test is skipped.
	Must = server.Must

	tick    = 200 * time.Millisecond
	patient = 60 * time.Second // until a member serves; a loaded machine starts a JVM in seconds
)

// Cluster is a number of servers that make one ZooKeeper.
type Cluster struct {
	tb      TB
	members []*member
}

// member is one server.
type member struct {
	address string // of its clients
	config  string
	log     string
	node    int
	server.Process
}

// Option changes how the servers are started.
type Option func(*options)

type options struct {
	maxNode int
	extra   []string
}

// MaxNode is the largest node that the servers take, in bytes (jute.maxbuffer); 1 MiB without it.
func MaxNode(bytes int) Option { return func(o *options) { o.maxNode = bytes } }

// Config adds a line to the configuration of every server.
func Config(line string) Option { return func(o *options) { o.extra = append(o.extra, line) } }

// Start starts the servers and waits until every one of them serves.
func Start(tb TB, members int, opts ...Option) *Cluster {
	tb.Helper()
	for _, file := range []string{java, jar} {
		if _, err := os.Stat(file); err != nil {
			server.Absent(tb, "no ZooKeeper server here: %v: install the packages zookeeper and default-jre-headless", err)
			return nil
		}
	}
	o := options{maxNode: 1<<20 - 1}
	for _, opt := range opts {
		opt(&o)
	}
	ports, err := server.FreePorts(3 * members)
	if err != nil {
		tb.Fatalf("zktest: %v", err)
	}
	c := &Cluster{tb: tb}
	tb.Cleanup(c.stop)
	dir := tb.TempDir()
	var ensemble strings.Builder
	for i := range members {
		if members > 1 {
			fmt.Fprintf(&ensemble, "server.%d=127.0.0.1:%d:%d\n", i+1, ports[members+2*i], ports[members+2*i+1])
		}
	}
	for i := range members {
		m := &member{address: fmt.Sprintf("127.0.0.1:%d", ports[i]), node: o.maxNode}
		if err := m.prepare(filepath.Join(dir, fmt.Sprintf("zk%d", i+1)), i+1, ports[i], ensemble.String(), o.extra); err != nil {
			tb.Fatalf("zktest: %v", err)
		}
		c.members = append(c.members, m)
	}
	for _, m := range c.members {
		if err := m.start(); err != nil {
			tb.Fatalf("zktest: %v", err)
		}
	}
	for i := range c.members {
		c.Await(i)
	}
	return c
}

func (m *member) prepare(dir string, id, port int, ensemble string, extra []string) error {
	data := filepath.Join(dir, "data")
	if err := os.MkdirAll(data, 0o755); err != nil {
		return err
	}
	m.config, m.log = filepath.Join(dir, "zoo.cfg"), filepath.Join(dir, "log")
	config := fmt.Sprintf("tickTime=%d\ninitLimit=100\nsyncLimit=10\ndataDir=%s\nclientPort=%d\nclientPortAddress=127.0.0.1\n"+
		"maxClientCnxns=0\nminSessionTimeout=500\nmaxSessionTimeout=120000\nadmin.enableServer=false\n4lw.commands.whitelist=*\n%s%s\n",
		tick.Milliseconds(), data, port, ensemble, strings.Join(extra, "\n"))
	if err := os.WriteFile(m.config, []byte(config), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(data, "myid"), fmt.Appendln(nil, id), 0o644)
}

func (m *member) start() error {
	argv := []string{
		java, "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dzookeeper.forceSync=no",
		fmt.Sprintf("-Djute.maxbuffer=%d", m.node), "-cp", jar, "org.apache.zookeeper.server.quorum.QuorumPeerMain", m.config,
	}
	return m.Start(argv, m.log)
}

func (c *Cluster) stop() {
	for _, m := range c.members {
		m.Kill()
	}
}

// Len is the number of members.
func (c *Cluster) Len() int { return len(c.members) }

// Endpoints are the addresses for clients.
func (c *Cluster) Endpoints() (endpoints []string) {
	for _, m := range c.members {
		endpoints = append(endpoints, m.address)
	}
	return endpoints
}

// URL names the cluster and a root as --nsdb does.
func (c *Cluster) URL(root string) string { return address(c.Endpoints(), root) }

func address(endpoints []string, root string) string {
	u := url.URL{Scheme: "zk", Host: strings.Join(endpoints, ","), Path: root}
	return u.String()
}

// Kill ends a member at once, as a power cut does.
func (c *Cluster) Kill(i int) { c.members[i].Kill() }

// Restart kills a member if it is up, and starts it. It does not wait until it serves: see Await.
func (c *Cluster) Restart(i int) {
	c.tb.Helper()
	c.members[i].Kill()
	if err := c.members[i].start(); err != nil {
		c.tb.Fatalf("zktest: start member %d: %v", i, err)
	}
}

// Freeze stops a member without closing its connections; Thaw lets it go on.
func (c *Cluster) Freeze(i int) { c.signal(i, syscall.SIGSTOP) }

// Thaw undoes Freeze.
func (c *Cluster) Thaw(i int) { c.signal(i, syscall.SIGCONT) }

func (c *Cluster) signal(i int, signal os.Signal) {
	c.tb.Helper()
	if !c.members[i].Started() {
		c.tb.Fatalf("zktest: member %d is not up", i)
	}
	if err := c.members[i].Signal(signal); err != nil {
		c.tb.Fatalf("zktest: member %d: %v", i, err)
	}
}

// Leader is the member that leads now, or -1 while none does.
func (c *Cluster) Leader() int {
	for i, m := range c.members {
		if mode := m.mode(); mode == "leader" || mode == "standalone" {
			return i
		}
	}
	return -1
}

// Await waits until a member serves.
func (c *Cluster) Await(i int) {
	c.tb.Helper()
	m := c.members[i]
	for end := time.Now().Add(patient); m.mode() == ""; time.Sleep(20 * time.Millisecond) {
		select {
		case <-m.Gone():
			c.tb.Fatalf("zktest: member %d ended: %s", i, m.lastWords())
		default:
		}
		if time.Now().After(end) {
			c.tb.Fatalf("zktest: member %d does not serve after %v: %s", i, patient, m.lastWords())
		}
	}
}

func (m *member) lastWords() []byte {
	log, _ := os.ReadFile(m.log)
	if len(log) > 2000 {
		log = log[len(log)-2000:]
	}
	return bytes.TrimSpace(log)
}

// mode is what a member says it is: leader, follower or standalone; "" if it does not serve.
func (m *member) mode() string {
	connection, err := net.DialTimeout("tcp", m.address, time.Second)
	if err != nil {
		return ""
	}
	defer connection.Close()
	_ = connection.SetDeadline(time.Now().Add(time.Second))
	_, _ = io.WriteString(connection, "srvr")
	answer, _ := io.ReadAll(connection)
	for line := range strings.Lines(string(answer)) {
		if mode, ok := strings.CutPrefix(line, "Mode: "); ok {
			return strings.TrimSpace(mode)
		}
	}
	return ""
}

// Dial opens a client of the cluster that is closed with the test.
func (c *Cluster) Dial() *zk.Conn {
	c.tb.Helper()
	conn, events, err := zk.Connect(c.Endpoints(), sessionTimeout, zk.WithLogger(silence{}), zk.WithMaxConnBufferSize(8<<20), zk.WithDialer(dial))
	if err != nil {
		c.tb.Fatalf("zktest: %v", err)
	}
	c.tb.Cleanup(conn.Close)
	timeout := time.After(patient)
	for {
		select {
		case event := <-events:
			if event.State == zk.StateHasSession {
				return conn
			}
		case <-timeout:
			c.tb.Fatalf("zktest: no session with %v after %v", c.Endpoints(), patient)
		}
	}
}

const (
	sessionTimeout = 20 * time.Second
	greeting       = 3 * time.Second
)

// dial opens a connection that does not wait for a member that is frozen: its kernel still accepts, and the client gives the
// first answer ten times what it gives any other.
func dial(network, address string, timeout time.Duration) (net.Conn, error) {
	conn, err := net.DialTimeout(network, address, timeout)
	return impatient{conn}, err
}

type impatient struct{ net.Conn }

func (c impatient) SetReadDeadline(t time.Time) error {
	if now := time.Now(); t.After(now.Add(sessionTimeout)) {
		t = now.Add(greeting)
	}
	return c.Conn.SetReadDeadline(t)
}

type silence struct{}

func (silence) Printf(string, ...any) {}

// Put writes a persistent node, its parents too, or replaces what stands there.
func (c *Cluster) Put(conn *zk.Conn, path, data string) {
	c.tb.Helper()
	if _, err := conn.Set(path, []byte(data), -1); err == nil {
		return
	}
	for i := 1; i < len(path); i++ {
		if path[i] == '/' {
			if _, err := conn.Create(path[:i], nil, 0, zk.WorldACL(zk.PermAll)); err != nil && err != zk.ErrNodeExists {
				c.tb.Fatalf("zktest: create %s: %v", path[:i], err)
			}
		}
	}
	if _, err := conn.Create(path, []byte(data), 0, zk.WorldACL(zk.PermAll)); err != nil {
		c.tb.Fatalf("zktest: create %s: %v", path, err)
	}
}
