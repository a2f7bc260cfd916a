package reconcile

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/observe"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/statedir"
)

// Settings are the options that an operator can set. All numbers and durations must be positive.
type Settings struct {
	BootID        string             // written to new records
	Types         []spec.ServiceType // the served service types; empty: all
	Parallel      int                // containers processed at once, not counting those whose verb is blocked
	VerbDeadline  time.Duration      // for ADD, CHECK and DEL
	CheckInterval time.Duration
	Grace         time.Duration // time for running verbs to end when the supervisor stops
}

// Reconciler reconciles every container of the host.
type Reconciler struct {
	settings Settings
	observer *observe.Observer
	listing  *unitListing
	records  Records
	report   Reporter
	log      *slog.Logger

	queue       *queue
	held        heldNames
	permits     permits
	worker      worker
	eventChecks *eventChecks
	connections connectionLog
	leftovers   leftovers
	gc          collector

	applying sync.Mutex // serializes the methods that change or use the whole desired state
	types    typeFilter
	desired  *desired
	statuses *statuses
	host     *hostReport
	memories *memories
}

// New returns a Reconciler. logs returns the logger for the output of the executables of a type.
func New(settings Settings, observer *observe.Observer, records Records, namespaces Namespaces, links Links,
	units Units, events KernelEvents, executables Executables, reporter Reporter, log *slog.Logger,
	logs func(spec.ServiceType) *slog.Logger,
) *Reconciler {
	queue, locks, desired := newQueue(), new(gcLocks), newDesired()
	memories := &memories{byName: map[spec.Name]*memory{}}
	r := &Reconciler{
		settings:    settings,
		observer:    observer,
		listing:     &unitListing{list: units.List},
		records:     records,
		report:      reporter,
		log:         log,
		queue:       queue,
		held:        heldNames{memories, queue},
		permits:     permits{byName: map[spec.Name]*permit{}},
		eventChecks: newEventChecks(events, queue.mark, log),
		connections: connectionLog{log},
		leftovers:   leftovers{namespaces, links, units, queue.mark},
		gc:          collector{records, executables, locks, log, logs, map[string]time.Time{}},
		types:       typeFilter{settings.Types, records, executables, desired},
		desired:     desired,
		statuses: &statuses{
			desired: desired, memories: memories, report: reporter, log: log, unowned: map[spec.ContainerID]bool{},
		},
		host:     &hostReport{desired: desired, report: reporter, log: log},
		memories: memories,
	}
	verbs := &verbs{executables, namespaces.Path, settings.VerbDeadline, &r.permits, locks, r.eventChecks, logs}
	checks := &checkSchedule{settings.CheckInterval, r.eventChecks}
	history, failures, writer := unitHistory{units, log}, failures{log}, recordWriter{records, desired}
	r.worker = worker{
		observer: observer, listing: r.listing, records: records, path: namespaces.Path, desired: desired,
		memories: memories, statuses: r.statuses, host: r.host, checks: checks, eventChecks: r.eventChecks,
		history: history, held: r.held, mark: queue.mark, failures: failures, log: log,
		adder: adder{
			bootID: settings.BootID, records: writer, namespaces: namespaces, verbs: verbs, checks: checks,
			eventChecks: r.eventChecks, connections: r.connections, memories: memories, statuses: r.statuses,
			host: r.host, failures: failures, log: log, logs: logs,
		},
		remover: remover{
			records: writer, removal: removal{verbs, observer.UnitsOf, units, links, namespaces}, history: history,
			plugins: executables, desired: desired, memories: memories, statuses: r.statuses, host: r.host,
			held: r.held, failures: failures, log: log, logs: logs,
		},
		checker: checker{
			verbs: verbs, checks: checks, connections: r.connections, memories: memories, report: reporter, log: log,
		},
	}
	return r
}

