package etcdtest

import (
	"bytes"
	"context"
	"crypto/tls"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// Await waits until every running member has answered a linearizable read.
func (c *Cluster) Await() {
	c.tb.Helper()
	deadline := time.Now().Add(serveTimeout)
	for i, m := range c.members {
		for m.Started() {
			err := c.ping(m)
			if err == nil {
				break
			}
			select {
			case <-m.Done():
				c.tb.Fatalf("etcdtest: member %d ended: %s", i, m.tail())
			default:
			}
			if time.Now().After(deadline) {
				c.tb.Fatalf("etcdtest: member %d does not serve: %v: %s", i, err, m.tail())
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}

func (c *Cluster) ping(m *member) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	client, err := c.dial(m.address)
	if err != nil {
		return err
	}
	defer client.Close()
	_, err = client.Get(ctx, "health")
	return err
}

func (m *member) tail() string {
	log, _ := os.ReadFile(m.log)
	lines := bytes.Split(bytes.TrimSpace(log), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-5):], []byte("\n")))
}

// dial returns a client with all permissions.
func (c *Cluster) dial(endpoints ...string) (*clientv3.Client, error) {
	// Short back-off: a restarted member is found immediately, so that the tests measure only the back-off of the
	// client under test.
	connect := grpc.ConnectParams{
		Backoff: backoff.Config{
			BaseDelay: 50 * time.Millisecond, Multiplier: 1.1, MaxDelay: 100 * time.Millisecond,
		},
		MinConnectTimeout: time.Second,
	}
	config := clientv3.Config{
		DialTimeout: 5 * time.Second, Logger: zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(connect)},
	}
	for _, endpoint := range endpoints {
		config.Endpoints = append(config.Endpoints, c.scheme()+endpoint)
	}
	if c.options.tls {
		config.TLS = &tls.Config{RootCAs: c.files.authority, Certificates: []tls.Certificate{c.files.client}}
	}
	if c.user != "" {
		config.Username, config.Password = rootUser, rootPassword
	}
	return clientv3.New(config)
}

// Client returns a client of all members with all permissions. It is closed with the cluster.
func (c *Cluster) Client() *clientv3.Client {
	c.tb.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.client == nil {
		client, err := c.dial(c.Endpoints()...)
		if err != nil {
			c.tb.Fatalf("etcdtest: %v", err)
		}
		c.client = client
	}
	return c.client
}

// Leader returns the index of the member that is the leader.
func (c *Cluster) Leader() int {
	c.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), serveTimeout)
	defer cancel()
	for i, m := range c.members {
		if !m.Started() {
			continue
		}
		status, err := c.Client().Status(ctx, c.scheme()+m.address)
		if err != nil {
			c.tb.Fatalf("etcdtest: member %d: %v", i, err)
		}
		if status.Leader == status.Header.MemberId {
			return i
		}
	}
	c.tb.Fatalf("etcdtest: no member leads")
	return 0
}

// Compact compacts all revisions before the current one.
func (c *Cluster) Compact() {
	c.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), serveTimeout)
	defer cancel()
	now, err := c.Client().Get(ctx, "health")
	if err == nil {
		_, err = c.Client().Compact(ctx, now.Header.Revision, clientv3.WithCompactPhysical())
	}
	if err != nil {
		c.tb.Fatalf("etcdtest: compact: %v", err)
	}
}
