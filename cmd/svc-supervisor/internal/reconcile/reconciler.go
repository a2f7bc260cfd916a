package reconcile

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/decide"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/observe"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/statedir"
)

// Settings are the options that an operator can set. All numbers and durations must be positive.
type Settings struct {
	BootID        string             // written to new records
	Types         []spec.ServiceType // the served service types; empty: all
	Parallel      int                // containers worked on at once; including blocked ones, overcommit times as many
	VerbDeadline  time.Duration      // for ADD, CHECK and DEL
	CheckInterval time.Duration
	Grace         time.Duration // time for running verbs to end when the supervisor stops
}

// Reconciler reconciles every container of the host.
type Reconciler struct {
	settings    Settings
	observer    *observe.Observer
	records     Records
	namespaces  Namespaces
	links       Links
	units       Units
	executables Executables
	report      Reporter
	logs        func(spec.ServiceType) *slog.Logger // returns the logger of a service type
	log         *slog.Logger

	queue       *queue
	permits     permits
	verbs       verbs
	checks      checkSchedule
	eventChecks *eventChecks
	connections connectionLog
	history     unitHistory
	leftovers   leftovers
	gc          collector

	applying      sync.Mutex // serializes the methods that change or use the whole desired state
	duplicates    duplicates // protected by applying
	hostReporting sync.Mutex // serializes reports of the host's status; locked before mu

	mu       sync.Mutex
	claims   *claims // nil until the NSDB has been read
	host     spec.Host
	memories map[spec.Name]*memory
	holders  *holders
	slots    map[spec.Name]bool        // names with a record of any phase or with a reservation
	others   map[spec.ContainerID]bool // containers of the last desired state whose type another service serves
	// unownedStatuses are published statuses that no worker removes: of rejected bindings, or of an earlier run.
	unownedStatuses map[spec.ContainerID]bool
	rejectedRows    []Row
	hostReported    *spec.HostStatus
	pruned          bool
	draining        bool
	stopped         bool
}

// New returns a Reconciler. logs returns the logger for the output of the executables of a type.
func New(settings Settings, observer *observe.Observer, records Records, namespaces Namespaces, links Links,
	units Units, events KernelEvents, executables Executables, reporter Reporter, log *slog.Logger,
	logs func(spec.ServiceType) *slog.Logger,
) *Reconciler {
	queue, locks := newQueue(), new(gcLocks)
	eventChecks := newEventChecks(events, queue.mark, log)
	r := &Reconciler{
		settings:        settings,
		observer:        observer,
		records:         records,
		namespaces:      namespaces,
		links:           links,
		units:           units,
		executables:     executables,
		report:          reporter,
		logs:            logs,
		log:             log,
		queue:           queue,
		permits:         permits{byName: map[spec.Name]*permit{}},
		checks:          checkSchedule{settings.CheckInterval, eventChecks},
		eventChecks:     eventChecks,
		connections:     connectionLog{log},
		history:         unitHistory{units, log},
		leftovers:       leftovers{namespaces, links, units, queue.mark},
		gc:              collector{records, executables, locks, log, logs, map[string]time.Time{}},
		memories:        map[spec.Name]*memory{},
		holders:         newHolders(),
		slots:           map[spec.Name]bool{},
		unownedStatuses: map[spec.ContainerID]bool{},
	}
	r.verbs = verbs{executables, namespaces.Path, settings.VerbDeadline, &r.permits, locks, eventChecks, logs}
	return r
}

