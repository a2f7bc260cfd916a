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
	transactionLimit = 128 // operations in one transaction, etcd's default limit

	// batchLimit is the limit for one transaction in bytes. etcd accepts 1.5 MiB.
	batchLimit = 512 << 10
)

// mirror holds the objects that were read from etcd. It implements native.Reader. It is not safe for concurrent use.
type mirror struct {
	conn      *connection
	host      spec.HostID
	assembler *native.Assembler
	desired   spec.Desired
	faults    []native.Fault

	entries    map[native.Key]*entry              // all bindings and all objects that they refer to, absent ones too
	ports      []string                           // ids of the existing bindings, sorted
	missing    map[native.Key]bool                // keys that the last assembly needed and that were not read yet
	bindingsOf map[native.Key]map[native.Key]bool // the bindings that use an object
	objectsOf  map[native.Key][]native.Key        // the objects that a binding uses, itself included
	unused     map[native.Key]bool                // keys that no binding uses any more
	watched    map[native.Key]bool
	// watchesDue are the keys whose watch may have to be started or cancelled.
	watchesDue   map[native.Key]bool
	baseRevision int64 // revision of the first complete read
}

// entry is the state of one key at one revision.
type entry struct {
	readAt   int64 // revision at which the key was read
	modified int64 // revision of the last change; 0: the key does not exist
	document *native.Document
	fault    error // why the value could not be parsed
}

func newMirror(conn *connection, host spec.HostID) *mirror {
	m := &mirror{
		conn: conn, host: host, entries: map[native.Key]*entry{},
		bindingsOf: map[native.Key]map[native.Key]bool{}, objectsOf: map[native.Key][]native.Key{},
		unused: map[native.Key]bool{}, watched: map[native.Key]bool{}, watchesDue: map[native.Key]bool{},
	}
	m.assembler = native.NewAssembler(m, host)
	return m
}

var errNotRead = errors.New("not read yet")

// Get implements native.Reader. It returns an object that was read before, and records a missing key for the next read.
func (m *mirror) Get(_ context.Context, key native.Key) (*native.Document, error) {
	switch e := m.entries[key]; {
	case e == nil:
		m.missing[key] = true
		return nil, errNotRead
	case e.modified == 0:
		return nil, native.ErrAbsent
	default:
		return e.document, e.fault
	}
}

// Bindings implements native.Reader. It returns the port ids of the host's bindings.
func (m *mirror) Bindings(context.Context, spec.HostID) ([]string, error) { return m.ports, nil }

func (m *mirror) isBinding(key native.Key) bool {
	return strings.HasPrefix(string(key), m.bindingPrefix())
}

// bindingPrefix returns the prefix of the native keys of this host's bindings.
func (m *mirror) bindingPrefix() string { return string(native.BindingsKey(m.host)) + "/" }

// reading is one read of several keys, all at the same revision.
type reading struct {
	revision int64 // 0: set by the first response
	changed  map[native.Key]bool
}

// readWhole reads everything at one revision.
func (m *mirror) readWhole(ctx context.Context) error {
	r := &reading{changed: map[native.Key]bool{}}
	dir := native.BindingsKey(m.host)
	err := m.conn.readPages(ctx, dir, &r.revision, func(kv *mvccpb.KeyValue) { m.set(r, m.conn.key(kv.Key), kv) })
	if err != nil {
		return err
	}
	m.baseRevision = r.revision
	// Every assembly needs these. They are read in one transaction rather than one after the other.
	return m.readUntilComplete(ctx, r, map[native.Key]bool{
		native.HostKey(m.host):                        true,
		native.SettingsKey(spec.SettingDefault):       true,
		native.SettingsKey(spec.SettingScope(m.host)): true,
	})
}

// update reads keys again, together with all objects of the bindings that use them.
func (m *mirror) update(ctx context.Context, dirty []native.Key) error {
	need := map[native.Key]bool{}
	for _, key := range dirty {
		need[key] = true
		for binding := range m.bindingsOf[key] {
			for _, object := range m.objectsOf[binding] {
				need[object] = true
			}
		}
	}
	return m.readUntilComplete(ctx, &reading{changed: map[native.Key]bool{}}, need)
}

// readUntilComplete reads the needed keys, and then further ones until the assembly needs no more. A transaction may
// have changed several objects of one binding, and the watches report them one by one. So if one object of a binding
// has changed, all objects of the binding are read at the same revision.
func (m *mirror) readUntilComplete(ctx context.Context, r *reading, need map[native.Key]bool) error {
	for len(need) > 0 {
		if err := m.fetch(ctx, r, slices.Sorted(maps.Keys(need))); err != nil {
			return err
		}
		m.assemble(ctx, r.changed)
		need = m.missing
		for key := range r.changed {
			for binding := range m.bindingsOf[key] {
				for _, object := range m.objectsOf[binding] {
					if e := m.entries[object]; e != nil && e.readAt != r.revision {
						need[object] = true
					}
				}
			}
		}
	}
	for key := range m.unused {
		// A deleted binding is kept until the next read, because the watch may still report it at this revision.
		if e := m.entries[key]; e == nil || !m.isBinding(key) || e.modified == 0 && e.readAt < r.revision {
			delete(m.entries, key)
			delete(m.unused, key)
			m.watchesDue[key] = true
		}
	}
	return nil
}

