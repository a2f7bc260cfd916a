package zoom

import (
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/model"
)

// setServiceType changes the service type in the object of a container.
func (f *fixture) setServiceType(i int, serviceType string) {
	f.Helper()
	path := f.object(model.ServiceContainer, id(containers+i))
	text, _ := f.stored(path)
	f.cluster.Put(f.conn.Conn, path, strings.Replace(text, "IPSEC", serviceType, 1))
}

func has(listed map[spec.ContainerID][]byte, id spec.ContainerID) bool {
	_, ok := listed[id]
	return ok
}

func servesIPSEC(_ spec.ContainerID, t spec.ServiceType) bool { return t == "IPSEC" }

func TestTheStatusOfAnUnservedTypeIsLeftToItsOwner(t *testing.T) {
	for _, options := range []string{"?rescan=200ms", "?rescan=200ms&container=leave"} {
		t.Run(options, func(t *testing.T) {
			f := newFixture(t, sharedServers.start(t))
			f.putBindings(3)
			for i := range 2 {
				f.setServiceType(i, "HAPROXY")
			}
			agent := f.createEarlierStatuses(3)
			said, _ := f.stored(f.containerState(0))
			n := f.open(f.cluster.URL(f.tree.Root()) + options)
			n.ServeOnly(servesIPSEC)
			f.run(n)
			p, _ := f.publish(n)
			p.SetHost(spec.HostStatus{Weight: 1, Quota: -1})
			f.waitFor("the take-over of the served one", func() bool {
				return f.statusOwner(2) != agent.SessionID() && f.statusOwner(2) != 0
			})
			failed := f.running(0)
			failed.Code, failed.Message = spec.Failed, "no executable serves type HAPROXY"
			ctx := t.Context()
			p.Set(container(0), failed)
			f.check(put(ctx, n, container(0), failed))
			f.check(n.DeleteStatus(ctx, container(1)))
			if listed, err := n.ListStatuses(ctx); err != nil || len(listed) != 1 || !has(listed, container(2)) {
				t.Errorf("listed: %v %v", listed, err)
			}
			time.Sleep(500 * time.Millisecond) // several rescans
			for i := range 2 {
				if data, owner := f.stored(f.containerState(i)); data != said || owner != agent.SessionID() {
					t.Errorf("container %d: %q, owner %x; before: %q, owner %x", i, data, owner, said,
						agent.SessionID())
				}
			}

			// The agent creates the status of a new container only after this supervisor has reported that nothing
			// serves it.
			f.check(agent.Delete(f.containerState(1), -1))
			f.check(put(ctx, n, container(1), failed))
			p.Set(container(1), failed)
			if leaves := strings.Contains(options, "leave"); f.exists(1) == leaves {
				t.Errorf("a status without owner, container=leave %v: written: %v", leaves, f.exists(1))
			}
			if !f.exists(1) {
				f.createStatus(agent, 1, said, zk.FlagEphemeral)
				time.Sleep(500 * time.Millisecond) // several rescans
				if owner := f.statusOwner(1); owner != agent.SessionID() {
					t.Errorf("owner %x", owner)
				}
			}
			f.check(put(ctx, n, container(2), failed))
			if data, owner := f.stored(f.containerState(2)); !strings.Contains(data, "ERROR") ||
				owner == agent.SessionID() {
				t.Errorf("the served one: %q, owner %x", data, owner)
			}
		})
	}
}

func TestTheStatusOfAServedContainerOfUnknownTypeIsTakenOver(t *testing.T) {
	f := newFixture(t, sharedServers.start(t))
	f.putBindings(2)
	before := f.createEarlierStatuses(2)
	for i := range 2 { // makes the service type unreadable
		f.cluster.Put(f.conn.Conn, f.object(model.ServiceContainer, id(containers+i)), "}")
	}
	n := f.open(f.cluster.URL(f.tree.Root()))
	n.ServeOnly(func(id spec.ContainerID, _ spec.ServiceType) bool { return id == container(0) })
	p, _ := f.publish(n)
	p.SetHost(spec.HostStatus{Weight: 1})
	f.waitFor("the take-over", func() bool { return f.statusOwner(0) != before.SessionID() && f.statusOwner(0) != 0 })
	if owner := f.statusOwner(1); owner != before.SessionID() {
		t.Errorf("the other one: owner %x", owner)
	}
}