// Recall reads every record, so that it is known which name holds which port and container id before the first
// decision. If it returns an error, the state directory cannot be read and Run must not be called.
func (r *Reconciler) Recall() error {
	if err := r.records.Rescan(); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range r.records.Names() {
		r.slots[name] = true
		if entries := r.records.Read(name); len(entries) > 0 {
			r.noteLocked(name, entries[0].Record)
			r.noteTagLocked(name, entries[0].Err)
		}
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
			r.work(ctx, work, name)
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
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped = true
	for _, m := range r.memories {
		if m.timer != nil {
			m.timer.Stop()
		}
	}
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

// Desire sets the desired state and marks every name that it may affect.
func (r *Reconciler) Desire(ctx context.Context, desired spec.Desired) {
	r.applying.Lock()
	defer r.applying.Unlock()
	desired, others := r.served(desired)
	sorted := sortClaims(&desired)
	r.mu.Lock()
	if r.draining {
		r.mu.Unlock()
		return
	}
	r.others = others
	was := r.claims
	switch {
	case desired.Unread == "":
		sorted.duplicates = r.duplicates.find(desired.Bindings)
	case was != nil:
		sorted.duplicates = was.duplicates
	}
	changed := changedNames(was, sorted)
	r.claims = sorted
	if desired.Unread == "" {
		r.host = desired.Host
	}
	r.mu.Unlock()

	r.logBindings(sorted)
	r.logDuplicates(was, sorted)
	r.reportHost()
	r.reportRejected()
	r.prune(ctx)
	if changed == nil {
		r.MarkAll()
		return
	}
	for _, name := range changed {
		r.Mark(name)
	}
	r.markHeld(decide.HeldSlot) // weight or limit may have changed
}

// Drain sets an empty desired state, so that all containers are removed. Later calls of Desire are ignored.
func (r *Reconciler) Drain() {
	r.applying.Lock()
	defer r.applying.Unlock()
	r.mu.Lock()
	r.claims = sortClaims(&spec.Desired{})
	r.draining = true
	r.mu.Unlock()
	r.reportRejected()
	r.MarkAll()
}

// Drained reports whether Drain is complete: no record exists and no name is marked or busy.
func (r *Reconciler) Drained() bool {
	return len(r.records.Names()) == 0 && r.queue.idle()
}

// Mark requests an observation of a name. A name without a container costs one observation.
func (r *Reconciler) Mark(name spec.Name) { r.queue.mark(name) }

// UnitChanged requests an observation of a name after systemd reported a change of one of its units.
func (r *Reconciler) UnitChanged(name spec.Name) {
	r.mu.Lock()
	if m := r.memories[name]; m != nil {
		m.unitsDue = true
	}
	r.mu.Unlock()
	r.Mark(name)
}

// MarkAll requests an observation of every name that is wanted, has a record or has state in memory.
func (r *Reconciler) MarkAll() {
	names := map[spec.Name]bool{}
	for _, name := range r.records.Names() {
		names[name] = true
	}
	r.mu.Lock()
	if r.claims != nil {
		for name := range r.claims.byName {
			names[name] = true
		}
	}
	for name := range r.memories {
		names[name] = true
	}
	r.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(names)) {
		r.queue.mark(name)
	}
}

// recorded returns the names whose record describes a container.
func (r *Reconciler) recorded() map[spec.Name]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	names := map[spec.Name]bool{}
	for name, h := range r.holders.byName {
		if !h.deleted {
			names[name] = true
		}
	}
	return names
}

// prune removes, once, the published statuses of containers that have neither a record nor a binding. After a failure
// the next call tries again. The caller must hold applying.
func (r *Reconciler) prune(ctx context.Context) {
	r.mu.Lock()
	if r.pruned || r.draining || r.claims == nil || r.claims.unread != "" || r.claims.anyUnread {
		r.mu.Unlock()
		return
	}
	keep := map[spec.ContainerID]bool{}
	for _, h := range r.holders.byName {
		keep[h.container] = true
	}
	for id := range r.claims.byContainer {
		keep[id] = true
	}
	others := r.others
	r.mu.Unlock()
	kept := func(id spec.ContainerID) bool {
		if others[id] {
			return true
		}
		if keep[id] {
			r.mu.Lock()
			r.unownedStatuses[id] = true // removed together with its binding, unless a worker publishes another status
			r.mu.Unlock()
		}
		return keep[id]
	}
	if err := r.report.Prune(ctx, kept); err != nil {
		r.log.Warn("old statuses not removed", "error", err)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pruned = true
}

// noteLocked updates the index of holders after a change of the name's record. nil means that the name has no record.
func (r *Reconciler) noteLocked(name spec.Name, record *statedir.Record) {
	if record == nil {
		r.holders.remove(name)
		return
	}
	r.holders.set(name, holder{record.Container.PortID, record.Container.ContainerID, record.Phase == statedir.Deleted})
}

// noteTagLocked updates the index of holders for a name whose record cannot be read. The container id is that of the
// owner tag of its namespace.
func (r *Reconciler) noteTagLocked(name spec.Name, err error) {
	if err == nil {
		return
	}
	if tag, ours := r.observer.Tag(name); ours {
		r.holders.set(name, holder{container: tag.ContainerID})
	}
}

// memoryLocked returns the memory of a name and creates it if necessary.
func (r *Reconciler) memoryLocked(name spec.Name) *memory {
	m := r.memories[name]
	if m == nil {
		m = new(memory)
		r.memories[name] = m
	}
	return m
}
