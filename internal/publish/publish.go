// Package publish writes the statuses of this host to an NSDB. It keeps the latest status of the host and of each
// container, writes the statuses that the NSDB does not have yet, retries failed writes with back-off, and writes every
// status again when the session with the NSDB has changed.
//
// The package guarantees that the latest status of each container is written as soon as the NSDB accepts it, that the
// statuses of a container are written in order, though an old one may be skipped, and that a caller who sets a status
// never waits for the NSDB. When the first status is set, it takes over the statuses that an earlier process of this
// host has left: without that, a status that this process does not set would expire with the earlier session.
package publish

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"sync"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Store writes and lists the statuses of this host in an NSDB. It keeps no statuses itself. The container id "" stands
// for the status of the host. The methods are called by several goroutines at the same time, and must return soon after
// ctx has ended.
type Store interface {
	// EncodeHost and EncodeContainer return a status in the form that the NSDB stores.
	EncodeHost(status spec.HostStatus) ([]byte, error)
	EncodeContainer(status spec.ContainerStatus) ([]byte, error)

	// PutStatus writes an encoded status, unless the NSDB has the same status and the current session owns it. It
	// returns ErrNoObject if the NSDB allows no status, because the object of the container or of the host does not
	// exist. After PutStatus has returned because ctx ended, the status may still be written, but not after a later
	// one.
	PutStatus(ctx context.Context, id spec.ContainerID, value []byte) error

	// DeleteStatus deletes a status. It succeeds if there is none.
	DeleteStatus(ctx context.Context, id spec.ContainerID) error

	// ListStatuses returns the statuses of this host that the NSDB has. The value is not nil if the status must be put
	// again to outlive the session of the process that wrote it; PutStatus accepts the value unchanged.
	ListStatuses(ctx context.Context) (map[spec.ContainerID][]byte, error)

	// SessionChanged returns a channel that receives a value when statuses may be missing from the NSDB or may be owned
	// by an ended session, and when the NSDB is reachable again after an outage. The channel is always the same.
	SessionChanged() <-chan struct{}
}

// ErrNoObject means that the object to which a status belongs does not exist in the NSDB. (fs.ErrNotExist would not do:
// it is also the error of a missing certificate or password file.)
var ErrNoObject = errors.New("no such object")

// host is the id of the status of the host.
const host spec.ContainerID = ""

// Publisher keeps the latest statuses and writes them to a Store. It is safe for concurrent use.
type Publisher struct {
	store Store
	log   *slog.Logger
	wake  chan struct{}

	mu        sync.Mutex
	entries   map[spec.ContainerID]*entry
	due       map[spec.ContainerID]*entry // those that are not written in the current session
	withdrawn chan struct{}               // closed once the host's status is removed from the NSDB; nil until Withdraw
	tookOver  bool                        // the statuses of an earlier process are in entries
	adopted   int                         // statuses of an earlier process that are not logged as taken over yet
}

// entry is the latest status of one id. A new status gets a new entry. If neither status nor earlier is set, the
// status is to be removed from the NSDB.
type entry struct {
	status  any    // a spec.HostStatus or a spec.ContainerStatus
	earlier []byte // the encoded status of an earlier process that this process has not replaced
	written bool   // written before, perhaps in an earlier session
}

func (e *entry) removed() bool { return e.status == nil && e.earlier == nil }

const (
	// writeTimeout limits one attempt to write all statuses that are due.
	writeTimeout = 10 * time.Second

	firstRetry = time.Second
	lastRetry  = 30 * time.Second

	// maxParallel limits the number of concurrent writes. After a lost session a host writes up to some 1,000 statuses,
	// and MidoNet's scheduler waits for them.
	maxParallel = 128
)

// New returns a Publisher without statuses. Its Run method writes to store.
func New(store Store, log *slog.Logger) *Publisher {
	return &Publisher{
		store: store, log: log, wake: make(chan struct{}, 1),
		entries: map[spec.ContainerID]*entry{}, due: map[spec.ContainerID]*entry{},
	}
}

// SetHost sets the status of the host. It does nothing after Withdraw.
func (p *Publisher) SetHost(status spec.HostStatus) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.withdrawn == nil {
		p.setLocked(host, status)
	}
}

// Set sets the status of a container. It ignores an empty id.
func (p *Publisher) Set(id spec.ContainerID, status spec.ContainerStatus) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if id != host {
		p.setLocked(id, status)
	}
}

