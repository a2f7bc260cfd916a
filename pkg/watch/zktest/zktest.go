// Package zktest runs real ZooKeeper servers on loopback addresses for tests.
//
// Every member is a process of Debian's package zookeeper in a directory of its own. The kernel kills it when the test
// process ends. A member can be killed, frozen and started again. A Relay in front of all members can cut off their
// clients and counts requests. The tick time is 200 ms, so that a session timeout of 1 s is possible. Nothing is synced
// to the disk.
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

// TB is the part of testing.TB that Start uses. A caller that is not a test may implement it too.
type TB = server.TB

const (
	java = "/usr/bin/java"
	jar  = "/usr/share/java/zookeeper.jar" // its manifest contains the rest of the class path

	tick         = 200 * time.Millisecond
	serveTimeout = 60 * time.Second // limit until a member serves; a loaded machine needs seconds to start a JVM
)

// Cluster is a ZooKeeper ensemble.
type Cluster struct {
	tb      TB
	members []*member
}

// member is one server of an ensemble.
type member struct {
	address string // address for clients
	config  string
	log     string
	maxNode int
	server.Process
}

// Option changes how the servers are started.
type Option func(*options)

type options struct {
	maxNode int
}

// MaxNode sets the largest size of a node in bytes that the servers accept (jute.maxbuffer). The default is 1 MiB.
func MaxNode(bytes int) Option { return func(o *options) { o.maxNode = bytes } }

