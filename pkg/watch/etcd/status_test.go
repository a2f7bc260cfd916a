package etcd

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/etcdtest"
)

var running = spec.ContainerStatus{
	Code: spec.Running, Message: "1 < 2 & \"up\"", HostID: "h", NamespaceName: "vpn-1", InterfaceName: "vpn-1",
}

const runningJSON = `{"code":"RUNNING","message":"1 < 2 & \"up\"",` +
	`"hostId":"h","namespaceName":"vpn-1","interfaceName":"vpn-1"}`

func TestAStatusHasALeaseAndIsWrittenOnlyIfItDiffers(t *testing.T) {
	f := newFixture(t)
	write := func() (string, int64, int64) {
		t.Helper()
		f.check(put(t.Context(), f.nsdb, "c", running))
		return f.stored("status/containers/h/c")
	}
	value, lease, revision := write()
	if value != runningJSON || lease == 0 {
		t.Errorf("got %s under lease %d", value, lease)
	}
	if _, _, again := write(); again != revision {
		t.Error("written again")
	}
	f.remove("status/containers/h/c")
	if value, _, _ := write(); value != runningJSON {
		t.Errorf("after it was removed: %q", value)
	}
	f.check(putHost(t.Context(), f.nsdb, spec.HostStatus{Weight: 1, Quota: -1, Count: 2}))
	if value, its, _ := f.stored("status/hosts/h"); value != `{"weight":1,"quota":-1,"count":2}` || its != lease {
		t.Errorf("got %s under lease %d", value, its)
	}
	listed, err := f.nsdb.ListStatuses(t.Context())
	if err != nil || len(listed) != 2 || string(listed["c"]) != runningJSON || listed[""] == nil {
		t.Errorf("listed %q %v", listed, err)
	}
	f.check(f.nsdb.DeleteStatus(t.Context(), "c"))
	f.check(f.nsdb.DeleteStatus(t.Context(), "c"))
	if value, _, _ := f.stored("status/containers/h/c"); value != "" {
		t.Errorf("after its removal: %s", value)
	}
	if err := put(t.Context(), f.nsdb, "../x", running); err == nil {
		t.Error("an invalid id was accepted")
	}
}

func TestStatusesOutliveARestartAndThenBelongToTheNewProcess(t *testing.T) {
	f := newFixture(t)
	address := f.cluster.URL(f.root) + "?ttl=8s"
	first := f.open(address)
	f.check(put(t.Context(), first, "c", running))
	f.check(put(t.Context(), first, "d", running))
	f.check(putHost(t.Context(), first, spec.HostStatus{Weight: 1}))
	_, old, _ := f.stored("status/containers/h/c")
	f.check(first.Close())
	if value, _, _ := f.stored("status/containers/h/c"); value == "" {
		t.Fatal("Close removed the status")
	}
	second := f.open(address)
	p, stop := f.publish(second)
	f.check(p.Prune(t.Context(), func(spec.ContainerID) bool { return true }))
	for _, key := range []string{"status/containers/h/c", "status/containers/h/d", "status/hosts/h"} {
		f.await("the take-over of "+key, func() bool {
			value, lease, _ := f.stored(key)
			return value != "" && lease != old && lease != 0
		})
	}
	if f.logged("statuses of an earlier run taken over 3") != 1 {
		t.Errorf("log %q", f.log)
	}
	f.waitForLeaseEnd(old)
	if value, _, _ := f.stored("status/containers/h/d"); value == "" {
		t.Error("the status expired with the old lease")
	}
	_, now, _ := f.stored("status/containers/h/d")
	stop()
	f.check(second.Close())
	f.waitForLeaseEnd(now)
	if value, _, _ := f.stored("status/containers/h/d"); value != "" {
		t.Error("the status outlives its lease")
	}
}

func TestPublishingReplacesALostLease(t *testing.T) {
	f := newFixture(t)
	n := f.open(f.cluster.URL(f.root) + "?ttl=1h")
	p, _ := f.publish(n)
	p.Set("c", running)
	p.Set("d", running)
	var old int64
	for _, id := range []string{"c", "d"} {
		f.await("the status of "+id, func() bool {
			_, lease, _ := f.stored("status/containers/h/" + id)
			old = lease
			return lease != 0
		})
	}
	if _, err := f.cluster.Client().Revoke(t.Context(), clientv3.LeaseID(old)); err != nil {
		t.Fatal(err)
	}
	other := running
	other.Message = "another"
	p.Set("c", other) // finds the lease revoked long before it is renewed
	f.await("both statuses", func() bool {
		c, cLease, _ := f.stored("status/containers/h/c")
		d, dLease, _ := f.stored("status/containers/h/d")
		return strings.Contains(c, "another") && d == runningJSON && cLease == dLease && cLease != old
	})
}

// Each failed attempt names another member. That alone must not cause another set.
func TestAnNSDBUnreachableAtTheStartIsReportedOnce(t *testing.T) {
	reported := 0
	conn := &connection{log: slog.New(slog.DiscardHandler), timeouts: defaultTimeouts}
	r := &reader{conn: conn, changed: func(d spec.Desired) {
		if d.Unread == "" {
			t.Errorf("got %+v", d)
		}
		reported++
	}}
	for port := range 5 {
		r.failed(fmt.Errorf("127.0.0.1:%d: connection refused", port))
	}
	if reported != 1 {
		t.Errorf("reported %d times", reported)
	}
	r.reported = time.Now().Add(-2 * defaultTimeouts.reminder)
	if r.failed(errors.New("again")); reported != 2 {
		t.Errorf("reported %d times, with the reminder", reported)
	}
}

