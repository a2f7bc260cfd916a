package zoom

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zktest"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/model"
)

func startWith(t *testing.T, maxNode int) *zktest.Cluster {
	t.Helper()
	return zktest.Start(t, 1, zktest.MaxNode(maxNode))
}

// prepared is a host with bindings, statuses of them, and a set that was read.
func prepared(t *testing.T, g *ground, n *NSDB, count int) {
	t.Helper()
	g.fill(count)
	g.run(n)
	g.await("the set", whole(count))
	g.check(n.PublishHost(t.Context(), spec.HostStatus{Weight: 1, Quota: -1, Count: count}))
	for i := range count {
		g.check(n.PublishContainer(t.Context(), container(i), g.running(i)))
	}
}

// allStand says whether every status stands and is owned by one session.
func (g *ground) allStand(count int) bool {
	data, owner := g.stands(g.hostState())
	if data == "" || owner == 0 {
		return false
	}
	for i := range count {
		if data, o := g.stands(g.containerState(i)); o != owner || !strings.HasPrefix(data, "status_code: RUNNING\n") {
			return false
		}
	}
	return true
}

func TestAfterAPartitionTheStatusesAreBackAndNoSetWasInvented(t *testing.T) {
	g := newGround(t, common.start(t))
	relay := g.cluster.Relay()
	n := g.open(relay.URL(g.tree.Root()))
	prepared(t, g, n, 50)
	_, sets := g.last()
	relay.Cut()
	g.until("the session's end", func() bool {
		there, _, err := g.conn.Exists(g.hostState())
		return err == nil && !there
	})
	changed := g.running(0)
	changed.Message = "later"
	if err := n.PublishContainer(t.Context(), container(0), changed); err == nil {
		t.Error("a status was written into nothing")
	}
	g.put(model.Port, id(ports+1), g.portText(1, "vpn-other"))
	if _, now := g.last(); now != sets {
		t.Errorf("%d sets during the partition", now-sets)
	}
	relay.Mend()
	returned := time.Now()
	g.within(2*time.Second, "all statuses again", func() bool { return g.allStand(50) })
	t.Logf("statuses again after %v", time.Since(returned))
	if data, _ := g.stands(g.containerState(0)); !strings.Contains(data, "later") {
		t.Errorf("the last word is lost: %q", data)
	}
	g.await("what changed meanwhile", func(d spec.Desired) bool { return d.Bindings[1].Container.InterfaceName == "vpn-other" })
	if _, now := g.last(); now != sets+1 {
		t.Errorf("%d sets for one change", now-sets)
	}
	g.put(model.Port, id(ports+1), g.portText(1, "vpn-again"))
	g.await("a change in the new session", func(d spec.Desired) bool { return d.Bindings[1].Container.InterfaceName == "vpn-again" })
}

func TestALostConnectionKeepsSessionAndWatches(t *testing.T) {
	g := newGround(t, common.start(t))
	relay := g.cluster.Relay()
	n := g.open(relay.URL(g.tree.Root()) + "?sessionTimeout=10s")
	prepared(t, g, n, 5)
	_, owner := g.stands(g.hostState())
	for i := range 3 {
		relay.Drop()
		want := fmt.Sprintf("vpn-d%d", i)
		g.put(model.Port, id(ports+1), g.portText(1, want))
		g.await("a change", func(d spec.Desired) bool { return d.Bindings[1].Container.InterfaceName == spec.Name(want) })
		g.put(model.Port, id(ports+2), g.portText(2, want+"x"))
		g.await("another", func(d spec.Desired) bool { return d.Bindings[2].Container.InterfaceName == spec.Name(want+"x") })
	}
	if _, now := g.stands(g.hostState()); now != owner || !g.allStand(5) {
		t.Errorf("another session: %x, not %x", now, owner)
	}
}

func TestMembersDieFreezeAndRestartInTurn(t *testing.T) {
	cluster := zktest.Start(t, 3)
	g := newGround(t, cluster)
	n := g.open(cluster.URL(g.tree.Root()) + "?sessionTimeout=6s")
	prepared(t, g, n, 5)
	_, sets := g.last()
	round := 0
	works := func(how string) {
		t.Helper()
		round++
		want := fmt.Sprintf("vpn-r%d", round)
		g.until("a write while "+how, func() bool {
			_, err := g.conn.Set(g.object(model.Port, id(ports+1)), []byte(uuid("id", id(ports+1))+g.portText(1, want)), -1)
			return err == nil
		})
		g.await("a change while "+how, func(d spec.Desired) bool { return d.Bindings[1].Container.InterfaceName == spec.Name(want) })
		g.until("all statuses while "+how, func() bool { return g.allStand(5) })
	}
	for i := range cluster.Len() { // a rolling restart
		cluster.Restart(i)
		works(fmt.Sprintf("member %d restarts", i))
		cluster.Await(i)
	}
	leader := cluster.Leader()
	cluster.Kill(leader)
	works("the leader is dead")
	cluster.Restart(leader)
	cluster.Await(leader)
	for i := range cluster.Len() {
		cluster.Freeze(i)
		works(fmt.Sprintf("member %d is frozen", i))
		cluster.Thaw(i)
		cluster.Await(i)
	}
	_, before := g.last()
	for i := range cluster.Len() {
		cluster.Kill(i)
	}
	time.Sleep(500 * time.Millisecond)
	for i := range cluster.Len() {
		cluster.Restart(i)
	}
	for i := range cluster.Len() {
		cluster.Await(i)
	}
	returned := time.Now()
	g.within(deadline, "all statuses after all were dead", func() bool { return g.allStand(5) })
	t.Logf("statuses again %v after all members serve", time.Since(returned))
	works("all are back")
	if d, now := g.last(); before-sets != round-1 || now-before != 1 || !whole(5)(d) {
		t.Errorf("%d changes made %d sets", round, now-sets)
	}
}

func TestAServerThatSpeaksAnotherProtocolOrHangsIsToldSo(t *testing.T) {
	g := &ground{T: t, host: spec.HostID(id(1)), news: make(chan struct{}, 1)}
	listen := func(serve func(net.Conn)) string {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		g.check(err)
		t.Cleanup(func() { _ = listener.Close() })
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				go serve(conn)
			}
		}()
		return listener.Addr().String()
	}
	web := listen(func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") })
	mute := listen(func(net.Conn) {})
	shut := listen(func(c net.Conn) { _ = c.Close() })
	n := g.open("zk://" + web + "," + mute + "," + shut + "/m")
	g.run(n)
	g.until("each fault", func() bool {
		faults := n.session.faults()
		return strings.Contains(faults, web+": it does not speak") && strings.Contains(faults, mute+": it accepts connections and answers none") &&
			strings.Contains(faults, shut+": it accepts connections and closes them")
	})
	g.until("one line", func() bool { return strings.Count(g.log.String(), "no session with the NSDB") == 1 })
	if _, sets := g.last(); sets > 0 {
		t.Error("a set of nothing")
	}
}

func TestRunEndsWhenTheNSDBIsClosed(t *testing.T) {
	g := newGround(t, common.start(t))
	g.fill(1)
	n := g.open(g.cluster.URL(g.tree.Root()))
	ended := make(chan error, 1)
	go func() { ended <- n.Run(t.Context(), func(spec.Desired) { g.news <- struct{}{} }) }()
	<-g.news
	g.check(n.Close())
	select {
	case err := <-ended:
		g.check(err)
	case <-time.After(deadline):
		t.Fatal("it goes on")
	}
	if _, err := n.Published(t.Context()); err == nil {
		t.Error("a closed NSDB answers")
	}
}