// Start starts the servers and waits until all of them serve.
func Start(tb TB, members int, opts ...Option) *Cluster {
	tb.Helper()
	for _, file := range []string{java, jar} {
		if _, err := os.Stat(file); err != nil {
			server.SkipOrFail(
				tb, "no ZooKeeper server here: %v: install the packages zookeeper and default-jre-headless", err)
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
	dir := tb.TempDir()
	tb.Cleanup(c.stop) // runs before the directory is removed
	var ensemble strings.Builder
	for i := range members {
		if members > 1 {
			fmt.Fprintf(&ensemble, "server.%d=127.0.0.1:%d:%d\n", i+1, ports[members+2*i], ports[members+2*i+1])
		}
	}
	for i := range members {
		m := &member{address: fmt.Sprintf("127.0.0.1:%d", ports[i]), maxNode: o.maxNode}
		err := m.prepare(filepath.Join(dir, fmt.Sprintf("zk%d", i+1)), i+1, ports[i], ensemble.String())
		if err != nil {
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

func (m *member) prepare(dir string, id, port int, ensemble string) error {
	data := filepath.Join(dir, "data")
	if err := os.MkdirAll(data, 0o755); err != nil {
		return err
	}
	m.config, m.log = filepath.Join(dir, "zoo.cfg"), filepath.Join(dir, "log")
	config := fmt.Sprintf("tickTime=%d\ninitLimit=100\nsyncLimit=10\n"+
		"dataDir=%s\nclientPort=%d\nclientPortAddress=127.0.0.1\n"+
		"maxClientCnxns=0\nminSessionTimeout=500\nmaxSessionTimeout=120000\n"+
		"admin.enableServer=false\n4lw.commands.whitelist=*\n%s\n",
		tick.Milliseconds(), data, port, ensemble)
	if err := os.WriteFile(m.config, []byte(config), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(data, "myid"), fmt.Appendln(nil, id), 0o644)
}

func (m *member) start() error {
	argv := []string{
		java, "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dzookeeper.forceSync=no",
		fmt.Sprintf("-Djute.maxbuffer=%d", m.maxNode), "-cp", jar,
		"org.apache.zookeeper.server.quorum.QuorumPeerMain", m.config,
	}
	return m.Start(argv, m.log)
}

func (c *Cluster) stop() {
	for _, m := range c.members {
		m.Kill()
	}
}

// Len returns the number of members.
func (c *Cluster) Len() int { return len(c.members) }

// Endpoints returns the members' addresses for clients.
func (c *Cluster) Endpoints() (endpoints []string) {
	for _, m := range c.members {
		endpoints = append(endpoints, m.address)
	}
	return endpoints
}

// URL returns the --nsdb URL of the cluster and a root.
func (c *Cluster) URL(root string) string { return address(c.Endpoints(), root) }

func address(endpoints []string, root string) string {
	u := url.URL{Scheme: "zk", Host: strings.Join(endpoints, ","), Path: root}
	return u.String()
}

// Kill kills a member with SIGKILL.
func (c *Cluster) Kill(i int) { c.members[i].Kill() }

// Restart starts a member, after killing it if it runs. It does not wait until the member serves; see Await.
func (c *Cluster) Restart(i int) {
	c.tb.Helper()
	c.members[i].Kill()
	if err := c.members[i].start(); err != nil {
		c.tb.Fatalf("zktest: start member %d: %v", i, err)
	}
}

// Freeze stops a member with SIGSTOP, which leaves its connections open. Thaw continues it.
func (c *Cluster) Freeze(i int) { c.signal(i, syscall.SIGSTOP) }

// Thaw continues a frozen member.
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

// Leader returns the index of the member that is the leader, or -1 if there is none.
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
	for end := time.Now().Add(serveTimeout); m.mode() == ""; time.Sleep(20 * time.Millisecond) {
		select {
		case <-m.Done():
			c.tb.Fatalf("zktest: member %d ended: %s", i, m.logTail())
		default:
		}
		if time.Now().After(end) {
			c.tb.Fatalf("zktest: member %d does not serve after %v: %s", i, serveTimeout, m.logTail())
		}
	}
}

func (m *member) logTail() []byte {
	log, _ := os.ReadFile(m.log)
	if len(log) > 2000 {
		log = log[len(log)-2000:]
	}
	return bytes.TrimSpace(log)
}

// mode returns the mode that a member reports: leader, follower or standalone, and "" if it does not serve.
func (m *member) mode() string {
	connection, err := net.DialTimeout("tcp", m.address, time.Second)
	if err != nil {
		return ""
	}
	defer connection.Close()
	_ = connection.SetDeadline(time.Now().Add(time.Second))
	_, _ = io.WriteString(connection, "srvr")
	response, _ := io.ReadAll(connection)
	for line := range strings.Lines(string(response)) {
		if mode, ok := strings.CutPrefix(line, "Mode: "); ok {
			return strings.TrimSpace(mode)
		}
	}
	return ""
}

// Dial opens a client of the cluster that is closed with the test.
func (c *Cluster) Dial() *zk.Conn {
	c.tb.Helper()
	conn, events, err := zk.Connect(c.Endpoints(), sessionTimeout,
		zk.WithLogger(noLogger{}), zk.WithMaxConnBufferSize(8<<20), zk.WithDialer(dial))
	if err != nil {
		c.tb.Fatalf("zktest: %v", err)
	}
	c.tb.Cleanup(conn.Close)
	timeout := time.After(serveTimeout)
	for {
		select {
		case event := <-events:
			if event.State == zk.StateHasSession {
				return conn
			}
		case <-timeout:
			c.tb.Fatalf("zktest: no session with %v after %v", c.Endpoints(), serveTimeout)
		}
	}
}

const (
	sessionTimeout = 20 * time.Second
	openTimeout    = 3 * time.Second
)

// dial opens a connection with a limit for the first response. The kernel of a frozen member still accepts connections,
// and the client would wait ten times longer for the first response than for later ones.
func dial(network, address string, timeout time.Duration) (net.Conn, error) {
	conn, err := net.DialTimeout(network, address, timeout)
	return limitedConn{conn}, err
}

type limitedConn struct{ net.Conn }

func (c limitedConn) SetReadDeadline(t time.Time) error {
	if now := time.Now(); t.After(now.Add(sessionTimeout)) {
		t = now.Add(openTimeout)
	}
	return c.Conn.SetReadDeadline(t)
}

type noLogger struct{}

func (noLogger) Printf(string, ...any) {}

// Put creates a persistent node with its parents, or replaces the data of an existing node.
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
