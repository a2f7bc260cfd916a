package zktest

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"time"
)

// Relay stands between clients and all members: one listener for each. It can be cut, and it counts the requests.
type Relay struct {
	mu        sync.Mutex
	endpoints []string
	cut       bool
	open      map[net.Conn]bool
	counts    map[string]int
	waiting   int        // requests without an answer
	deepest   int        // the most of them at once
	flow      *sync.Cond // told when the relay is mended, or a connection goes
}

// opcodes are the requests that a Relay tells apart by name.
var opcodes = map[int32]string{
	1: "create", 2: "delete", 3: "exists", 4: "get", 5: "set", 8: "children", 12: "children", 14: "multi", 101: "setWatches",
	-11: "close",
}

const opPing = 11

// Relay starts a relay in front of the cluster.
func (c *Cluster) Relay() *Relay {
	c.tb.Helper()
	r := &Relay{open: map[net.Conn]bool{}, counts: map[string]int{}}
	r.flow = sync.NewCond(&r.mu)
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

// Endpoints are the relay's addresses for clients.
func (r *Relay) Endpoints() []string { return r.endpoints }

// URL names the cluster behind the relay and a root as --nsdb does.
func (r *Relay) URL(root string) string { return address(r.endpoints, root) }

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

// Requests says what was asked since the last time, by kind: get, exists, children, create, set, delete, multi, close …
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
		running.Go(func() { r.carry(server, client, true) })
		running.Go(func() { r.carry(client, server, false) })
	}
}

// carry passes frames on, one after the other, until one side goes.
func (r *Relay) carry(to, from net.Conn, requests bool) {
	defer r.end(to, from)
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
		if _, err := io.ReadFull(from, frame[4:]); err != nil || !r.pass(from) {
			return
		}
		if !first && size >= 8 { // the first one opens the session
			if requests {
				r.asked(int32(binary.BigEndian.Uint32(frame[8:])))
			} else if xid := int32(binary.BigEndian.Uint32(frame[4:])); xid >= 0 {
				r.answered()
			}
		}
		if _, err := to.Write(frame); err != nil {
			return
		}
	}
}

// pass waits while the relay is cut; false if the connection went meanwhile.
func (r *Relay) pass(from net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.cut && r.open[from] {
		r.flow.Wait()
	}
	return r.open[from]
}

func (r *Relay) asked(opcode int32) {
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
	r.waiting++
	r.deepest = max(r.deepest, r.waiting)
}

func (r *Relay) answered() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting--
}

// Deepest is the most requests that were under way at once. A connection that goes leaves its own uncounted for ever.
func (r *Relay) Deepest() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.deepest
}

func (r *Relay) end(conns ...net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, conn := range conns {
		_ = conn.Close()
		delete(r.open, conn)
	}
	r.flow.Broadcast()
}
