package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
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

// versionDeadline is that of VERSION and STATUS where nothing else is said: both must be cheap.
const versionDeadline = 5 * time.Second

func runCommand() *cli.Command {
	return &cli.Command{
		Name:  "run",
		Usage: "watch the NSDB and run this host's containers, until SIGTERM; containers outlive the supervisor",
		Flags: []cli.Flag{
			nsdbFlag, hostIDFlag, stateDirFlag, runDirFlag, pluginPathFlag, logLevelFlag,
			&cli.StringFlag{
				Name: "types", EnvVars: []string{"SVC_TYPES"},
				Usage: "serve these service `TYPES` alone, a list separated by commas (default: all); others are another service's",
			},
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
			duration("check-interval", "`TIME` between two CHECKs of a container; up to ten times as long while CHECK could find nothing new",
				time.Minute),
			duration("status-interval", "`TIME` between two STATUSes of an executable that is not ready", 30*time.Second),
			duration("rescan", "`TIME` between two looks at the plugin path", 10*time.Second),
			duration("resync", "`TIME` between two looks for what no event tells of: leftovers, names that became free",
				30*time.Second),
			duration("grace", "`TIME` that running verbs get when the supervisor stops", 30*time.Second),
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
			keepHeapSmall()
			s, err := newSupervisor(c)
			if err != nil {
				return err
			}
			defer s.close()
			return s.run(c.Context)
		},
	}
}

// keepHeapSmall lets the heap grow to 1.4 times what is in use, not to twice. With 1,000 containers that saves 7 MB of 47, and a restart
// takes a sixth more processor time. An administrator's GOGC stays.
func keepHeapSmall() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(40)
	}
}

// supervisor is the wiring of the rooms.
type supervisor struct {
	log            *slog.Logger
	records        *statedir.Dir
	inventory      *plugin.Inventory
	bus            *unit.Bus
	events         kernelevents.Follower
	nsdb           watch.NSDB
	board          *report.Board
	reconciler     *reconcile.Reconciler
	runDir         string
	rescan         time.Duration
	resyncInterval time.Duration
	settings       *settings
	types          []spec.ServiceType // of --types; none: all
	agent          *agent.Log         // whose left-overs are removed; nil: they are left alone
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
	s.board = report.NewBoard(s.nsdb, s.log)
	typed := func(t spec.ServiceType) *slog.Logger { return logger("containers." + strings.ToLower(string(t))) }
	s.reconciler = reconcile.New(reconcile.Settings{
		BootID:        strings.TrimSpace(string(boot)),
		Types:         types,
		Parallel:      c.Int("parallel"),
		VerbDeadline:  c.Duration("verb-timeout"),
		CheckInterval: c.Duration("check-interval"),
		Grace:         c.Duration("grace"),
	}, s.records, newHostNamespaces(s.log), hostLinks{}, hostUnits{s.bus}, &s.events, s.inventory, s.board, s.log, typed)
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
		s.log.Warn("not closed", "error", err)
	}
}

