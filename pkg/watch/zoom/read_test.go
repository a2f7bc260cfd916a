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

func TestABindingComesChangesAndGoes(t *testing.T) {
	g := newGround(t, common.start(t))
	g.fill(2)
	g.hostWith(1)
	g.run(g.open(g.cluster.URL(g.tree.Root())))
	d := g.await("one binding", whole(1))
	if b := d.Bindings[0]; b.Container.InterfaceName != spec.Name(name(0)) || b.Container.ServiceType != "IPSEC" || len(b.Configuration) == 0 {
		t.Errorf("%+v", b)
	}
	g.hostWith(2)
	g.await("two bindings", whole(2))
	g.put(model.Port, id(ports+1), g.portText(1, "vpn-other"))
	g.await("another name", func(d spec.Desired) bool {
		return whole(2)(d) && slices.ContainsFunc(d.Bindings, func(b spec.Binding) bool { return b.Container.InterfaceName == "vpn-other" })
	})
	before, _ := g.last()
	g.put(model.IPSecSiteConnection, id(connections), g.connectionText(0, "another"))
	g.await("another configuration", func(d spec.Desired) bool {
		return whole(2)(d) && string(d.Bindings[0].Configuration) != string(before.Bindings[0].Configuration)
	})
	g.hostWith(0)
	g.await("none", whole(0))
}

func TestAHostWithoutObjectIsUnreadAndAWrongRootIsToldByName(t *testing.T) {
	g := newGround(t, common.start(t))
	g.run(g.open(g.cluster.URL(g.tree.Root())))
	d := g.await("unread", func(d spec.Desired) bool { return d.Unread != "" })
	if !strings.Contains(d.Unread, g.tree.Objects(model.Host)) || !strings.Contains(d.Unread, "root key") {
		t.Error(d.Unread)
	}
	g.put(model.Host, id(99), "")
	g.fill(1)
	g.await("a binding", whole(1))
	g.check(g.conn.Delete(g.object(model.Host, string(g.host)), -1))
	d = g.await("unread again", func(d spec.Desired) bool { return d.Unread != "" })
	if !strings.Contains(d.Unread, "no Host object") {
		t.Error(d.Unread)
	}
	g.hostWith(1)
	g.await("the binding again", whole(1))
}

func TestANodeTooBigHoldsItsOwnContainerOnly(t *testing.T) {
	cluster := startWith(t, 4<<20)
	g := newGround(t, cluster)
	g.fill(2)
	g.run(g.open(g.cluster.URL(g.tree.Root())))
	g.await("both", whole(2))
	g.put(model.IPSecSiteConnection, id(connections), g.connectionText(0, "x")+"# "+strings.Repeat("x", 2<<20)+"\n")
	d := g.await("one unknown", func(d spec.Desired) bool {
		return len(d.Bindings) == 2 && d.Bindings[0].Reading == spec.Unknown && d.Bindings[1].Reading == spec.Whole
	})
	path := g.object(model.IPSecSiteConnection, id(connections))
	if fault := d.Bindings[0].Fault; !strings.Contains(fault, path) || !strings.Contains(fault, "bytes: allowed: at most") {
		t.Error(fault)
	}
	if log := g.log.String(); strings.Count(log, path) != 1 || !strings.Contains(log, "endpoint=zk://127") {
		t.Error(log)
	}
	g.put(model.IPSecSiteConnection, id(connections), g.connectionText(0, "x"))
	g.await("both again", whole(2))
}

func TestAnObjectMadeMidwayIsSeen(t *testing.T) {
	g := newGround(t, common.start(t))
	g.fill(1)
	path := g.object(model.VpnService, id(services))
	data, _, err := g.conn.Get(path)
	g.check(err)
	g.check(g.conn.Delete(path, -1))
	g.run(g.open(g.cluster.URL(g.tree.Root())))
	g.await("unknown", func(d spec.Desired) bool { return len(d.Bindings) == 1 && d.Bindings[0].Reading == spec.Unknown })
	g.cluster.Put(g.conn.Conn, path, string(data))
	g.await("whole", whole(1))
}

