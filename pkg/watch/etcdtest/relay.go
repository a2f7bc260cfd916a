package etcdtest

import (
	"net"

	"github.com/svc-supervisor/svc-supervisor/pkg/watch/internal/server"
)

// Relay forwards the connections of clients to the members, with one listener for each member. It can be cut.
type Relay struct {
	*server.Relay
	cluster *Cluster
}

// Relay starts a relay in front of the cluster.
func (c *Cluster) Relay() *Relay {
	c.tb.Helper()
	var addresses []string
	for _, m := range c.members {
		addresses = append(addresses, m.address)
	}
	return &Relay{server.NewRelay(c.tb, addresses, copyData), c}
}

// URL returns the --nsdb URL of the relay and a prefix, with the credentials that a client needs.
func (r *Relay) URL(root string) string { return r.cluster.address(r.Endpoints, root) }

func copyData(r *server.Relay, to, from net.Conn, _ bool) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if !r.WaitOpen(from) || err != nil {
			return
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}
