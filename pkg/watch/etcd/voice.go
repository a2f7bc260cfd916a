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

// voice keeps what was said of the host and its containers standing in etcd, under one lease. Only who says something, or
// asks what was said, has a lease: a command that just reads must not take over the statuses of the supervisor that runs.
//
// What could not be written is written as soon as etcd takes it, without being said again.
type voice struct {
	n      *NSDB
	ctx    context.Context
	cancel context.CancelFunc
	begun  sync.Once
	keeper sync.WaitGroup
	kick   chan struct{} // there is something to write

	turn chan struct{} // full while somebody talks to etcd; guards what follows
	lease
	tookOver bool // what an earlier process left is ours

	mu    sync.Mutex
	words map[native.Key]*word
}

func newVoice(n *NSDB) *voice {
	v := &voice{n: n, kick: make(chan struct{}, 1), turn: make(chan struct{}, 1), words: map[native.Key]*word{}}
	v.ctx, v.cancel = context.WithCancel(context.Background())
	return v
}

func (v *voice) close() {
	v.cancel()
	v.begun.Do(func() {}) // it does not begin any more
	v.keeper.Wait()
}

// lock takes a turn at talking to etcd, and sees to the keeper.
func (v *voice) lock(ctx context.Context) error {
	v.begun.Do(func() { v.keeper.Go(v.keep) })
	if v.ctx.Err() != nil {
		return errClosed
	}
	select {
	case v.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (v *voice) unlock() { <-v.turn }

func (v *voice) wake() {
	select {
	case v.kick <- struct{}{}:
	default:
	}
}

// begin has a lease, and the statuses of an earlier process under it.
func (v *voice) begin(ctx context.Context) error {
	if err := v.lock(ctx); err != nil {
		return err
	}
	defer v.unlock()
	if err := v.ready(ctx); err != nil {
		v.wake()
		return err
	}
	return v.deliver(ctx)
}

// say makes a value the last word on a key, and writes it if another one stands there.
func (v *voice) say(ctx context.Context, key native.Key, value []byte) error {
	w := &word{value: value}
	v.mu.Lock()
	v.words[key] = w
	v.mu.Unlock()
	err := v.lock(ctx)
	if err != nil {
		return err
	}
	defer v.unlock()
	for range 2 { // once more, if the lease was lost
		if err = v.ready(ctx); err == nil {
			err = v.write(ctx, key, w)
		}
		if !errors.Is(err, rpctypes.ErrLeaseNotFound) {
			break
		}
		v.lost()
	}
	if err != nil {
		if tooLarge(err) {
			v.drop(key, w) // it would be refused for ever
		}
		v.wake()
	}
	return err
}

// ready has a lease, and has taken over.
func (v *voice) ready(ctx context.Context) error {
	if v.id == 0 {
		if err := v.grant(ctx); err != nil {
			return err
		}
	}
	if v.tookOver {
		return nil
	}
	return v.takeOver(ctx)
}

// takeOver makes words of what an earlier process of this host left. They are written under our lease as they stand: to
// whoever looks at them, nothing happens.
func (v *voice) takeOver(ctx context.Context) error {
	left := map[native.Key][]byte{}
	var revision int64
	note := func(kv *mvccpb.KeyValue) { left[v.n.key(kv.Key)] = kv.Value }
	if err := v.n.pages(ctx, native.ContainerStatusesKey(v.n.host), &revision, note); err != nil {
		return err
	}
	host := native.HostStatusKey(v.n.host)
	err := v.n.do(ctx, "read", host, func(ctx context.Context, client *clientv3.Client) error {
		answer, err := client.Get(ctx, v.n.path(host))
		if err == nil && len(answer.Kvs) > 0 {
			note(answer.Kvs[0])
		}
		return err
	})
	if err != nil {
		return err
	}
	v.mu.Lock()
	for key, value := range left {
		_, ours := v.n.statusOf(key)
		if v.words[key] == nil && (ours || key == host) {
			v.words[key] = &word{value: value}
		}
	}
	v.mu.Unlock()
	v.tookOver = true
	v.wake()
	return nil
}

// lost notes that the lease is no more, and nothing stands.
func (v *voice) lost() {
	v.n.log.Info("lease lost: every status is written again", "endpoints", v.n.endpoints())
	v.id = 0
	v.wake()
	v.mu.Lock()
	defer v.mu.Unlock()
	for key, w := range v.words {
		if w.value != nil {
			v.words[key] = &word{value: w.value}
		}
	}
}

// keep renews the lease and writes what is due, until the NSDB is closed.
func (v *voice) keep() {
	defer v.hangUp()
	failures := 0
	var told time.Time // when it was told that statuses cannot be kept; zero: they can
	for {
		wait, err := v.tend()
		if v.ctx.Err() != nil {
			return
		}
		if err == nil {
			if !told.IsZero() {
				v.n.log.Info("statuses are kept again", "endpoints", v.n.endpoints())
			}
			failures, told = 0, time.Time{}
		} else {
			if failures++; failures > 1 && time.Since(told) >= v.n.patience.remind {
				told = time.Now()
				v.n.log.Warn("statuses cannot be kept", "error", err, "retry", v.n.patience.retry)
			}
			wait = v.n.patience.retry / 2
		}
		select {
		case <-v.ctx.Done():
			return
		case <-v.kick:
		case <-time.After(wait):
		}
	}
}

// both is one error of two, on one line.
func both(a, b error) error {
	if a != nil && b != nil {
		return fmt.Errorf("%w; %w", a, b)
	}
	return cmp.Or(a, b)
}

// tend does what is due, and says how long nothing will be. A word that is refused does not keep the lease from being
// renewed: an etcd without space still renews, and what stands goes on standing.
func (v *voice) tend() (wait time.Duration, err error) {
	if err := v.lock(v.ctx); err != nil {
		return 0, err
	}
	defer v.unlock()
	for range 2 { // once more, if the lease was lost
		if err = v.ready(v.ctx); err == nil {
			err = v.deliver(v.ctx)
		}
		if v.id != 0 {
			err = both(err, v.renew(v.ctx))
		}
		if !errors.Is(err, rpctypes.ErrLeaseNotFound) {
			break
		}
		v.lost()
	}
	return time.Until(v.renewed.Add(v.period())), err
}