// Without events, a look at every node finds the change, and the watch that did not tell.
func TestAMissedEventIsHealed(t *testing.T) {
	g := newGround(t, common.start(t))
	g.fill(1)
	n := g.open(g.cluster.URL(g.tree.Root()) + "?rescan=200ms")
	g.run(n)
	g.await("one", whole(1))
	n.session.mu.Lock()
	listener := n.session.listener
	n.session.listener = nil
	n.session.mu.Unlock()
	g.put(model.Port, id(ports), g.portText(0, "vpn-other"))
	g.await("another name", func(d spec.Desired) bool { return d.Bindings[0].Container.InterfaceName == "vpn-other" })
	n.session.mu.Lock()
	n.session.listener = listener
	n.session.mu.Unlock()
}

func TestAColdStartIsPipelinedAndAChangeCostsAFewReads(t *testing.T) {
	g := newGround(t, common.start(t))
	const mine, others = 1000, 20000
	g.fill(mine)
	var all [][2]string
	for i := mine; i < mine+others; i++ {
		all = append(all, [2]string{g.object(model.Port, id(ports+i)), uuid("id", id(ports+i)) + uuid("host_id", id(2)) + "interface_name: \"x\"\n"})
	}
	g.create(all)
	relay := g.cluster.Relay()
	begun := time.Now()
	g.run(g.open(relay.URL(g.tree.Root())))
	g.await("all", whole(mine))
	took := time.Since(begun)
	cold := relay.Requests()
	t.Logf("cold start of %d bindings: %v, %v, at most %d at once", mine, took, cold, relay.Deepest())
	if total := sum(cold); total > 6*mine+20 {
		t.Errorf("%d requests", total)
	}
	if relay.Deepest() < 50 {
		t.Errorf("not pipelined: at most %d requests under way at once", relay.Deepest())
	}
	best, worst := time.Hour, time.Duration(0)
	for i := range 10 {
		want := spec.Name(fmt.Sprintf("vpn-new%d", i))
		begun := time.Now()
		g.put(model.Port, id(ports+500), g.portText(500, string(want)))
		g.await("a change", func(d spec.Desired) bool { return d.Bindings[500].Container.InterfaceName == want })
		best, worst = min(best, time.Since(begun)), max(worst, time.Since(begun))
	}
	changes := relay.Requests()
	t.Logf("10 changes: from %v to %v, %v", best, worst, changes)
	if total := sum(changes); total > 30 {
		t.Errorf("%d requests for 10 changes", total)
	}
	if best > took/10 { // a ratio: the machine may be slow
		t.Errorf("no change took less than %v, the cold start of %d bindings took %v", best, mine, took)
	}
	for i := range 20 {
		g.cluster.Put(g.conn.Conn, all[i][0], all[i][1]+"admin_state_up: true\n")
	}
	if _, n := g.last(); sum(relay.Requests()) > 0 || n > 11 {
		t.Error("changes of other hosts' objects were read")
	}
}

func sum(counts map[string]int) (total int) {
	for n := range maps.Values(counts) {
		total += n
	}
	return total
}

func TestABurstOfChangesEndsInTheLastOne(t *testing.T) {
	g := newGround(t, common.start(t))
	g.fill(10)
	g.run(g.open(g.cluster.URL(g.tree.Root())))
	g.await("all", whole(10))
	_, before := g.last()
	for i := range 1000 {
		g.put(model.Port, id(ports+i%10), g.portText(i%10, fmt.Sprintf("v%d", i)))
	}
	g.await("the last names", func(d spec.Desired) bool {
		for i, b := range d.Bindings {
			if b.Reading != spec.Whole || b.Container.InterfaceName != spec.Name(fmt.Sprintf("v%d", 990+i)) {
				return false
			}
		}
		return true
	})
	if _, now := g.last(); now-before < 2 {
		t.Errorf("%d sets: the changes were kept back until they ended", now-before)
	}
}
