package zoom

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/model"
)

// foreign makes statuses of the first n containers in a session of its own, as the supervisor before this one left them.
func (g *ground) foreign(n int) *zk.Conn {
	g.Helper()
	conn := g.cluster.Dial()
	for i := range n {
		g.foreignStatus(conn, i, "status_code: RUNNING\n"+uuid("host_id", string(g.host)), zk.FlagEphemeral)
	}
	return conn
}

func (g *ground) foreignStatus(conn *zk.Conn, i int, data string, flags int32) {
	g.Helper()
	g.check(makeParents(&client{conn, conn.SessionID()}, g.containerState(i)))
	_, err := conn.Create(g.containerState(i), []byte(data), flags, everybody)
	g.check(err)
}

// owner is the session that a container's status belongs to.
func (g *ground) owner(i int) int64 {
	g.Helper()
	_, owner := g.stands(g.containerState(i))
	return owner
}

// there says whether a container's status stands.
func (g *ground) there(i int) bool {
	g.Helper()
	there, _, err := g.conn.Exists(g.containerState(i))
	g.check(err)
	return there
}

// Containers that are unknown after a restart: nothing is said of them, and what was said before stays.
func TestAStatusThatNothingIsSaidOfOutlivesARestart(t *testing.T) {
	host := spec.HostStatus{Weight: 1, Quota: -1, Count: 3}
	for _, row := range []struct {
		name, options string
		speak         func(context.Context, *NSDB) error
	}{
		{"the host's status is said", "", func(ctx context.Context, n *NSDB) error { return n.PublishHost(ctx, host) }},
		{"the host's status is left to the agent", "?container=leave", func(ctx context.Context, n *NSDB) error { return n.PublishHost(ctx, host) }},
		{"another container's status is said", "", func(ctx context.Context, n *NSDB) error {
			return n.PublishContainer(ctx, container(3), spec.ContainerStatus{Code: spec.Starting, HostID: spec.HostID(id(1))})
		}},
		{"it is asked what was said", "", func(ctx context.Context, n *NSDB) error { _, err := n.Published(ctx); return err }},
	} {
		t.Run(row.name, func(t *testing.T) {
			g := newGround(t, common.start(t))
			g.fill(4)
			ctx := t.Context()
			first := g.open(g.cluster.URL(g.tree.Root()))
			var said [3]string
			for i := range said {
				g.check(first.PublishContainer(ctx, container(i), g.running(i)))
				said[i], _ = g.stands(g.containerState(i))
			}
			_, old := g.stands(g.containerState(0))
			g.check(first.Close())
			relay := g.cluster.Relay()
			second := g.open(relay.URL(g.tree.Root()) + row.options)
			g.check(row.speak(ctx, second))
			g.until("the take-over", func() bool { return g.owner(0) != old && g.owner(1) != old && g.owner(2) != old })
			for end := time.Now().Add(4 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
				for i := range said {
					if data, owner := g.stands(g.containerState(i)); data != said[i] || owner == old {
						t.Fatalf("container %d: %q, owner %x; before: %q, owner %x", i, data, owner, said[i], old)
					}
				}
			}
			later := g.running(1)
			later.Message = "later"
			g.check(second.PublishContainer(ctx, container(1), later))
			g.check(second.RemoveContainer(ctx, container(2)))
			relay.Cut()
			g.until("the session's end", func() bool { return !g.there(0) })
			relay.Mend()
			ids, err := second.Published(ctx)
			if err != nil || !slices.Contains(ids, container(0)) || slices.Contains(ids, container(2)) {
				t.Errorf("listed: %v %v", ids, err)
			}
			g.until("the statuses again", func() bool {
				zero, _ := g.stands(g.containerState(0))
				one, _ := g.stands(g.containerState(1))
				return zero == said[0] && strings.Contains(one, "later")
			})
			second.republish()
			if g.there(2) {
				t.Error("a removed status came back")
			}
		})
	}
}

