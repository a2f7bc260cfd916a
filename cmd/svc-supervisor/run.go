package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/urfave/cli/v2"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/agent"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/api"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/health"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/kernelevents"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/logs"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/metrics"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/observe"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/plugin"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/reconcile"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/report"
	"github.com/svc-supervisor/svc-supervisor/pkg/netns"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/statedir"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
	"github.com/svc-supervisor/svc-supervisor/pkg/userid"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch"
)

// versionDeadline is the default deadline of VERSION and STATUS. Both verbs must be cheap.
const versionDeadline = 5 * time.Second

func runCommand() *cli.Command {
	return &cli.Command{
		Name:  "run",
		Usage: "watch the NSDB and run this host's containers, until SIGTERM; containers outlive the supervisor",
		Flags: []cli.Flag{
			nsdbFlag, hostIDFlag, stateDirFlag, runDirFlag, pluginPathFlag, logLevelFlag,
			typesFlag,
			&cli.IntFlag{
				Name: "parallel", Value: max(4, 2*runtime.NumCPU()), EnvVars: []string{"SVC_PARALLEL"},
				Usage: "work on `N` containers at once",
				Action: func(_ *cli.Context, n int) error {
					if n < 1 {
						return &spec.Fault{Key: "--parallel", Value: strconv.Itoa(n), Allowed: "1 or more"}
					}
					return nil
				},
			},
			duration("verb-timeout", "`TIME` that ADD, CHECK and DEL may take", 30*time.Second),
			duration("version-timeout", "`TIME` that VERSION and STATUS may take", versionDeadline),
			duration("check-interval", "`TIME` between two CHECKs of a container;"+
				" up to ten times as long while CHECK could find nothing new", time.Minute),
			duration("status-interval", "`TIME` between two STATUSes of an executable that is not ready",
				30*time.Second),
			duration("rescan", "`TIME` between two scans of the plugin path", 10*time.Second),
			duration("resync",
				"`TIME` between two scans for changes that no event reports: leftovers, names that became free",
				30*time.Second),
			duration("grace", "`TIME` that running verbs get when the supervisor stops", 30*time.Second),
			&cli.StringFlag{
				Name: "metrics-listen", EnvVars: []string{"SVC_METRICS_LISTEN"},
				Usage: "serve Prometheus metrics at this TCP `ADDRESS`, like 127.0.0.1:9469" +
					" (default: only on the socket)",
				Action: func(_ *cli.Context, address string) error {
					if _, port, err := net.SplitHostPort(address); address != "" && (err != nil || port == "") {
						return &spec.Fault{
							Key: "--metrics-listen", Value: address,
							Allowed: "<host>:<port>, [<IPv6 address>]:<port> or :<port>",
						}
					}
					return nil
				},
			},
			&cli.BoolFlag{
				Name: "stop-containers", EnvVars: []string{"SVC_STOP_CONTAINERS"},
				Usage: "remove all containers when the supervisor stops",
			},
			&cli.BoolFlag{
				Name: "adopt-agent-leftovers", EnvVars: []string{"SVC_ADOPT_AGENT_LEFTOVERS"},
				Usage: "remove the containers that the log of a MidoNet agent names, while no agent runs on this host",
			},
		},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			s, err := newSupervisor(c)
			if err != nil {
				return err
			}
			defer s.close()
			return s.run(c.Context)
		},
	}
}

// keepHeapSmall lets the heap grow to 1.4 times the live heap before a garbage collection, instead of to twice. With
// 1,000 containers that saves 7 MB of 47 MB. It is called when the start is complete, because a restart would take a
// sixth more processor time with it. If GOGC is set, its value is kept.
func keepHeapSmall() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(40)
	}
}

// supervisor connects the packages of the supervisor with each other.
type supervisor struct {
	log            *slog.Logger
	records        *statedir.Dir
	inventory      *plugin.Inventory
	bus            *unit.Bus
	events         kernelevents.Subscriber
	nsdb           watch.NSDB
	statuses       *report.StatusPublisher
	metrics        *metrics.Metrics
	metricsAddress string // of --metrics-listen; "" if it is not given
	reconciler     *reconcile.Reconciler
	runDir         string
	rescan         time.Duration
	resyncInterval time.Duration
	settings       *settings
	types          []spec.ServiceType // of --types; empty: all types
	agent          *agent.Log         // the agent whose leftovers are removed; nil: none are removed
	stopContainers bool
}

