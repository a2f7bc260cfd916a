package etcd

import (
	"fmt"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

func TestChangesOfReferredObjectsAreReported(t *testing.T) {
	f := newFixture(t)
	f.startAndReadAll()
	f.put("configurations/k", `{"id":"k","x":1}`)
	f.waitForSet("the configuration", func(d spec.Desired) bool {
		return whole(d) && string(find(d, "p").Configuration) == `{"id":"k","x":1}`
	})
	f.remove("containers/c")
	d := f.waitForSet(
		"the missing container", func(d spec.Desired) bool { return find(d, "p").Reading == spec.Unknown })
	if fault := find(d, "p").Fault; !strings.Contains(fault, "containers/c: no such object") {
		t.Errorf("got %q", fault)
	}
	f.put("containers/c", strings.Replace(container("c"), `"k"`, `"later"`, 1))
	f.waitForSet("the missing configuration", func(d spec.Desired) bool {
		return strings.Contains(find(d, "p").Fault, "configurations/later: no such object")
	})
	f.put("configurations/later", `{"id":"later"}`)
	f.waitForSet("the new configuration", whole)
	f.put("config/default", `{"log-level":"debug"}`)
	f.put("config/hosts/h", `{"status-interval":"5s"}`)
	f.waitForSet("the settings", func(d spec.Desired) bool {
		return d.Settings["log-level"] == "debug" && d.Settings["status-interval"] == "5s"
	})
	f.remove("bindings/h/p")
	f.waitForSet("no binding", func(d spec.Desired) bool { return d.Unread == "" && len(d.Bindings) == 0 })
	f.put("bindings/h/p", binding("p", "vpn-p", "c"))
	f.waitForSet("the binding again", whole)
}

func TestAHostWithoutItsObjectIsUnread(t *testing.T) {
	f := newFixture(t)
	f.remove("hosts/h")
	f.start()
	d := f.waitForSet("the unread set", func(spec.Desired) bool { return true })
	if !strings.HasPrefix(d.Unread, "hosts/h: no Host object") || len(d.Bindings) != 0 {
		t.Errorf("got %+v", d)
	}
	f.put("hosts/h", `{"id":"h"}`)
	f.waitForSet("the host", whole)
	f.remove("hosts/h")
	f.waitForSet("the host without its object", func(d spec.Desired) bool { return d.Unread != "" })
	if f.logged("hosts/h") == 0 {
		t.Error("nothing was logged")
	}
}

// The watches report the changes of a transaction one by one.
func TestASetHasAllChangesOfATransactionOrNone(t *testing.T) {
	f := newFixture(t)
	f.put("containers/d", strings.ReplaceAll(container("d"), `"k"`, `"k"`))
	f.put("bindings/h/q", binding("q", "vpn-q", "d")) // uses the same configuration
	f.startAndReadAll()
	mac := func(n int) string { return fmt.Sprintf("02:00:00:00:%02x:%02x", n>>8, n&255) }
	bound := func(port, container string, n int) clientv3.Op {
		return f.opPut("bindings/h/"+port, fmt.Sprintf(
			`{"portId":%q,"hostId":"h","interfaceName":"vpn-%s","containerId":%q,"mac":%q}`, port, port, container,
			mac(n)))
	}
	const rounds = 300
	for n := range rounds {
		f.txn(bound("p", "c", n), f.opPut("configurations/k", fmt.Sprintf(`{"id":"k","mac":%q}`, mac(n))),
			bound("q", "d", n))
	}
	f.waitForSet("the last round", func(d spec.Desired) bool { return find(d, "q").Port.MAC == mac(rounds-1) })
	for _, d := range f.since(1) {
		for _, port := range []spec.PortID{"p", "q"} {
			if b := find(d, port); !strings.Contains(string(b.Configuration), b.Port.MAC) {
				t.Fatalf("port %s has MAC %s and configuration %s", port, b.Port.MAC, b.Configuration)
			}
		}
		if p, q := find(d, "p"), find(d, "q"); p.Port.MAC != q.Port.MAC {
			t.Fatalf("ports have MACs %s and %s", p.Port.MAC, q.Port.MAC)
		}
	}
	if sets := len(f.since(0)); sets < 3 {
		t.Errorf("only %d sets", sets)
	}
}

func TestUnusedObjectsAreNotWatched(t *testing.T) {
	f := newFixture(t)
	f.put("containers/d", strings.Replace(container("d"), `"k"`, `"l"`, 1))
	f.put("configurations/l", `{"id":"l"}`)
	f.startAndReadAll()
	f.put("bindings/h/p", binding("p", "vpn-p", "d"))
	f.waitForSet("the other container", func(d spec.Desired) bool { return find(d, "p").Container.ContainerID == "d" })
	f.awaitLaterChangeOf("d")
	before, _ := f.rpcs.count()
	f.put("containers/c", container("c")+" ")
	f.put("configurations/k", `{"id":"k","x":2}`)
	f.noMoreRequests(before)
}

func (f *fixture) awaitLaterChangeOf(container string) {
	f.Helper()
	f.put("bindings/h/z", binding("z", "vpn-z", container))
	f.waitForSet("a later change", func(d spec.Desired) bool { return find(d, "z") != nil })
}

// noMoreRequests checks that no request is sent for 300 ms, which is longer than a watch takes to report a change.
func (f *fixture) noMoreRequests(before int) {
	f.Helper()
	time.Sleep(300 * time.Millisecond)
	if now, _ := f.rpcs.count(); now != before {
		f.rpcs.mu.Lock()
		defer f.rpcs.mu.Unlock()
		f.Errorf("%d requests more: %v", now-before, f.rpcs.requests)
	}
}

// waitForIdle waits until no request was sent and no message was received for 300 ms.
func (f *fixture) waitForIdle() {
	f.Helper()
	traffic := func() int {
		f.rpcs.mu.Lock()
		defer f.rpcs.mu.Unlock()
		n := f.rpcs.messages
		for _, count := range f.rpcs.requests {
			n += count
		}
		return n
	}
	for end, last := time.Now().Add(5*time.Second), -1; traffic() != last; time.Sleep(300 * time.Millisecond) {
		if last = traffic(); time.Now().After(end) {
			f.Fatal("the traffic does not end")
		}
	}
}

func TestOnlyChangesOfThisHostCauseRequests(t *testing.T) {
	f := newFixture(t)
	f.startAndReadAll()
	f.awaitLaterChange()
	f.waitForIdle() // requests of the start are not counted
	requests, watches := f.rpcs.count()
	if watches != 1 {
		t.Errorf("%d streams of watches", watches)
	}
	f.rpcs.mu.Lock()
	received := f.rpcs.bytes
	f.rpcs.mu.Unlock()
	for i := range 50 {
		id := fmt.Sprintf("x%d", i)
		f.txn(
			f.opPut("bindings/other/"+id, binding(id, "vpn-x", id)), f.opPut("containers/"+id, container(id)),
			f.opPut("bindings/h2/"+id, "?"), f.opPut("hosts/h2", "?"), f.opPut("config/hosts/h2", "?"),
			f.opPut("status/containers/h2/"+id, "?"))
	}
	f.noMoreRequests(requests)
	f.rpcs.mu.Lock()
	// The answers to the renewals of the lease have some 30 bytes each. The 300 changes would have 20,000.
	if more := f.rpcs.bytes - received; more > 2000 {
		t.Errorf("%d bytes came in", more)
	}
	f.rpcs.mu.Unlock()

	f.put("bindings/h/n", binding("n", "vpn-n", "x1"))
	f.waitForSet("the new binding", func(d spec.Desired) bool {
		b := find(d, "n")
		return b != nil && b.Reading == spec.Complete
	})
	now, _ := f.rpcs.count()
	if now-requests > 3 {
		t.Errorf("a new binding cost %d requests", now-requests)
	}
	requests = now
	f.put("configurations/k", `{"id":"k","x":7}`)
	f.waitForSet("the configuration", func(d spec.Desired) bool {
		return string(find(d, "p").Configuration) == `{"id":"k","x":7}`
	})
	if now, _ := f.rpcs.count(); now-requests > 1 {
		t.Errorf("a changed configuration cost %d requests", now-requests)
	}
}

func TestAnUnusableValueAffectsOnlyItsOwnContainer(t *testing.T) {
	f := newFixture(t)
	f.put("bindings/h/q", binding("q", "vpn-q", "big"))
	f.put("containers/big", strings.Replace(container("big"), `"k"`, `"big"`, 1))
	f.put("configurations/big", `{"id":"big","x":"`+strings.Repeat("x", 1<<20)+`"}`)
	f.put("bindings/h/bad", "{")
	f.put("bindings/h/no/id", "{}")
	f.startAndReadAll()
	d := f.since(0)[0]
	const tooLarge = "configurations/big: is larger than 1 MiB"
	if b := find(d, "q"); b.Reading != spec.Unknown || !strings.Contains(b.Fault, tooLarge) {
		t.Errorf("got %+v", b.Fault)
	}
	if b := find(d, "bad"); b.Reading != spec.Unread || !strings.Contains(b.Fault, "bindings/h/bad: ") {
		t.Errorf("got %+v", b)
	}
	if f.logged("configurations/big") != 1 || f.logged(`"no/id"`) != 1 {
		t.Errorf("log %q", f.log)
	}
}

func TestManyBindingsAreReadInPages(t *testing.T) {
	f := newFixture(t)
	const bindings = 1100
	for i := 0; i < bindings; i += 100 {
		var operations []clientv3.Op
		for j := range 100 {
			port := fmt.Sprintf("p%04d", i+j)
			operations = append(operations, f.opPut("bindings/h/"+port, binding(port, "vpn-"+port, "c")))
		}
		f.txn(operations...)
	}
	f.start()
	d := f.waitForSet("the first set", func(spec.Desired) bool { return true })
	if len(d.Bindings) != bindings+1 {
		t.Errorf("%d bindings", len(d.Bindings))
	}
}
