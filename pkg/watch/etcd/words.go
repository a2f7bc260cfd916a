package etcd

import (
	"bytes"
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

// word is the last word on one status. It is never written to but for stands: another word takes its place.
type word struct {
	value  []byte // nil: the status is removed
	stands bool   // under the lease that is held
}

// batchLimit is the bytes of one transaction; etcd takes 1.5 MiB.
const batchLimit = 512 << 10

// write writes one word, if another one stands there or under another lease.
func (v *voice) write(ctx context.Context, key native.Key, w *word) error {
	path := v.n.path(key)
	err := v.n.do(ctx, "write", key, func(ctx context.Context, client *clientv3.Client) error {
		if w.value == nil {
			_, err := client.Delete(ctx, path)
			return err
		}
		stands, err := client.Get(ctx, path)
		if err != nil {
			return err
		}
		if len(stands.Kvs) > 0 && stands.Kvs[0].Lease == int64(v.id) && bytes.Equal(stands.Kvs[0].Value, w.value) {
			return nil
		}
		_, err = client.Put(ctx, path, string(w.value), clientv3.WithLease(v.id))
		return err
	})
	if err == nil {
		v.stands(map[native.Key]*word{key: w})
	}
	return err
}

// stands notes what was written. A removed status needs no word any more.
func (v *voice) stands(written map[native.Key]*word) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for key, w := range written {
		if w.stands = true; w.value == nil && v.words[key] == w {
			delete(v.words, key)
		}
	}
}

func (v *voice) drop(key native.Key, w *word) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.words[key] == w {
		delete(v.words, key)
	}
}

// due is what does not stand, as much as one transaction takes.
func (v *voice) due() map[native.Key]*word {
	v.mu.Lock()
	defer v.mu.Unlock()
	due, size := map[native.Key]*word{}, 0
	for key, w := range v.words {
		if w.stands || len(due) > 0 && size+len(w.value) > batchLimit {
			continue
		}
		if due[key] = w; len(due) == transactionLimit {
			break
		}
		size += len(key) + len(w.value)
	}
	return due
}

// deliver writes everything that does not stand, many at a time.
func (v *voice) deliver(ctx context.Context) error {
	for due := v.due(); len(due) > 0; due = v.due() {
		var operations []clientv3.Op
		var first native.Key
		for key, w := range due {
			first = key
			if w.value == nil {
				operations = append(operations, clientv3.OpDelete(v.n.path(key)))
			} else {
				operations = append(operations, clientv3.OpPut(v.n.path(key), string(w.value), clientv3.WithLease(v.id)))
			}
		}
		err := v.n.do(ctx, "write", first, func(ctx context.Context, client *clientv3.Client) error {
			_, err := client.Txn(ctx).Then(operations...).Commit()
			return err
		})
		if tooLarge(err) && len(due) == 1 {
			v.drop(first, due[first])
			continue
		}
		if err != nil {
			return err
		}
		v.stands(due)
	}
	return nil
}
