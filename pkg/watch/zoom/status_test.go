package zoom

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/svc-supervisor/svc-supervisor/internal/publish"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/model"
)

func TestStatusesAreWrittenOnceAndRemoved(t *testing.T) {
	f := newFixture(t, sharedServers.start(t))
	f.putBindings(2)
	relay := f.cluster.Relay()
	n := f.open(relay.URL(f.tree.Root()))
	ctx := t.Context()
	host := spec.HostStatus{Weight: 1, Quota: -1, Count: 2}
	f.check(putHost(ctx, n, host))
	f.check(put(ctx, n, container(0), f.running(0)))
	relay.Requests()
	for range 3 {
		f.check(putHost(ctx, n, host))
		f.check(put(ctx, n, container(0), f.running(0)))
	}
	if counts := relay.Requests(); counts["multi"]+counts["set"]+counts["create"] > 0 {
		t.Errorf("an unchanged status was written again: %v", counts)
	}
	data, owner := f.stored(f.hostState())
	if data != "weight: 1\nquota: -1\ncount: 2\n" || owner == 0 {
		t.Errorf("%q, owner %x", data, owner)
	}
	data, _ = f.stored(f.containerState(0))
	want := "status_code: RUNNING\nstatus_message: \"up\"\n" + uuid("host_id", string(f.host))
	if !strings.HasPrefix(data, want) || !strings.Contains(data, "namespace_name: \""+name(0)) {
		t.Errorf("%q", data)
	}
	listed, err := n.ListStatuses(ctx)
	if value, ok := listed[container(0)]; err != nil || len(listed) != 1 || !ok || value != nil {
		t.Error(listed, err)
	}
	f.check(n.DeleteStatus(ctx, container(0)))
	f.check(n.DeleteStatus(ctx, container(0)))
	f.check(n.DeleteStatus(ctx, container(1)))
	if listed, err := n.ListStatuses(ctx); err != nil || len(listed) > 0 {
		t.Error(listed, err)
	}
	err = put(ctx, n, spec.ContainerID(id(77)), f.running(0))
	if !errors.Is(err, publish.ErrNoObject) || !strings.Contains(err.Error(),
		f.object(model.ServiceContainer, id(77))) {
		t.Error(err)
	}
	if exists, _, _ := f.conn.Exists(f.tree.ContainerStates(model.UUID(f.host)) + "/" + id(77)); exists {
		t.Error("a node was created for a missing object")
	}
	for _, key := range []string{"alive", "host"} {
		if exists, _, _ := f.conn.Exists(strings.TrimSuffix(f.hostState(), "container") + key); exists {
			t.Error("a node of the agent was created: ", key)
		}
	}
}

func TestANodeIsTakenOverFromAnotherSessionWithoutAGap(t *testing.T) {
	f := newFixture(t, sharedServers.start(t))
	f.putBindings(1)
	session := f.cluster.Dial()
	data := "weight: 1\nquota: -1\ncount: 0\n"
	f.check(makeParents(&client{session, session.SessionID()}, f.hostState()))
	_, err := session.Create(f.hostState(), []byte(data), zk.FlagEphemeral, worldACL)
	f.check(err)
	absent := make(chan bool)
	stop := make(chan struct{})
	go func() {
		gap := false
		for {
			select {
			case <-stop:
				absent <- gap
				return
			default:
				if exists, _, err := f.conn.Exists(f.hostState()); err == nil && !exists {
					gap = true
				}
			}
		}
	}()
	n := f.open(f.cluster.URL(f.tree.Root()))
	f.check(putHost(t.Context(), n, spec.HostStatus{Weight: 1, Quota: -1}))
	current, owner := f.stored(f.hostState())
	if current != data || owner == session.SessionID() || owner == 0 {
		t.Errorf("%q, owner %x", current, owner)
	}
	close(stop)
	if <-absent {
		t.Error("the node was absent for a moment")
	}
}

func TestTheContainerNodeCanBeLeftToAPatchedAgent(t *testing.T) {
	f := newFixture(t, sharedServers.start(t))
	f.putBindings(1)
	n := f.open(f.cluster.URL(f.tree.Root()) + "?container=leave")
	f.check(putHost(t.Context(), n, spec.HostStatus{Weight: 1}))
	if exists, _, _ := f.conn.Exists(f.hostState()); exists {
		t.Error("the node was written")
	}
}