// run works until ctx ends or the NSDB or the API fails for good.
func (s *supervisor) run(ctx context.Context) error {
	if err := s.reconciler.Recall(); err != nil {
		return err
	}

	outside, stopOutside := context.WithCancelCause(ctx) // hears; ends first
	defer stopOutside(nil)
	inside, stopInside := context.WithCancel(context.WithoutCancel(ctx)) // works; ends second
	defer stopInside()
	voice, stopVoice := context.WithCancel(context.WithoutCancel(ctx)) // publishes; ends last
	defer stopVoice()

	served, err := api.Serve(voice, filepath.Join(s.runDir, "api.sock"), s.reconciler, s.inventory)
	if err != nil {
		return err
	}
	heard, err := health.Serve(voice, s.runDir, s.reconciler.Heard, containerOfUser(userid.Host(s.log)), s.log)
	if err != nil {
		return err
	}
	var hearing, working, speaking sync.WaitGroup
	speaking.Go(func() { s.board.Run(voice) })
	for _, wait := range []func() error{served, heard} {
		speaking.Go(func() {
			if err := wait(); err != nil {
				stopOutside(err)
			}
		})
	}
	working.Go(func() { s.reconciler.Run(inside) })
	hearing.Go(func() { s.inventory.Follow(inside, s.rescan, s.settings.statusInterval, s.reconciler.MarkAll) })
	hearing.Go(func() {
		if s.inventory.AwaitScan(inside); inside.Err() == nil {
			s.settings.setTypes(s.servedTypes)
			s.warnOfTypes()
		}
	})
	hearing.Go(func() { s.followUnits(inside) })
	hearing.Go(func() { s.resync(inside) })
	hearing.Go(func() {
		err := s.nsdb.Run(outside, func(desired spec.Desired) {
			s.settings.follow(desired.Settings)
			s.reconciler.Desire(outside, desired)
		})
		if err != nil && outside.Err() == nil {
			stopOutside(err)
		}
	})
	hearing.Go(func() { s.watchdog(inside) })
	s.awaitScan(outside)
	s.awaitRows(outside)
	s.notify(daemon.SdNotifyReady)

	<-outside.Done()
	cause := context.Cause(outside)
	drain := s.stopContainers && cause == context.Cause(ctx) // not where the supervisor ends by itself: it is started again
	s.notify(daemon.SdNotifyStopping)
	s.log.Info("stop", "containersStay", !drain)
	if drain {
		s.drain(inside)
	}
	stopInside()
	working.Wait()
	hearing.Wait()
	stopVoice()
	speaking.Wait()
	if !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// servedTypes lists the service types that the plugin path has a plugin for.
func (s *supervisor) servedTypes() (types []spec.ServiceType) {
	plugins, _ := s.inventory.List()
	for _, p := range plugins {
		types = append(types, p.Type)
	}
	slices.Sort(types)
	return slices.Compact(types)
}

// warnOfTypes warns of each type of --types that no plugin serves.
func (s *supervisor) warnOfTypes() {
	served := s.servedTypes()
	for _, t := range s.types {
		if !slices.Contains(served, t) {
			s.log.Warn("no executable serves a type of --types", "type", t, "served", served)
		}
	}
}

// awaitScan puts off READY until the executables are known, so that whoever started the service finds them; one that hangs
// puts it off for a moment only. The work has begun already.
func (s *supervisor) awaitScan(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	s.inventory.AwaitScan(ctx)
}

// readyTime is how long READY is put off for the NSDB: one that does not answer must not keep the service from its start.
const readyTime = 5 * time.Second

// awaitRows puts off READY until the NSDB was read and each container that it wants has a row, so that a `ps` right after the start of
// the service shows them.
func (s *supervisor) awaitRows(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	for !s.reconciler.Seen() {
		select {
		case <-ctx.Done():
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// drain removes every container, as long as it takes: systemd's stop time-out, or a second signal, bounds it. What it waits
// for is logged after 5 s, and every minute.
func (s *supervisor) drain(ctx context.Context) {
	s.withdraw(ctx)
	s.reconciler.Drain()
	next := time.Now().Add(5 * time.Second)
	for !s.reconciler.Drained() {
		if now := time.Now(); now.After(next) {
			next = now.Add(time.Minute)
			s.log.Warn("stop waits for containers", "containers", s.left())
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// withdraw removes the host's status before any container goes, so that a scheduler places no container here any more. An
// NSDB that does not answer holds nothing up for long.
func (s *supervisor) withdraw(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, withdrawTimeout)
	defer cancel()
	if err := s.board.Withdraw(ctx); err != nil {
		s.log.Warn("status of the host not removed, removing the containers all the same", "error", err)
	}
}

const withdrawTimeout = 10 * time.Second

// left lists the containers that are not removed yet, each with what it waits for.
func (s *supervisor) left() []string {
	var list []string
	for _, row := range s.reconciler.Rows() {
		list = append(list, fmt.Sprintf("%s: %s", row.Name, cmp.Or(row.Reason, row.Status)))
	}
	return list
}

// followUnits marks the container of each unit that changes.
func (s *supervisor) followUnits(ctx context.Context) {
	err := s.bus.Follow(ctx, func(changed string) {
		if changed == "" {
			s.reconciler.MarkAll()
		} else if name, ok := spec.UnitOwner(changed); ok {
			s.reconciler.UnitChanged(name)
		}
	})
	if err != nil && ctx.Err() == nil {
		s.log.Error("units are not followed: changes are found by CHECK alone", "error", err)
	}
}

func (s *supervisor) resync(ctx context.Context) {
	for {
		if s.agent != nil && s.agent.Sweep(ctx) {
			s.reconciler.MarkAll() // a name may be free now
		}
		if err := s.reconciler.FindLeftovers(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("leftovers not looked for", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(s.resyncInterval):
		}
		s.reconciler.CollectGarbage(ctx) // before anything is marked: it runs only where nobody works
		s.reconciler.MarkStuck(ctx)
	}
}

// agentLog is the container log of a MidoNet agent on this host. Whether that runs is known by MidoNet's NSDB alone.
func agentLog(nsdb watch.NSDB, log *slog.Logger) (*agent.Log, error) {
	midonet, ok := nsdb.(interface {
		AgentAlive(ctx context.Context) (bool, error)
	})
	if !ok {
		return nil, &spec.Fault{Key: "--adopt-agent-leftovers", Value: "true", Allowed: "with --nsdb zk://…, which tells whether the agent runs"}
	}
	alive := func(ctx context.Context) (bool, error) {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		return midonet.AgentAlive(ctx)
	}
	machine := agent.Machine{Namespaces: newHostNamespaces(log).Dir, Temp: os.TempDir()}
	return &agent.Log{Folder: agent.Folder, Alive: alive, Host: machine, Log: log}, nil
}

// watchdog tells systemd that the supervisor lives, as often as the unit asks for: only if its state can be read, so not
// while it hangs.
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

// hostLinks are the interfaces of the namespace that the supervisor runs in.
type hostLinks struct{}

func (hostLinks) Observe(name spec.Name) (netns.Link, error) { return netns.ObserveLink(name) }
func (hostLinks) List() ([]netns.Link, error)                { return netns.ListLinks() }
func (hostLinks) Remove(name spec.Name) error                { return netns.RemoveLink(name) }
