package zoom

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/model"
)

func TestCreatedChangedAndDeletedBindingsAreReported(t *testing.T) {
	f := newFixture(t, sharedServers.start(t))
	f.putBindings(2)
	f.putHost(1)
	f.run(f.open(f.cluster.URL(f.tree.Root())))
	d := f.waitForSet("one binding", whole(1))
	b := d.Bindings[0]
	if b.Container.InterfaceName != spec.Name(name(0)) || b.Container.ServiceType != "IPSEC" ||
		len(b.Configuration) == 0 {
		t.Errorf("%+v", b)
	}
	f.putHost(2)
	f.waitForSet("two bindings", whole(2))
	f.put(model.Port, id(ports+1), f.portText(1, "vpn-other"))
	f.waitForSet("another name", func(d spec.Desired) bool {
		return whole(2)(d) && slices.ContainsFunc(d.Bindings, func(b spec.Binding) bool {
			return b.Container.InterfaceName == "vpn-other"
		})
	})
	before, _ := f.last()
	f.put(model.IPSecSiteConnection, id(connections), f.connectionText(0, "another"))
	f.waitForSet("another configuration", func(d spec.Desired) bool {
		return whole(2)(d) && string(d.Bindings[0].Configuration) != string(before.Bindings[0].Configuration)
	})
	f.putHost(0)
	f.waitForSet("none", whole(0))
}

func TestAMissingHostObjectOrRootMakesTheHostUnread(t *testing.T) {
	f := newFixture(t, sharedServers.start(t))
	f.run(f.open(f.cluster.URL(f.tree.Root())))
	d := f.waitForSet("unread", func(d spec.Desired) bool { return d.Unread != "" })
	if !strings.Contains(d.Unread, f.tree.Objects(model.Host)) || !strings.Contains(d.Unread, "root key") {
		t.Error(d.Unread)
	}
	f.put(model.Host, id(99), "")
	f.putBindings(1)
	f.waitForSet("a binding", whole(1))
	f.check(f.conn.Delete(f.object(model.Host, string(f.host)), -1))
	d = f.waitForSet("unread again", func(d spec.Desired) bool { return d.Unread != "" })
	if !strings.Contains(d.Unread, "no Host object") {
		t.Error(d.Unread)
	}
	f.putHost(1)
	f.waitForSet("the binding again", whole(1))
}

func TestATooLargeNodeAffectsOnlyItsOwnContainer(t *testing.T) {
	cluster := startWith(t, 4<<20)
	f := newFixture(t, cluster)
	f.putBindings(2)
	f.run(f.open(f.cluster.URL(f.tree.Root())))
	f.waitForSet("both", whole(2))
	f.put(model.IPSecSiteConnection, id(connections), f.connectionText(0, "x")+"# "+strings.Repeat("x", 2<<20)+"\n")
	d := f.waitForSet("one unknown", func(d spec.Desired) bool {
		return len(d.Bindings) == 2 && d.Bindings[0].Reading == spec.Unknown && d.Bindings[1].Reading == spec.Complete
	})
	path := f.object(model.IPSecSiteConnection, id(connections))
	fault := d.Bindings[0].Fault
	if !strings.Contains(fault, path) || !strings.Contains(fault, "bytes: allowed: at most") {
		t.Error(fault)
	}
	if log := f.log.String(); strings.Count(log, path) != 1 || !strings.Contains(log, "endpoint=zk://127") {
		t.Error(log)
	}
	f.put(model.IPSecSiteConnection, id(connections), f.connectionText(0, "x"))
	f.waitForSet("both again", whole(2))
}

func TestAMissingObjectIsReadWhenItIsCreated(t *testing.T) {
	f := newFixture(t, sharedServers.start(t))
	f.putBindings(1)
	path := f.object(model.VpnService, id(services))
	data, _, err := f.conn.Get(path)
	f.check(err)
	f.check(f.conn.Delete(path, -1))
	f.run(f.open(f.cluster.URL(f.tree.Root())))
	f.waitForSet("unknown", func(d spec.Desired) bool {
		return len(d.Bindings) == 1 && d.Bindings[0].Reading == spec.Unknown
	})
	f.cluster.Put(f.conn.Conn, path, string(data))
	f.waitForSet("whole", whole(1))
}

