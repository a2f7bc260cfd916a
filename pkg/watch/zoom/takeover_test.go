package zoom

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/svc-supervisor/svc-supervisor/internal/publish"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/model"
)

// createEarlierStatuses creates statuses of the first n containers in a session of its own, as the previous supervisor
// leaves them.
func (f *fixture) createEarlierStatuses(n int) *zk.Conn {
	f.Helper()
	conn := f.cluster.Dial()
	for i := range n {
		f.createStatus(conn, i, "status_code: RUNNING\n"+uuid("host_id", string(f.host)), zk.FlagEphemeral)
	}
	return conn
}

func (f *fixture) createStatus(conn *zk.Conn, i int, data string, flags int32) {
	f.Helper()
	f.check(makeParents(&client{conn, conn.SessionID()}, f.containerState(i)))
	_, err := conn.Create(f.containerState(i), []byte(data), flags, worldACL)
	f.check(err)
}

// statusOwner returns the session that owns the status of a container.
func (f *fixture) statusOwner(i int) int64 {
	f.Helper()
	_, owner := f.stored(f.containerState(i))
	return owner
}

// exists reports whether the status of a container exists.
func (f *fixture) exists(i int) bool {
	f.Helper()
	exists, _, err := f.conn.Exists(f.containerState(i))
	f.check(err)
	return exists
}

// An unknown container has no new status after a restart. Its earlier status must not expire.
func TestAnEarlierStatusThatIsNotReplacedOutlivesARestart(t *testing.T) {
	host := spec.HostStatus{Weight: 1, Quota: -1, Count: 3}
	for _, row := range []struct {
		name, options string
		publish       func(context.Context, *publish.Publisher) error
	}{
		{"the host's status is published", "", func(_ context.Context, p *publish.Publisher) error {
			p.SetHost(host)
			return nil
		}},
		{"the host's status is left to the agent", "?container=leave",
			func(_ context.Context, p *publish.Publisher) error {
				p.SetHost(host)
				return nil
			}},
		{"another container's status is published", "", func(_ context.Context, p *publish.Publisher) error {
			p.Set(container(3), spec.ContainerStatus{Code: spec.Starting, HostID: spec.HostID(id(1))})
			return nil
		}},
		{"the published statuses are listed", "", func(ctx context.Context, p *publish.Publisher) error {
			return p.Prune(ctx, func(spec.ContainerID) bool { return true })
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			f := newFixture(t, sharedServers.start(t))
			f.putBindings(4)
			ctx := t.Context()
			first := f.open(f.cluster.URL(f.tree.Root()))
			var earlier [3]string
			for i := range earlier {
				f.check(put(ctx, first, container(i), f.running(i)))
				earlier[i], _ = f.stored(f.containerState(i))
			}
			_, old := f.stored(f.containerState(0))
			f.check(first.Close())
			relay := f.cluster.Relay()
			second := f.open(relay.URL(f.tree.Root()) + row.options)
			p, _ := f.publish(second)
			f.check(row.publish(ctx, p))
			f.waitFor("the take-over", func() bool {
				return f.statusOwner(0) != old && f.statusOwner(1) != old && f.statusOwner(2) != old
			})
			for end := time.Now().Add(4 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
				for i := range earlier {
					if data, owner := f.stored(f.containerState(i)); data != earlier[i] || owner == old {
						t.Fatalf("container %d: %q, owner %x; before: %q, owner %x", i, data, owner, earlier[i], old)
					}
				}
			}
			extended := f.running(1)
			extended.Message = "later"
			p.Set(container(1), extended)
			p.Remove(container(2))
			f.waitFor("the removal", func() bool { return !f.exists(2) })
			relay.Cut()
			f.waitFor("the session's end", func() bool { return !f.exists(0) })
			relay.Mend()
			f.waitFor("the statuses again", func() bool {
				zero, _ := f.stored(f.containerState(0))
				one, _ := f.stored(f.containerState(1))
				return zero == earlier[0] && strings.Contains(one, "later")
			})
			f.writeAllAgain(second)
			if f.exists(2) {
				t.Error("a removed status was written again")
			}
		})
	}
}

// writeAllAgain lets the publisher write all statuses again, as after a reconnect, and gives it time to do so.
func (f *fixture) writeAllAgain(n *NSDB) {
	n.sessionChanged.Send()
	f.waitFor("the publisher", func() bool { return len(n.sessionChanged) == 0 })
	time.Sleep(200 * time.Millisecond)
}

