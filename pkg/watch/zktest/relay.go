package zktest

import (
	"encoding/binary"
	"io"
	"net"
	"sync"

	"github.com/svc-supervisor/svc-supervisor/pkg/watch/internal/server"
)

// Relay forwards the connections of clients to the members, with one listener for each member. It can be cut, and it
// counts the requests.
type Relay struct {
	*server.Relay

	mu            sync.Mutex
	counts        map[string]int
	outstanding   int // requests without a response
	maxConcurrent int // the maximum of outstanding
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
	var addresses []string
	for _, m := range c.members {
		addresses = append(addresses, m.address)
	}
	r := &Relay{counts: map[string]int{}}
	r.Relay = server.NewRelay(c.tb, addresses, r.forward)
	return r
}

// URL returns the --nsdb URL of the relay and a root.
func (r *Relay) URL(root string) string { return address(r.Endpoints, root) }

// Requests returns the number of requests since the last call, by kind: get, exists, children, create, set, delete,
// multi, close and others.
func (r *Relay) Requests() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	counts := r.counts
	r.counts = map[string]int{}
	return counts
}

// forward forwards frames one by one until one side closes its connection. It uses the given relay, because r.Relay is
// set only after the relay was started.
func (r *Relay) forward(relay *server.Relay, to, from net.Conn, requests bool) {
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
		if _, err := io.ReadFull(from, frame[4:]); err != nil || !relay.WaitOpen(from) {
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
