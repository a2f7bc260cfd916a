// Package etcd implements an NSDB in an etcd cluster: native objects are stored as JSON below a key prefix that many
// hosts share.
//
// A desired set is read at one revision of etcd, completely or not at all, and the watches start at the following
// revision. So no change is missed, and no set mixes two states. When a watch breaks, or etcd has compacted the
// revision, everything is read again. A watch event only causes another read: the changed object is read again at one
// later revision, together with all objects of the same bindings. A host reads and watches its own object, its
// settings, its bindings, and, key by key, the objects that its bindings refer to. Changes of other hosts cause no
// traffic to this host.
//
// One client serves all requests. It uses one stream for the watches and one for the lease. Every request has a
// deadline, and a stream without traffic is closed. So the client also moves on from a member that hangs or that is
// partitioned from the others. While etcd is unreachable, the last set remains valid; an unread host is reported only
// if no set was read before.
//
// Statuses are stored under a lease. They outlive a stopped supervisor by the TTL of the lease, so that readers do not
// notice a restart, and the next process puts them under its own lease. If the lease is lost, a new one is granted, and
// SessionChanged asks for all statuses. Close does not revoke the lease. A status that another client deletes is
// written again with the next status of its container, or when the watches have started again.
//
// The package needs etcd 3.4 or later.
package etcd

import (
	"context"
	"log/slog"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/internal/signal"
)

// NSDB is one key prefix of an etcd cluster, as seen by one host. A reader reads and watches the desired state,
// statusWriter writes the statuses, and administration reads and writes objects for commands. They share a connection.
type NSDB struct {
	conn           *connection
	host           spec.HostID
	sessionChanged signal.Signal

	*statusWriter
	*administration
}

// Open returns an NSDB for a location that ParseURL checked. It makes no connection and opens no file.
func Open(location Location, host spec.HostID, log *slog.Logger) *NSDB {
	conn := &connection{location: location, log: log, timeouts: defaultTimeouts}
	sessionChanged := signal.New()
	return &NSDB{
		conn: conn, host: host, sessionChanged: sessionChanged,
		statusWriter:   newStatusWriter(conn, host, sessionChanged),
		administration: &administration{conn},
	}
}

// Close closes the connection. Statuses remain until their lease expires.
func (n *NSDB) Close() error {
	n.lease.close()
	n.conn.close()
	return nil
}

// Run reads and watches the desired state until ctx ends. After an error it starts again with a full read.
func (n *NSDB) Run(ctx context.Context, changed func(spec.Desired)) error {
	newReader(n.conn, n.host, n.sessionChanged, changed).run(ctx)
	return nil
}
