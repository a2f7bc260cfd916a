package etcdtest

import (
	"net"
	"sync"
)

// Relay forwards the connections of clients to the members, with one listener for each member. It can be cut.
type Relay struct {
	cluster   *Cluster
	endpoints []string

	mu      sync.Mutex
	cut     bool
	open    map[net.Conn]bool
	changed *sync.Cond // signalled when the relay is restored or connections are dropped
}

// Relay starts a relay in front of the cluster.
func (c *Cluster) Relay() *Relay {
	c.tb.Helper()
	r := &Relay{cluster: c, open: map[net.Conn]bool{}}
	r.changed = sync.NewCond(&r.mu)
	for _, m := range c.members {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			c.tb.Fatalf("etcdtest: %v", err)
		}
		r.endpoints = append(r.endpoints, listener.Addr().String())
		var running sync.WaitGroup
		running.Go(func() { r.accept(listener, m.address, &running) })
		c.tb.Cleanup(func() {
			_ = listener.Close()
			r.Drop()
			r.Mend()
			running.Wait()
		})
	}
	return r
}

// URL returns the --nsdb URL of the relay and a prefix, with the credentials that a client needs.
func (r *Relay) URL(root string) string { return r.cluster.address(r.endpoints, root) }

// Cut stops forwarding in both directions and closes no connection, like a network partition.
func (r *Relay) Cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut = true
}

// Mend resumes forwarding after Cut, including the data that was held back.
func (r *Relay) Mend() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut = false
	r.changed.Broadcast()
}

// Drop closes all connections. New ones are accepted.
func (r *Relay) Drop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for conn := range r.open {
		_ = conn.Close()
	}
	clear(r.open)
	r.changed.Broadcast()
}

func (r *Relay) accept(listener net.Listener, member string, running *sync.WaitGroup) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", member)
		if err != nil {
			_ = client.Close()
			continue
		}
		r.mu.Lock()
		r.open[client], r.open[server] = true, true
		r.mu.Unlock()
		running.Go(func() { r.copy(server, client) })
		running.Go(func() { r.copy(client, server) })
	}
}

// copy forwards data while the relay is not cut. When one side ends, it closes both.
func (r *Relay) copy(to, from net.Conn) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if !r.waitOpen(from) || err != nil {
			break
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			break
		}
	}
	_, _ = to.Close(), from.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open, to)
	delete(r.open, from)
}

// waitOpen waits while the relay is cut. It returns false if the connection was dropped meanwhile.
func (r *Relay) waitOpen(conn net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.cut && r.open[conn] {
		r.changed.Wait()
	}
	return r.open[conn]
}
