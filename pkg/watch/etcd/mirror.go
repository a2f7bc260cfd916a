package etcd

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	mvccpb "go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

const (
	transactionLimit = 128 // operations of a transaction, by etcd's usual setting
	pageLimit        = 500 // keys of a range read at once
)

// mirror is what was read of etcd: a native.Reader. It is used by one goroutine.
type mirror struct {
	n       *NSDB
	desired spec.Desired
	faults  []native.Fault

	entries map[native.Key]*entry       // what is referred to, and every binding; what is not there as well
	asked   map[native.Key]bool         // by the last assembly
	pending map[native.Key]bool         // of those, what was not read yet
	users   map[native.Key][]native.Key // the bindings that a key belongs to
	watched map[native.Key]bool
	base    int64 // the revision of the first, whole reading
}

// entry is one key at one revision.
type entry struct {
	at       int64 // the revision at which it was read
	modified int64 // the revision of its last change; 0 if it is not there
	document *native.Document
	fault    error // why there is no document, though there is a value
}

func newMirror(n *NSDB) *mirror {
	return &mirror{n: n, entries: map[native.Key]*entry{}, watched: map[native.Key]bool{}}
}

var errPending = errors.New("not read yet")

// Get answers with what was read, and notes what is missing for the next reading.
func (m *mirror) Get(_ context.Context, key native.Key) (*native.Document, error) {
	m.asked[key] = true
	switch e := m.entries[key]; {
	case e == nil:
		m.pending[key] = true
		return nil, errPending
	case e.modified == 0:
		return nil, native.ErrAbsent
	default:
		return e.document, e.fault
	}
}

// Bindings lists the host's bindings that were read.
func (m *mirror) Bindings(_ context.Context, host spec.HostID) (ports []string, err error) {
	for key, e := range m.entries {
		if port, ok := strings.CutPrefix(string(key), string(native.BindingsKey(host))+"/"); ok && e.modified != 0 {
			ports = append(ports, port)
		}
	}
	return ports, nil
}

func (m *mirror) isBinding(key native.Key) bool {
	return strings.HasPrefix(string(key), string(native.BindingsKey(m.n.host))+"/")
}

// reading is one reading of several keys, all at one revision.
type reading struct {
	revision int64 // 0: that of the first answer
	changed  map[native.Key]bool
}

// readWhole reads everything at one revision.
func (m *mirror) readWhole(ctx context.Context) error {
	r := &reading{changed: map[native.Key]bool{}}
	folder := native.BindingsKey(m.n.host)
	err := m.n.pages(ctx, folder, &r.revision, func(kv *mvccpb.KeyValue) { m.set(r, m.n.key(kv.Key), kv) })
	if err != nil {
		return err
	}
	m.base = r.revision
	// Asked for by every assembly: read at once, and not one after the other.
	return m.settle(ctx, r, map[native.Key]bool{
		native.HostKey(m.n.host):                        true,
		native.SettingsKey(spec.SettingDefault):         true,
		native.SettingsKey(spec.SettingScope(m.n.host)): true,
	})
}

// update reads keys again, and what belongs to them.
func (m *mirror) update(ctx context.Context, dirty []native.Key) error {
	need := map[native.Key]bool{}
	for _, key := range dirty {
		need[key] = true
		for _, user := range m.users[key] {
			maps.Copy(need, m.chain(user))
		}
	}
	return m.settle(ctx, &reading{changed: map[native.Key]bool{}}, need)
}

// settle reads what is needed, and goes on while the assembly asks for more. A transaction may have changed several objects
// of one binding, and the watches tell of them one by one: so whatever belongs to a binding that something changed for is
// read at the very revision.
func (m *mirror) settle(ctx context.Context, r *reading, need map[native.Key]bool) error {
	for len(need) > 0 {
		if err := m.fetch(ctx, r, slices.Sorted(maps.Keys(need))); err != nil {
			return err
		}
		m.assemble(ctx)
		need = m.pending
		for key := range r.changed {
			for _, user := range m.users[key] {
				for link := range m.chain(user) {
					if e := m.entries[link]; e != nil && e.at != r.revision {
						need[link] = true
					}
				}
			}
		}
	}
	for key, e := range m.entries {
		gone := m.isBinding(key) && e.modified == 0 && e.at < r.revision
		if gone || !m.isBinding(key) && !m.asked[key] {
			delete(m.entries, key)
		}
	}
	return nil
}

