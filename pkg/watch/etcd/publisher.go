package etcd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	mvccpb "go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

// statusPublisher keeps the published statuses of the host and its containers in etcd, under one lease. It requests a
// lease only when a status is published or removed, or when the published ones are listed. A command that only reads
// must not take over the statuses of the running supervisor.
//
// A status that could not be written is written as soon as etcd accepts it. The caller need not publish it again.
type statusPublisher struct {
	n         *NSDB
	ctx       context.Context
	cancel    context.CancelFunc
	startOnce sync.Once
	worker    sync.WaitGroup
	wakeup    chan struct{} // signals that there is something to write

	sem chan struct{} // a mutex whose lock can be cancelled; guards lease and tookOver
	lease
	tookOver bool // the statuses of an earlier process are in updates

	mu      sync.Mutex
	updates map[native.Key]*statusUpdate
}

func newStatusPublisher(n *NSDB) *statusPublisher {
	p := &statusPublisher{
		n: n, wakeup: make(chan struct{}, 1), sem: make(chan struct{}, 1), updates: map[native.Key]*statusUpdate{},
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

func (p *statusPublisher) close() {
	p.cancel()
	p.startOnce.Do(func() {}) // prevents a later start of the worker
	p.worker.Wait()
}

// lock acquires sem, and starts the worker if it does not run yet.
func (p *statusPublisher) lock(ctx context.Context) error {
	p.startOnce.Do(func() { p.worker.Go(p.run) })
	if p.ctx.Err() != nil {
		return errClosed
	}
	select {
	case p.sem <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *statusPublisher) unlock() { <-p.sem }

func (p *statusPublisher) wake() {
	select {
	case p.wakeup <- struct{}{}:
	default:
	}
}

// prepare makes sure that there is a lease and that it holds the statuses of an earlier process.
func (p *statusPublisher) prepare(ctx context.Context) error {
	if err := p.lock(ctx); err != nil {
		return err
	}
	defer p.unlock()
	if err := p.ensureReady(ctx); err != nil {
		p.wake()
		return err
	}
	return p.writePending(ctx)
}

// set sets the desired value of a key, nil to delete it, and writes it if etcd has another one.
func (p *statusPublisher) set(ctx context.Context, key native.Key, value []byte) error {
	u := &statusUpdate{value: value}
	p.mu.Lock()
	p.updates[key] = u
	p.mu.Unlock()
	err := p.lock(ctx)
	if err != nil {
		return err
	}
	defer p.unlock()
	for range 2 { // once more, if the lease was lost
		if err = p.ensureReady(ctx); err == nil {
			err = p.write(ctx, key, u)
		}
		if !errors.Is(err, rpctypes.ErrLeaseNotFound) {
			break
		}
		p.leaseLost()
	}
	if err != nil {
		if tooLarge(err) {
			p.discard(key, u) // etcd would never accept it
		}
		p.wake()
	}
	return err
}

// ensureReady makes sure that there is a lease and that the statuses of an earlier process were taken over.
func (p *statusPublisher) ensureReady(ctx context.Context) error {
	if p.id == 0 {
		if err := p.grant(ctx); err != nil {
			return err
		}
	}
	if p.tookOver {
		return nil
	}
	return p.takeOver(ctx)
}

// takeOver reads the statuses that an earlier process of this host left, and adds them to updates. They are written
// unchanged under the new lease, so readers see no change.
func (p *statusPublisher) takeOver(ctx context.Context) error {
	found := map[native.Key][]byte{}
	var revision int64
	record := func(kv *mvccpb.KeyValue) { found[p.n.key(kv.Key)] = kv.Value }
	if err := p.n.readPages(ctx, native.ContainerStatusesKey(p.n.host), &revision, record); err != nil {
		return err
	}
	host := native.HostStatusKey(p.n.host)
	err := p.n.do(ctx, "read", host, func(ctx context.Context, client *clientv3.Client) error {
		answer, err := client.Get(ctx, p.n.path(host))
		if err == nil && len(answer.Kvs) > 0 {
			record(answer.Kvs[0])
		}
		return err
	})
	if err != nil {
		return err
	}
	p.mu.Lock()
	for key, value := range found {
		_, isContainer := p.n.containerOfStatus(key)
		if p.updates[key] == nil && (isContainer || key == host) {
			p.updates[key] = &statusUpdate{value: value}
		}
	}
	p.mu.Unlock()
	p.tookOver = true
	p.wake()
	return nil
}

// leaseLost records that the lease is gone, and marks all statuses as not written.
func (p *statusPublisher) leaseLost() {
	p.n.log.Info("lease lost: every status is written again", "endpoints", p.n.endpoints())
	p.id = 0
	p.wake()
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, u := range p.updates {
		if u.value != nil {
			p.updates[key] = &statusUpdate{value: u.value}
		}
	}
}

// run renews the lease and writes statuses until the NSDB is closed.
func (p *statusPublisher) run() {
	defer p.closeStream()
	failures := 0
	var reported time.Time // when the failure was logged last; zero: no failure was logged
	for {
		wait, err := p.maintain()
		if p.ctx.Err() != nil {
			return
		}
		if err == nil {
			if !reported.IsZero() {
				p.n.log.Info("statuses are kept again", "endpoints", p.n.endpoints())
			}
			failures, reported = 0, time.Time{}
		} else {
			if failures++; failures > 1 && time.Since(reported) >= p.n.timeouts.reminder {
				reported = time.Now()
				p.n.log.Warn("statuses cannot be kept", "error", err, "retry", p.n.timeouts.maxBackoff)
			}
			wait = p.n.timeouts.maxBackoff / 2
		}
		select {
		case <-p.ctx.Done():
			return
		case <-p.wakeup:
		case <-time.After(wait):
		}
	}
}

// both joins two errors on one line.
func both(a, b error) error {
	if a != nil && b != nil {
		return fmt.Errorf("%w; %w", a, b)
	}
	return cmp.Or(a, b)
}

// maintain writes what is not written yet, renews the lease, and returns the time until the next renewal. The lease is
// also renewed if etcd refuses a write: without free space etcd still renews leases, and the written statuses must not
// expire.
func (p *statusPublisher) maintain() (wait time.Duration, err error) {
	if err := p.lock(p.ctx); err != nil {
		return 0, err
	}
	defer p.unlock()
	for range 2 { // once more, if the lease was lost
		if err = p.ensureReady(p.ctx); err == nil {
			err = p.writePending(p.ctx)
		}
		if p.id != 0 {
			err = both(err, p.renew(p.ctx))
		}
		if !errors.Is(err, rpctypes.ErrLeaseNotFound) {
			break
		}
		p.leaseLost()
	}
	return time.Until(p.renewed.Add(p.renewInterval())), err
}
