package etcd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	mvccpb "go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/internal/signal"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

// statusWriter writes the statuses of one host under a lease.
type statusWriter struct {
	conn           *connection
	host           spec.HostID
	lease          *lease
	sessionChanged signal.Signal
}

func newStatusWriter(conn *connection, host spec.HostID, sessionChanged signal.Signal) *statusWriter {
	return &statusWriter{conn, host, newLease(conn, host, sessionChanged), sessionChanged}
}

// EncodeHost returns the value of a host's status.
func (w *statusWriter) EncodeHost(status spec.HostStatus) ([]byte, error) { return encode(status) }

// EncodeContainer returns the value of a container's status.
func (w *statusWriter) EncodeContainer(status spec.ContainerStatus) ([]byte, error) {
	return encode(status)
}

func encode(status any) ([]byte, error) {
	var value bytes.Buffer
	encoder := json.NewEncoder(&value)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(status)
	return bytes.TrimRight(value.Bytes(), "\n"), err
}

// PutStatus writes a status under the lease of this process, unless etcd has the same value under this lease. The id ""
// stands for the host.
func (w *statusWriter) PutStatus(ctx context.Context, id spec.ContainerID, value []byte) error {
	key, err := native.StatusKey(w.host, id)
	if err == nil {
		err = w.putStatus(ctx, key, value)
	}
	return native.StatusError("publish", w.host, id, err)
}

func (w *statusWriter) putStatus(ctx context.Context, key native.Key, value []byte) error {
	var err error
	for range 2 { // once more, if the lease was lost
		var lease clientv3.LeaseID
		if lease, err = w.lease.ensure(ctx); err == nil {
			err = w.putUnder(ctx, lease, key, value)
		}
		if !errors.Is(err, rpctypes.ErrLeaseNotFound) {
			break
		}
		w.lease.lost(lease)
	}
	return err
}

// putUnder writes a value, unless etcd has the same value under the same lease.
func (w *statusWriter) putUnder(ctx context.Context, lease clientv3.LeaseID, key native.Key, value []byte) error {
	path := w.conn.path(key)
	return w.conn.do(ctx, "write", key, func(ctx context.Context, client *clientv3.Client) error {
		current, err := client.Get(ctx, path)
		if err != nil {
			return err
		}
		if len(current.Kvs) > 0 && current.Kvs[0].Lease == int64(lease) && bytes.Equal(current.Kvs[0].Value, value) {
			return nil
		}
		_, err = client.Put(ctx, path, string(value), clientv3.WithLease(lease))
		return err
	})
}

// DeleteStatus deletes a status. It succeeds if the status does not exist. The id "" means the host.
func (w *statusWriter) DeleteStatus(ctx context.Context, id spec.ContainerID) error {
	key, err := native.StatusKey(w.host, id)
	if err == nil {
		err = w.conn.do(ctx, "write", key, func(ctx context.Context, client *clientv3.Client) error {
			_, err := client.Delete(ctx, w.conn.path(key))
			return err
		})
	}
	return native.StatusError("remove", w.host, id, err)
}

// ListStatuses returns the statuses of this host and its containers with their values. They expire with the lease of
// the process that wrote them, unless they are put again.
func (w *statusWriter) ListStatuses(ctx context.Context) (map[spec.ContainerID][]byte, error) {
	listed := map[spec.ContainerID][]byte{}
	var revision int64
	err := w.conn.readPages(ctx, native.ContainerStatusesKey(w.host), &revision, func(kv *mvccpb.KeyValue) {
		if id, ok := native.ContainerOfStatus(w.host, w.conn.key(kv.Key)); ok {
			listed[id] = kv.Value
		}
	})
	if err == nil {
		host := native.HostStatusKey(w.host)
		err = w.conn.do(ctx, "read", host, func(ctx context.Context, client *clientv3.Client) error {
			answer, err := client.Get(ctx, w.conn.path(host))
			if err == nil && len(answer.Kvs) > 0 {
				listed[""] = answer.Kvs[0].Value
			}
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("list statuses of host %s: %w", w.host, err)
	}
	return listed, nil
}

// SessionChanged returns a channel that receives a value when the lease is lost, when it is renewed after a failure,
// and when the watches start.
func (w *statusWriter) SessionChanged() <-chan struct{} { return w.sessionChanged }
