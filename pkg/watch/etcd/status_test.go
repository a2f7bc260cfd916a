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

const runningJSON = `{"code":"RUNNING","message":"1 < 2 & \"up\"","hostId":"h","namespaceName":"vpn-1","interfaceName":"vpn-1"}`

func TestAStatusStandsUnderALeaseAndIsWrittenOnlyWhereItDiffers(t *testing.T) {
	g := newGround(t)
	publish := func() (string, int64, int64) {
		t.Helper()
		g.check(g.nsdb.PublishContainer(t.Context(), "c", running))
		return g.stands("status/containers/h/c")
	}
	value, lease, revision := publish()
	if value != runningJSON || lease == 0 {
		t.Errorf("got %s under lease %d", value, lease)
	}
	if _, _, again := publish(); again != revision {
		t.Error("written again")
	}
	g.remove("status/containers/h/c")
	if value, _, _ := publish(); value != runningJSON {
		t.Errorf("after it was removed: %q", value)
	}
	g.check(g.nsdb.PublishHost(t.Context(), spec.HostStatus{Weight: 1, Quota: -1, Count: 2}))
	if value, its, _ := g.stands("status/hosts/h"); value != `{"weight":1,"quota":-1,"count":2}` || its != lease {
		t.Errorf("got %s under lease %d", value, its)
	}
	ids, err := g.nsdb.Published(t.Context())
	if err != nil || !slices.Equal(ids, []spec.ContainerID{"c"}) {
		t.Errorf("published %v %v", ids, err)
	}
	g.check(g.nsdb.RemoveContainer(t.Context(), "c"))
	g.check(g.nsdb.RemoveContainer(t.Context(), "c"))
	if value, _, _ := g.stands("status/containers/h/c"); value != "" {
		t.Errorf("after its removal: %s", value)
	}
	if err := g.nsdb.PublishContainer(t.Context(), "../x", running); err == nil {
		t.Error("an id that is none was taken")
	}
}

func TestStatusesOutliveARestartAndThenBelongToTheNewProcess(t *testing.T) {
	g := newGround(t)
	address := g.cluster.URL(g.root) + "?ttl=3s"
	first := g.open(address)
	g.check(first.PublishContainer(t.Context(), "c", running))
	g.check(first.PublishContainer(t.Context(), "d", running))
	g.check(first.PublishHost(t.Context(), spec.HostStatus{Weight: 1}))
	_, old, _ := g.stands("status/containers/h/c")
	g.check(first.Close())
	if value, _, _ := g.stands("status/containers/h/c"); value == "" {
		t.Fatal("Close ended the status")
	}
	second := g.open(address)
	ids, err := second.Published(t.Context())
	if err != nil || !slices.Equal(ids, []spec.ContainerID{"c", "d"}) {
		t.Errorf("published %v %v", ids, err)
	}
	for _, key := range []string{"status/containers/h/c", "status/containers/h/d", "status/hosts/h"} {
		if value, lease, _ := g.stands(key); value == "" || lease == old || lease == 0 {
			t.Errorf("%s: %q under lease %d, the old one was %d", key, value, lease, old)
		}
	}
	g.gone(old)
	if value, _, _ := g.stands("status/containers/h/d"); value == "" {
		t.Error("it went with the old lease")
	}
	_, now, _ := g.stands("status/containers/h/d")
	g.check(second.Close())
	g.gone(now)
	if value, _, _ := g.stands("status/containers/h/d"); value != "" {
		t.Error("it outlives its lease")
	}
}

func TestALostLeaseIsMadeGoodAtOnceByWhoeverMeetsIt(t *testing.T) {
	g := newGround(t)
	n := g.open(g.cluster.URL(g.root) + "?ttl=1h")
	g.check(n.PublishContainer(t.Context(), "c", running))
	g.check(n.PublishContainer(t.Context(), "d", running))
	_, old, _ := g.stands("status/containers/h/d")
	if _, err := g.cluster.Client().Revoke(t.Context(), clientv3.LeaseID(old)); err != nil {
		t.Fatal(err)
	}
	other := running
	other.Message = "another"
	g.check(n.PublishContainer(t.Context(), "c", other))
	g.await("the other status", func() bool {
		value, lease, _ := g.stands("status/containers/h/d")
		return value != "" && lease != old
	})
}

// Each failure to begin names another member: that is no news to whoever hears of the host.
func TestAnNSDBThatIsAwayFromTheStartIsToldOnce(t *testing.T) {
	told := 0
	h := &hearing{n: &NSDB{log: slog.New(slog.DiscardHandler), patience: usualPatience}, changed: func(d spec.Desired) {
		if d.Unread == "" {
			t.Errorf("told %+v", d)
		}
		told++
	}}
	for port := range 5 {
		h.broken(fmt.Errorf("127.0.0.1:%d: connection refused", port))
	}
	if told != 1 {
		t.Errorf("told %d times", told)
	}
	h.told = time.Now().Add(-2 * usualPatience.remind)
	if h.broken(errors.New("again")); told != 2 {
		t.Errorf("told %d times, with the reminder", told)
	}
}

// gone waits until a lease is no more.
func (g *ground) gone(lease int64) {
	g.Helper()
	g.await("the end of a lease", func() bool {
		answer, err := g.cluster.Client().TimeToLive(g.Context(), clientv3.LeaseID(lease))
		return err == nil && answer.TTL == -1 // and not 0: revoked a moment later
	})
}