func TestOnlyEphemeralStatusesOfThisHostAreTakenOver(t *testing.T) {
	f := newFixture(t, sharedServers.start(t))
	f.putBindings(4)
	conn := f.createEarlierStatuses(1)
	hostID := uuid("host_id", string(f.host))
	f.createStatus(conn, 1, "status_code: RUNNING\n"+uuid("host_id", id(2)), zk.FlagEphemeral)
	f.createStatus(conn, 2, "}", zk.FlagEphemeral)
	f.createStatus(conn, 3, "status_code: RUNNING\n"+hostID, 0)
	extended := "status_code: RUNNING\nnot_known_yet: 5 # kept\n" + hostID
	_, err := conn.Set(f.containerState(0), []byte(extended), -1)
	f.check(err)
	n := f.open(f.cluster.URL(f.tree.Root()))
	p, _ := f.publish(n)
	p.SetHost(spec.HostStatus{Weight: 1})
	f.waitFor("the take-over", func() bool { return f.statusOwner(0) != conn.SessionID() })
	if data, _ := f.stored(f.containerState(0)); data != extended {
		t.Errorf("container 0: %q", data)
	}
	for i, want := range map[int]int64{1: conn.SessionID(), 2: conn.SessionID(), 3: 0} {
		if owner := f.statusOwner(i); owner != want {
			t.Errorf("container %d: owner %x, not %x", i, owner, want)
		}
	}
	conn.Close()
	f.writeAllAgain(n)
	if !f.exists(0) || f.exists(1) || f.exists(2) || !f.exists(3) {
		t.Error("after the other session's end: ", f.exists(0), f.exists(1), f.exists(2), f.exists(3))
	}
}

func TestReadingTakesOverNoStatus(t *testing.T) {
	f := newFixture(t, sharedServers.start(t))
	f.putBindings(1)
	conn := f.createEarlierStatuses(1)
	relay := f.cluster.Relay()
	n := f.open(relay.URL(f.tree.Root()) + "?rescan=100ms")
	f.run(n)
	f.waitForSet("the set", whole(1))
	relay.Drop()
	f.put(model.Port, id(ports), f.portText(0, "vpn-other"))
	f.waitForSet("a change", func(d spec.Desired) bool { return d.Bindings[0].Container.InterfaceName == "vpn-other" })
	if owner := f.statusOwner(0); owner != conn.SessionID() {
		t.Errorf("owner %x", owner)
	}
}

// The session is opened only after the only publication has failed.
func TestAFailedTakeOverIsRepeatedAfterTheReconnect(t *testing.T) {
	for _, options := range []string{"", "?container=leave"} {
		f := newFixture(t, sharedServers.start(t))
		f.putBindings(1)
		conn := f.createEarlierStatuses(1)
		relay := f.cluster.Relay()
		n := f.open(relay.URL(f.tree.Root()) + options)
		relay.Cut()
		p, _ := f.publish(n)
		p.SetHost(spec.HostStatus{Weight: 1})
		f.waitFor("the failure", func() bool {
			return strings.Contains(f.log.String(), "statuses of an earlier run not taken over") ||
				strings.Contains(f.log.String(), "status not published")
		})
		relay.Mend()
		f.waitFor("the status", func() bool {
			owner := f.statusOwner(0)
			return owner != conn.SessionID() && owner != 0
		})
	}
}

func TestAnEarlierStatusWithoutItsObjectIsDropped(t *testing.T) {
	f := newFixture(t, sharedServers.start(t))
	f.putBindings(1)
	conn := f.createEarlierStatuses(1)
	object := f.object(model.ServiceContainer, id(containers))
	text, _ := f.stored(object)
	f.check(f.conn.Delete(object, -1))
	n := f.open(f.cluster.URL(f.tree.Root()))
	p, _ := f.publish(n)
	p.SetHost(spec.HostStatus{Weight: 1})
	f.waitFor("the take-over", func() bool {
		return strings.Contains(f.log.String(), "statuses of an earlier run taken over")
	})
	conn.Close()
	f.waitFor("the status expires", func() bool { return !f.exists(0) })
	f.cluster.Put(f.conn.Conn, object, text)
	f.writeAllAgain(n)
	if listed, err := n.ListStatuses(t.Context()); err != nil || len(listed) > 0 || f.exists(0) {
		t.Error("the status was written again: ", listed, err)
	}
	if log := f.log.String(); strings.Contains(log, "WARN") {
		t.Error(log)
	}
}

// A container is removed while its status is taken over. In any order of the two, the status must not exist afterwards.
func TestAStatusRemovedDuringTheTakeOverIsNotWrittenAgain(t *testing.T) {
	const count = 40
	for range 5 {
		f := newFixture(t, sharedServers.start(t))
		f.putBindings(count)
		conn := f.createEarlierStatuses(count)
		n := f.open(f.cluster.URL(f.tree.Root()))
		p, stop := f.publish(n)
		p.SetHost(spec.HostStatus{Weight: 1})
		var clients sync.WaitGroup
		for i := range count / 2 {
			clients.Go(func() { p.Remove(container(i)) })
		}
		clients.Wait()
		f.waitFor("the statuses", func() bool {
			for i := range count {
				if owner := f.statusOwner(i); (owner == 0) != (i < count/2) || owner == conn.SessionID() {
					return false
				}
			}
			return true
		})
		f.writeAllAgain(n)
		for i := range count {
			if owner := f.statusOwner(i); (owner == 0) != (i < count/2) || owner == conn.SessionID() {
				t.Errorf("container %d: owner %x", i, owner)
			}
		}
		stop()
		conn.Close()
		f.check(n.Close())
	}
}