// assemble puts the desired set together of what was read, and notes who uses what.
func (m *mirror) assemble(ctx context.Context) {
	m.asked, m.pending = map[native.Key]bool{}, map[native.Key]bool{}
	m.desired, m.faults = native.Assemble(ctx, m, m.n.host)
	m.users = map[native.Key][]native.Key{}
	for i := range m.desired.Bindings {
		b := &m.desired.Bindings[i]
		user := native.BindingKey(m.n.host, b.PortID)
		m.users[user] = append(m.users[user], user)
		for _, key := range references(b) {
			m.users[key] = append(m.users[key], user)
		}
	}
}

// references are the objects that a binding names, as far as they are known.
func references(b *spec.Binding) (keys []native.Key) {
	if id := b.Container.ContainerID; id != "" {
		keys = append(keys, native.ContainerKey(id))
	}
	if id := b.Container.ConfigurationID; id != "" {
		keys = append(keys, native.ConfigurationKey(id))
	}
	return keys
}

// chain is a binding's key and those of what it names.
func (m *mirror) chain(binding native.Key) map[native.Key]bool {
	keys := map[native.Key]bool{binding: true}
	i, found := slices.BinarySearchFunc(m.desired.Bindings, binding, func(b spec.Binding, key native.Key) int {
		return strings.Compare(string(native.BindingKey(m.n.host, b.PortID)), string(key))
	})
	if found {
		for _, key := range references(&m.desired.Bindings[i]) {
			keys[key] = true
		}
	}
	return keys
}

// fetch reads keys, all at the reading's revision.
func (m *mirror) fetch(ctx context.Context, r *reading, keys []native.Key) error {
	for some := range slices.Chunk(keys, transactionLimit) {
		var operations []clientv3.Op
		for _, key := range some {
			operations = append(operations, clientv3.OpGet(m.n.path(key), clientv3.WithRev(r.revision)))
		}
		var answer *clientv3.TxnResponse
		err := m.n.do(ctx, "read", some[0], func(ctx context.Context, client *clientv3.Client) (err error) {
			answer, err = client.Txn(ctx).Then(operations...).Commit()
			return err
		})
		if err != nil {
			return err
		}
		if r.revision == 0 {
			r.revision = answer.Header.Revision
		}
		for i, key := range some {
			var kv *mvccpb.KeyValue
			if kvs := answer.Responses[i].GetResponseRange().Kvs; len(kvs) > 0 {
				kv = kvs[0]
			}
			m.set(r, key, kv)
		}
	}
	return nil
}

// set notes what stands under a key at the reading's revision; nil: nothing.
func (m *mirror) set(r *reading, key native.Key, kv *mvccpb.KeyValue) {
	before, now := m.entries[key], &entry{at: r.revision}
	if kv != nil {
		now.modified = kv.ModRevision
	}
	switch {
	case before != nil && before.modified == now.modified:
		now.document, now.fault = before.document, before.fault
	case kv != nil:
		now.document, now.fault = native.Parse(kv.Value, native.JSON)
		fallthrough
	default:
		r.changed[key] = true
	}
	m.entries[key] = now
}

// watch makes the stream watch what is referred to, from the revision after that at which it was read, and nothing else.
func (m *mirror) watch(s *stream) error {
	folder := native.BindingsKey(m.n.host) + "/"
	if !m.watched[folder] {
		if err := s.watch(folder, clientv3.GetPrefixRangeEnd(m.n.path(folder)), m.base+1); err != nil {
			return err
		}
		m.watched[folder] = true
	}
	for key, e := range m.entries {
		if m.watched[key] || m.isBinding(key) {
			continue
		}
		if err := s.watch(key, "", e.at+1); err != nil {
			return err
		}
		m.watched[key] = true
	}
	for key := range m.watched {
		if key != folder && m.entries[key] == nil {
			if err := s.unwatch(key); err != nil {
				return err
			}
			delete(m.watched, key)
		}
	}
	return nil
}

// news leaves of what the watches told what was not read already, at a later revision.
func (m *mirror) news(told map[native.Key]int64) (dirty []native.Key) {
	for key, revision := range told {
		e := m.entries[key]
		if e == nil && m.isBinding(key) || e != nil && revision > e.at {
			dirty = append(dirty, key)
		}
	}
	return dirty
}
