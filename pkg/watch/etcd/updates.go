package etcd

import (
	"bytes"
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

// statusUpdate is the last published value of one status. Only the field written changes; a new value gets a new
// statusUpdate.
type statusUpdate struct {
	value   []byte // nil: delete the status
	written bool   // under the current lease
}

// batchLimit is the limit for one transaction in bytes. etcd accepts 1.5 MiB.
const batchLimit = 512 << 10

// write writes one status, unless etcd has the same value under the current lease.
func (p *statusPublisher) write(ctx context.Context, key native.Key, u *statusUpdate) error {
	path := p.n.path(key)
	err := p.n.do(ctx, "write", key, func(ctx context.Context, client *clientv3.Client) error {
		if u.value == nil {
			_, err := client.Delete(ctx, path)
			return err
		}
		current, err := client.Get(ctx, path)
		if err != nil {
			return err
		}
		if len(current.Kvs) > 0 && current.Kvs[0].Lease == int64(p.id) && bytes.Equal(current.Kvs[0].Value, u.value) {
			return nil
		}
		_, err = client.Put(ctx, path, string(u.value), clientv3.WithLease(p.id))
		return err
	})
	if err == nil {
		p.markWritten(map[native.Key]*statusUpdate{key: u})
	}
	return err
}

// markWritten marks statuses as written. The entry of a deleted status is removed.
func (p *statusPublisher) markWritten(updates map[native.Key]*statusUpdate) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, u := range updates {
		if u.written = true; u.value == nil && p.updates[key] == u {
			delete(p.updates, key)
		}
	}
}

func (p *statusPublisher) discard(key native.Key, u *statusUpdate) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.updates[key] == u {
		delete(p.updates, key)
	}
}

// unwritten returns statuses that are not written yet, at most as many as fit into one transaction.
func (p *statusPublisher) unwritten() map[native.Key]*statusUpdate {
	p.mu.Lock()
	defer p.mu.Unlock()
	unwritten, size := map[native.Key]*statusUpdate{}, 0
	for key, u := range p.updates {
		if u.written || len(unwritten) > 0 && size+len(u.value) > batchLimit {
			continue
		}
		if unwritten[key] = u; len(unwritten) == transactionLimit {
			break
		}
		size += len(key) + len(u.value)
	}
	return unwritten
}

// writePending writes all statuses that are not written yet, many in one transaction.
func (p *statusPublisher) writePending(ctx context.Context) error {
	for unwritten := p.unwritten(); len(unwritten) > 0; unwritten = p.unwritten() {
		var operations []clientv3.Op
		var first native.Key
		for key, u := range unwritten {
			first = key
			if u.value == nil {
				operations = append(operations, clientv3.OpDelete(p.n.path(key)))
			} else {
				operations = append(operations, clientv3.OpPut(p.n.path(key), string(u.value), clientv3.WithLease(p.id)))
			}
		}
		err := p.n.do(ctx, "write", first, func(ctx context.Context, client *clientv3.Client) error {
			_, err := client.Txn(ctx).Then(operations...).Commit()
			return err
		})
		if tooLarge(err) && len(unwritten) == 1 {
			p.discard(first, unwritten[first])
			continue
		}
		if err != nil {
			return err
		}
		p.markWritten(unwritten)
	}
	return nil
}
