package zoom

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/model"
)

// retype gives the object of a container another type.
func (g *ground) retype(i int, serviceType string) {
	g.Helper()
	path := g.object(model.ServiceContainer, id(containers+i))
	text, _ := g.stands(path)
	g.cluster.Put(g.conn.Conn, path, strings.Replace(text, "IPSEC", serviceType, 1))
}

func servesIPSEC(_ spec.ContainerID, t spec.ServiceType) bool { return t == "IPSEC" }

func TestStatusOfATypeThatIsNotServedIsLeftToItsOwner(t *testing.T) {
	for _, options := range []string{"?rescan=200ms", "?rescan=200ms&container=leave"} {
		t.Run(options, func(t *testing.T) {
			g := newGround(t, common.start(t))
			g.fill(3)
			for i := range 2 {
				g.retype(i, "HAPROXY")
			}
			agent := g.foreign(3)
			said, _ := g.stands(g.containerState(0))
			n := g.open(g.cluster.URL(g.tree.Root()) + options)
			n.ServeOnly(servesIPSEC)
			g.run(n)
			ctx := t.Context()
			g.check(n.PublishHost(ctx, spec.HostStatus{Weight: 1, Quota: -1}))
			g.until("the take-over of the served one", func() bool { return g.owner(2) != agent.SessionID() && g.owner(2) != 0 })
			failed := g.running(0)
			failed.Code, failed.Message = spec.Failed, "no executable serves type HAPROXY"
			g.check(n.PublishContainer(ctx, container(0), failed))
			g.check(n.RemoveContainer(ctx, container(1)))
			if ids, err := n.Published(ctx); err != nil || !slices.Equal(ids, []spec.ContainerID{container(2)}) {
				t.Errorf("listed: %v %v", ids, err)
			}
			n.republish()
			for i := range 2 {
				if data, owner := g.stands(g.containerState(i)); data != said || owner != agent.SessionID() {
					t.Errorf("container %d: %q, owner %x; before: %q, owner %x", i, data, owner, said, agent.SessionID())
				}
			}

			// The agent makes the status of a new container only after this supervisor has reported that nothing serves it.
			g.check(agent.Delete(g.containerState(1), -1))
			g.check(n.PublishContainer(ctx, container(1), failed))
			if leaves := strings.Contains(options, "leave"); g.there(1) == leaves {
				t.Errorf("a status that nobody has, container=leave %v: written: %v", leaves, g.there(1))
			}
			if !g.there(1) {
				g.foreignStatus(agent, 1, said, zk.FlagEphemeral)
				time.Sleep(500 * time.Millisecond) // some rescans
				if owner := g.owner(1); owner != agent.SessionID() {
					t.Errorf("owner %x", owner)
				}
			}
			g.check(n.PublishContainer(ctx, container(2), failed))
			if data, owner := g.stands(g.containerState(2)); !strings.Contains(data, "ERROR") || owner == agent.SessionID() {
				t.Errorf("the served one: %q, owner %x", data, owner)
			}
		})
	}
}

func TestStatusOfAContainerWithARecordIsTakenOverWhateverItsType(t *testing.T) {
	g := newGround(t, common.start(t))
	g.fill(2)
	before := g.foreign(2)
	for i := range 2 { // the type cannot be read
		g.cluster.Put(g.conn.Conn, g.object(model.ServiceContainer, id(containers+i)), "}")
	}
	n := g.open(g.cluster.URL(g.tree.Root()))
	n.ServeOnly(func(id spec.ContainerID, _ spec.ServiceType) bool { return id == container(0) })
	g.check(n.PublishHost(t.Context(), spec.HostStatus{Weight: 1}))
	g.until("the take-over", func() bool { return g.owner(0) != before.SessionID() && g.owner(0) != 0 })
	if owner := g.owner(1); owner != before.SessionID() {
		t.Errorf("the other one: owner %x", owner)
	}
}
