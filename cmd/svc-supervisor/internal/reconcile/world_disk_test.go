package reconcile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/statedir"
)

// records implements Records in memory. A test compares it with the real state directory.
type records struct{ *instance }

func (l records) Rescan() error { return nil }

func (l records) Names() []spec.Name {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	return slices.Collect(maps.Keys(l.w.disk))
}

func (l records) Read(name spec.Name) []statedir.Entry {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	return l.w.readLocked(name)
}

func (w *world) readLocked(name spec.Name) []statedir.Entry {
	var entries []statedir.Entry
	for _, t := range slices.Sorted(maps.Keys(w.disk[name])) {
		entry := statedir.Entry{Name: name, ServiceType: t}
		if entry.Err = w.faults.read; entry.Err == nil {
			entry.Record, entry.Err = decodeRecord(name, t, w.disk[name][t])
		}
		entries = append(entries, entry)
	}
	slices.SortStableFunc(entries, func(a, b statedir.Entry) int { return deletedRank(a) - deletedRank(b) })
	return entries
}

func deletedRank(e statedir.Entry) int {
	if e.Record != nil && e.Record.Phase == statedir.Deleted {
		return 1
	}
	return 0
}

func decodeRecord(name spec.Name, t spec.ServiceType, content []byte) (*statedir.Record, error) {
	record := new(statedir.Record)
	if err := json.Unmarshal(content, record); err != nil {
		return nil, fmt.Errorf("%w: %w", statedir.ErrDamaged, err)
	}
	if record.Version > statedir.FormatVersion {
		return nil, statedir.ErrNewer
	}
	if err := checkRecord(record); err != nil {
		return nil, fmt.Errorf("%w: %w", statedir.ErrDamaged, err)
	}
	if record.Container.InterfaceName != name || record.Container.ServiceType != t {
		return nil, fmt.Errorf("%w: of another container", statedir.ErrDamaged)
	}
	return record, nil
}

func checkRecord(r *statedir.Record) error {
	if err := r.Container.Check(); err != nil {
		return err
	}
	if (r.Phase == statedir.Added || r.Phase == statedir.Changing) &&
		(r.Conf == nil || r.Result == nil || r.BootID == "") {
		return fmt.Errorf("phase %s without conf, result or boot id", r.Phase)
	}
	if r.Result != nil {
		if _, err := spec.ParseResult(r.Result, r.Container.InterfaceName); err != nil {
			return err
		}
	}
	return nil
}

func (l records) Write(r *statedir.Record) error {
	name, t := r.Container.InterfaceName, r.Container.ServiceType
	r.Version = statedir.FormatVersion
	if err := checkRecord(r); err != nil {
		return err
	}
	content, err := json.Marshal(r)
	if err != nil {
		return err
	}
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	if l.w.faults.write != nil {
		return l.w.faults.write
	}
	return l.effectLocked("write "+string(r.Phase)+" "+string(name), func() {
		if l.w.disk[name] == nil {
			l.w.disk[name] = map[spec.ServiceType][]byte{}
		}
		l.w.disk[name][t] = content
	})
}

func (l records) Remove(name spec.Name, t spec.ServiceType) error {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	if l.w.faults.remove != nil {
		return l.w.faults.remove
	}
	return l.effectLocked("remove record "+string(name), func() { l.w.removeRecordLocked(name, t) })
}

func (w *world) removeRecordLocked(name spec.Name, t spec.ServiceType) {
	if entry, err := decodeRecord(name, t, w.disk[name][t]); err == nil && entry.Phase != statedir.Deleted &&
		w.held[name].id != "" {
		w.violationLocked("the record of %s was removed before its container", name)
	}
	delete(w.disk[name], t)
	if len(w.disk[name]) == 0 {
		delete(w.disk, name)
	}
}

// TestFakeRecordsBehaveLikeTheStateDirectory compares the fake with the real implementation.
func TestFakeRecordsBehaveLikeTheStateDirectory(t *testing.T) {
	dir, err := statedir.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	store := records{&instance{w: newWorld(t), left: -1}}
	binding := vpn("p1", "vpn1", "c1")
	container, conf := binding.Container, binding.Conf(spec.Network, "svc-ipsec")
	other := container
	other.ServiceType = haproxy
	now := time.Now().UTC().Truncate(time.Second)
	result := json.RawMessage(`{"cniVersion":"1.1.0","units":["svc-vpn1.service"]}`)
	rows := []struct {
		sentence string
		do       func(Records) error
	}{
		{"adding needs no result", func(r Records) error {
			return r.Write(&statedir.Record{Phase: statedir.Adding, BootID: "b", Container: container, Conf: conf})
		}},
		{"added needs a result", func(r Records) error {
			return r.Write(&statedir.Record{Phase: statedir.Added, BootID: "b", Container: container, Conf: conf})
		}},
		{"changing needs a result", func(r Records) error {
			return r.Write(&statedir.Record{Phase: statedir.Changing, BootID: "b", Container: container, Conf: conf})
		}},
		{"changing needs a boot id", func(r Records) error {
			return r.Write(&statedir.Record{Phase: statedir.Changing, Container: container, Conf: conf, Result: result})
		}},
		{"a result with a foreign unit is refused", func(r Records) error {
			return r.Write(&statedir.Record{
				Phase: statedir.Added, BootID: "b", Container: container, Conf: conf,
				Result: json.RawMessage(`{"cniVersion":"1.1.0","units":["svc-vpn2.service"]}`),
			})
		}},
		{"an invalid id is refused", func(r Records) error {
			invalid := changed(vpn("p1", "vpn1", "c1"), func(b *spec.Binding) { b.Container.ContainerID = "" })
			return r.Write(&statedir.Record{
				Phase: statedir.Adding, BootID: "b", Conf: conf, Container: invalid.Container,
			})
		}},
		{"added with all fields", func(r Records) error {
			return r.Write(&statedir.Record{
				Phase: statedir.Added, BootID: "b", Container: container, Conf: conf, Result: result, AddedAt: &now,
			})
		}},
		{"deleted needs no other field, and is sorted last", func(r Records) error {
			return r.Write(&statedir.Record{Phase: statedir.Deleted, Container: other})
		}},
		{"one of two records is removed", func(r Records) error { return r.Remove("vpn1", ipsec) }},
		{"a missing record is removed", func(r Records) error { return r.Remove("vpn1", ipsec) }},
		{"the last record is removed", func(r Records) error { return r.Remove("vpn1", haproxy) }},
	}
	for _, row := range rows {
		if a, b := row.do(dir), row.do(store); (a == nil) != (b == nil) {
			t.Errorf("%s: the state directory returned %v, the world %v", row.sentence, a, b)
		}
		a, _ := json.Marshal(dir.Read("vpn1"))
		b, _ := json.Marshal(store.Read("vpn1"))
		if !bytes.Equal(a, b) || !slices.Equal(dir.Names(), store.Names()) {
			t.Errorf("%s: the state directory has\n%s\nthe world\n%s", row.sentence, a, b)
		}
	}
}
