package spec

import (
	"slices"
	"strconv"
	"time"
)

// StatusCode is the code of a published status. The cluster's scheduler acts on it.
type StatusCode string

// The status codes, which are those of MidoNet's ContainerStatus.
const (
	Starting StatusCode = "STARTING"
	Running  StatusCode = "RUNNING"
	Stopping StatusCode = "STOPPING"
	Stopped  StatusCode = "STOPPED"
	Failed   StatusCode = "ERROR"
)

// Status messages that tools outside of this project match.
const (
	LimitExceeded = "LIMIT_EXCEEDED"
	WeightZero    = "WEIGHT_ZERO"
)

// ContainerStatus is the published status of one container.
type ContainerStatus struct {
	Code          StatusCode   `json:"code"`
	Message       string       `json:"message"`
	HostID        HostID       `json:"hostId"`
	NamespaceName string       `json:"namespaceName"`
	InterfaceName Name         `json:"interfaceName"`
	Connections   []Connection `json:"connections,omitempty"`
}

// HostStatus is the published status of this host: its weight, the number of containers that it can still accept
// (Quota, -1: no limit), and the number of containers that it has (Count).
type HostStatus struct {
	Weight int `json:"weight"`
	Quota  int `json:"quota"`
	Count  int `json:"count"`
}

// Health is the health of a container as its executable reports it: in the output of CHECK, in the result of ADD, or in
// a datagram to the health socket. InterfaceName is set only in a datagram.
type Health struct {
	InterfaceName Name         `json:"interfaceName,omitempty"`
	Code          StatusCode   `json:"code"`
	Message       string       `json:"message,omitempty"`
	Connections   []Connection `json:"connections,omitempty"`
	Again         *Again       `json:"again,omitempty"`
}

// The socket for pushed health. Each datagram holds one Health of at most HealthLimit bytes. The directory contains
// nothing but the socket and outlives the supervisor. So the mount namespace of a daemon can contain this directory and
// no other files of the supervisor, and the socket of a restarted supervisor appears in it.
const (
	HealthFolder = "/run/svc-supervisor/health"
	HealthSocket = "socket"
	HealthLimit  = 128 << 10
)

// afterLimit is the maximum of Again.After: one year in seconds. A much larger value would overflow time.Duration, and
// the reconfigure would be due at once.
const afterLimit = 365 * 24 * 60 * 60

// Again asks for ADD on the running container after the given number of seconds. 0 means at once.
type Again struct {
	After  int    `json:"after"`
	Reason string `json:"reason,omitempty"`
}

// ConnectionStatus states whether a connection can carry traffic.
type ConnectionStatus string

// An IPsec connection is active if every pair of subnets has an installed security association. Other service types
// define it for themselves.
const (
	Active ConnectionStatus = "ACTIVE"
	Down   ConnectionStatus = "DOWN"
)

// Connection is the health of one connection of a container.
type Connection struct {
	ID     string           `json:"id"`
	Name   string           `json:"name,omitempty"`
	Peer   string           `json:"peer,omitempty"` // the address of the peer
	Status ConnectionStatus `json:"status"`
	Since  *time.Time       `json:"since,omitempty"`
	Reason string           `json:"reason,omitempty"`
	Pairs  []Pair           `json:"pairs,omitempty"`
	// Disabled is set if the connection is down because the configuration disables it, which is not a fault.
	Disabled bool `json:"disabled,omitempty"`
}

// Pair is one pair of subnets of a connection. The byte counters are shown by ps and not published, because they change
// all the time.
type Pair struct {
	Local    string           `json:"local"`
	Peer     string           `json:"peer"`
	Status   ConnectionStatus `json:"status"`
	BytesIn  uint64           `json:"bytesIn,omitempty"`
	BytesOut uint64           `json:"bytesOut,omitempty"`
	// Algorithms are the negotiated algorithms in the daemon's notation.
	Algorithms string `json:"algorithms,omitempty"`
}

// WithoutCounters returns a copy of the connections whose byte counters are 0, for publishing.
func WithoutCounters(connections []Connection) []Connection {
	copies := slices.Clone(connections)
	for i := range copies {
		copies[i].Pairs = slices.Clone(copies[i].Pairs)
		for j := range copies[i].Pairs {
			copies[i].Pairs[j].BytesIn, copies[i].Pairs[j].BytesOut = 0, 0
		}
	}
	return copies
}

// With returns a copy of the health in which each connection is replaced by the pushed connection with the same id. A
// pushed connection whose id is not in the health belongs to an earlier configuration and is ignored. A pushed
// connection with the same status as the one in the health is ignored too, because the latter has more details, such as
// counters. With changes neither h nor pushed.
func (h *Health) With(pushed []Connection) *Health {
	merged := *h
	merged.Connections = slices.Clone(h.Connections)
	for _, p := range pushed {
		for i, c := range merged.Connections {
			if c.ID == p.ID && !c.sameStatus(p) {
				if p.Peer == "" {
					p.Peer = c.Peer
				}
				p.Pairs = c.mergePairs(p.Pairs)
				merged.Connections[i] = p
			}
		}
	}
	return &merged
}

// mergePairs returns a copy of the pushed pairs. A pair without algorithms that is active, and was active in c, is
// replaced by the pair of c, which has the algorithms and counters.
func (c Connection) mergePairs(pairs []Pair) []Pair {
	pairs = slices.Clone(pairs)
	for i, p := range pairs {
		for _, known := range c.Pairs {
			if known.Local == p.Local && known.Peer == p.Peer &&
				known.Status == Active && p.Status == Active && p.Algorithms == "" {
				pairs[i] = known
			}
		}
	}
	return pairs
}

// sameStatus reports whether both connections, and all of their pairs in the same order, have the same status.
func (c Connection) sameStatus(other Connection) bool {
	return c.Status == other.Status && slices.EqualFunc(c.Pairs, other.Pairs, func(a, b Pair) bool {
		return a.Local == b.Local && a.Peer == b.Peer && a.Status == b.Status
	})
}

// Check checks the health that an executable reported, before it is published or acted on.
func (h *Health) Check() error {
	switch h.Code {
	case Starting, Running, Failed:
	default:
		return &Fault{"code", string(h.Code), "STARTING, RUNNING or ERROR"}
	}
	if h.InterfaceName != "" {
		if _, err := ParseName("interfaceName", string(h.InterfaceName)); err != nil {
			return err
		}
	}
	if h.Again != nil && (h.Again.After < 0 || h.Again.After > afterLimit) {
		return &Fault{"again.after", strconv.Itoa(h.Again.After), "0 to " + strconv.Itoa(afterLimit) + " seconds"}
	}
	for _, c := range h.Connections {
		if c.Status != Active && c.Status != Down {
			return &Fault{"connections.status", string(c.Status), "ACTIVE or DOWN"}
		}
	}
	return nil
}
