package zktest

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"time"
)

// Relay forwards the connections of clients to the members, with one listener for each member. It can be cut, and it
// counts the requests.
type Relay struct {
	mu            sync.Mutex
	endpoints     []string
	cut           bool
	open          map[net.Conn]bool
	counts        map[string]int
	outstanding   int        // requests without a response
	maxConcurrent int        // the maximum of outstanding
	changed       *sync.Cond // signalled when the relay is restored or connections are closed
}

// opcodes are the names of the requests that a Relay distinguishes.
var opcodes = map[int32]string{
	1: "create", 2: "delete", 3: "exists", 4: "get", 5: "set", 8: "children", 12: "children", 14: "multi",
	101: "setWatches", -11: "close",
}

const opPing = 11

// Relay starts a relay in front of the cluster.
func (c *Cluster) Relay() *Relay {
	c.tb.Helper()
	r := &Relay{open: map[net.Conn]bool{}, counts: map[string]int{}}
	r.changed = sync.NewCond(&r.mu)
	var running sync.WaitGroup
	for _, m := range c.members {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			c.tb.Fatalf("zktest: %v", err)
		}
		r.endpoints = append(r.endpoints, listener.Addr().String())
		running.Go(func() { r.accept(listener, m.address, &running) })
		c.tb.Cleanup(func() { _ = listener.Close() })
	}
	c.tb.Cleanup(func() {
		r.Drop()
		r.Mend()
	})
	return r
}

// URL returns the --nsdb URL of the relay and a root.
func (r *Relay) URL(root string) string { return address(r.endpoints, root) }

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

// Requests returns the number of requests since the last call, by kind: get, exists, children, create, set, delete,
// multi, close and others.
func (r *Relay) Requests() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	counts := r.counts
	r.counts = map[string]int{}
	return counts
}

func (r *Relay) accept(listener net.Listener, to string, running *sync.WaitGroup) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return
		}
		server, err := net.DialTimeout("tcp", to, time.Second)
		if err != nil {
			_ = client.Close()
			continue
		}
		r.mu.Lock()
		r.open[client], r.open[server] = true, true
		r.mu.Unlock()
		running.Go(func() { r.forward(server, client, true) })
		running.Go(func() { r.forward(client, server, false) })
	}
}

// forward forwards frames one by one until one side closes its connection.
func (r *Relay) forward(to, from net.Conn, requests bool) {
	defer r.close(to, from)
	var length [4]byte
	for first := true; ; first = false {
		if _, err := io.ReadFull(from, length[:]); err != nil {
			return
		}
		size := binary.BigEndian.Uint32(length[:])
		if size > 64<<20 {
			return
		}
		frame := make([]byte, 4+size)
		copy(frame, length[:])
		if _, err := io.ReadFull(from, frame[4:]); err != nil || !r.waitOpen(from) {
			return
		}
		if !first && size >= 8 { // the first frame opens the session
			if requests {
				r.countRequest(int32(binary.BigEndian.Uint32(frame[8:])))
			} else if xid := int32(binary.BigEndian.Uint32(frame[4:])); xid >= 0 {
				r.countResponse()
			}
		}
		if _, err := to.Write(frame); err != nil {
			return
		}
	}
}

// waitOpen waits while the relay is cut. It returns false if the connection was closed meanwhile.
func (r *Relay) waitOpen(from net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.cut && r.open[from] {
		r.changed.Wait()
	}
	return r.open[from]
}

func (r *Relay) countRequest(opcode int32) {
	if opcode == opPing {
		return
	}
	name, ok := opcodes[opcode]
	if !ok {
		name = "other"
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts[name]++
	r.outstanding++
	r.maxConcurrent = max(r.maxConcurrent, r.outstanding)
}

func (r *Relay) countResponse() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outstanding--
}

// MaxConcurrent returns the largest number of requests that were outstanding at the same time. Requests without a
// response when their connection is closed remain counted as outstanding.
func (r *Relay) MaxConcurrent() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.maxConcurrent
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
