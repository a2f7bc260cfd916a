package report

import (
	"context"
	"log/slog"
	"reflect"
	"sync"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Publisher writes statuses to an NSDB and lists those that are published there.
type Publisher interface {
	PublishHost(context.Context, spec.HostStatus) error
	RemoveHost(context.Context) error
	PublishContainer(context.Context, spec.ContainerID, spec.ContainerStatus) error
	RemoveContainer(context.Context, spec.ContainerID) error
	Published(context.Context) ([]spec.ContainerID, error)
}

// Board holds the latest status of the host and of each container, and publishes the statuses that the NSDB does not
// have yet. It is safe for concurrent use.
type Board struct {
	publisher Publisher
	log       *slog.Logger
	wake      chan struct{}

	mu         sync.Mutex
	host       *spec.HostStatus
	hostDirty  bool
	withdrawn  chan struct{} // closed once the host's status is removed from the NSDB; nil until Withdraw
	containers map[spec.ContainerID]*entry
}

// entry is the latest status of one container. If status is nil, the published status is to be removed.
type entry struct {
	status *spec.ContainerStatus
	dirty  bool
}

const (
	publishTimeout = 10 * time.Second
	firstRetry     = time.Second
	lastRetry      = 30 * time.Second
)

// NewBoard returns a Board without statuses. Its Run method publishes to publisher.
func NewBoard(publisher Publisher, log *slog.Logger) *Board {
	return &Board{
		publisher:  publisher,
		log:        log,
		wake:       make(chan struct{}, 1),
		containers: map[spec.ContainerID]*entry{},
	}
}

// Host reports the host's weight, quota and count.
func (b *Board) Host(status spec.HostStatus) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.host != nil && *b.host == status || b.withdrawn != nil {
		return
	}
	b.host, b.hostDirty = &status, true
	b.wakeLocked()
}

