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
	n         *NSDB
	assembler *native.Assembler
	desired   spec.Desired
	faults    []native.Fault

	entries map[native.Key]*entry              // what is referred to, and every binding; what is not there as well
	ports   []string                           // of the bindings that are there, sorted
	pending map[native.Key]bool                // what the last assembly asked for and was not read yet
	users   map[native.Key]map[native.Key]bool // the bindings that an object belongs to
	chains  map[native.Key][]native.Key        // the objects that belong to a binding, itself included
	unused  map[native.Key]bool                // belong to no binding any more
	watched map[native.Key]bool
	// unsynced are the keys of which it may have changed whether they must be watched.
	unsynced map[native.Key]bool
	base     int64 // the revision of the first, whole reading
}

// entry is one key at one revision.
type entry struct {
	at       int64 // the revision at which it was read
	modified int64 // the revision of its last change; 0 if it is not there
	document *native.Document
	fault    error // why there is no document, though there is a value
}

func newMirror(n *NSDB) *mirror {
	m := &mirror{
		n: n, entries: map[native.Key]*entry{}, users: map[native.Key]map[native.Key]bool{}, chains: map[native.Key][]native.Key{},
		unused: map[native.Key]bool{}, watched: map[native.Key]bool{}, unsynced: map[native.Key]bool{},
	}
	m.assembler = native.NewAssembler(m, n.host)
	return m
}

var errPending = errors.New("not read yet")

// Get answers with what was read, and notes what is missing for the next reading.
func (m *mirror) Get(_ context.Context, key native.Key) (*native.Document, error) {
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
func (m *mirror) Bindings(context.Context, spec.HostID) ([]string, error) { return m.ports, nil }

func (m *mirror) isBinding(key native.Key) bool { return strings.HasPrefix(string(key), m.bindings()) }

// bindings is what the keys of this host's bindings begin with.
func (m *mirror) bindings() string { return string(native.BindingsKey(m.n.host)) + "/" }

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
		for user := range m.users[key] {
			for _, link := range m.chains[user] {
				need[link] = true
			}
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
		m.assemble(ctx, r.changed)
		need = m.pending
		for key := range r.changed {
			for user := range m.users[key] {
				for _, link := range m.chains[user] {
					if e := m.entries[link]; e != nil && e.at != r.revision {
						need[link] = true
					}
				}
			}
		}
	}
	for key := range m.unused {
		// A binding that is gone is kept until the next reading: the watch may tell of it at the same revision.
		if e := m.entries[key]; e == nil || !m.isBinding(key) || e.modified == 0 && e.at < r.revision {
			delete(m.entries, key)
			delete(m.unused, key)
			m.unsynced[key] = true
		}
	}
	return nil
}

// assemble puts the desired set together of what was read, and notes who uses what.
func (m *mirror) assemble(ctx context.Context, changed map[native.Key]bool) {
	m.pending = map[native.Key]bool{}
	m.desired, m.faults = m.assembler.Assemble(ctx, changed)
	for _, port := range m.assembler.Remade() {
		m.chain(native.BindingKey(m.n.host, spec.PortID(port)), m.assembler.Objects(port))
	}
}

// chain notes which objects belong to a binding by now; none: it is gone.
func (m *mirror) chain(binding native.Key, objects []native.Key) {
	for _, key := range m.chains[binding] {
		delete(m.users[key], binding)
		if len(m.users[key]) == 0 {
			delete(m.users, key)
			m.unused[key] = true
		}
	}
	delete(m.chains, binding)
	if len(objects) == 0 {
		m.unused[binding] = true
		return
	}
	m.chains[binding] = objects
	for _, key := range objects {
		if m.users[key] == nil {
			m.users[key] = map[native.Key]bool{}
		}
		m.users[key][binding] = true
		delete(m.unused, key)
	}
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
		if port, ok := strings.CutPrefix(string(key), m.bindings()); ok && now.fault == nil {
			now.document = native.ReducePort(now.document, m.n.host, spec.PortID(port))
		}
		fallthrough
	default:
		r.changed[key] = true
	}
	m.entries[key] = now
	if before == nil {
		m.unsynced[key] = true
	}
	if port, ok := strings.CutPrefix(string(key), m.bindings()); ok {
		switch at, listed := slices.BinarySearch(m.ports, port); {
		case listed && kv == nil:
			m.ports = slices.Delete(m.ports, at, at+1)
		case kv == nil && len(m.users[key]) == 0: // it was made and deleted between two readings
			m.unused[key] = true
		case !listed && kv != nil:
			m.ports = slices.Insert(m.ports, at, port)
		}
	}
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
	for key := range m.unsynced {
		e := m.entries[key]
		if wanted := e != nil && !m.isBinding(key); wanted == m.watched[key] {
			continue
		}
		if e == nil {
			if err := s.unwatch(key); err != nil {
				return err
			}
			delete(m.watched, key)
			continue
		}
		if err := s.watch(key, "", e.at+1); err != nil {
			return err
		}
		m.watched[key] = true
	}
	clear(m.unsynced)
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
