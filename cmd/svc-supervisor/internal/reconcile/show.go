package reconcile

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/decide"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Row is the line that `ps` shows for one container.
type Row struct {
	Name        spec.Name        `json:"name"`
	Type        spec.ServiceType `json:"type,omitempty"`
	Version     string           `json:"version,omitempty"`
	Status      string           `json:"status"` // one of the constants below
	Reason      string           `json:"reason,omitempty"`
	Units       []string         `json:"units,omitempty"`
	Restarts    int              `json:"restarts,omitempty"` // restarts by systemd, and recreations of the container
	AddedAt     *time.Time       `json:"addedAt,omitempty"`
	PortID      spec.PortID      `json:"portId,omitempty"`
	ContainerID spec.ContainerID `json:"containerId,omitempty"`
	Health      *spec.Health     `json:"health,omitempty"`
	Hold        decide.Hold      `json:"-"`
	// RestartsKnown is set if systemd was asked how often it restarted the units.
	RestartsKnown bool      `json:"-"`
	runningSince  time.Time // since when the container runs, by the monotonic clock
}

// The values of Row.Status.
const (
	RowRunning  = "RUNNING"
	RowStarting = "STARTING"
	RowStopping = "STOPPING"
	RowHeld     = "HELD"
	RowUnknown  = "UNKNOWN"
)

// Up returns the number of connections that are up, and the number of all connections.
func (r Row) Up() (up, all int) {
	if r.Health == nil {
		return 0, 0
	}
	for _, c := range r.Health.Connections {
		if c.Status == spec.Active {
			up++
		}
	}
	return up, len(r.Health.Connections)
}

// Rows returns a row for every known container, sorted by name.
func (r *Reconciler) Rows() []Row {
	var rows []Row
	r.memories.mu.Lock()
	defer r.memories.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(r.memories.byName)) {
		if row := r.memories.byName[name].shared.row; row.Name != "" {
			if row.AddedAt != nil && !row.runningSince.IsZero() {
				now := time.Now()
				at := AddedAt(*row.AddedAt, now.Sub(row.runningSince), now)
				row.AddedAt = &at
			}
			rows = append(rows, row)
		}
	}
	rows = append(rows, r.statuses.rejectedRows()...) // after the container that has the same name
	rows = append(rows, unreadRows(r.desired.current(), rows)...)
	slices.SortStableFunc(rows, func(a, b Row) int { return strings.Compare(string(a.Name), string(b.Name)) })
	return rows
}

// HasAllRows reports whether the NSDB has been read and every wanted container has a row. It is also true if the NSDB
// was read but the host object was unreadable.
func (r *Reconciler) HasAllRows() bool {
	claims := r.desired.current()
	if claims == nil {
		return false
	}
	r.memories.mu.Lock()
	defer r.memories.mu.Unlock()
	for name := range claims.byName {
		if m := r.memories.byName[name]; m == nil || m.shared.row.Name == "" {
			return false
		}
	}
	return true
}

// unreadRows returns a row for each unreadable binding whose name is unknown. Without it, a new binding with an
// error would not be shown at all.
func unreadRows(claims *claims, rows []Row) []Row {
	if claims == nil {
		return nil
	}
	known := map[spec.PortID]bool{}
	for _, row := range rows {
		known[row.PortID] = true
	}
	var list []Row
	for port, reason := range claims.unreadPorts {
		if !known[port] {
			list = append(list, Row{Status: RowUnknown, Reason: reason, PortID: port})
		}
	}
	slices.SortFunc(list, func(a, b Row) int { return strings.Compare(string(a.PortID), string(b.PortID)) })
	return list
}

// HostRow is the line that `ps` shows for the host.
type HostRow struct {
	ID     spec.HostID `json:"id"`
	Unread string      `json:"unread,omitempty"` // why the host is unknown
	Limit  *int        `json:"limit,omitempty"`  // nil: no limit
	spec.HostStatus
}

// HostRow returns the line of the host.
func (r *Reconciler) HostRow() HostRow {
	host, status := r.desired.hostStatus()
	row := HostRow{ID: host.ID, HostStatus: status, Unread: notReadYet}
	if limit := host.Limit; limit >= 0 && host.ID != "" {
		row.Limit = &limit
	}
	if claims := r.desired.current(); claims != nil {
		row.Unread = claims.unread
	}
	return row
}

// Backlog is the work that the supervisor has not done yet.
type Backlog struct {
	Queued           int           // names that wait for a worker
	Busy             int           // names that a worker has
	OldestNotRunning time.Duration // the longest time for which a container has not been running; 0: all run
}

// Backlog returns the work that is not done yet.
func (r *Reconciler) Backlog() Backlog {
	var b Backlog
	b.Queued, b.Busy = r.queue.lengths()
	r.memories.mu.Lock()
	defer r.memories.mu.Unlock()
	for _, m := range r.memories.byName {
		if since := m.shared.notRunningSince; !since.IsZero() {
			b.OldestNotRunning = max(b.OldestNotRunning, time.Since(since))
		}
	}
	return b
}

// fields returns the log attributes that identify a container. They must not contain its configuration, which may hold
// secrets.
func fields(c spec.Container) []any {
	return []any{
		"portId", c.PortID, "hostId", c.HostID, "interfaceName", c.InterfaceName, "containerId", c.ContainerID,
		"type", c.ServiceType, "groupId", c.GroupID, "configurationId", c.ConfigurationID,
	}
}