func newSupervisor(c *cli.Context) (_ *supervisor, err error) {
	levels := new(logs.Levels)
	if err := levels.Parse(c.String(logLevelFlag.Name)); err != nil {
		return nil, err
	}
	stderr, underJournald := logs.Stderr()
	logger := func(name string) *slog.Logger { return logs.New(stderr, underJournald, levels, name) }
	s := &supervisor{
		log:            logger("containers"),
		runDir:         c.String(runDirFlag.Name),
		rescan:         c.Duration("rescan"),
		resyncInterval: c.Duration("resync"),
		stopContainers: c.Bool("stop-containers"),
		metrics:        metrics.New(),
		metricsAddress: c.String("metrics-listen"),
	}
	s.settings = newSettings(levels, c.Duration("status-interval"), s.log)
	host, err := hostID(c)
	if err != nil {
		return nil, err
	}
	dirs, err := pluginPath(c)
	if err != nil {
		return nil, err
	}
	types, err := serviceTypes(c)
	if err != nil {
		return nil, err
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("boot id: %w", err)
	}
	if s.nsdb, err = watch.Open(c.String(nsdbFlag.Name), host, s.log); err != nil {
		return nil, err
	}
	if c.Bool("adopt-agent-leftovers") {
		if s.agent, err = agentLog(s.nsdb, s.log); err != nil {
			return nil, errors.Join(err, s.nsdb.Close())
		}
	}
	if s.records, err = statedir.Open(c.String(stateDirFlag.Name)); err != nil {
		return nil, errors.Join(err, s.nsdb.Close())
	}
	if s.inventory, err = plugin.NewInventory(dirs, c.Duration("version-timeout"), s.log); err != nil {
		return nil, errors.Join(err, s.nsdb.Close(), s.records.Close())
	}
	s.bus = unit.Open()
	s.statuses = report.New(s.nsdb, s.log)
	typed := func(t spec.ServiceType) *slog.Logger { return logger("containers." + strings.ToLower(string(t))) }
	bootID := strings.TrimSpace(string(boot))
	namespaces, units := newHostNamespaces(s.log), hostUnits{s.bus}
	observer := observe.New(bootID, s.records, namespaces, hostLinks{}, units, s.inventory)
	s.reconciler = reconcile.New(reconcile.Settings{
		BootID:        bootID,
		Types:         types,
		Parallel:      c.Int("parallel"),
		VerbDeadline:  c.Duration("verb-timeout"),
		CheckInterval: c.Duration("check-interval"),
		Grace:         c.Duration("grace"),
	}, observer, s.records, namespaces, hostLinks{}, units, &s.events, observedPlugins{s.inventory, s.metrics},
		s.statuses, s.log, typed)
	for _, v := range unknownVariables(c.App.Commands, os.Environ()) {
		s.log.Warn("unknown variable ignored", "variable", v.name, "nearest", v.nearest)
	}
	if nsdb, ok := s.nsdb.(interface {
		ServeOnly(serves func(spec.ContainerID, spec.ServiceType) bool)
	}); ok {
		nsdb.ServeOnly(s.reconciler.Serves)
	}
	s.types = types
	s.log.Info("start", "host", host, "version", version, "nsdb", c.String(nsdbFlag.Name), "pluginPath", dirs)
	return s, nil
}

func (s *supervisor) close() {
	s.events.Close()
	s.bus.Close()
	if err := errors.Join(s.nsdb.Close(), s.records.Close()); err != nil {
		s.log.Warn("closing the NSDB or the state directory failed", "error", err)
	}
}