// Remove removes the status of a container. It ignores an empty id.
func (p *Publisher) Remove(id spec.ContainerID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if id != host {
		p.setLocked(id, nil)
	}
}

// setLocked sets a status. nil removes it.
func (p *Publisher) setLocked(id spec.ContainerID, status any) {
	if e := p.entries[id]; e != nil && e.earlier == nil && reflect.DeepEqual(e.status, status) {
		return
	}
	p.replaceLocked(id, &entry{status: status})
	p.wakeLocked()
}

// replaceLocked replaces the entry of an id by one that is due.
func (p *Publisher) replaceLocked(id spec.ContainerID, e *entry) { p.entries[id], p.due[id] = e, e }

func (p *Publisher) wakeLocked() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Withdraw removes the status of the host for good. It waits until the NSDB has no such status, or ctx ends.
func (p *Publisher) Withdraw(ctx context.Context) error {
	p.mu.Lock()
	if p.withdrawn == nil {
		p.withdrawn = make(chan struct{})
		p.replaceLocked(host, &entry{})
		p.wakeLocked()
	}
	removed := p.withdrawn
	p.mu.Unlock()
	select {
	case <-removed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Prune removes the statuses of containers for which neither a status was set nor keep returns true, for example
// statuses of an earlier process.
func (p *Publisher) Prune(ctx context.Context, keep func(spec.ContainerID) bool) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	listed, err := p.list(ctx)
	if err != nil {
		return err
	}
	candidates := map[spec.ContainerID]bool{}
	for id := range listed {
		candidates[id] = true
	}
	p.mu.Lock()
	for id, e := range p.entries {
		if e.earlier != nil { // perhaps not in the NSDB at the moment
			candidates[id] = true
		}
	}
	p.wakeLocked() // list may have taken over statuses
	p.mu.Unlock()
	delete(candidates, host)
	for id := range candidates {
		if !p.isSet(id) && !keep(id) {
			p.removeIfNotSet(id)
		}
	}
	return nil
}

// isSet reports whether this process has set a status of a container.
func (p *Publisher) isSet(id spec.ContainerID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.entries[id]
	return e != nil && e.status != nil
}

func (p *Publisher) removeIfNotSet(id spec.ContainerID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.entries[id]; e == nil || e.status == nil {
		p.setLocked(id, nil)
	}
}

// list lists the statuses in the NSDB. The first successful call takes over those of an earlier process, except where
// this process has already set or removed the status.
func (p *Publisher) list(ctx context.Context) (map[spec.ContainerID][]byte, error) {
	listed, err := p.store.ListStatuses(ctx)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tookOver {
		return listed, nil
	}
	p.tookOver = true
	for id, value := range listed {
		if value != nil && p.entries[id] == nil {
			p.replaceLocked(id, &entry{earlier: value})
			p.adopted++
		}
	}
	for id, e := range p.entries {
		if e.removed() && p.due[id] == nil { // was kept so that the status is not taken over
			delete(p.entries, id)
		}
	}
	return listed, nil
}

// Run writes statuses until ctx ends. Then it tries once more to write those that are left, and returns after
// writeTimeout at the latest.
func (p *Publisher) Run(ctx context.Context) {
	retry := firstRetry
	for {
		failed := p.flush(ctx)
		wait := time.Duration(0)
		switch {
		case failed == nil:
			retry = firstRetry
		case ctx.Err() == nil:
			failed.report(p.log, "retry", retry)
			wait = retry
		}
		switch p.pause(ctx, wait) {
		case retryDue:
			retry = min(2*retry, lastRetry)
		case sessionChanged:
			retry = firstRetry
			p.markAllDue()
		}
		if ctx.Err() != nil {
			break
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	if failed := p.flush(last); failed != nil {
		failed.report(p.log)
	}
}

// pauseEnd is the reason why a pause has ended.
type pauseEnd int

const (
	statusSet pauseEnd = iota // or ctx has ended
	retryDue
	sessionChanged
)

// pause returns when a status is set, when the session has changed, when ctx ends, or after the given time unless that
// is 0. So a status that cannot be written does not delay another one.
func (p *Publisher) pause(ctx context.Context, wait time.Duration) pauseEnd {
	var retry <-chan time.Time
	if wait > 0 {
		retry = time.After(wait)
	}
	select {
	case <-ctx.Done():
	case <-p.wake:
	case <-retry:
		return retryDue
	case <-p.store.SessionChanged():
		return sessionChanged
	}
	return statusSet
}

// markAllDue marks every status as not written. No write is in progress: the goroutine of Run calls it between two
// flushes.
func (p *Publisher) markAllDue() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, e := range p.entries {
		if !e.removed() {
			p.due[id] = e
		}
	}
}

// flush writes every status that is due. A status that is refused stays due and does not delay the others; if the NSDB
// does not answer, the others stay due too. The status of the host comes first, because MidoNet's scheduler moves all
// containers away from a host without it. The statuses of running containers follow.
func (p *Publisher) flush(ctx context.Context) (failed *failure) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	select {
	case <-p.wake: // a status that caused this signal is due below
	default:
	}
	failed = p.writeAll(ctx, rankHost, failed)
	failed = failed.addTakeOver(p.takeOver(ctx))
	failed = p.writeAll(ctx, rankRunning, failed)
	failed = p.writeAll(ctx, rankOther, failed)
	p.logTakeOver(failed == nil)
	return failed
}

// takeOver takes over the statuses of an earlier process, unless that was done. It does nothing before the first
// status is set.
func (p *Publisher) takeOver(ctx context.Context) error {
	p.mu.Lock()
	due := !p.tookOver && len(p.entries) > 0
	p.mu.Unlock()
	if !due {
		return nil
	}
	_, err := p.list(ctx)
	return err
}

// logTakeOver logs once that the statuses of an earlier process were taken over.
func (p *Publisher) logTakeOver(complete bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if complete && p.adopted > 0 {
		p.log.Info("statuses of an earlier run taken over", "count", p.adopted)
		p.adopted = 0
	}
}

// rank is the position of a status in the order of writing.
type rank int

const (
	rankHost rank = iota
	rankRunning
	rankOther
)

// rankOf returns the rank of an entry. The statuses of an earlier process usually belong to running containers.
func rankOf(id spec.ContainerID, e *entry) rank {
	status, _ := e.status.(spec.ContainerStatus)
	switch {
	case id == host:
		return rankHost
	case e.earlier != nil, status.Code == spec.Running:
		return rankRunning
	}
	return rankOther
}

// writeAll writes the statuses of one rank that are due, and adds their errors to failed.
func (p *Publisher) writeAll(ctx context.Context, r rank, failed *failure) *failure {
	p.mu.Lock()
	due := map[spec.ContainerID]*entry{}
	for id, e := range p.due {
		if rankOf(id, e) == r {
			due[id] = e
		}
	}
	p.mu.Unlock()
	var mu sync.Mutex // guards failed
	var writes sync.WaitGroup
	slots := make(chan struct{}, maxParallel)
	for id, e := range due {
		slots <- struct{}{}
		writes.Go(func() {
			defer func() { <-slots }()
			if err := p.write(ctx, id, e); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = failed.add(err, id, e)
			}
		})
	}
	writes.Wait()
	return failed
}

