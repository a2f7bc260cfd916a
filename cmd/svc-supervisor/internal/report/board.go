package report

import (
	"context"
	"log/slog"
	"reflect"
	"sync"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Publisher is what the board needs of an NSDB.
type Publisher interface {
	PublishHost(context.Context, spec.HostStatus) error
	RemoveHost(context.Context) error
	PublishContainer(context.Context, spec.ContainerID, spec.ContainerStatus) error
	RemoveContainer(context.Context, spec.ContainerID) error
	Published(context.Context) ([]spec.ContainerID, error)
}

// Board holds the last word on the host and on each container, and what the NSDB has of it.
type Board struct {
	publisher Publisher
	log       *slog.Logger
	wake      chan struct{}

	mu         sync.Mutex
	host       *spec.HostStatus
	hostDirty  bool
	withdrawn  chan struct{} // closed when the host's status was removed; nil until Withdraw
	containers map[spec.ContainerID]*word
}

// word is the last word on one container; a nil status means that none is published.
type word struct {
	status *spec.ContainerStatus
	dirty  bool
}

const (
	publishTimeout = 10 * time.Second
	firstRetry     = time.Second
	lastRetry      = 30 * time.Second
)

// NewBoard makes an empty board.
func NewBoard(publisher Publisher, log *slog.Logger) *Board {
	return &Board{
		publisher:  publisher,
		log:        log,
		wake:       make(chan struct{}, 1),
		containers: map[spec.ContainerID]*word{},
	}
}

// Host reports weight, quota and count.
func (b *Board) Host(status spec.HostStatus) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.host != nil && *b.host == status || b.withdrawn != nil {
		return
	}
	b.host, b.hostDirty = &status, true
	b.wakeLocked()
}

// Withdraw removes the host's status for good, and waits until the NSDB has no such status, or ctx ends. Later reports of the
// host are ignored.
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

// Remove takes back what was published of a container.
func (b *Board) Remove(id spec.ContainerID) { b.set(id, nil) }

// Status returns the last word on a container.
func (b *Board) Status(id spec.ContainerID) (spec.ContainerStatus, bool) { return b.last(id) }

// Prune removes what is published of containers that keep does not know, from an earlier run say. An NSDB whose statuses
// end with the session has nothing to prune.
func (b *Board) Prune(ctx context.Context, keep func(spec.ContainerID) bool) error {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	published, err := b.publisher.Published(ctx)
	if err != nil {
		return err
	}
	for _, id := range published {
		if _, known := b.last(id); !known && !keep(id) {
			b.Remove(id)
		}
	}
	return nil
}

// Run publishes until ctx ends, and then once more what is due, within the time-out of one call.
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

// pause waits for a new word, and no longer than the given time where that is not 0: what cannot be published does not delay
// what can. It returns false when ctx ends.
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

// failure is what could not be published: how many words, and the first of them. In an outage all are alike.
type failure struct {
	count int
	err   error
	id    spec.ContainerID // "": the host's
	name  spec.Name        // "": the status is to be removed
}

// add counts one more.
func (f *failure) add(err error, id spec.ContainerID, name spec.Name) *failure {
	switch {
	case err == nil:
		return f
	case f == nil:
		return &failure{1, err, id, name}
	}
	f.count++
	return f
}

func (f *failure) fields() []any {
	fields := []any{"failed", f.count, "error", f.err}
	if f.name != "" {
		fields = append(fields, "container", f.name)
	}
	if f.id != "" {
		fields = append(fields, "containerId", f.id)
	}
	return fields
}

// flush publishes everything that is due. What fails stays due, and keeps nothing else back.
func (b *Board) flush(ctx context.Context) (failed *failure) {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	b.mu.Lock()
	select {
	case <-b.wake: // of a word that is due now
	default:
	}
	host, hostDirty := b.host, b.hostDirty
	due := map[spec.ContainerID]*spec.ContainerStatus{}
	for id, w := range b.containers {
		if w.dirty {
			due[id] = w.status
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

// publishHost publishes the host's status; nil removes it.
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

// published notes what the NSDB has now; a word that came meanwhile stays due.
func (b *Board) published(id spec.ContainerID, status *spec.ContainerStatus) {
	b.mu.Lock()
	defer b.mu.Unlock()
	w := b.containers[id]
	if w == nil || w.status != status {
		return
	}
	w.dirty = false
	if status == nil {
		delete(b.containers, id)
	}
}

func (b *Board) set(id spec.ContainerID, status *spec.ContainerStatus) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.setLocked(id, status)
}

func (b *Board) setLocked(id spec.ContainerID, status *spec.ContainerStatus) {
	w := b.containers[id]
	if w == nil {
		w = new(word)
		b.containers[id] = w
	} else if reflect.DeepEqual(w.status, status) {
		return
	}
	w.status, w.dirty = status, true
	b.wakeLocked()
}

func (b *Board) last(id spec.ContainerID) (spec.ContainerStatus, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if w := b.containers[id]; w != nil && w.status != nil {
		return *w.status, true
	}
	return spec.ContainerStatus{}, false
}

func (b *Board) wakeLocked() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}