// assemble builds the desired set from the objects that were read, and records which binding uses which objects.
func (m *mirror) assemble(ctx context.Context, changed map[native.Key]bool) {
	m.missing = map[native.Key]bool{}
	m.desired, m.faults = m.assembler.Assemble(ctx, changed)
	for _, port := range m.assembler.Remade() {
		m.setBindingObjects(native.BindingKey(m.host, spec.PortID(port)), m.assembler.Objects(port))
	}
}

// setBindingObjects records the objects that a binding uses. A binding without objects was deleted.
func (m *mirror) setBindingObjects(binding native.Key, objects []native.Key) {
	for _, key := range m.objectsOf[binding] {
		delete(m.bindingsOf[key], binding)
		if len(m.bindingsOf[key]) == 0 {
			delete(m.bindingsOf, key)
			m.unused[key] = true
		}
	}
	delete(m.objectsOf, binding)
	if len(objects) == 0 {
		m.unused[binding] = true
		return
	}
	m.objectsOf[binding] = objects
	for _, key := range objects {
		if m.bindingsOf[key] == nil {
			m.bindingsOf[key] = map[native.Key]bool{}
		}
		m.bindingsOf[key][binding] = true
		delete(m.unused, key)
	}
}

// fetch reads keys at the revision of r, or sets that revision if it is 0.
func (m *mirror) fetch(ctx context.Context, r *reading, keys []native.Key) error {
	for chunk := range slices.Chunk(keys, transactionLimit) {
		var operations []clientv3.Op
		for _, key := range chunk {
			operations = append(operations, clientv3.OpGet(m.conn.path(key), clientv3.WithRev(r.revision)))
		}
		var answer *clientv3.TxnResponse
		err := m.conn.do(ctx, "read", chunk[0], func(ctx context.Context, client *clientv3.Client) (err error) {
			answer, err = client.Txn(ctx).Then(operations...).Commit()
			return err
		})
		if err != nil {
			return err
		}
		if r.revision == 0 {
			r.revision = answer.Header.Revision
		}
		for i, key := range chunk {
			var kv *mvccpb.KeyValue
			if kvs := answer.Responses[i].GetResponseRange().Kvs; len(kvs) > 0 {
				kv = kvs[0]
			}
			m.set(r, key, kv)
		}
	}
	return nil
}

// set records the value of a key at the revision of r. A nil kv means that the key does not exist.
func (m *mirror) set(r *reading, key native.Key, kv *mvccpb.KeyValue) {
	before, now := m.entries[key], &entry{readAt: r.revision}
	if kv != nil {
		now.modified = kv.ModRevision
	}
	switch {
	case before != nil && before.modified == now.modified:
		now.document, now.fault = before.document, before.fault
	case kv != nil:
		now.document, now.fault = native.Parse(kv.Value, native.JSON)
		if port, ok := strings.CutPrefix(string(key), m.bindingPrefix()); ok && now.fault == nil {
			now.document = native.ReducePort(now.document, m.host, spec.PortID(port))
		}
		fallthrough
	default:
		r.changed[key] = true
	}
	m.entries[key] = now
	if before == nil {
		m.watchesDue[key] = true
	}
	if port, ok := strings.CutPrefix(string(key), m.bindingPrefix()); ok {
		switch at, listed := slices.BinarySearch(m.ports, port); {
		case listed && kv == nil:
			m.ports = slices.Delete(m.ports, at, at+1)
		case kv == nil && len(m.bindingsOf[key]) == 0: // created and deleted between two reads
			m.unused[key] = true
		case !listed && kv != nil:
			m.ports = slices.Insert(m.ports, at, port)
		}
	}
}

// watch starts the missing watches, each from the revision after the one at which its key was read, and cancels the
// watches of keys that are not needed any more.
func (m *mirror) watch(s *stream) error {
	dir := native.BindingsKey(m.host) + "/"
	if !m.watched[dir] {
		if err := s.watch(dir, clientv3.GetPrefixRangeEnd(m.conn.path(dir)), m.baseRevision+1); err != nil {
			return err
		}
		m.watched[dir] = true
	}
	for key := range m.watchesDue {
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
		if err := s.watch(key, "", e.readAt+1); err != nil {
			return err
		}
		m.watched[key] = true
	}
	clear(m.watchesDue)
	return nil
}

// changedSinceRead returns the changed keys whose last change is later than the read of this mirror.
func (m *mirror) changedSinceRead(revisions map[native.Key]int64) (dirty []native.Key) {
	for key, revision := range revisions {
		e := m.entries[key]
		if e == nil && m.isBinding(key) || e != nil && revision > e.readAt {
			dirty = append(dirty, key)
		}
	}
	return dirty
}
