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

// Await waits until every member that runs has seen a linearizable read through.
func (c *Cluster) Await() {
	c.tb.Helper()
	late := time.Now().Add(patient)
	for i, m := range c.members {
		for m.Started() {
			err := c.serves(m)
			if err == nil {
				break
			}
			select {
			case <-m.Gone():
				c.tb.Fatalf("etcdtest: member %d ended: %s", i, m.tail())
			default:
			}
			if time.Now().After(late) {
				c.tb.Fatalf("etcdtest: member %d does not serve: %v: %s", i, err, m.tail())
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}

func (c *Cluster) serves(m *member) error {
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

// dial makes a client that may do everything.
func (c *Cluster) dial(endpoints ...string) (*clientv3.Client, error) {
	// A member that is back is found at once: what is measured is somebody else's patience.
	again := backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.1, MaxDelay: 100 * time.Millisecond}
	config := clientv3.Config{
		DialTimeout: 5 * time.Second, Logger: zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{Backoff: again, MinConnectTimeout: time.Second})},
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

// Client is a client of all members that may do everything; it is closed with the cluster.
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

// Leader is the number of the member that leads.
func (c *Cluster) Leader() int {
	c.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patient)
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

// Compact forgets every revision but the present one.
func (c *Cluster) Compact() {
	c.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patient)
	defer cancel()
	now, err := c.Client().Get(ctx, "health")
	if err == nil {
		_, err = c.Client().Compact(ctx, now.Header.Revision, clientv3.WithCompactPhysical())
	}
	if err != nil {
		c.tb.Fatalf("etcdtest: compact: %v", err)
	}
}
