// Package etcdtest runs real etcd servers on loopback addresses for tests.
//
// Every member is a process of Debian's package etcd-server in a directory of its own. The kernel kills it when the
// test process ends. A member can be killed, frozen and started again, and a Relay in front of all members can cut off
// their clients. The election timeout is half a second, so that a lost leader is detected soon.
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

// TB is the part of testing.TB that Start uses. A caller that is not a test may implement it too.
type TB = server.TB

const (
	program = "/usr/bin/etcd"

	heartbeat    = 50 * time.Millisecond
	election     = 500 * time.Millisecond
	serveTimeout = 60 * time.Second // limit until the members serve; long because the machine may be loaded
)

// Cluster is an etcd cluster.
type Cluster struct {
	tb      TB
	members []*member
	options options
	files   files
	mu      sync.Mutex
	client  *clientv3.Client // created by the first call of Client
	user    string
	pass    string // file with the user's password
}

// member is one server of a cluster.
type member struct {
	address string // address for clients
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

// TLS makes the servers use TLS. Their certificate is valid for 127.0.0.1 and localhost, and signed by a CA of the
// cluster.
func TLS() Option { return func(o *options) { o.tls = true } }

// ClientCert enables TLS and requires a client certificate that is signed by the cluster's CA.
func ClientCert() Option { return func(o *options) { o.tls, o.clientCert = true, true } }

// Argument adds an argument to the command line of every server.
func Argument(argument string) Option {
	return func(o *options) { o.extra = append(o.extra, argument) }
}

// Start starts the servers and waits until they serve.
func Start(tb TB, members int, opts ...Option) *Cluster {
	tb.Helper()
	if _, err := os.Stat(program); err != nil {
		server.SkipOrFail(tb, "no etcd server here: %v: install the package etcd-server", err)
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

// Len returns the number of members.
func (c *Cluster) Len() int { return len(c.members) }

// Endpoints returns the members' addresses for clients.
func (c *Cluster) Endpoints() (endpoints []string) {
	for _, m := range c.members {
		endpoints = append(endpoints, m.address)
	}
	return endpoints
}

// URL returns the --nsdb URL of the cluster and a prefix, with the credentials that a client needs.
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

// Kill kills a member with SIGKILL. It keeps the files that the member wrote.
func (c *Cluster) Kill(i int) { c.members[i].Kill() }

// Restart starts a member, after killing it if it runs. It does not wait until the member serves; see Await.
func (c *Cluster) Restart(i int) {
	c.tb.Helper()
	c.members[i].Kill()
	if err := c.members[i].start(); err != nil {
		c.tb.Fatalf("etcdtest: %v", err)
	}
}

// Freeze stops a member with SIGSTOP, which leaves its connections open, like a machine that hangs.
func (c *Cluster) Freeze(i int) { c.signal(i, syscall.SIGSTOP) }

// Thaw continues a frozen member.
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
