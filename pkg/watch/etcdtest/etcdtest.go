// Package etcdtest runs real etcd servers on loopback for tests, and for the command that a demonstration starts.
//
// Every member is a process of Debian's package etcd-server in a directory of its own, killed with whoever started it. A
// member can be killed, frozen and started again, and a Relay in front of all of them cuts clients off. The election takes
// half a second, so that a leader is missed soon.
package etcdtest

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/svc-supervisor/svc-supervisor/pkg/watch/internal/server"
)

// TB is what Start needs of a test; a command can stand in for one.
type TB = server.TB

const (
	program = "/usr/bin/etcd"

	// Must is the variable that makes a server that is not installed a failure: otherwise the test is skipped.
	Must = server.Must

	heartbeat = 50 * time.Millisecond
	election  = 500 * time.Millisecond
	patient   = 60 * time.Second // until the members serve on a loaded machine
)

// Cluster is a number of servers that make one etcd.
type Cluster struct {
	tb      TB
	members []*member
	options options
	files   files
	mu      sync.Mutex
	client  *clientv3.Client // made when it is first asked for
	user    string
	pass    string // the file that holds the user's password
}

// member is one server.
type member struct {
	address string // of its clients
	argv    []string
	log     string
	server.Process
}

// Option changes how the servers are started.
type Option func(*options)

type options struct {
	tls, clientCert bool
	extra           []string
}

// TLS makes the servers speak TLS, under a certificate for 127.0.0.1 and localhost of an authority of the cluster's own.
func TLS() Option { return func(o *options) { o.tls = true } }

// ClientCert is TLS that lets nobody in without a certificate of that authority.
func ClientCert() Option { return func(o *options) { o.tls, o.clientCert = true, true } }

// Argument adds one to the command line of every server.
func Argument(argument string) Option {
	return func(o *options) { o.extra = append(o.extra, argument) }
}

// Start starts the servers and waits until they serve.
func Start(tb TB, members int, opts ...Option) *Cluster {
	tb.Helper()
	if _, err := os.Stat(program); err != nil {
		server.Absent(tb, "no etcd server here: %v: install the package etcd-server", err)
		return nil
	}
	c := &Cluster{tb: tb}
	for _, opt := range opts {
		opt(&c.options)
	}
	dir := tb.TempDir()
	if c.options.tls {
		if err := c.files.write(dir); err != nil {
			tb.Fatalf("etcdtest: %v", err)
		}
	}
	ports, err := server.FreePorts(2 * members)
	if err != nil {
		tb.Fatalf("etcdtest: %v", err)
	}
	tb.Cleanup(c.stop)
	peer := func(i int) string { return fmt.Sprintf("http://127.0.0.1:%d", ports[members+i]) }
	var cluster []string
	for i := range members {
		cluster = append(cluster, fmt.Sprintf("m%d=%s", i, peer(i)))
	}
	for i := range members {
		m := &member{address: fmt.Sprintf("127.0.0.1:%d", ports[i]), log: filepath.Join(dir, fmt.Sprintf("m%d.log", i))}
		m.argv = append([]string{
			program, fmt.Sprintf("--name=m%d", i), "--data-dir=" + filepath.Join(dir, fmt.Sprintf("m%d", i)),
			"--listen-client-urls=" + c.scheme() + m.address, "--advertise-client-urls=" + c.scheme() + m.address,
			"--listen-peer-urls=" + peer(i), "--initial-advertise-peer-urls=" + peer(i),
			"--initial-cluster=" + strings.Join(cluster, ","), "--initial-cluster-state=new",
			fmt.Sprintf("--heartbeat-interval=%d", heartbeat.Milliseconds()),
			fmt.Sprintf("--election-timeout=%d", election.Milliseconds()),
			"--logger=zap", "--log-outputs=stderr", "--log-level=warn", "--bcrypt-cost=4",
		}, append(c.files.arguments(c.options), c.options.extra...)...)
		c.members = append(c.members, m)
		if err := m.start(); err != nil {
			tb.Fatalf("etcdtest: %v", err)
		}
	}
	c.Await()
	return c
}

func (m *member) start() error { return m.Start(m.argv, m.log) }

func (c *Cluster) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.client != nil {
		_ = c.client.Close()
	}
	for _, m := range c.members {
		m.Kill()
	}
}

func (c *Cluster) scheme() string {
	if c.options.tls {
		return "https://"
	}
	return "http://"
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

// URL names the cluster and a prefix as --nsdb does, with what a client needs to be let in.
func (c *Cluster) URL(root string) string { return c.address(c.Endpoints(), root) }

func (c *Cluster) address(endpoints []string, root string) string {
	u := url.URL{Scheme: "etcd", Host: strings.Join(endpoints, ","), Path: "/" + strings.Trim(root, "/")}
	options := url.Values{}
	if c.options.tls {
		u.Scheme = "etcds"
		options.Set("ca", c.files.CA)
	}
	if c.options.clientCert {
		options.Set("cert", c.files.Cert)
		options.Set("key", c.files.Key)
	}
	if c.user != "" {
		u.User = url.User(c.user)
		options.Set("passwordFile", c.pass)
	}
	u.RawQuery = options.Encode()
	return u.String()
}

// Kill ends a member as a power cut does; what it wrote stays.
func (c *Cluster) Kill(i int) { c.members[i].Kill() }

// Restart starts a member again, one that runs after killing it. It waits for nothing: Await does.
func (c *Cluster) Restart(i int) {
	c.tb.Helper()
	c.members[i].Kill()
	if err := c.members[i].start(); err != nil {
		c.tb.Fatalf("etcdtest: %v", err)
	}
}

// Freeze stops a member without closing its connections: a machine that hangs.
func (c *Cluster) Freeze(i int) { c.signal(i, syscall.SIGSTOP) }

// Thaw lets a frozen member go on.
func (c *Cluster) Thaw(i int) { c.signal(i, syscall.SIGCONT) }

func (c *Cluster) signal(i int, signal syscall.Signal) {
	c.tb.Helper()
	if !c.members[i].Started() {
		c.tb.Fatalf("etcdtest: member %d does not run", i)
	}
	if err := c.members[i].Signal(signal); err != nil {
		c.tb.Fatalf("etcdtest: member %d: %v", i, err)
	}
}
