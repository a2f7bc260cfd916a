package etcd

import (
	"fmt"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

func TestAChangeOfWhateverABindingRefersToIsSeen(t *testing.T) {
	g := newGround(t)
	g.startsWell()
	g.put("configurations/k", `{"id":"k","x":1}`)
	g.until("the configuration", func(d spec.Desired) bool { return whole(d) && string(find(d, "p").Configuration) == `{"id":"k","x":1}` })
	g.remove("containers/c")
	d := g.until("the missing container", func(d spec.Desired) bool { return find(d, "p").Reading == spec.Unknown })
	if fault := find(d, "p").Fault; !strings.Contains(fault, "containers/c: no such object") {
		t.Errorf("got %q", fault)
	}
	g.put("containers/c", strings.Replace(container("c"), `"k"`, `"later"`, 1))
	g.until("the missing configuration", func(d spec.Desired) bool {
		return strings.Contains(find(d, "p").Fault, "configurations/later: no such object")
	})
	g.put("configurations/later", `{"id":"later"}`)
	g.until("the configuration that came", whole)
	g.put("config/default", `{"log-level":"debug"}`)
	g.put("config/hosts/h", `{"status-interval":"5s"}`)
	g.until("the settings", func(d spec.Desired) bool {
		return d.Settings["log-level"] == "debug" && d.Settings["status-interval"] == "5s"
	})
	g.remove("bindings/h/p")
	g.until("no binding", func(d spec.Desired) bool { return d.Unread == "" && len(d.Bindings) == 0 })
	g.put("bindings/h/p", binding("p", "vpn-p", "c"))
	g.until("the binding again", whole)
}

func TestWithoutItsHostObjectNothingIsKnownOfTheHost(t *testing.T) {
	g := newGround(t)
	g.remove("hosts/h")
	g.start()
	d := g.until("the unread set", func(spec.Desired) bool { return true })
	if !strings.HasPrefix(d.Unread, "hosts/h: no Host object") || len(d.Bindings) != 0 {
		t.Errorf("got %+v", d)
	}
	g.put("hosts/h", `{"id":"h"}`)
	g.until("the host", whole)
	g.remove("hosts/h")
	g.until("the host without its object", func(d spec.Desired) bool { return d.Unread != "" })
	if g.logged("hosts/h") == 0 {
		t.Error("nothing was said")
	}
}

// The watches tell of a transaction's changes one by one.
func TestATransactionIsSeenWholeOrNotAtAll(t *testing.T) {
	g := newGround(t)
	g.put("containers/d", strings.ReplaceAll(container("d"), `"k"`, `"k"`))
	g.put("bindings/h/q", binding("q", "vpn-q", "d")) // shares the configuration
	g.startsWell()
	mac := func(n int) string { return fmt.Sprintf("02:00:00:00:%02x:%02x", n>>8, n&255) }
	bound := func(port, container string, n int) clientv3.Op {
		return g.opPut("bindings/h/"+port, fmt.Sprintf(`{"portId":%q,"hostId":"h","interfaceName":"vpn-%s","containerId":%q,"mac":%q}`, port, port, container, mac(n)))
	}
	const rounds = 300
	for n := range rounds {
		g.txn(bound("p", "c", n), g.opPut("configurations/k", fmt.Sprintf(`{"id":"k","mac":%q}`, mac(n))), bound("q", "d", n))
	}
	g.until("the last round", func(d spec.Desired) bool { return find(d, "q").Port.MAC == mac(rounds-1) })
	for _, d := range g.since(1) {
		for _, port := range []spec.PortID{"p", "q"} {
			if b := find(d, port); !strings.Contains(string(b.Configuration), b.Port.MAC) {
				t.Fatalf("port %s has MAC %s and configuration %s", port, b.Port.MAC, b.Configuration)
			}
		}
		if p, q := find(d, "p"), find(d, "q"); p.Port.MAC != q.Port.MAC {
			t.Fatalf("ports have MACs %s and %s", p.Port.MAC, q.Port.MAC)
		}
	}
	if sets := len(g.since(0)); sets < 3 {
		t.Errorf("only %d sets", sets)
	}
}

func TestWhatIsNotReferredToAnyMoreIsNotWatched(t *testing.T) {
	g := newGround(t)
	g.put("containers/d", strings.Replace(container("d"), `"k"`, `"l"`, 1))
	g.put("configurations/l", `{"id":"l"}`)
	g.startsWell()
	g.put("bindings/h/p", binding("p", "vpn-p", "d"))
	g.until("the other container", func(d spec.Desired) bool { return find(d, "p").Container.ContainerID == "d" })
	g.settleOn("d")
	before, _ := g.rpcs.count()
	g.put("containers/c", container("c")+" ")
	g.put("configurations/k", `{"id":"k","x":2}`)
	g.quiet(before)
}

func (g *ground) settleOn(container string) {
	g.Helper()
	g.put("bindings/h/z", binding("z", "vpn-z", container))
	g.until("a later change", func(d spec.Desired) bool { return find(d, "z") != nil })
}

// quiet checks that no request is made for a while: longer than a watch takes to tell.
func (g *ground) quiet(before int) {
	g.Helper()
	time.Sleep(300 * time.Millisecond)
	if now, _ := g.rpcs.count(); now != before {
		g.rpcs.mu.Lock()
		defer g.rpcs.mu.Unlock()
		g.Errorf("%d requests more: %v", now-before, g.rpcs.begun)
	}
}

// calm waits until nothing was asked and nothing came in for a while.
func (g *ground) calm() {
	g.Helper()
	traffic := func() int {
		g.rpcs.mu.Lock()
		defer g.rpcs.mu.Unlock()
		n := g.rpcs.messages
		for _, begun := range g.rpcs.begun {
			n += begun
		}
		return n
	}
	for end, last := time.Now().Add(5*time.Second), -1; traffic() != last; time.Sleep(300 * time.Millisecond) {
		if last = traffic(); time.Now().After(end) {
			g.Fatal("it never comes to rest")
		}
	}
}

func TestAChangeOfAnotherHostCostsNothingAndOneOfOursAFewReads(t *testing.T) {
	g := newGround(t)
	g.startsWell()
	g.settle()
	g.calm() // what the start itself asks for is not counted
	requests, watches := g.rpcs.count()
	if watches != 1 {
		t.Errorf("%d streams of watches", watches)
	}
	g.rpcs.mu.Lock()
	messages := g.rpcs.messages
	g.rpcs.mu.Unlock()
	for i := range 50 {
		id := fmt.Sprintf("x%d", i)
		g.txn(g.opPut("bindings/other/"+id, binding(id, "vpn-x", id)), g.opPut("containers/"+id, container(id)), g.opPut("bindings/h2/"+id, "?"),
			g.opPut("hosts/h2", "?"), g.opPut("config/hosts/h2", "?"), g.opPut("status/containers/h2/"+id, "?"))
	}
	g.quiet(requests)
	g.rpcs.mu.Lock()
	if more := g.rpcs.messages - messages; more > 3 { // signs of life of the stream
		t.Errorf("%d messages came in", more)
	}
	g.rpcs.mu.Unlock()

	g.put("bindings/h/n", binding("n", "vpn-n", "x1"))
	g.until("the new binding", func(d spec.Desired) bool { b := find(d, "n"); return b != nil && b.Reading == spec.Whole })
	now, _ := g.rpcs.count()
	if now-requests > 3 {
		t.Errorf("a new binding cost %d requests", now-requests)
	}
	requests = now
	g.put("configurations/k", `{"id":"k","x":7}`)
	g.until("the configuration", func(d spec.Desired) bool { return string(find(d, "p").Configuration) == `{"id":"k","x":7}` })
	if now, _ := g.rpcs.count(); now-requests > 1 {
		t.Errorf("a changed configuration cost %d requests", now-requests)
	}
}

func TestAValueThatCannotBeUsedHoldsItsOwnContainerOnly(t *testing.T) {
	g := newGround(t)
	g.put("bindings/h/q", binding("q", "vpn-q", "big"))
	g.put("containers/big", strings.Replace(container("big"), `"k"`, `"big"`, 1))
	g.put("configurations/big", `{"id":"big","x":"`+strings.Repeat("x", 1<<20)+`"}`)
	g.put("bindings/h/bad", "{")
	g.put("bindings/h/no/id", "{}")
	g.startsWell()
	d := g.since(0)[0]
	if b := find(d, "q"); b.Reading != spec.Unknown || !strings.Contains(b.Fault, "configurations/big: is larger than 1 MiB") {
		t.Errorf("got %+v", b.Fault)
	}
	if b := find(d, "bad"); b.Reading != spec.Unread || !strings.Contains(b.Fault, "bindings/h/bad: ") {
		t.Errorf("got %+v", b)
	}
	if g.logged("configurations/big") != 1 || g.logged(`"no/id"`) != 1 {
		t.Errorf("log %q", g.log)
	}
}

func TestManyBindingsAreReadPageByPage(t *testing.T) {
	g := newGround(t)
	const bindings = 1100
	for i := 0; i < bindings; i += 100 {
		var operations []clientv3.Op
		for j := range 100 {
			port := fmt.Sprintf("p%04d", i+j)
			operations = append(operations, g.opPut("bindings/h/"+port, binding(port, "vpn-"+port, "c")))
		}
		g.txn(operations...)
	}
	g.start()
	d := g.until("the first set", func(spec.Desired) bool { return true })
	if len(d.Bindings) != bindings+1 {
		t.Errorf("%d bindings", len(d.Bindings))
	}
}
