package spec

import (
	"slices"
	"strconv"
	"time"
)

// StatusCode is what is published of a container: a message to the cluster's scheduler.
type StatusCode string

// The codes of MidoNet's ContainerStatus.
const (
	Starting StatusCode = "STARTING"
	Running  StatusCode = "RUNNING"
	Stopping StatusCode = "STOPPING"
	Stopped  StatusCode = "STOPPED"
	Failed   StatusCode = "ERROR"
)

// The messages that tools look for in a status.
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

// HostStatus is the published status of this host: its weight, how many containers it still takes (-1: no limit), and
// how many it has.
type HostStatus struct {
	Weight int `json:"weight"`
	Quota  int `json:"quota"`
	Count  int `json:"count"`
}

// Health is what an executable tells of a container: printed by CHECK, carried by the result of ADD, or pushed to the
// health socket (then with the interface name).
type Health struct {
	InterfaceName Name         `json:"interfaceName,omitempty"`
	Code          StatusCode   `json:"code"`
	Message       string       `json:"message,omitempty"`
	Connections   []Connection `json:"connections,omitempty"`
	Again         *Again       `json:"again,omitempty"`
}

// Where health is pushed to: a datagram a health, at most HealthLimit bytes. The socket has a folder of its own, so that a
// daemon's view can hold the folder, which stays while the supervisor is started anew, and nothing else of the supervisor's.
const (
	HealthFolder = "/run/svc-supervisor/health"
	HealthSocket = "socket"
	HealthLimit  = 128 << 10
)

// afterLimit bounds Again.After: a year, in seconds. Beyond it a time.Duration could overflow and be due at once.
const afterLimit = 365 * 24 * 60 * 60

// Again asks for ADD again after that many seconds; 0 is now.
type Again struct {
	After  int    `json:"after"`
	Reason string `json:"reason,omitempty"`
}

// ConnectionStatus says whether a connection carries traffic.
type ConnectionStatus string

// A connection is active when every pair of subnets has an installed security association, or whatever the type calls up.
const (
	Active ConnectionStatus = "ACTIVE"
	Down   ConnectionStatus = "DOWN"
)

// Connection is the health of one connection of a container.
type Connection struct {
	ID     string           `json:"id"`
	Name   string           `json:"name,omitempty"`
	Peer   string           `json:"peer,omitempty"` // its address
	Status ConnectionStatus `json:"status"`
	Since  *time.Time       `json:"since,omitempty"`
	Reason string           `json:"reason,omitempty"`
	Pairs  []Pair           `json:"pairs,omitempty"`
	// Disabled says that the configuration keeps the connection down, so that this is no fault.
	Disabled bool `json:"disabled,omitempty"`
}

// Pair is one pair of subnets of a connection. The counters are shown, never published: they always change.
type Pair struct {
	Local    string           `json:"local"`
	Peer     string           `json:"peer"`
	Status   ConnectionStatus `json:"status"`
	BytesIn  uint64           `json:"bytesIn,omitempty"`
	BytesOut uint64           `json:"bytesOut,omitempty"`
	// Algorithms are those that the two ends chose, in the daemon's words.
	Algorithms string `json:"algorithms,omitempty"`
}

// WithoutCounters copies the connections less what always changes, for publishing.
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

// With returns the health with what was pushed of it since: connections that changed, by their ids. One of an id that it
// does not have was of a configuration before this one. Neither of the two is changed.
func (h *Health) With(pushed []Connection) *Health {
	merged := *h
	merged.Connections = slices.Clone(h.Connections)
	for _, news := range pushed {
		for i, c := range merged.Connections {
			if c.ID == news.ID && !c.sameStatus(news) {
				if news.Peer == "" {
					news.Peer = c.Peer
				}
				news.Pairs = c.known(news.Pairs)
				merged.Connections[i] = news
			}
		}
	}
	return &merged
}

// known adds to the pairs that are up as before what else is known of them.
func (c Connection) known(pairs []Pair) []Pair {
	pairs = slices.Clone(pairs)
	for i, p := range pairs {
		for _, was := range c.Pairs {
			if was.Local == p.Local && was.Peer == p.Peer && was.Status == Active && p.Status == Active && p.Algorithms == "" {
				pairs[i] = was
			}
		}
	}
	return pairs
}

// sameStatus says whether a connection and all of its pairs are up or down as another's. Then what else is known of it, the
// counters say, is worth more than what was pushed.
func (c Connection) sameStatus(as Connection) bool {
	return c.Status == as.Status && slices.EqualFunc(c.Pairs, as.Pairs, func(a, b Pair) bool {
		return a.Local == b.Local && a.Peer == b.Peer && a.Status == b.Status
	})
}

// Check checks what comes from an executable before it is published or acted on.
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
