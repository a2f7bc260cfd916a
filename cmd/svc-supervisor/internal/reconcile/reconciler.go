package reconcile

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/netns"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/statedir"
)

// Settings are what an operator can set. All numbers and durations must be positive.
type Settings struct {
	BootID        string
	Types         []spec.ServiceType // those that are served; none: all
	Parallel      int                // containers worked on at once; with those that are blocked, overcommit times as many
	VerbDeadline  time.Duration      // of ADD, CHECK and DEL
	CheckInterval time.Duration
	Grace         time.Duration // for the verbs that run when the supervisor stops
}

// Reconciler works on every container of the host.
type Reconciler struct {
	settings    Settings
	records     Records
	namespaces  Namespaces
	links       Links
	units       Units
	executables Executables
	report      Reporter
	logs        func(spec.ServiceType) *slog.Logger // the logger of a type
	log         *slog.Logger

	queue       *queue
	eventChecks *eventChecks
	gcLocks     gcLocks
	collected   map[string]time.Time // when GC of an executable ran; CollectGarbage's alone

	applying      sync.Mutex // held while a desired set is taken in: one after the other
	duplicates    duplicates // of `applying`
	hostReporting sync.Mutex // held while the host's status is reported: before mu

	mu              sync.Mutex
	claims          *claims // nil until the NSDB was heard of
	host            spec.Host
	memories        map[spec.Name]*memory
	holders         *holders
	slots           map[spec.Name]bool        // names with a record of any phase, or with a reservation
	others          map[spec.ContainerID]bool // containers of the last desired set whose type another service serves
	unownedStatuses map[spec.ContainerID]bool // whose status no worker takes back: of bindings without one, or of an earlier run
	rejectedRows    []Row
	permits         map[spec.Name]*permit // of the names that are worked on
	hostReported    *spec.HostStatus
	pruned          bool
	draining        bool
	stopped         bool
}

// slowObservation is how long the observation of a name may take before it no longer counts towards Settings.Parallel: then systemd
// or the kernel does not answer. A verb stops counting when it is blocked (plugin.Call.Blocked). All names that are worked on,
// those included that do not count, are at most overcommit times Settings.Parallel.
const (
	slowObservation = 2 * time.Second
	overcommit      = 4
)

// place is one of the Settings.Parallel places, taken by a name that is worked on.
type permit struct {
	release func() // makes the place free for another name; only the first call does
	verbs   int    // that run for the name
}

// New makes a reconciler. logs gives the logger for what the executables of a type say.
func New(settings Settings, records Records, namespaces Namespaces, links Links, units Units, events KernelEvents,
	executables Executables, reporter Reporter, log *slog.Logger, logs func(spec.ServiceType) *slog.Logger,
) *Reconciler {
	queue := newQueue()
	return &Reconciler{
		settings:        settings,
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

// Recall reads every record, so that who holds what is known before the first decision. It returns an error if the state
// directory cannot be read: then nothing may be decided.
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

// Run works until ctx ends. Then verbs that run may go on for the grace time, after which they are killed: the next start
// finds what was half done.
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

// occupy notes the place of a name, and frees it when the work on the name has taken slowObservation and no verb runs then.
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

// runsVerb notes that a verb runs for a name. blocked frees the name's place; end notes that the verb has ended.
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

// enter waits for a place. It returns false when ctx ends.
func acquire(ctx context.Context, permits chan<- struct{}) bool {
	select {
	case permits <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// Desire hands over what the NSDB asks for, and marks every name that it may concern.
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
	r.markHeld(HeldSlot) // weight or limit may have changed
}

// Drain makes nothing wanted, whatever the NSDB says or said.
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

// Drained says whether nothing is left after Drain: no record and no look that is due.
func (r *Reconciler) Drained() bool {
	return len(r.records.Names()) == 0 && r.queue.idle()
}

// Mark asks for a look at one name; one that is not known and has nothing to do with us costs a look.
func (r *Reconciler) Mark(name spec.Name) { r.queue.mark(name) }

// UnitChanged asks for a look at a name after systemd reported a change of one of its units.
func (r *Reconciler) UnitChanged(name spec.Name) {
	r.mu.Lock()
	if m := r.memories[name]; m != nil {
		m.unitsDue = true
	}
	r.mu.Unlock()
	r.Mark(name)
}

// MarkAll asks for a look at every name that is wanted, recorded, remembered, or carries our tag.
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

// FindLeftovers marks every name that has no container by its record, and under which something carries our tag or stands in one of
// our slices; and every name that has one, but not its namespace. It gives back the user ids of names that have nothing else: a crash
// leaves them where the state directory was lost, too.
func (r *Reconciler) FindLeftovers(ctx context.Context) error {
	recorded := r.recorded() // before the host is looked at: what comes after it is no leftover
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
	// A name gets its slot before ADD allocates its user id, and loses it after the user id was given back.
	return r.namespaces.ReleaseUnused(ctx, func(name spec.Name) bool { return found[name] || r.hasSlot(name) })
}

// recorded are the names that have a container by their record.
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

// prune removes, once, the statuses that neither a record nor a binding stands for. Until it succeeds each call tries again.
// The caller holds `applying`.
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
			r.unownedStatuses[id] = true // goes with its binding, should nothing else be said of it
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

// noteLocked keeps the index of who holds which port and container id.
func (r *Reconciler) noteLocked(name spec.Name, record *statedir.Record) {
	if record == nil {
		r.holders.remove(name)
		return
	}
	r.holders.set(name, holder{record.Container.PortID, record.Container.ContainerID, record.Phase == statedir.Deleted})
}

// noteTagLocked notes the container id that a name holds if its record cannot tell: the tag of its namespace does.
func (r *Reconciler) noteTagLocked(name spec.Name, err error) {
	if err == nil {
		return
	}
	if namespace, err := r.namespaces.Observe(name); err == nil && namespace.State == netns.Ours {
		r.holders.set(name, holder{container: namespace.Owner.ContainerID})
	}
}

// memoryLocked returns the memo of a name, a new one if need be.
func (r *Reconciler) memoryLocked(name spec.Name) *memory {
	m := r.memories[name]
	if m == nil {
		m = new(memory)
		r.memories[name] = m
	}
	return m
}
