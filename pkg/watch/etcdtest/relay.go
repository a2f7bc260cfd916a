package etcdtest

import (
	"net"
	"sync"
)

// Relay stands between clients and all members: one listener for each. It can be cut.
type Relay struct {
	cluster   *Cluster
	endpoints []string

	mu   sync.Mutex
	cut  bool
	open map[net.Conn]bool
	flow *sync.Cond // told when the relay is mended or connections are dropped
}

// Relay starts a relay in front of the cluster.
func (c *Cluster) Relay() *Relay {
	c.tb.Helper()
	r := &Relay{cluster: c, open: map[net.Conn]bool{}}
	r.flow = sync.NewCond(&r.mu)
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

// Endpoints are the relay's addresses for clients.
func (r *Relay) Endpoints() []string { return r.endpoints }

// URL names the cluster behind the relay and a prefix as --nsdb does.
func (r *Relay) URL(root string) string { return r.cluster.address(r.endpoints, root) }

// Cut lets nothing through any more, in both directions, and closes nothing: a partition.
func (r *Relay) Cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut = true
}

// Mend undoes Cut. What was held back goes on its way.
func (r *Relay) Mend() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut = false
	r.flow.Broadcast()
}

// Drop closes every connection; new ones are taken.
func (r *Relay) Drop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for conn := range r.open {
		_ = conn.Close()
	}
	clear(r.open)
	r.flow.Broadcast()
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

// copy passes on what comes, while the relay is not cut. The end of one side is the end of both.
func (r *Relay) copy(to, from net.Conn) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if !r.pass(from) || err != nil {
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

// pass waits while the relay is cut; false if the connection was dropped meanwhile.
func (r *Relay) pass(conn net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.cut && r.open[conn] {
		r.flow.Wait()
	}
	return r.open[conn]
}