// waitForLeaseEnd waits until a lease does not exist any more.
func (f *fixture) waitForLeaseEnd(lease int64) {
	f.Helper()
	f.await("the end of a lease", func() bool {
		answer, err := f.cluster.Client().TimeToLive(f.Context(), clientv3.LeaseID(lease))
		return err == nil && answer.TTL == -1 // 0 means that etcd is about to revoke it
	})
}

func TestReadingTakesOverNoStatus(t *testing.T) {
	f := newFixture(t)
	publisher := f.open(f.cluster.URL(f.root))
	f.check(put(t.Context(), publisher, "c", running))
	_, lease, revision := f.stored("status/containers/h/c")
	f.startAndReadAll()
	f.awaitLaterChange()
	if _, nowLease, now := f.stored("status/containers/h/c"); nowLease != lease || now != revision {
		t.Error("the status was changed")
	}
}

func TestALostLeaseIsReplacedAndEveryStatusWrittenAgain(t *testing.T) {
	f := newFixture(t)
	n := f.open(f.cluster.URL(f.root) + "?ttl=20s")
	p, _ := f.publish(n)
	for _, id := range []spec.ContainerID{"a", "b", "c"} {
		p.Set(id, running)
	}
	written := func(lease int64) func() bool {
		return func() bool {
			for _, id := range []string{"a", "c"} {
				if value, now, _ := f.stored("status/containers/h/" + id); value != runningJSON || now == lease {
					return false
				}
			}
			return true
		}
	}
	f.await("the first statuses", written(0))
	p.Remove("b")
	f.await("the removal", func() bool { value, _, _ := f.stored("status/containers/h/b"); return value == "" })
	_, lease, _ := f.stored("status/containers/h/c")
	_, err := f.cluster.Client().Revoke(t.Context(), clientv3.LeaseID(lease))
	f.check(err)
	lost := time.Now()
	f.await("the statuses again", written(lease))
	t.Logf("all there again after %v", time.Since(lost))
	if value, _, _ := f.stored("status/containers/h/b"); value != "" {
		t.Errorf("a removed status was written again: %s", value)
	}
}

func TestTheLeaseOfAStatusIsRenewed(t *testing.T) {
	f := newFixture(t)
	n := f.open(f.cluster.URL(f.root) + "?ttl=10s")
	n.conn.timeouts = f.nsdb.conn.timeouts
	f.check(put(t.Context(), n, "c", running))
	_, lease, revision := f.stored("status/containers/h/c")
	for end := time.Now().Add(12 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if value, now, its := f.stored("status/containers/h/c"); value == "" || now != lease || its != revision {
			t.Fatalf("%q under lease %d, revision %d; before %d, %d", value, now, its, lease, revision)
		}
	}
	f.rpcs.mu.Lock()
	defer f.rpcs.mu.Unlock()
	if n := f.rpcs.requests["LeaseKeepAlive"]; n != 1 {
		t.Errorf("%d streams for one lease", n)
	}
}

func TestARefusedStatusDoesNotBlockOthers(t *testing.T) {
	f := newFixture(t)
	huge := running
	huge.Message = strings.Repeat("x", 2<<20)
	err := put(t.Context(), f.nsdb, "huge", huge)
	if err == nil || !strings.Contains(err.Error(), "the request is too large") || len(err.Error()) > 1000 {
		t.Fatalf("got %.300v", err)
	}
	f.check(put(t.Context(), f.nsdb, "c", running))
	f.check(f.nsdb.DeleteStatus(t.Context(), "huge"))
	if f.logged("WARN") != 0 {
		t.Errorf("log %.300q", f.log)
	}
}

// An etcd without free space refuses writes but renews leases. The statuses that were written before must not expire.
func TestALeaseIsRenewedWhileWritesAreRefused(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1)
	f := newFixtureIn(t, c, func(root string) string { return c.URL(root) + "?ttl=10s" })
	p, _ := f.publish(f.nsdb)
	p.Set("c", running)
	p.SetHost(spec.HostStatus{Weight: 1})
	f.await("both statuses", func() bool {
		_, host, _ := f.stored("status/hosts/h")
		_, c, _ := f.stored("status/containers/h/c")
		return host != 0 && c != 0
	})
	_, lease, _ := f.stored("status/containers/h/c")
	f.noSpace(pb.AlarmRequest_ACTIVATE)
	later := running
	later.Code = spec.Stopping
	p.Set("c", later)
	for end := time.Now().Add(12 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		for _, key := range []string{"status/containers/h/c", "status/hosts/h"} {
			if value, now, _ := f.stored(key); value == "" || now != lease {
				t.Fatalf("%s: %q under lease %d; before %d", key, value, now, lease)
			}
		}
	}
	if f.logged("status not published") == 0 || f.logged("no space left") == 0 {
		t.Errorf("log %q", f.log)
	}
	f.noSpace(pb.AlarmRequest_DEACTIVATE)
	f.await("the status that was refused", func() bool {
		value, now, _ := f.stored("status/containers/h/c")
		return strings.Contains(value, "STOPPING") && now == lease
	})
}

// noSpace activates or deactivates the alarm that a member has no space left.
func (f *fixture) noSpace(action pb.AlarmRequest_AlarmAction) {
	f.Helper()
	client := f.cluster.Client()
	status, err := client.Status(f.Context(), client.Endpoints()[0])
	f.check(err)
	_, err = pb.NewMaintenanceClient(client.ActiveConnection()).Alarm(f.Context(), &pb.AlarmRequest{
		Action: action, MemberID: status.Header.MemberId, Alarm: pb.AlarmType_NOSPACE,
	})
	f.check(err)
}
