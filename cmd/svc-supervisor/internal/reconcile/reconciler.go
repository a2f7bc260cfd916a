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
	eventChecks *eventChecks
	gcLocks     gcLocks
	collected   map[string]time.Time // when GC of each executable ran; used by CollectGarbage only

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
	permits         map[spec.Name]*permit // of the names that are worked on
	hostReported    *spec.HostStatus
	pruned          bool
	draining        bool
	stopped         bool
}

// slowObservation is how long the observation of a name may take before the name no longer counts towards
// Settings.Parallel. It takes longer only if systemd or the kernel does not answer. A verb stops counting when it is
// blocked (plugin.Call.Blocked). At most overcommit times Settings.Parallel names are worked on, including those that
// do not count.
const (
	slowObservation = 2 * time.Second
	overcommit      = 4
)

// permit is one of Settings.Parallel permits to work on a name.
type permit struct {
	release func() // lets another name use the permit; only the first call has an effect
	verbs   int    // number of verbs that run for the name
}

// New returns a Reconciler. logs returns the logger for the output of the executables of a type.
func New(settings Settings, observer *observe.Observer, records Records, namespaces Namespaces, links Links,
	units Units, events KernelEvents, executables Executables, reporter Reporter, log *slog.Logger,
	logs func(spec.ServiceType) *slog.Logger,
) *Reconciler {
	queue := newQueue()
	return &Reconciler{
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
		eventChecks:     newEventChecks(events, queue.mark, log),
		collected:       map[string]time.Time{},
		memories:        map[spec.Name]*memory{},
		holders:         newHolders(),
		slots:           map[spec.Name]bool{},
		unownedStatuses: map[spec.ContainerID]bool{},
		permits:         map[spec.Name]*permit{},
	}
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
			stop := r.holdPermit(name, p)
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

// holdPermit records the permit of a name. It releases the permit if the work on the name takes slowObservation and no
// verb runs then.
func (r *Reconciler) holdPermit(name spec.Name, p *permit) (stop func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.permits[name] = p
	var timer *time.Timer
	timer = time.AfterFunc(slowObservation, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		switch {
		case r.permits[name] != p: // the work has ended
		case p.verbs == 0:
			p.release()
		default:
			timer.Reset(slowObservation)
		}
	})
	return func() {
		timer.Stop()
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.permits, name)
	}
}

// runsVerb records that a verb runs for a name. blocked releases the name's permit; end records that the verb has
// ended.
func (r *Reconciler) runsVerb(name spec.Name) (blocked, end func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.permits[name]
	if p == nil {
		return nil, func() {}
	}
	p.verbs++
	return p.release, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		p.verbs--
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

// FindLeftovers marks every name that has no record of a container but a namespace or veth with our owner tag or a unit
// with our name pattern. It also marks every name whose record has a container but whose namespace is missing. Then it
// releases the user ids of names that have nothing else; a crash can leave such a user id behind, even if the state
// directory was lost.
func (r *Reconciler) FindLeftovers(ctx context.Context) error {
	recorded := r.recorded() // before the host is observed, since a container added during the observation is no leftover
	namespaces, err := r.namespaces.List()
	if err != nil {
		return err
	}
	links, err := r.links.List()
	if err != nil {
		return err
	}
	units, err := r.units.List(ctx, "svc-*.service")
	if err != nil {
		return err
	}
	found, present := map[spec.Name]bool{}, map[spec.Name]bool{}
	for _, n := range namespaces {
		if n.Owner.Ours(n.Name) {
			found[n.Name], present[n.Name] = true, true
		}
	}
	for _, l := range links {
		found[l.Name] = true
	}
	for _, u := range units {
		if name, ok := spec.UnitOwner(u.Name); ok {
			found[name] = true
		}
	}
	for name := range found {
		if !recorded[name] {
			r.Mark(name)
		}
	}
	for name := range recorded {
		if !present[name] {
			r.Mark(name)
		}
	}
	// A name gets its slot before ADD allocates its user id, and loses it after the user id was released.
	return r.namespaces.ReleaseUnused(ctx, func(name spec.Name) bool { return found[name] || r.hasSlot(name) })
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
