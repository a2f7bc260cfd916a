package etcd

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/etcdtest"
)

// brittle makes a ground in a cluster of its own.
func brittle(t *testing.T, relayed bool) (*ground, *etcdtest.Relay) {
	t.Helper()
	t.Parallel()
	c := etcdtest.Start(t, 3)
	if !relayed {
		return groundIn(t, c, func(root string) string { return c.URL(root) + "?ttl=3s" }), nil
	}
	r := c.Relay()
	return groundIn(t, c, func(root string) string { return r.URL(root) + "?ttl=3s" }), r
}

// speaks publishes a status and a host's, which must be there again whatever happens.
func (g *ground) speaks() {
	g.Helper()
	g.check(g.nsdb.PublishContainer(g.Context(), "c", running))
}

// same checks that since a mark no set was handed over that is not whole.
func (g *ground) same(mark int) {
	g.Helper()
	for _, d := range g.since(mark) {
		if !whole(d) {
			g.Errorf("handed over: %+v", d)
		}
	}
}

func TestAPartitionChangesNothingAndWhatWasMissedIsSeenAfterACompaction(t *testing.T) {
	g, relay := brittle(t, true)
	g.startsWell()
	g.speaks()
	_, lease, _ := g.stands("status/containers/h/c")
	relay.Cut()
	for i := range 20 {
		g.put("bindings/h/q", fmt.Sprintf(`{"portId":"q","hostId":"h","interfaceName":"vpn-q","containerId":"c","mac":"02:00:00:00:00:%02x"}`, i))
	}
	g.remove("bindings/h/q")
	g.put("bindings/h/r", binding("r", "vpn-r", "c"))
	g.cluster.Compact()
	g.gone(lease)
	if sets := g.since(0); len(sets) != 1 {
		t.Errorf("%d sets during the partition: %+v", len(sets), sets[1:])
	}
	relay.Mend()
	mended := time.Now()
	g.await("the status", func() bool { value, _, _ := g.stands("status/containers/h/c"); return value == runningJSON })
	back := time.Since(mended)
	if t.Logf("the status is there again after %v", back); back > 2*time.Second {
		t.Errorf("the status came back after %v", back)
	}
	g.until("what was missed", func(d spec.Desired) bool { return find(d, "r") != nil && find(d, "q") == nil })
	g.settle()
	g.same(0)
	for _, d := range g.since(0) {
		if find(d, "q") != nil {
			t.Errorf("a binding that went was handed over: %+v", d)
		}
	}
}

func TestEtcdForgettingRevisionsWhileTheWatchIsMadeIsRecoveredFrom(t *testing.T) {
	g := newGround(t)
	m := newMirror(g.nsdb)
	g.check(m.readWhole(t.Context()))
	for range 3 { // the revision to watch from is among those that are forgotten
		g.put("bindings/h/q", binding("q", "vpn-q", "c"))
	}
	g.cluster.Compact()
	s, err := g.nsdb.openStream(t.Context())
	g.check(err)
	defer s.close()
	g.check(m.watch(s))
	if _, err = s.wait(t.Context()); err == nil || !strings.Contains(err.Error(), "compacted") || !strings.Contains(err.Error(), g.path("")) {
		t.Errorf("got %v", err)
	}
}

func TestTheLeaderIsKilled(t *testing.T) {
	g, _ := brittle(t, false)
	g.startsWell()
	g.speaks()
	leader := g.cluster.Leader()
	g.cluster.Kill(leader)
	g.settle()
	g.cluster.Restart(leader)
	g.cluster.Await()
	g.settle()
	g.same(0)
	g.await("the status", func() bool { value, _, _ := g.stands("status/containers/h/c"); return value == runningJSON })
}

func TestAMemberThatHangsIsLeft(t *testing.T) {
	g, _ := brittle(t, false)
	g.startsWell()
	g.speaks()
	for i := range g.cluster.Len() { // whichever serves us is among them
		g.cluster.Freeze(i)
		frozen := time.Now()
		g.settle()
		t.Logf("member %d hangs: a change is seen after %v", i, time.Since(frozen))
		g.cluster.Thaw(i)
		g.cluster.Await()
	}
	g.same(0)
	g.await("the status", func() bool { value, _, _ := g.stands("status/containers/h/c"); return value == runningJSON })
}

func TestWithoutAMajorityTheLastSetStands(t *testing.T) {
	g, _ := brittle(t, false)
	g.startsWell()
	g.speaks()
	g.cluster.Kill(0)
	g.cluster.Kill(1)
	g.await("a word about it", func() bool { return g.logged("NSDB cannot be followed") > 0 })
	time.Sleep(2 * time.Second)
	if sets := g.since(0); len(sets) != 1 {
		t.Errorf("%d sets: %+v", len(sets), sets[1:])
	}
	if n := g.logged("NSDB cannot be followed"); n != 1 {
		t.Errorf("told %d times: %q", n, g.log)
	}
	g.cluster.Restart(0)
	g.cluster.Restart(1)
	g.cluster.Await()
	back := time.Now()
	g.await("the status", func() bool { value, _, _ := g.stands("status/containers/h/c"); return value == runningJSON })
	t.Logf("the status is there again after %v", time.Since(back))
	g.settle()
	g.same(0)
	if g.logged("NSDB answers again") != 1 {
		t.Errorf("log %q", g.log)
	}
}

func TestARollingRestartIsHardlySeen(t *testing.T) {
	g, _ := brittle(t, false)
	g.startsWell()
	g.speaks()
	var missed atomic.Int64
	for i := range g.cluster.Len() {
		g.cluster.Restart(i)
		g.cluster.Await()
		g.settle()
		if value, _, _ := g.stands("status/containers/h/c"); value != runningJSON {
			missed.Add(1)
		}
	}
	if missed.Load() > 0 {
		t.Errorf("the status was away %d times", missed.Load())
	}
	g.same(0)
}

func TestAllMembersHang(t *testing.T) {
	g, _ := brittle(t, false)
	g.startsWell()
	g.speaks()
	for i := range g.cluster.Len() {
		g.cluster.Freeze(i)
	}
	g.await("a word about it", func() bool { return g.logged("NSDB cannot be followed") > 0 })
	for i := range g.cluster.Len() {
		g.cluster.Thaw(i)
	}
	g.settle()
	if len(g.since(0)) != 2 {
		t.Errorf("%d sets", len(g.since(0)))
	}
	g.await("the status", func() bool { value, _, _ := g.stands("status/containers/h/c"); return value == runningJSON })
	g.same(0)
}