// run runs the supervisor until ctx is cancelled, or until the NSDB, the API or the health socket fails permanently. It
// stops in three stages: first it stops reading the desired state, then the workers, and last the publication of
// statuses.
func (s *supervisor) run(ctx context.Context) error {
	if err := s.reconciler.LoadRecords(); err != nil {
		return err
	}

	watchCtx, stopWatching := context.WithCancelCause(ctx) // reads the desired state; ends first
	defer stopWatching(nil)
	workCtx, stopWorking := context.WithCancel(context.WithoutCancel(ctx)) // runs the workers; ends second
	defer stopWorking()
	publishCtx, stopPublishing := context.WithCancel(context.WithoutCancel(ctx)) // publishes statuses; ends last
	defer stopPublishing()

	metricsHandler := s.metrics.Handler(version, s.reconciler, s.inventory)
	socket := filepath.Join(s.runDir, "api.sock")
	waitAPI, err := api.Serve(publishCtx, socket, s.reconciler, s.inventory, metricsHandler)
	if err != nil {
		return err
	}
	waitHealth, err := health.Serve(publishCtx, s.runDir, s.reconciler.ApplyPushedHealth,
		containerOfUser(userid.Host(s.log)), s.log)
	if err != nil {
		return err
	}
	var watchers, workers, publishers sync.WaitGroup
	publishers.Go(func() { s.statuses.Run(publishCtx) })
	if s.metricsAddress != "" {
		publishers.Go(func() { metrics.Serve(publishCtx, s.metricsAddress, metricsHandler, s.log) })
	}
	for _, wait := range []func() error{waitAPI, waitHealth} {
		publishers.Go(func() {
			if err := wait(); err != nil {
				stopWatching(err)
			}
		})
	}
	firstReading := make(chan struct{})
	workers.Go(func() {
		s.awaitInputs(workCtx, firstReading)
		s.reconciler.Run(workCtx)
	})
	watchers.Go(func() { s.inventory.Follow(workCtx, s.rescan, s.settings.statusInterval, s.reconciler.MarkAll) })
	watchers.Go(func() {
		if s.inventory.AwaitScan(workCtx); workCtx.Err() == nil {
			s.settings.setTypes(s.servedTypes)
			s.warnOfTypes()
		}
	})
	watchers.Go(func() { s.followUnits(workCtx) })
	watchers.Go(func() { s.resync(workCtx) })
	watchers.Go(func() {
		signalFirst := sync.OnceFunc(func() { close(firstReading) })
		err := s.nsdb.Run(watchCtx, func(desired spec.Desired) {
			s.settings.apply(desired.Settings)
			s.reconciler.SetDesired(watchCtx, desired)
			signalFirst()
		})
		if err != nil && watchCtx.Err() == nil {
			stopWatching(err)
		}
	})
	watchers.Go(func() { s.watchdog(workCtx) })
	s.awaitPlugins(watchCtx)
	s.awaitRows(watchCtx)
	keepHeapSmall()
	s.notify(daemon.SdNotifyReady)

	<-watchCtx.Done()
	cause := context.Cause(watchCtx)
	// The containers stay if the supervisor ends because of an error: systemd starts it again.
	drain := s.stopContainers && cause == context.Cause(ctx)
	s.notify(daemon.SdNotifyStopping)
	s.log.Info("stop", "containersStay", !drain)
	if drain {
		s.drain(workCtx)
	}
	stopWorking()
	workers.Wait()
	watchers.Wait()
	stopPublishing()
	publishers.Wait()
	if !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// servedTypes lists the service types that have a plugin on the plugin path, sorted.
func (s *supervisor) servedTypes() (types []spec.ServiceType) {
	plugins, _ := s.inventory.List()
	for _, p := range plugins {
		types = append(types, p.Type)
	}
	slices.Sort(types)
	return slices.Compact(types)
}

// warnOfTypes logs a warning for each type of --types that no plugin serves.
func (s *supervisor) warnOfTypes() {
	served := s.servedTypes()
	for _, t := range s.types {
		if !slices.Contains(served, t) {
			s.log.Warn("no executable serves a type of --types", "type", t, "served", served)
		}
	}
}

// inputsTime is how long the workers wait at the start for the NSDB and the plugins.
const inputsTime = 500 * time.Millisecond

// awaitInputs waits until the NSDB and the plugin path have been read for the first time, or for inputsTime. Each of
// the two marks every container, so workers that began earlier would observe the containers several times.
func (s *supervisor) awaitInputs(ctx context.Context, firstReading <-chan struct{}) {
	ctx, cancel := context.WithTimeout(ctx, inputsTime)
	defer cancel()
	s.inventory.AwaitScan(ctx)
	select {
	case <-firstReading:
	case <-ctx.Done():
	}
}

// readyTime limits each delay of READY: the service must start even if no plugin and no NSDB answers.
const readyTime = 5 * time.Second

// awaitPlugins delays READY until plugins can be selected, so that they are known when `systemctl start` returns. The
// reconciler already runs meanwhile.
func (s *supervisor) awaitPlugins(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	s.inventory.AwaitSelectable(ctx)
}

// awaitRows delays READY until the NSDB was read and each desired container has a row, so that a `ps` right after the
// start of the service shows them.
func (s *supervisor) awaitRows(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	for !s.reconciler.HasAllRows() {
		select {
		case <-ctx.Done():
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// drain removes all containers. It has no time limit of its own: systemd's stop timeout or a second signal ends it. It
// logs the containers that it waits for after 5 s, and then every minute.
func (s *supervisor) drain(ctx context.Context) {
	s.withdraw(ctx)
	s.reconciler.Drain()
	next := time.Now().Add(5 * time.Second)
	for !s.reconciler.Drained() {
		if now := time.Now(); now.After(next) {
			next = now.Add(time.Minute)
			s.log.Warn("stop waits for containers", "containers", s.remaining())
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// withdraw removes the host's status before any container is removed, so that the scheduler places no more containers
// on this host. It gives up after withdrawTimeout.
func (s *supervisor) withdraw(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, withdrawTimeout)
	defer cancel()
	if err := s.statuses.RemoveHost(ctx); err != nil {
		s.log.Warn("status of the host not removed, removing the containers all the same", "error", err)
	}
}

const withdrawTimeout = 10 * time.Second

// remaining lists the containers that are not removed yet, each with its reason, or with its status if there is none.
func (s *supervisor) remaining() []string {
	var list []string
	for _, row := range s.reconciler.Rows() {
		list = append(list, fmt.Sprintf("%s: %s", row.Name, cmp.Or(row.Reason, row.Status)))
	}
	return list
}

// followUnits marks the container of each unit that changes, and all containers if any unit may have changed.
func (s *supervisor) followUnits(ctx context.Context) {
	err := s.bus.Follow(ctx, func(changed string) {
		if changed == "" {
			s.reconciler.AllUnitsChanged(ctx)
		} else if name, ok := spec.UnitOwner(changed); ok {
			s.reconciler.UnitChanged(name)
		}
	})
	if err != nil && ctx.Err() == nil {
		s.log.Error("lost systemd signals, relying on CHECK", "error", err)
	}
}

// resync scans at an interval for changes that no event reports: leftovers, unused user ids, names that became free.
func (s *supervisor) resync(ctx context.Context) {
	for {
		if s.agent != nil && s.agent.Sweep(ctx) {
			s.reconciler.MarkAll() // a name may be free now
		}
		if err := s.reconciler.FindLeftovers(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("leftover scan failed", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(s.resyncInterval):
		}
		s.reconciler.CollectGarbage(ctx) // before MarkHeld: GC runs only while no worker is active
		s.reconciler.MarkHeld(ctx)
	}
}

// agentLog returns the container log of a MidoNet agent on this host. It requires MidoNet's NSDB, which alone shows
// whether the agent runs.
func agentLog(nsdb watch.NSDB, log *slog.Logger) (*agent.Log, error) {
	midonet, ok := nsdb.(interface {
		AgentAlive(ctx context.Context) (bool, error)
	})
	if !ok {
		return nil, &spec.Fault{
			Key: "--adopt-agent-leftovers", Value: "true",
			Allowed: "with --nsdb zk://…, which shows whether the agent runs",
		}
	}
	alive := func(ctx context.Context) (bool, error) {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		return midonet.AgentAlive(ctx)
	}
	machine := agent.Machine{Namespaces: newHostNamespaces(log).Dir, Temp: os.TempDir()}
	return &agent.Log{Dir: agent.Directory, Alive: alive, Host: machine, Log: log}, nil
}

// watchdog sends WATCHDOG=1 to systemd three times per watchdog interval of the unit. It reads the rows of the
// reconciler before, so that nothing is sent while the reconciler's lock is blocked.
func (s *supervisor) watchdog(ctx context.Context) {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil || interval == 0 {
		return
	}
	for {
		s.reconciler.Rows()
		s.notify(daemon.SdNotifyWatchdog)
		select {
		case <-ctx.Done():
			return
		case <-time.After(interval / 3):
		}
	}
}

func (s *supervisor) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		s.log.Warn("systemd not notified", "error", err)
	}
}

// observedPlugins counts the verbs of containers in the metrics.
type observedPlugins struct {
	*plugin.Inventory
	metrics *metrics.Metrics
}

func (p observedPlugins) Run(ctx context.Context, call plugin.Call) ([]byte, error) {
	begin := time.Now()
	stdout, err := p.Inventory.Run(ctx, call)
	p.metrics.ObserveVerb(call.Type, call.Verb, time.Since(begin), err)
	return stdout, err
}

// hostLinks accesses the links of the network namespace that the supervisor runs in.
type hostLinks struct{}

func (hostLinks) Observe(name spec.Name) (netns.Link, error) { return netns.ObserveLink(name) }
func (hostLinks) List() ([]netns.Link, error)                { return netns.ListLinks() }
func (hostLinks) Remove(name spec.Name) error                { return netns.RemoveLink(name) }
