package zoom

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/model"
)

func TestStatusesAreWrittenOnceAndTakenAway(t *testing.T) {
	g := newGround(t, common.start(t))
	g.fill(2)
	relay := g.cluster.Relay()
	n := g.open(relay.URL(g.tree.Root()))
	ctx := t.Context()
	host := spec.HostStatus{Weight: 1, Quota: -1, Count: 2}
	g.check(n.PublishHost(ctx, host))
	g.check(n.PublishContainer(ctx, container(0), g.running(0)))
	relay.Requests()
	for range 3 {
		g.check(n.PublishHost(ctx, host))
		g.check(n.PublishContainer(ctx, container(0), g.running(0)))
	}
	if counts := relay.Requests(); counts["multi"]+counts["set"]+counts["create"] > 0 {
		t.Errorf("what stands was written again: %v", counts)
	}
	data, owner := g.stands(g.hostState())
	if data != "weight: 1\nquota: -1\ncount: 2\n" || owner == 0 {
		t.Errorf("%q, owner %x", data, owner)
	}
	data, _ = g.stands(g.containerState(0))
	if want := "status_code: RUNNING\nstatus_message: \"up\"\n" + uuid("host_id", string(g.host)); !strings.HasPrefix(data, want) || !strings.Contains(data, "namespace_name: \""+name(0)) {
		t.Errorf("%q", data)
	}
	ids, err := n.Published(ctx)
	if err != nil || !slices.Equal(ids, []spec.ContainerID{container(0)}) {
		t.Error(ids, err)
	}
	g.check(n.RemoveContainer(ctx, container(0)))
	g.check(n.RemoveContainer(ctx, container(0)))
	g.check(n.RemoveContainer(ctx, container(1)))
	if ids, err := n.Published(ctx); err != nil || len(ids) > 0 {
		t.Error(ids, err)
	}
	err = n.PublishContainer(ctx, spec.ContainerID(id(77)), g.running(0))
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), g.object(model.ServiceContainer, id(77))) {
		t.Error(err)
	}
	if there, _, _ := g.conn.Exists(g.tree.ContainerStates(model.UUID(g.host)) + "/" + id(77)); there {
		t.Error("nodes were made for an object that is not there")
	}
	for _, key := range []string{"alive", "host"} {
		if there, _, _ := g.conn.Exists(strings.TrimSuffix(g.hostState(), "container") + key); there {
			t.Error("the agent's node was made: ", key)
		}
	}
}

func TestANodeOfAnotherSessionIsTakenOverAndNeverAbsent(t *testing.T) {
	g := newGround(t, common.start(t))
	g.fill(1)
	foreign := g.cluster.Dial()
	data := "weight: 1\nquota: -1\ncount: 0\n"
	g.check(makeParents(&client{foreign, foreign.SessionID()}, g.hostState()))
	_, err := foreign.Create(g.hostState(), []byte(data), zk.FlagEphemeral, everybody)
	g.check(err)
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
				if there, _, err := g.conn.Exists(g.hostState()); err == nil && !there {
					gap = true
				}
			}
		}
	}()
	n := g.open(g.cluster.URL(g.tree.Root()))
	g.check(n.PublishHost(t.Context(), spec.HostStatus{Weight: 1, Quota: -1}))
	stands, owner := g.stands(g.hostState())
	if stands != data || owner == foreign.SessionID() || owner == 0 {
		t.Errorf("%q, owner %x", stands, owner)
	}
	close(stop)
	if <-absent {
		t.Error("the node was absent for a moment")
	}
}

func TestTheContainerNodeIsLeftToAPatchedAgent(t *testing.T) {
	g := newGround(t, common.start(t))
	g.fill(1)
	n := g.open(g.cluster.URL(g.tree.Root()) + "?container=leave")
	g.check(n.PublishHost(t.Context(), spec.HostStatus{Weight: 1}))
	if there, _, _ := g.conn.Exists(g.hostState()); there {
		t.Error("it was written")
	}
}

// A restart: the nodes stand all the time, and outlive the time-out of the session that was left.
func TestStatusesOutliveARestart(t *testing.T) {
	g := newGround(t, common.start(t))
	g.fill(1)
	first := g.open(g.cluster.URL(g.tree.Root()))
	ctx := t.Context()
	host := spec.HostStatus{Weight: 1, Quota: -1, Count: 1}
	g.check(first.PublishHost(ctx, host))
	g.check(first.PublishContainer(ctx, container(0), g.running(0)))
	begun := time.Now()
	g.check(first.Close())
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("the end took %v", took)
	}
	if _, owner := g.stands(g.hostState()); owner == 0 {
		t.Fatal("the end took the node away")
	}
	second := g.open(g.cluster.URL(g.tree.Root()))
	g.check(second.PublishHost(ctx, host))
	g.check(second.PublishContainer(ctx, container(0), g.running(0)))
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if there, _, err := g.conn.Exists(g.hostState()); err == nil && !there {
			t.Fatal("the node was absent")
		}
	}
	if data, _ := g.stands(g.containerState(0)); data == "" {
		t.Error("the status is gone")
	}
	g.check(second.Close())
	g.until("the session's end", func() bool {
		there, _, err := g.conn.Exists(g.hostState())
		return err == nil && !there
	})
}

// Nothing was published: the session has nothing to keep, and is closed.
func TestASessionWithoutStatusesIsClosed(t *testing.T) {
	g := newGround(t, common.start(t))
	relay := g.cluster.Relay()
	n := g.open(relay.URL(g.tree.Root()))
	_, err := n.Published(t.Context())
	g.check(err)
	g.check(n.Close())
	if counts := relay.Requests(); counts["close"] != 1 {
		t.Error(counts)
	}
}

func TestAnAgentThatRunsIsSeen(t *testing.T) {
	g := newGround(t, common.start(t))
	n := g.open(g.cluster.URL(g.tree.Root()))
	if _, err := n.AgentAlive(t.Context()); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), g.object(model.Host, string(g.host))) {
		t.Error("a wrong root tells of an agent: ", err)
	}
	g.hostWith(0)
	if alive, err := n.AgentAlive(t.Context()); alive || err != nil {
		t.Error(alive, err)
	}
	g.cluster.Put(g.conn.Conn, g.tree.HostAlive(model.UUID(g.host)), "alive")
	if alive, err := n.AgentAlive(t.Context()); !alive || err != nil {
		t.Error(alive, err)
	}
}

func TestWithoutASessionEachServersFaultIsTold(t *testing.T) {
	g := newGround(t, common.start(t))
	n := g.open("zk://127.0.0.1:1,nowhere.invalid:2181/m")
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	err := n.PublishHost(ctx, spec.HostStatus{})
	if err == nil || !strings.Contains(err.Error(), "127.0.0.1:1: connect: connection refused") || !strings.Contains(err.Error(), "nowhere.invalid:2181: ") || strings.Contains(err.Error(), "\n") {
		t.Error(err)
	}
	if log := g.log.String(); strings.Count(log, "no session with the NSDB") != 1 {
		t.Error(log)
	}
}

// Somebody else's hand on our nodes is undone at the next look at everything.
func TestAStatusThatAnotherRemovedOrOverwroteIsWrittenAgain(t *testing.T) {
	g := newGround(t, common.start(t))
	n := g.open(g.cluster.URL(g.tree.Root()) + "?rescan=200ms")
	prepared(t, g, n, 2)
	g.check(g.conn.Delete(g.hostState(), -1))
	_, err := g.conn.Set(g.containerState(1), []byte("status_code: ERROR\n"), -1)
	g.check(err)
	g.until("all again", func() bool { return g.allStand(2) })
}