// LoadRecords reads every record, so that it is known which name holds which port and container id before the first
// decision. If it returns an error, the state directory cannot be read and Run must not be called.
func (r *Reconciler) LoadRecords() error {
	if err := r.records.Rescan(); err != nil {
		return err
	}
	for _, name := range r.records.Names() {
		var entry statedir.Entry
		if entries := r.records.Read(name); len(entries) > 0 {
			entry = entries[0]
		}
		container := spec.ContainerID("")
		if entry.Err != nil {
			if tag, ours := r.observer.Tag(name); ours {
				container = tag.ContainerID
			}
		}
		r.desired.recall(name, entry.Record, container)
	}
	return nil
}

// Run works until ctx ends. Then it waits for running verbs for the grace time and kills those that are left. The next
// start removes or completes what they left half done.
func (r *Reconciler) Run(ctx context.Context) {
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var workers sync.WaitGroup
	all := make(chan struct{}, overcommit*r.settings.Parallel)
	parallel := make(chan struct{}, r.settings.Parallel)
	for acquire(ctx, all) && acquire(ctx, parallel) {
		name, ok := r.queue.take(ctx)
		if !ok {
			break
		}
		workers.Go(func() {
			p := &permit{release: sync.OnceFunc(func() { <-parallel })}
			stop := r.permits.hold(name, p)
			r.worker.work(ctx, work, name)
			stop()
			p.release()
			<-all
			r.queue.done(name)
		})
	}
	grace := time.AfterFunc(r.settings.Grace, stop)
	workers.Wait()
	grace.Stop()
	r.eventChecks.stop()
	r.memories.stop()
}

// acquire waits for a permit. It returns false when ctx ends.
func acquire(ctx context.Context, permits chan<- struct{}) bool {
	select {
	case permits <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// Drained reports whether Drain is complete: no record exists and no name is marked or busy.
func (r *Reconciler) Drained() bool {
	return len(r.records.Names()) == 0 && r.queue.idle()
}

// Mark requests an observation of a name. A name without a container costs one observation.
func (r *Reconciler) Mark(name spec.Name) { r.queue.mark(name) }

// UnitChanged requests an observation of a name after systemd reported a change of one of its units.
func (r *Reconciler) UnitChanged(name spec.Name) {
	r.listing.forget(name)
	r.memories.setUnitsDue(name)
	r.Mark(name)
}

// AllUnitsChanged requests an observation of every name after any unit may have changed. The caller must report each
// later change to UnitChanged.
func (r *Reconciler) AllUnitsChanged(ctx context.Context) {
	if err := r.listing.read(ctx); err != nil && ctx.Err() == nil {
		r.log.Debug("units not listed all at once, so once for each container", "error", err)
	}
	r.MarkAll()
}

// MarkAll requests an observation of every name that is wanted, has a record or has state in memory.
func (r *Reconciler) MarkAll() {
	names := map[spec.Name]bool{}
	for _, name := range r.records.Names() {
		names[name] = true
	}
	if claims := r.desired.current(); claims != nil {
		for name := range claims.byName {
			names[name] = true
		}
	}
	r.memories.addNames(names)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		r.queue.mark(name)
	}
}

// CollectGarbage runs GC of each executable for which it is due: after the start as soon as no name has work left, then
// daily. GC of an executable whose service type is busy is left to the next call.
func (r *Reconciler) CollectGarbage(ctx context.Context) {
	if r.desired.allRead() && r.queue.idle() {
		r.gc.collectAll(ctx)
	}
}

// Serves reports whether this supervisor publishes the status of a container. It does if it has a record of the
// container, or if the type is one of Settings.Types, or if Settings.Types is empty and an executable serves the type.
// It does not wait until the plugin path has been read, because a missing status of a container without a record does
// no harm.
func (r *Reconciler) Serves(id spec.ContainerID, t spec.ServiceType) bool {
	return r.types.serves(id, t)
}

// FindLeftovers marks every name that has no record of a container but a namespace or veth with our owner tag or a unit
// with our name pattern. It also marks every name whose record has a container but whose namespace is missing. Then it
// releases the user ids of names that have nothing else; a crash can leave such a user id behind, even if the state
// directory was lost.
func (r *Reconciler) FindLeftovers(ctx context.Context) error {
	// The records are listed before the host is observed, since a container added during the observation is no
	// leftover.
	return r.leftovers.find(ctx, r.desired.recordedNames(), r.desired.hasSlot)
}
