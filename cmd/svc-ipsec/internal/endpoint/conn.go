// Package endpoint decides how the daemon of one VPN endpoint gets the wanted connections: which conns it has to
// delete, load, initiate and terminate, in which order, and when to try again. Everything in it is a function of its
// arguments. Package verb observes the daemon, calls these functions, and executes the actions.
//
// Reading order: conn.go (a wanted conn), plan.go (from wanted and loaded conns to actions), standing.go (which
// connections already run), retry.go (conns that do not come up).
package endpoint

import (
	"bytes"
	"net/netip"
	"slices"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/render"
)

// Conn is one conn as it should be loaded. A connection has one conn for each pair of networks.
type Conn struct {
	Name string
	Text []byte // the content of its file
	// Former is the content of the file that an earlier version wrote for the same conn.
	Former     []byte
	Connection *config.Connection
}

// Conns returns the conns of the wanted connections.
func Conns(wanted []*config.Connection) []Conn {
	var conns []Conn
	for _, connection := range wanted {
		for _, pair := range connection.Pairs() {
			conns = append(conns, Conn{
				Name:       pair.Conn,
				Text:       render.Conn(connection, pair),
				Former:     render.FormerConn(connection, pair),
				Connection: connection,
			})
		}
	}
	return conns
}

// Names returns the names of conns.
func Names(conns []Conn) []string {
	var names []string
	for _, c := range conns {
		names = append(names, c.Name)
	}
	return names
}

// Accepted returns the conns that are not in refused.
func Accepted(conns []Conn, refused map[string]string) []Conn {
	return slices.DeleteFunc(slices.Clone(conns), func(c Conn) bool {
		_, isRefused := refused[c.Name]
		return isRefused
	})
}

// WithAcceptedConn returns the connections that have a conn that is not in refused.
func WithAcceptedConn(wanted []*config.Connection, refused map[string]string) []*config.Connection {
	return slices.DeleteFunc(slices.Clone(wanted), func(c *config.Connection) bool {
		return !slices.ContainsFunc(c.Pairs(), func(p config.Pair) bool {
			_, isRefused := refused[p.Conn]
			return !isRefused
		})
	})
}

// Initiate returns the action that initiates those of the conns that this end initiates. The peer initiates the conns
// of a response-only connection.
func Initiate(conns []Conn) []Action {
	return actions(OpInitiate, Names(slices.DeleteFunc(slices.Clone(conns), func(c Conn) bool {
		return c.Connection.ResponseOnly
	})))
}

// ConnectedPeers returns the peers to which any of the conns is up.
func ConnectedPeers(conns []Conn, status Status) map[netip.Addr]bool {
	peers := map[netip.Addr]bool{}
	for _, c := range conns {
		if status.Up[c.Name] {
			peers[c.Connection.PeerAddress] = true
		}
	}
	return peers
}

// FilesMatch reports whether the daemon already has all wanted conns, judged by the files alone. A conn matches if its
// file has the wanted text, or, when the configuration was not edited, if the daemon is recorded to have refused it.
// The text of a conn depends on its key, so matching conns have the wanted keys too. The result lists the refused conns
// with their reasons.
func FilesMatch(wanted []Conn, files map[string][]byte, recorded map[string]string, edited bool) (
	refused map[string]string, same bool,
) {
	refused = map[string]string{}
	for _, c := range wanted {
		if bytes.Equal(files[c.Name], c.Text) || bytes.Equal(files[c.Name], c.Former) {
			continue
		}
		reason, isRefused := recorded[c.Name]
		if !isRefused || edited {
			return nil, false
		}
		refused[c.Name] = reason
	}
	return refused, len(files)+len(refused) == len(wanted)
}

// Networks returns the local and peer networks of conns, by conn name. files has the texts of the conns.
func Networks(files map[string][]byte) map[string]config.Networks {
	found := map[string]config.Networks{}
	for conn, text := range files {
		found[conn] = render.Networks(text)
	}
	return found
}