func TestOnlyStatusesOfThisHostThatASessionOwnsAreTakenOver(t *testing.T) {
	g := newGround(t, common.start(t))
	g.fill(4)
	conn := g.foreign(1)
	ours := uuid("host_id", string(g.host))
	g.foreignStatus(conn, 1, "status_code: RUNNING\n"+uuid("host_id", id(2)), zk.FlagEphemeral)
	g.foreignStatus(conn, 2, "}", zk.FlagEphemeral)
	g.foreignStatus(conn, 3, "status_code: RUNNING\n"+ours, 0)
	later := "status_code: RUNNING\nnot_known_yet: 5 # as it stands\n" + ours
	_, err := conn.Set(g.containerState(0), []byte(later), -1)
	g.check(err)
	n := g.open(g.cluster.URL(g.tree.Root()))
	g.check(n.PublishHost(t.Context(), spec.HostStatus{Weight: 1}))
	g.until("the take-over", func() bool { return g.owner(0) != conn.SessionID() })
	if data, _ := g.stands(g.containerState(0)); data != later {
		t.Errorf("ours: %q", data)
	}
	for i, want := range map[int]int64{1: conn.SessionID(), 2: conn.SessionID(), 3: 0} {
		if owner := g.owner(i); owner != want {
			t.Errorf("container %d: owner %x, not %x", i, owner, want)
		}
	}
	conn.Close()
	n.republish()
	if !g.there(0) || g.there(1) || g.there(2) || !g.there(3) {
		t.Error("after the other session's end: ", g.there(0), g.there(1), g.there(2), g.there(3))
	}
}

func TestWhoOnlyReadsTakesNoStatusOver(t *testing.T) {
	g := newGround(t, common.start(t))
	g.fill(1)
	conn := g.foreign(1)
	relay := g.cluster.Relay()
	n := g.open(relay.URL(g.tree.Root()) + "?rescan=100ms")
	g.run(n)
	g.await("the set", whole(1))
	relay.Drop()
	g.put(model.Port, id(ports), g.portText(0, "vpn-other"))
	g.await("a change", func(d spec.Desired) bool { return d.Bindings[0].Container.InterfaceName == "vpn-other" })
	n.republish()
	if owner := g.owner(0); owner != conn.SessionID() {
		t.Errorf("owner %x", owner)
	}
}

// The session comes only after the word was said in vain, and nothing is said after that.
func TestATakeOverThatFailedIsDoneWithTheSession(t *testing.T) {
	for _, options := range []string{"", "?container=leave"} {
		g := newGround(t, common.start(t))
		g.fill(1)
		conn := g.foreign(1)
		relay := g.cluster.Relay()
		n := g.open(relay.URL(g.tree.Root()) + options)
		relay.Cut()
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		if err := n.PublishHost(ctx, spec.HostStatus{Weight: 1}); err == nil {
			t.Error("it is taken over without a session")
		}
		cancel()
		relay.Mend()
		g.until("the status", func() bool {
			owner := g.owner(0)
			return owner != conn.SessionID() && owner != 0
		})
	}
}

func TestTheWordOnAContainerWhoseObjectIsGoneIsForgotten(t *testing.T) {
	g := newGround(t, common.start(t))
	g.fill(1)
	conn := g.foreign(1)
	object := g.object(model.ServiceContainer, id(containers))
	text, _ := g.stands(object)
	g.check(g.conn.Delete(object, -1))
	n := g.open(g.cluster.URL(g.tree.Root()))
	g.check(n.PublishHost(t.Context(), spec.HostStatus{Weight: 1}))
	g.until("the word is forgotten", func() bool { return len(n.taken()) == 0 })
	conn.Close()
	g.cluster.Put(g.conn.Conn, object, text)
	n.republish()
	if ids, err := n.Published(t.Context()); err != nil || len(ids) > 0 || g.there(0) {
		t.Error("it came back: ", ids, err)
	}
	if log := g.log.String(); strings.Contains(log, "WARN") {
		t.Error(log)
	}
}

// A container goes while its status is taken over: whichever comes first, the status is not there after it.
func TestAStatusThatIsRemovedDuringTheTakeOverStaysAway(t *testing.T) {
	const count = 40
	for range 5 {
		g := newGround(t, common.start(t))
		g.fill(count)
		conn := g.foreign(count)
		n := g.open(g.cluster.URL(g.tree.Root()))
		var speakers sync.WaitGroup
		speakers.Go(func() {
			if err := n.PublishHost(t.Context(), spec.HostStatus{Weight: 1}); err != nil {
				t.Error(err)
			}
		})
		for i := range count / 2 {
			speakers.Go(func() {
				if err := n.RemoveContainer(t.Context(), container(i)); err != nil {
					t.Error(err)
				}
			})
		}
		speakers.Wait()
		n.republish()
		for i := range count {
			if owner := g.owner(i); (owner == 0) != (i < count/2) || owner == conn.SessionID() {
				t.Errorf("container %d: owner %x", i, owner)
			}
		}
		conn.Close()
		g.check(n.Close())
	}
}
