package zoom

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/internal/publish"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zktest"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/model"
)

func startWith(t *testing.T, maxNode int) *zktest.Cluster {
	t.Helper()
	return zktest.Start(t, 1, zktest.MaxNode(maxNode))
}

// startPublished writes a host with bindings, waits for its set, and publishes the statuses.
func startPublished(t *testing.T, f *fixture, n *NSDB, count int) *publish.Publisher {
	t.Helper()
	f.putBindings(count)
	f.run(n)
	f.waitForSet("the set", whole(count))
	p, _ := f.publish(n)
	p.SetHost(spec.HostStatus{Weight: 1, Quota: -1, Count: count})
	for i := range count {
		p.Set(container(i), f.running(i))
	}
	f.waitFor("all statuses", func() bool { return f.allStored(count) })
	return p
}

// allStored reports whether every status exists and all belong to one session.
func (f *fixture) allStored(count int) bool {
	data, owner := f.stored(f.hostState())
	if data == "" || owner == 0 {
		return false
	}
	for i := range count {
		if data, o := f.stored(f.containerState(i)); o != owner || !strings.HasPrefix(data, "status_code: RUNNING\n") {
			return false
		}
	}
	return true
}

func TestStatusesAreWrittenAgainAfterAPartition(t *testing.T) {
	f := newFixture(t, sharedServers.start(t))
	relay := f.cluster.Relay()
	n := f.open(relay.URL(f.tree.Root()))
	p := startPublished(t, f, n, 50)
	_, sets := f.last()
	relay.Cut()
	f.waitFor("the session's end", func() bool {
		exists, _, err := f.conn.Exists(f.hostState())
		return err == nil && !exists
	})
	changed := f.running(0)
	changed.Message = "later"
	p.Set(container(0), changed)
	if err := put(t.Context(), n, container(0), changed); err == nil {
		t.Error("PutStatus succeeded during the partition")
	}
	f.put(model.Port, id(ports+1), f.portText(1, "vpn-other"))
	if _, now := f.last(); now != sets {
		t.Errorf("%d sets during the partition", now-sets)
	}
	relay.Mend()
	returned := time.Now()
	f.waitWithin(2*time.Second, "all statuses again", func() bool { return f.allStored(50) })
	t.Logf("statuses again after %v", time.Since(returned))
	if data, _ := f.stored(f.containerState(0)); !strings.Contains(data, "later") {
		t.Errorf("the last status is lost: %q", data)
	}
	f.waitForName("the change during the partition", "vpn-other")
	if _, now := f.last(); now != sets+1 {
		t.Errorf("%d sets for one change", now-sets)
	}
	f.put(model.Port, id(ports+1), f.portText(1, "vpn-again"))
	f.waitForName("a change in the new session", "vpn-again")
}

// waitForName waits for a set in which the container of the second binding has a name.
func (f *fixture) waitForName(what string, want spec.Name) {
	f.Helper()
	f.waitForSet(what, func(d spec.Desired) bool { return d.Bindings[1].Container.InterfaceName == want })
}

func TestALostConnectionKeepsSessionAndWatches(t *testing.T) {
	f := newFixture(t, sharedServers.start(t))
	relay := f.cluster.Relay()
	n := f.open(relay.URL(f.tree.Root()) + "?sessionTimeout=10s")
	startPublished(t, f, n, 5)
	_, owner := f.stored(f.hostState())
	for i := range 3 {
		relay.Drop()
		want := fmt.Sprintf("vpn-d%d", i)
		f.put(model.Port, id(ports+1), f.portText(1, want))
		f.waitForName("a change", spec.Name(want))
		f.put(model.Port, id(ports+2), f.portText(2, want+"x"))
		f.waitForSet("another", func(d spec.Desired) bool {
			return d.Bindings[2].Container.InterfaceName == spec.Name(want+"x")
		})
	}
	if _, now := f.stored(f.hostState()); now != owner || !f.allStored(5) {
		t.Errorf("another session: %x, not %x", now, owner)
	}
}

func TestStatusesAndSetsSurviveFailingMembers(t *testing.T) {
	cluster := zktest.Start(t, 3)
	f := newFixture(t, cluster)
	n := f.open(cluster.URL(f.tree.Root()) + "?sessionTimeout=6s")
	startPublished(t, f, n, 5)
	_, sets := f.last()
	round := 0
	works := func(how string) {
		t.Helper()
		round++
		want := fmt.Sprintf("vpn-r%d", round)
		f.waitFor("a write while "+how, func() bool {
			_, err := f.conn.Set(f.object(model.Port, id(ports+1)), []byte(uuid("id", id(ports+1))+f.portText(1, want)),
				-1)
			return err == nil
		})
		f.waitForName("a change while "+how, spec.Name(want))
		f.waitFor("all statuses while "+how, func() bool { return f.allStored(5) })
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
	_, before := f.last()
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
	f.waitWithin(deadline, "all statuses after all were dead", func() bool { return f.allStored(5) })
	t.Logf("statuses again %v after all members serve", time.Since(returned))
	works("all are back")
	if d, now := f.last(); before-sets != round-1 || now-before != 1 || !whole(5)(d) {
		t.Errorf("%d changes made %d sets", round, now-sets)
	}
}

func TestFaultsOfServersAreReported(t *testing.T) {
	f := &fixture{T: t, host: spec.HostID(id(1)), notify: make(chan struct{}, 1)}
	listen := func(serve func(net.Conn)) string {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		f.check(err)
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
	n := f.open("zk://" + web + "," + mute + "," + shut + "/m")
	f.run(n)
	f.waitFor("each fault", func() bool {
		faults := n.conn.session.faults()
		return strings.Contains(faults, web+": does not speak") &&
			strings.Contains(faults, mute+": accepts connections but does not respond") &&
			strings.Contains(faults, shut+": accepts connections and closes them")
	})
	f.waitFor("one line", func() bool { return strings.Count(f.log.String(), "no session with the NSDB") == 1 })
	if _, sets := f.last(); sets > 0 {
		t.Error("a set was reported without a server")
	}
}

func TestRunEndsWhenTheNSDBIsClosed(t *testing.T) {
	f := newFixture(t, sharedServers.start(t))
	f.putBindings(1)
	n := f.open(f.cluster.URL(f.tree.Root()))
	ended := make(chan error, 1)
	go func() { ended <- n.Run(t.Context(), func(spec.Desired) { f.notify <- struct{}{} }) }()
	<-f.notify
	f.check(n.Close())
	select {
	case err := <-ended:
		f.check(err)
	case <-time.After(deadline):
		t.Fatal("Run does not return")
	}
	if _, err := n.ListStatuses(t.Context()); err == nil {
		t.Error("a closed NSDB returned no error")
	}
}