func TestWhoOnlyReadsTakesNoStatusOver(t *testing.T) {
	g := newGround(t)
	speaker := g.open(g.cluster.URL(g.root))
	g.check(speaker.PublishContainer(t.Context(), "c", running))
	_, lease, revision := g.stands("status/containers/h/c")
	g.startsWell()
	g.settle()
	if _, nowLease, now := g.stands("status/containers/h/c"); nowLease != lease || now != revision {
		t.Error("the status was touched")
	}
}

func TestALostLeaseIsReplacedAndEveryStatusWrittenAgain(t *testing.T) {
	g := newGround(t)
	n := g.open(g.cluster.URL(g.root) + "?ttl=2s")
	ids := []spec.ContainerID{"a", "b", "c"}
	for _, id := range ids {
		g.check(n.PublishContainer(t.Context(), id, running))
	}
	g.check(n.RemoveContainer(t.Context(), "b"))
	_, lease, _ := g.stands("status/containers/h/c")
	_, err := g.cluster.Client().Revoke(t.Context(), clientv3.LeaseID(lease))
	g.check(err)
	lost := time.Now()
	for _, id := range []string{"a", "c"} {
		g.await("the status of "+id, func() bool {
			value, now, _ := g.stands("status/containers/h/" + id)
			return value == runningJSON && now != lease
		})
	}
	t.Logf("all there again after %v", time.Since(lost))
	if value, _, _ := g.stands("status/containers/h/b"); value != "" {
		t.Errorf("a removed status came back: %s", value)
	}
	// The next word finds the lease gone before the keeper does.
	_, lease, _ = g.stands("status/containers/h/c")
	_, err = g.cluster.Client().Revoke(t.Context(), clientv3.LeaseID(lease))
	g.check(err)
	stopping := running
	stopping.Code = spec.Stopping
	g.check(n.PublishContainer(t.Context(), "c", stopping))
	if value, _, _ := g.stands("status/containers/h/c"); !strings.Contains(value, "STOPPING") {
		t.Errorf("got %s", value)
	}
	g.await("the other status", func() bool { value, _, _ := g.stands("status/containers/h/a"); return value == runningJSON })
}

func TestAStatusIsKeptForLongerThanItsLease(t *testing.T) {
	g := newGround(t)
	n := g.open(g.cluster.URL(g.root) + "?ttl=2s")
	g.check(n.PublishContainer(t.Context(), "c", running))
	_, lease, revision := g.stands("status/containers/h/c")
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if value, now, its := g.stands("status/containers/h/c"); value == "" || now != lease || its != revision {
			t.Fatalf("%q under lease %d, revision %d; before %d, %d", value, now, its, lease, revision)
		}
	}
	if n := g.rpcs.begun["LeaseKeepAlive"]; n != 1 {
		t.Errorf("%d streams for one lease", n)
	}
}

func TestAStatusThatEtcdRefusesKeepsNoOtherBack(t *testing.T) {
	g := newGround(t)
	huge := running
	huge.Message = strings.Repeat("x", 2<<20)
	err := g.nsdb.PublishContainer(t.Context(), "huge", huge)
	if err == nil || !strings.Contains(err.Error(), "the request is too large") || len(err.Error()) > 1000 {
		t.Fatalf("got %.300v", err)
	}
	g.check(g.nsdb.PublishContainer(t.Context(), "c", running))
	g.check(g.nsdb.RemoveContainer(t.Context(), "huge"))
	if g.logged("WARN") != 0 {
		t.Errorf("log %.300q", g.log)
	}
}

// An etcd without space refuses every word, and renews leases: what stands must not go for that.
func TestALeaseIsRenewedWhileWordsAreRefused(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1)
	g := groundIn(t, c, func(root string) string { return c.URL(root) + "?ttl=3s" })
	g.check(g.nsdb.PublishContainer(t.Context(), "c", running))
	g.check(g.nsdb.PublishHost(t.Context(), spec.HostStatus{Weight: 1}))
	_, lease, _ := g.stands("status/containers/h/c")
	g.noSpace(pb.AlarmRequest_ACTIVATE)
	later := running
	later.Code = spec.Stopping
	if err := g.nsdb.PublishContainer(t.Context(), "c", later); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Fatalf("got %v", err)
	}
	for end := time.Now().Add(8 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		for _, key := range []string{"status/containers/h/c", "status/hosts/h"} {
			if value, now, _ := g.stands(key); value == "" || now != lease {
				t.Fatalf("%s: %q under lease %d; before %d", key, value, now, lease)
			}
		}
	}
	if g.logged("statuses cannot be kept") == 0 || g.logged("no space left") == 0 {
		t.Errorf("nothing was told: %q", g.log)
	}
	g.noSpace(pb.AlarmRequest_DEACTIVATE)
	g.await("the word that was refused", func() bool {
		value, now, _ := g.stands("status/containers/h/c")
		return strings.Contains(value, "STOPPING") && now == lease
	})
}

// noSpace raises or ends the alarm that a member is out of space.
func (g *ground) noSpace(action pb.AlarmRequest_AlarmAction) {
	g.Helper()
	client := g.cluster.Client()
	status, err := client.Status(g.Context(), client.Endpoints()[0])
	g.check(err)
	_, err = pb.NewMaintenanceClient(client.ActiveConnection()).Alarm(g.Context(), &pb.AlarmRequest{
		Action: action, MemberID: status.Header.MemberId, Alarm: pb.AlarmType_NOSPACE,
	})
	g.check(err)
}
