package server

import (
	"net"
	"sync"
	"time"
)

// Relay forwards the connections of clients to servers, with one listener for each server. It can be cut.
type Relay struct {
	Endpoints []string // the addresses of the listeners

	forward func(to, from net.Conn, fromClient bool)

	mu      sync.Mutex
	cut     bool
	open    map[net.Conn]bool
	changed *sync.Cond // signalled when the relay is restored or connections are closed
}

// NewRelay starts a relay in front of the servers with these addresses, until the end of the test. forward copies the
// data of one direction of a connection until one side closes it. It must call WaitOpen before it writes.
func NewRelay(tb TB, addresses []string, forward func(r *Relay, to, from net.Conn, fromClient bool)) *Relay {
	tb.Helper()
	r := &Relay{open: map[net.Conn]bool{}}
	r.changed = sync.NewCond(&r.mu)
	r.forward = func(to, from net.Conn, fromClient bool) {
		forward(r, to, from, fromClient)
		r.close(to, from)
	}
	var accepting, forwarding sync.WaitGroup
	var listeners []net.Listener
	tb.Cleanup(func() {
		for _, listener := range listeners {
			_ = listener.Close()
		}
		accepting.Wait()
		r.Drop()
		forwarding.Wait()
	})
	for _, address := range addresses {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			tb.Fatalf("relay: %v", err)
		}
		listeners = append(listeners, listener)
		r.Endpoints = append(r.Endpoints, listener.Addr().String())
		accepting.Go(func() { r.accept(listener, address, &forwarding) })
	}
	return r
}

func (r *Relay) accept(listener net.Listener, address string, forwarding *sync.WaitGroup) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return
		}
		server, err := net.DialTimeout("tcp", address, time.Second)
		if err != nil {
			_ = client.Close()
			continue
		}
		r.mu.Lock()
		r.open[client], r.open[server] = true, true
		r.mu.Unlock()
		forwarding.Go(func() { r.forward(server, client, true) })
		forwarding.Go(func() { r.forward(client, server, false) })
	}
}

// WaitOpen waits while the relay is cut. It returns false if the connection was closed meanwhile.
func (r *Relay) WaitOpen(conn net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.cut && r.open[conn] {
		r.changed.Wait()
	}
	return r.open[conn]
}

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

func (r *Relay) close(conns ...net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, conn := range conns {
		_ = conn.Close()
		delete(r.open, conn)
	}
	r.changed.Broadcast()
}