// Without events, the rescan finds the change and the missing watch.
func TestARescanFindsAChangeWithoutAnEvent(t *testing.T) {
	f := newFixture(t, sharedServers.start(t))
	f.putBindings(1)
	n := f.open(f.cluster.URL(f.tree.Root()) + "?rescan=200ms")
	f.run(n)
	f.waitForSet("one", whole(1))
	n.conn.session.mu.Lock()
	listener := n.conn.session.listener
	n.conn.session.listener = nil
	n.conn.session.mu.Unlock()
	f.put(model.Port, id(ports), f.portText(0, "vpn-other"))
	f.waitForSet(
		"another name", func(d spec.Desired) bool { return d.Bindings[0].Container.InterfaceName == "vpn-other" })
	n.conn.session.mu.Lock()
	n.conn.session.listener = listener
	n.conn.session.mu.Unlock()
}

func TestAStartReadsConcurrentlyAndAChangeNeedsFewReads(t *testing.T) {
	f := newFixture(t, sharedServers.start(t))
	const mine, others = 1000, 20000
	f.putBindings(mine)
	var all [][2]string
	for i := mine; i < mine+others; i++ {
		text := uuid("id", id(ports+i)) + uuid("host_id", id(2)) + "interface_name: \"x\"\n"
		all = append(all, [2]string{f.object(model.Port, id(ports+i)), text})
	}
	f.create(all)
	relay := f.cluster.Relay()
	start := time.Now()
	f.run(f.open(relay.URL(f.tree.Root())))
	f.waitForSet("all", whole(mine))
	took := time.Since(start)
	cold := relay.Requests()
	t.Logf("cold start of %d bindings: %v, %v, at most %d at once", mine, took, cold, relay.MaxConcurrent())
	if total := sum(cold); total > 6*mine+20 {
		t.Errorf("%d requests", total)
	}
	if relay.MaxConcurrent() < 50 {
		t.Errorf("at most %d concurrent requests", relay.MaxConcurrent())
	}
	best, worst := time.Hour, time.Duration(0)
	for i := range 10 {
		want := spec.Name(fmt.Sprintf("vpn-new%d", i))
		start := time.Now()
		f.put(model.Port, id(ports+500), f.portText(500, string(want)))
		f.waitForSet("a change", func(d spec.Desired) bool { return d.Bindings[500].Container.InterfaceName == want })
		best, worst = min(best, time.Since(start)), max(worst, time.Since(start))
	}
	changes := relay.Requests()
	t.Logf("10 changes: from %v to %v, %v", best, worst, changes)
	if total := sum(changes); total > 30 {
		t.Errorf("%d requests for 10 changes", total)
	}
	if best > took/10 { // a ratio, because the machine may be slow
		t.Errorf("no change took less than %v, the cold start of %d bindings took %v", best, mine, took)
	}
	for i := range 20 {
		f.cluster.Put(f.conn.Conn, all[i][0], all[i][1]+"admin_state_up: true\n")
	}
	if _, n := f.last(); sum(relay.Requests()) > 0 || n > 11 {
		t.Error("changes of other hosts' objects were read")
	}
}

func sum(counts map[string]int) (total int) {
	for n := range maps.Values(counts) {
		total += n
	}
	return total
}

func TestTheLastChangeOfABurstIsReported(t *testing.T) {
	f := newFixture(t, sharedServers.start(t))
	f.putBindings(10)
	f.run(f.open(f.cluster.URL(f.tree.Root())))
	f.waitForSet("all", whole(10))
	_, before := f.last()
	for i := range 1000 {
		f.put(model.Port, id(ports+i%10), f.portText(i%10, fmt.Sprintf("v%d", i)))
	}
	f.waitForSet("the last names", func(d spec.Desired) bool {
		for i, b := range d.Bindings {
			if b.Reading != spec.Complete || b.Container.InterfaceName != spec.Name(fmt.Sprintf("v%d", 990+i)) {
				return false
			}
		}
		return true
	})
	if _, now := f.last(); now-before < 2 {
		t.Errorf("%d sets: no set was reported during the burst", now-before)
	}
}
