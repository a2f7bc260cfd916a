package etcd

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
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
	publish := func() (string, int64, int64) {
		t.Helper()
		f.check(f.nsdb.PublishContainer(t.Context(), "c", running))
		return f.stored("status/containers/h/c")
	}
	value, lease, revision := publish()
	if value != runningJSON || lease == 0 {
		t.Errorf("got %s under lease %d", value, lease)
	}
	if _, _, again := publish(); again != revision {
		t.Error("written again")
	}
	f.remove("status/containers/h/c")
	if value, _, _ := publish(); value != runningJSON {
		t.Errorf("after it was removed: %q", value)
	}
	f.check(f.nsdb.PublishHost(t.Context(), spec.HostStatus{Weight: 1, Quota: -1, Count: 2}))
	if value, its, _ := f.stored("status/hosts/h"); value != `{"weight":1,"quota":-1,"count":2}` || its != lease {
		t.Errorf("got %s under lease %d", value, its)
	}
	ids, err := f.nsdb.Published(t.Context())
	if err != nil || !slices.Equal(ids, []spec.ContainerID{"c"}) {
		t.Errorf("published %v %v", ids, err)
	}
	f.check(f.nsdb.RemoveContainer(t.Context(), "c"))
	f.check(f.nsdb.RemoveContainer(t.Context(), "c"))
	if value, _, _ := f.stored("status/containers/h/c"); value != "" {
		t.Errorf("after its removal: %s", value)
	}
	if err := f.nsdb.PublishContainer(t.Context(), "../x", running); err == nil {
		t.Error("an invalid id was accepted")
	}
}

func TestStatusesOutliveARestartAndThenBelongToTheNewProcess(t *testing.T) {
	f := newFixture(t)
	address := f.cluster.URL(f.root) + "?ttl=3s"
	first := f.open(address)
	f.check(first.PublishContainer(t.Context(), "c", running))
	f.check(first.PublishContainer(t.Context(), "d", running))
	f.check(first.PublishHost(t.Context(), spec.HostStatus{Weight: 1}))
	_, old, _ := f.stored("status/containers/h/c")
	f.check(first.Close())
	if value, _, _ := f.stored("status/containers/h/c"); value == "" {
		t.Fatal("Close removed the status")
	}
	second := f.open(address)
	ids, err := second.Published(t.Context())
	if err != nil || !slices.Equal(ids, []spec.ContainerID{"c", "d"}) {
		t.Errorf("published %v %v", ids, err)
	}
	for _, key := range []string{"status/containers/h/c", "status/containers/h/d", "status/hosts/h"} {
		if value, lease, _ := f.stored(key); value == "" || lease == old || lease == 0 {
			t.Errorf("%s: %q under lease %d, the old one was %d", key, value, lease, old)
		}
	}
	f.waitForLeaseEnd(old)
	if value, _, _ := f.stored("status/containers/h/d"); value == "" {
		t.Error("the status expired with the old lease")
	}
	_, now, _ := f.stored("status/containers/h/d")
	f.check(second.Close())
	f.waitForLeaseEnd(now)
	if value, _, _ := f.stored("status/containers/h/d"); value != "" {
		t.Error("the status outlives its lease")
	}
}

func TestPublishingReplacesALostLease(t *testing.T) {
	f := newFixture(t)
	n := f.open(f.cluster.URL(f.root) + "?ttl=1h")
	f.check(n.PublishContainer(t.Context(), "c", running))
	f.check(n.PublishContainer(t.Context(), "d", running))
	_, old, _ := f.stored("status/containers/h/d")
	if _, err := f.cluster.Client().Revoke(t.Context(), clientv3.LeaseID(old)); err != nil {
		t.Fatal(err)
	}
	other := running
	other.Message = "another"
	f.check(n.PublishContainer(t.Context(), "c", other))
	f.await("the other status", func() bool {
		value, lease, _ := f.stored("status/containers/h/d")
		return value != "" && lease != old
	})
}

