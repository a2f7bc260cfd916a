package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/etcdtest"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

// members is the number of servers in a cluster.
const members = 3

// prefixes numbers the backends of all clusters.
var prefixes atomic.Int64

func etcdKind(t *testing.T) *Kind {
	cluster := etcdtest.Start(t, members)
	fresh := func(c *etcdtest.Cluster) *etcdPrefix {
		root := fmt.Sprintf("/svc-%d", prefixes.Add(1))
		return &etcdPrefix{client: c.Client(), url: c.URL(root), prefix: root + "/", written: objects{}}
	}
	return &Kind{
		Name: "etcd", Bridge: true,
		Fresh: func(*testing.T) Backend { return fresh(cluster) },
		WithFaults: func(t *testing.T) (Backend, Faults) {
			c := etcdtest.Start(t, members)
			backend, relay := fresh(c), c.Relay()
			backend.url = relay.URL(backend.prefix)
			each := func(do func(int)) {
				for i := range c.Len() {
					do(i)
				}
			}
			return backend, Faults{
				Cut: relay.Cut, Restore: relay.Mend,
				Stop: func() { each(c.Kill) }, Start: func() { each(c.Restart); c.Await() },
				Freeze: func() { each(c.Freeze) }, Thaw: func() { each(c.Thaw); c.Await() },
				Roll: func() { each(func(i int) { c.Restart(i); c.Await() }) },
			}
		},
	}
}

// etcdPrefix is a Backend below a key prefix of its own.
type etcdPrefix struct {
	client      *clientv3.Client
	url, prefix string
	written     objects
}

func (e *etcdPrefix) URL() string { return e.url }

// Write uses one transaction for up to 128 operations, which is etcd's limit.
func (e *etcdPrefix) Write(t *testing.T, all objects) {
	t.Helper()
	var operations []clientv3.Op
	for _, o := range all.list() {
		if e.written[o.Key] != string(o.Value) {
			operations = append(operations, clientv3.OpPut(e.prefix+o.Key, string(o.Value)))
		}
	}
	for key := range e.written {
		if _, stays := all[key]; !stays {
			operations = append(operations, clientv3.OpDelete(e.prefix+key))
		}
	}
	for part := range slices.Chunk(operations, 128) {
		ctx, cancel := context.WithTimeout(t.Context(), deadline)
		_, err := e.client.Txn(ctx).Then(part...).Commit()
		cancel()
		if err != nil {
			t.Fatal(err)
		}
	}
	e.written = maps.Clone(all)
}

func (e *etcdPrefix) Corrupt(t *testing.T, key string) {
	t.Helper()
	if _, err := e.client.Put(t.Context(), e.prefix+key, `{"id": hunter2`); err != nil {
		t.Fatal(err)
	}
	e.written[key] = "corrupt"
}

func (e *etcdPrefix) BadSetting(t *testing.T) {
	t.Helper()
	if _, err := e.client.Put(t.Context(), e.prefix+"config/default", badSetting); err != nil {
		t.Fatal(err)
	}
}

func (e *etcdPrefix) HostStatus(t *testing.T, host spec.HostID) (status spec.HostStatus, stamp string) {
	t.Helper()
	stamp = e.readStatus(t, native.HostStatusKey(host), &status)
	return status, stamp
}

func (e *etcdPrefix) ContainerStatus(
	t *testing.T, host spec.HostID, id spec.ContainerID,
) (status spec.ContainerStatus, stamp string) {
	t.Helper()
	stamp = e.readStatus(t, native.ContainerStatusKey(host, id), &status)
	return status, stamp
}

func (e *etcdPrefix) readStatus(t *testing.T, key native.Key, into any) (stamp string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	answer, err := e.client.Get(ctx, e.prefix+string(key))
	if err != nil {
		t.Fatal(err)
	}
	if len(answer.Kvs) == 0 {
		return ""
	}
	if err := json.Unmarshal(answer.Kvs[0].Value, into); err != nil {
		t.Fatal(err)
	}
	if answer.Kvs[0].Lease == 0 {
		t.Errorf("%s has no lease", key)
	}
	return fmt.Sprint(answer.Kvs[0].ModRevision)
}

func (e *etcdPrefix) WriteAsOther(t *testing.T, host spec.HostID, id spec.ContainerID) (endOwner func()) {
	t.Helper()
	lease, err := e.client.Grant(t.Context(), 60)
	if err != nil {
		t.Fatal(err)
	}
	key := e.prefix + string(native.ContainerStatusKey(host, id))
	if _, err := e.client.Put(t.Context(), key, otherStatusJSON(host), clientv3.WithLease(lease.ID)); err != nil {
		t.Fatal(err)
	}
	return func() {
		if _, err := e.client.Revoke(context.Background(), lease.ID); err != nil {
			t.Error(err)
		}
	}
}