// Withdraw removes the host's status for good. It waits until the NSDB has no such status, or ctx ends. Later calls of
// Host are ignored.
func (b *Board) Withdraw(ctx context.Context) error {
	b.mu.Lock()
	if b.withdrawn == nil {
		b.withdrawn = make(chan struct{})
		b.host, b.hostDirty = nil, true
		b.wakeLocked()
	}
	removed := b.withdrawn
	b.mu.Unlock()
	select {
	case <-removed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Remove removes the published status of a container.
func (b *Board) Remove(id spec.ContainerID) { b.set(id, nil) }

// Status returns the latest status of a container, or false if the container has no status.
func (b *Board) Status(id spec.ContainerID) (spec.ContainerStatus, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.containers[id]; e != nil && e.status != nil {
		return *e.status, true
	}
	return spec.ContainerStatus{}, false
}

// Prune removes the published statuses of containers for which neither the Board has a status nor keep returns true,
// for example statuses of an earlier run. An NSDB that removes statuses at the end of the session lists none.
func (b *Board) Prune(ctx context.Context, keep func(spec.ContainerID) bool) error {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	published, err := b.publisher.Published(ctx)
	if err != nil {
		return err
	}
	for _, id := range published {
		if _, known := b.Status(id); !known && !keep(id) {
			b.Remove(id)
		}
	}
	return nil
}

// Run publishes statuses until ctx ends. Then it tries once more to publish those that are left, and returns after
// publishTimeout at the latest.
func (b *Board) Run(ctx context.Context) {
	retry := firstRetry
	for {
		failed := b.flush(ctx)
		wait := time.Duration(0)
		switch {
		case failed == nil:
			retry = firstRetry
		case ctx.Err() == nil:
			b.log.Warn("status not published", append(failed.fields(), "retry", retry)...)
			wait, retry = retry, min(2*retry, lastRetry)
		}
		if !b.pause(ctx, wait) {
			break
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), publishTimeout)
	defer cancel()
	if failed := b.flush(last); failed != nil {
		b.log.Warn("status not published", failed.fields()...)
	}
}

// pause returns when a status is reported, when ctx ends, or after the given time unless that is 0. So a status that
// cannot be published does not delay another one. It returns false when ctx has ended.
func (b *Board) pause(ctx context.Context, wait time.Duration) bool {
	var again <-chan time.Time
	if wait > 0 {
		again = time.After(wait)
	}
	select {
	case <-ctx.Done():
	case <-b.wake:
	case <-again:
	}
	return ctx.Err() == nil
}

// publishFailure summarizes the statuses that could not be published: their number and the first error. During an
// outage all errors are the same.
type publishFailure struct {
	count int
	err   error
	id    spec.ContainerID // "": the status of the host
	name  spec.Name        // "": the status was to be removed
}

// add returns the summary with one more failure, or unchanged if err is nil.
func (f *publishFailure) add(err error, id spec.ContainerID, name spec.Name) *publishFailure {
	switch {
	case err == nil:
		return f
	case f == nil:
		return &publishFailure{1, err, id, name}
	}
	f.count++
	return f
}

func (f *publishFailure) fields() []any {
	fields := []any{"failed", f.count, "error", f.err}
	if f.name != "" {
		fields = append(fields, "container", f.name)
	}
	if f.id != "" {
		fields = append(fields, "containerId", f.id)
	}
	return fields
}

// flush publishes every status that is due. A status that cannot be published stays due and does not keep others back.
func (b *Board) flush(ctx context.Context) (failed *publishFailure) {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	b.mu.Lock()
	select {
	case <-b.wake: // a status that caused this signal is in due below
	default:
	}
	host, hostDirty := b.host, b.hostDirty
	due := map[spec.ContainerID]*spec.ContainerStatus{}
	for id, e := range b.containers {
		if e.dirty {
			due[id] = e.status
		}
	}
	b.mu.Unlock()

	if hostDirty {
		err := b.publishHost(ctx, host)
		failed = failed.add(err, "", "")
		b.mu.Lock()
		b.hostDirty = b.host != host || err != nil
		if !b.hostDirty && host == nil {
			close(b.withdrawn)
		}
		b.mu.Unlock()
	}
	for id, status := range due {
		err := b.publishOne(ctx, id, status)
		failed = failed.add(err, id, nameOf(status))
		if err == nil {
			b.published(id, status)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return failed
}

func nameOf(status *spec.ContainerStatus) spec.Name {
	if status == nil {
		return ""
	}
	return status.InterfaceName
}

// publishHost publishes the status of the host, or removes it if status is nil.
func (b *Board) publishHost(ctx context.Context, status *spec.HostStatus) error {
	if status == nil {
		return b.publisher.RemoveHost(ctx)
	}
	return b.publisher.PublishHost(ctx, *status)
}

func (b *Board) publishOne(ctx context.Context, id spec.ContainerID, status *spec.ContainerStatus) error {
	if status == nil {
		return b.publisher.RemoveContainer(ctx, id)
	}
	return b.publisher.PublishContainer(ctx, id, *status)
}

// published marks a status as published. If a newer one was reported meanwhile, the container stays due.
func (b *Board) published(id spec.ContainerID, status *spec.ContainerStatus) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.containers[id]
	if e == nil || e.status != status {
		return
	}
	e.dirty = false
	if status == nil {
		delete(b.containers, id)
	}
}

// set makes a status the one to publish. nil removes the published status.
func (b *Board) set(id spec.ContainerID, status *spec.ContainerStatus) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.setLocked(id, status)
}

func (b *Board) setLocked(id spec.ContainerID, status *spec.ContainerStatus) {
	e := b.containers[id]
	if e == nil {
		e = new(entry)
		b.containers[id] = e
	} else if reflect.DeepEqual(e.status, status) {
		return
	}
	e.status, e.dirty = status, true
	b.wakeLocked()
}

func (b *Board) wakeLocked() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}
