package metrics

import (
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/plugin"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/reconcile"
	"github.com/svc-supervisor/svc-supervisor/internal/lazyregexp"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Source provides the values that are read at each scrape. Its methods are called concurrently.
type Source interface {
	Rows() []reconcile.Row
	HostRow() reconcile.HostRow
	Backlog() reconcile.Backlog
}

// Plugins lists the plugins. Its method is called concurrently.
type Plugins interface {
	List() ([]plugin.Executable, []plugin.Refusal)
}

// collector reads the source and the plugins at each scrape.
type collector struct {
	version string
	source  Source
	plugins Plugins

	mu     sync.Mutex
	causes map[string]bool // the values of the label cause so far
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	info = desc("svc_supervisor_info", "Always 1. The label is the version of the supervisor.", "version")

	hostKnown = desc("svc_host_known",
		"1 if the desired state of this host is known, "+
			"0 if the NSDB was not read since the start or has no Host object.")
	hostWeight = desc("svc_host_weight", "Weight of this host. 0 means that it accepts no new containers.")
	hostLimit  = desc("svc_host_limit", "Largest number of containers of this host. Absent if there is no limit.")
	hostCount  = desc("svc_host_containers", "Containers of this host that count towards the limit.")

	containers = desc("svc_containers", "Containers by service type and status, which are those of `ps`.",
		"type", "status")
	notRunning = desc("svc_oldest_not_running_seconds",
		"Longest time for which a container has not been running. 0 if all run.")
	restarts = desc("svc_container_restarts_total",
		"Restarts of the container's daemons by systemd, and recreations of the container after a fault.",
		"type", "container")
	connections = desc("svc_connections",
		"Connections by service type, status and cause. The cause is the error name in the reason, like "+
			"NO_PROPOSAL_CHOSEN; `other` if the reason has none; and empty if there is no reason.",
		"type", "status", "cause")
	saBytes = desc("svc_container_sa_bytes",
		"Bytes that the present SAs of the container have carried, when CHECK last ran. A rekey begins at 0 again.",
		"type", "container", "direction")

	queued = desc("svc_queue_containers", "Containers that wait for a worker.")
	busy   = desc("svc_workers_busy", "Containers that a worker has now.")

	executables = desc("svc_plugins", "Always 1. A plugin and whether it is `ready`, `not ready` or `refused`.",
		"path", "type", "version", "state")

	all = []*prometheus.Desc{
		info, hostKnown, hostWeight, hostLimit, hostCount, containers, notRunning, restarts, connections,
		saBytes, queued, busy, executables,
	}
)

// Describe implements prometheus.Collector.
func (c *collector) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range all {
		descs <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	gauge(info, 1, c.version)
	c.collectHost(gauge)
	backlog := c.source.Backlog()
	gauge(queued, float64(backlog.Queued))
	gauge(busy, float64(backlog.Busy))
	gauge(notRunning, backlog.OldestNotRunning.Seconds())
	rows := c.source.Rows()
	for key, n := range countContainers(rows) {
		gauge(containers, n, key.serviceType, key.status)
	}
	for key, n := range c.countConnections(rows) {
		gauge(connections, n, key.serviceType, key.status, key.cause)
	}
	seen := map[spec.Name]bool{}
	for _, row := range rows {
		if row.Name == "" || seen[row.Name] { // two bindings can claim one name; the first row is the container's
			continue
		}
		seen[row.Name] = true
		t, name := string(row.Type), string(row.Name)
		// After a start of the supervisor the number is unknown until systemd is asked. A 0 would look like a reset.
		if row.RestartsKnown {
			to <- prometheus.MustNewConstMetric(restarts, prometheus.CounterValue, float64(row.Restarts), t, name)
		}
		if in, out, known := bytesOf(row.Health); known {
			gauge(saBytes, in, t, name, "in")
			gauge(saBytes, out, t, name, "out")
		}
	}
	c.collectPlugins(gauge)
}

func (c *collector) collectHost(gauge func(*prometheus.Desc, float64, ...string)) {
	host := c.source.HostRow()
	known := 0.0
	if host.Unread == "" {
		known = 1
	}
	gauge(hostKnown, known)
	gauge(hostWeight, float64(host.Weight))
	gauge(hostCount, float64(host.Count))
	if host.Limit != nil {
		gauge(hostLimit, float64(*host.Limit))
	}
}

func (c *collector) collectPlugins(gauge func(*prometheus.Desc, float64, ...string)) {
	ready, refused := c.plugins.List()
	seen := map[string]bool{} // a directory can be on the plugin path twice
	path := func(found string) (string, bool) {
		found = strings.ToValidUTF8(found, "?")
		defer func() { seen[found] = true }()
		return found, !seen[found]
	}
	for _, p := range ready {
		state := "ready"
		if p.Unready != "" {
			state = "not ready"
		}
		if found, isNew := path(p.Found); isNew {
			gauge(executables, 1, found, string(p.Type), p.Version.String(), state)
		}
	}
	for _, p := range refused {
		if found, isNew := path(p.Found); isNew {
			gauge(executables, 1, found, "", "", "refused")
		}
	}
}

type containerKey struct{ serviceType, status string }

func countContainers(rows []reconcile.Row) map[containerKey]float64 {
	counts := map[containerKey]float64{}
	for _, row := range rows {
		counts[containerKey{string(row.Type), row.Status}]++
	}
	return counts
}

type connectionKey struct{ serviceType, status, cause string }

// countConnections counts the connections of running containers.
func (c *collector) countConnections(rows []reconcile.Row) map[connectionKey]float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	counts := map[connectionKey]float64{}
	for _, row := range rows {
		if row.Health == nil {
			continue
		}
		for _, connection := range row.Health.Connections {
			key := connectionKey{serviceType: string(row.Type), status: "down"}
			switch {
			case connection.Status == spec.Active:
				key.status = "up"
			case connection.Disabled:
				key.status = "disabled"
			default:
				key.cause = c.causeLocked(connection.Reason)
			}
			counts[key]++
		}
	}
	return counts
}

// errorName matches a name like NO_PROPOSAL_CHOSEN in a reason.
var errorName = lazyregexp.New(`\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b`)

// causeLimit is the largest number of causes. A reason can contain text of a peer, which could otherwise create any
// number of time series.
const causeLimit = 40

// causeLocked returns the error name in a reason, `other` if there is none, and "" if there is no reason.
func (c *collector) causeLocked(reason string) string {
	if reason == "" {
		return ""
	}
	name := errorName.FindString(reason)
	if name == "" || len(name) > 40 || !c.causes[name] && len(c.causes) >= causeLimit {
		return "other"
	}
	c.causes[name] = true
	return name
}

// bytesOf returns the sum of the byte counters of all pairs. known is false if there is no pair.
func bytesOf(health *spec.Health) (in, out float64, known bool) {
	if health == nil {
		return 0, 0, false
	}
	for _, connection := range health.Connections {
		for _, pair := range connection.Pairs {
			in, out, known = in+float64(pair.BytesIn), out+float64(pair.BytesOut), true
		}
	}
	return in, out, known
}
