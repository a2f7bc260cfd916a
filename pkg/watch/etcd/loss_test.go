package etcd

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/internal/busyclock"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/etcdtest"
)

// newOwnCluster returns a fixture in a cluster of its own, which the test may damage. If relayed is set, the NSDB
// connects through a relay.
func newOwnCluster(t *testing.T, relayed bool) (*fixture, *etcdtest.Relay) {
	t.Helper()
	t.Parallel()
	c := etcdtest.Start(t, 3)
	if !relayed {
		return newFixtureIn(t, c, func(root string) string { return c.URL(root) + "?ttl=3s" }), nil
	}
	r := c.Relay()
	return newFixtureIn(t, c, func(root string) string { return r.URL(root) + "?ttl=3s" }), r
}

// publishRunning publishes a container status, which must be restored after every failure.
func (f *fixture) publishRunning() {
	f.Helper()
	p, _ := f.publish(f.nsdb)
	p.Set("c", running)
	f.await("the status", func() bool { value, _, _ := f.stored("status/containers/h/c"); return value == runningJSON })
}

// onlyWholeSets checks that all sets that were reported since a mark are whole.
func (f *fixture) onlyWholeSets(mark int) {
	f.Helper()
	for _, d := range f.since(mark) {
		if !whole(d) {
			f.Errorf("got %+v", d)
		}
	}
}

func TestChangesMissedDuringAPartitionAreReportedAfterACompaction(t *testing.T) {
	f, relay := newOwnCluster(t, true)
	f.startAndReadAll()
	f.publishRunning()
	_, lease, _ := f.stored("status/containers/h/c")
	relay.Cut()
	for i := range 20 {
		f.put("bindings/h/q", fmt.Sprintf(
			`{"portId":"q","hostId":"h","interfaceName":"vpn-q","containerId":"c","mac":"02:00:00:00:00:%02x"}`, i))
	}
	f.remove("bindings/h/q")
	f.put("bindings/h/r", binding("r", "vpn-r", "c"))
	f.cluster.Compact()
	f.waitForLeaseEnd(lease)
	if sets := f.since(0); len(sets) != 1 {
		t.Errorf("%d sets during the partition: %+v", len(sets), sets[1:])
	}
	relay.Mend()
	mended := busyclock.Start()
	f.await("the status", func() bool { value, _, _ := f.stored("status/containers/h/c"); return value == runningJSON })
	back := mended.Elapsed()
	if t.Logf("the status is there again after %v", back); back > 2*time.Second {
		t.Errorf("the status came back after %v", back)
	}
	f.waitForSet("what was missed", func(d spec.Desired) bool { return find(d, "r") != nil && find(d, "q") == nil })
	f.awaitLaterChange()
	f.onlyWholeSets(0)
	for _, d := range f.since(0) {
		if find(d, "q") != nil {
			t.Errorf("a set has a deleted binding: %+v", d)
		}
	}
}

func TestACompactedStartRevisionEndsTheWatch(t *testing.T) {
	f := newFixture(t)
	m := newMirror(f.nsdb.conn, "h")
	f.check(m.readWhole(t.Context()))
	for range 3 { // so that the start revision of the watch is compacted
		f.put("bindings/h/q", binding("q", "vpn-q", "c"))
	}
	f.cluster.Compact()
	s, err := openStream(t.Context(), f.nsdb.conn, "h")
	f.check(err)
	defer s.close()
	f.check(m.watch(s))
	_, err = s.wait(t.Context())
	if err == nil || !strings.Contains(err.Error(), "compacted") || !strings.Contains(err.Error(), f.path("")) {
		t.Errorf("got %v", err)
	}
}

func TestAKilledLeaderIsReplaced(t *testing.T) {
	f, _ := newOwnCluster(t, false)
	f.startAndReadAll()
	f.publishRunning()
	leader := f.cluster.Leader()
	f.cluster.Kill(leader)
	f.awaitLaterChange()
	f.cluster.Restart(leader)
	f.cluster.Await()
	f.awaitLaterChange()
	f.onlyWholeSets(0)
	f.await("the status", func() bool { value, _, _ := f.stored("status/containers/h/c"); return value == runningJSON })
}

func TestAHangingMemberIsReplaced(t *testing.T) {
	f, _ := newOwnCluster(t, false)
	f.startAndReadAll()
	f.publishRunning()
	for i := range f.cluster.Len() { // the member that serves the NSDB is one of them
		f.cluster.Freeze(i)
		frozen := time.Now()
		f.awaitLaterChange()
		t.Logf("member %d hangs: a change is seen after %v", i, time.Since(frozen))
		f.cluster.Thaw(i)
		f.cluster.Await()
	}
	f.onlyWholeSets(0)
	f.await("the status", func() bool { value, _, _ := f.stored("status/containers/h/c"); return value == runningJSON })
}

func TestWithoutAMajorityTheLastSetRemains(t *testing.T) {
	f, _ := newOwnCluster(t, false)
	f.startAndReadAll()
	f.publishRunning()
	f.cluster.Kill(0)
	f.cluster.Kill(1)
	f.await("the log line", func() bool { return f.logged("NSDB cannot be followed") > 0 })
	f.await("the log line", func() bool { return f.logged("statuses cannot be kept") > 0 })
	time.Sleep(2 * time.Second)
	if sets := f.since(0); len(sets) != 1 {
		t.Errorf("%d sets: %+v", len(sets), sets[1:])
	}
	if n := f.logged("NSDB cannot be followed"); n != 1 {
		t.Errorf("logged %d times: %q", n, f.log)
	}
	f.cluster.Restart(0)
	f.cluster.Restart(1)
	f.cluster.Await()
	back := time.Now()
	f.await("the status", func() bool { value, _, _ := f.stored("status/containers/h/c"); return value == runningJSON })
	t.Logf("the status is there again after %v", time.Since(back))
	f.await("the log line", func() bool { return f.logged("statuses are kept again") > 0 })
	f.awaitLaterChange()
	f.onlyWholeSets(0)
	if f.logged("NSDB answers again") != 1 {
		t.Errorf("log %q", f.log)
	}
}

func TestStatusesAndSetsSurviveARollingRestart(t *testing.T) {
	f, _ := newOwnCluster(t, false)
	f.startAndReadAll()
	f.publishRunning()
	var missed atomic.Int64
	for i := range f.cluster.Len() {
		f.cluster.Restart(i)
		f.cluster.Await()
		f.awaitLaterChange()
		if value, _, _ := f.stored("status/containers/h/c"); value != runningJSON {
			missed.Add(1)
		}
	}
	if missed.Load() > 0 {
		t.Errorf("the status was missing %d times", missed.Load())
	}
	f.onlyWholeSets(0)
}

func TestTheNSDBRecoversAfterAllMembersHang(t *testing.T) {
	f, _ := newOwnCluster(t, false)
	f.startAndReadAll()
	f.publishRunning()
	for i := range f.cluster.Len() {
		f.cluster.Freeze(i)
	}
	f.await("the log line", func() bool { return f.logged("NSDB cannot be followed") > 0 })
	for i := range f.cluster.Len() {
		f.cluster.Thaw(i)
	}
	f.awaitLaterChange()
	if len(f.since(0)) != 2 {
		t.Errorf("%d sets", len(f.since(0)))
	}
	f.await("the status", func() bool { value, _, _ := f.stored("status/containers/h/c"); return value == runningJSON })
	f.onlyWholeSets(0)
}