// Each failed attempt names another member. That alone must not cause another set.
func TestAnNSDBUnreachableAtTheStartIsReportedOnce(t *testing.T) {
	reported := 0
	r := &runState{n: &NSDB{log: slog.New(slog.DiscardHandler), timeouts: defaultTimeouts}, changed: func(d spec.Desired) {
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
	f.check(publisher.PublishContainer(t.Context(), "c", running))
	_, lease, revision := f.stored("status/containers/h/c")
	f.startAndReadAll()
	f.awaitLaterChange()
	if _, nowLease, now := f.stored("status/containers/h/c"); nowLease != lease || now != revision {
		t.Error("the status was changed")
	}
}

func TestALostLeaseIsReplacedAndEveryStatusWrittenAgain(t *testing.T) {
	f := newFixture(t)
	n := f.open(f.cluster.URL(f.root) + "?ttl=2s")
	ids := []spec.ContainerID{"a", "b", "c"}
	for _, id := range ids {
		f.check(n.PublishContainer(t.Context(), id, running))
	}
	f.check(n.RemoveContainer(t.Context(), "b"))
	_, lease, _ := f.stored("status/containers/h/c")
	_, err := f.cluster.Client().Revoke(t.Context(), clientv3.LeaseID(lease))
	f.check(err)
	lost := time.Now()
	for _, id := range []string{"a", "c"} {
		f.await("the status of "+id, func() bool {
			value, now, _ := f.stored("status/containers/h/" + id)
			return value == runningJSON && now != lease
		})
	}
	t.Logf("all there again after %v", time.Since(lost))
	if value, _, _ := f.stored("status/containers/h/b"); value != "" {
		t.Errorf("a removed status was written again: %s", value)
	}
	// The next publication finds the lease revoked before the worker does.
	_, lease, _ = f.stored("status/containers/h/c")
	_, err = f.cluster.Client().Revoke(t.Context(), clientv3.LeaseID(lease))
	f.check(err)
	stopping := running
	stopping.Code = spec.Stopping
	f.check(n.PublishContainer(t.Context(), "c", stopping))
	if value, _, _ := f.stored("status/containers/h/c"); !strings.Contains(value, "STOPPING") {
		t.Errorf("got %s", value)
	}
	f.await("the other status", func() bool {
		value, _, _ := f.stored("status/containers/h/a")
		return value == runningJSON
	})
}

func TestTheLeaseOfAStatusIsRenewed(t *testing.T) {
	f := newFixture(t)
	n := f.open(f.cluster.URL(f.root) + "?ttl=2s")
	f.check(n.PublishContainer(t.Context(), "c", running))
	_, lease, revision := f.stored("status/containers/h/c")
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if value, now, its := f.stored("status/containers/h/c"); value == "" || now != lease || its != revision {
			t.Fatalf("%q under lease %d, revision %d; before %d, %d", value, now, its, lease, revision)
		}
	}
	if n := f.rpcs.requests["LeaseKeepAlive"]; n != 1 {
		t.Errorf("%d streams for one lease", n)
	}
}

func TestARefusedStatusDoesNotBlockOthers(t *testing.T) {
	f := newFixture(t)
	huge := running
	huge.Message = strings.Repeat("x", 2<<20)
	err := f.nsdb.PublishContainer(t.Context(), "huge", huge)
	if err == nil || !strings.Contains(err.Error(), "the request is too large") || len(err.Error()) > 1000 {
		t.Fatalf("got %.300v", err)
	}
	f.check(f.nsdb.PublishContainer(t.Context(), "c", running))
	f.check(f.nsdb.RemoveContainer(t.Context(), "huge"))
	if f.logged("WARN") != 0 {
		t.Errorf("log %.300q", f.log)
	}
}

// An etcd without free space refuses writes but renews leases. The statuses that were written before must not expire.
func TestALeaseIsRenewedWhileWritesAreRefused(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1)
	f := newFixtureIn(t, c, func(root string) string { return c.URL(root) + "?ttl=3s" })
	f.check(f.nsdb.PublishContainer(t.Context(), "c", running))
	f.check(f.nsdb.PublishHost(t.Context(), spec.HostStatus{Weight: 1}))
	_, lease, _ := f.stored("status/containers/h/c")
	f.noSpace(pb.AlarmRequest_ACTIVATE)
	later := running
	later.Code = spec.Stopping
	err := f.nsdb.PublishContainer(t.Context(), "c", later)
	if err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Fatalf("got %v", err)
	}
	for end := time.Now().Add(8 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		for _, key := range []string{"status/containers/h/c", "status/hosts/h"} {
			if value, now, _ := f.stored(key); value == "" || now != lease {
				t.Fatalf("%s: %q under lease %d; before %d", key, value, now, lease)
			}
		}
	}
	if f.logged("statuses cannot be kept") == 0 || f.logged("no space left") == 0 {
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