// The nodes exist during the whole restart, and after the timeout of the first session.
func TestStatusesOutliveARestart(t *testing.T) {
	f := newFixture(t, sharedServers.start(t))
	f.putBindings(1)
	first := f.open(f.cluster.URL(f.tree.Root()))
	ctx := t.Context()
	host := spec.HostStatus{Weight: 1, Quota: -1, Count: 1}
	f.check(putHost(ctx, first, host))
	f.check(put(ctx, first, container(0), f.running(0)))
	start := time.Now()
	f.check(first.Close())
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("Close took %v", took)
	}
	if _, owner := f.stored(f.hostState()); owner == 0 {
		t.Fatal("Close removed the node")
	}
	second := f.open(f.cluster.URL(f.tree.Root()))
	f.check(putHost(ctx, second, host))
	f.check(put(ctx, second, container(0), f.running(0)))
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if exists, _, err := f.conn.Exists(f.hostState()); err == nil && !exists {
			t.Fatal("the node was absent")
		}
	}
	if data, _ := f.stored(f.containerState(0)); data == "" {
		t.Error("the status is gone")
	}
	f.check(second.Close())
	f.waitFor("the session's end", func() bool {
		exists, _, err := f.conn.Exists(f.hostState())
		return err == nil && !exists
	})
}

// A session without published statuses is closed at once, because it has no nodes to keep.
func TestASessionWithoutStatusesIsClosed(t *testing.T) {
	f := newFixture(t, sharedServers.start(t))
	relay := f.cluster.Relay()
	n := f.open(relay.URL(f.tree.Root()))
	_, err := n.ListStatuses(t.Context())
	f.check(err)
	f.check(n.Close())
	if counts := relay.Requests(); counts["close"] != 1 {
		t.Error(counts)
	}
}

func TestARunningAgentIsDetected(t *testing.T) {
	f := newFixture(t, sharedServers.start(t))
	n := f.open(f.cluster.URL(f.tree.Root()))
	_, err := n.AgentAlive(t.Context())
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), f.object(model.Host, string(f.host))) {
		t.Error("a wrong root: ", err)
	}
	f.putHost(0)
	if alive, err := n.AgentAlive(t.Context()); alive || err != nil {
		t.Error(alive, err)
	}
	f.cluster.Put(f.conn.Conn, f.tree.HostAlive(model.UUID(f.host)), "alive")
	if alive, err := n.AgentAlive(t.Context()); !alive || err != nil {
		t.Error(alive, err)
	}
}

func TestWithoutASessionTheFaultOfEachServerIsReported(t *testing.T) {
	f := newFixture(t, sharedServers.start(t))
	n := f.open("zk://127.0.0.1:1,nowhere.invalid:2181/m")
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	err := putHost(ctx, n, spec.HostStatus{})
	if err == nil || !strings.Contains(err.Error(), "127.0.0.1:1: connect: connection refused") ||
		!strings.Contains(err.Error(), "nowhere.invalid:2181: ") || strings.Contains(err.Error(), "\n") {
		t.Error(err)
	}
	if log := f.log.String(); strings.Count(log, "no session with the NSDB") != 1 {
		t.Error(log)
	}
}

// Changes of other clients to the status nodes are undone at the next rescan.
func TestARemovedOrOverwrittenStatusIsWrittenAgain(t *testing.T) {
	f := newFixture(t, sharedServers.start(t))
	n := f.open(f.cluster.URL(f.tree.Root()) + "?rescan=200ms")
	startPublished(t, f, n, 2)
	f.check(f.conn.Delete(f.hostState(), -1))
	_, err := f.conn.Set(f.containerState(1), []byte("status_code: ERROR\n"), -1)
	f.check(err)
	f.waitFor("all again", func() bool { return f.allStored(2) })
}

func TestANodeIsLockedUntilItsWriteHasEnded(t *testing.T) {
	locks := nodeLocks{held: map[string]chan struct{}{}}
	if !locks.lock(t.Context(), "/a") || !locks.lock(t.Context(), "/b") {
		t.Fatal("nodes that nobody writes are locked")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if locks.lock(ctx, "/a") {
		t.Error("a node was locked twice")
	}
	locked := make(chan bool)
	go func() { locked <- locks.lock(t.Context(), "/a") }()
	locks.unlock("/a")
	if !<-locked {
		t.Error("the node is still locked after the write has ended")
	}
	locks.unlock("/a")
	locks.unlock("/b")
	if len(locks.held) > 0 {
		t.Errorf("left: %v", locks.held)
	}
}