// write writes or deletes one status, and marks its entry as written.
func (p *Publisher) write(ctx context.Context, id spec.ContainerID, e *entry) error {
	var err error
	if e.removed() {
		err = p.store.DeleteStatus(ctx, id)
	} else {
		err = p.put(ctx, id, e)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	latest := p.entries[id] == e
	switch {
	case errors.Is(err, ErrNoObject) && e.earlier != nil: // the container was deleted, so the status is obsolete
		if latest {
			delete(p.entries, id)
			delete(p.due, id)
		}
		return nil
	case errors.Is(err, ErrNoObject) && e.written: // likewise; it is retried when the session changes
	case err != nil:
		return err
	}
	e.written = true
	if latest {
		delete(p.due, id)
	}
	if e.removed() {
		if id == host { // only Withdraw removes it
			close(p.withdrawn)
		}
		if latest && p.tookOver {
			delete(p.entries, id)
		}
	}
	return nil
}

// put writes the status of an entry.
func (p *Publisher) put(ctx context.Context, id spec.ContainerID, e *entry) error {
	value, err := e.earlier, error(nil)
	switch status := e.status.(type) {
	case spec.HostStatus:
		value, err = p.store.EncodeHost(status)
	case spec.ContainerStatus:
		value, err = p.store.EncodeContainer(status)
	}
	if err != nil {
		return err
	}
	return p.store.PutStatus(ctx, id, value)
}
