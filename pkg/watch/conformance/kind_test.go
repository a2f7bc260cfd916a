package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

// deadline is how long a test waits for what must come. It says nothing about speed.
const deadline = 30 * time.Second

// long is how long a loss lasts.
func long(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("SVC_TEST_LONG")
	if text == "" {
		return time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("SVC_TEST_LONG %q: allowed: a duration, like 60s", text)
	}
	return d
}

// Kind is one kind of NSDB.
type Kind struct {
	Name     string
	Parallel bool // its worlds share no server
	Bridge   bool // a binding can have a bridge

	// Fresh makes an NSDB of its own, without an object.
	Fresh func(t *testing.T) World

	// Faulty makes one whose servers nobody else uses.
	Faulty func(t *testing.T) (World, Faults)
}

// World is an NSDB as somebody else has it: whoever writes the objects, and reads the statuses.
type World interface {
	// URL names the NSDB as --nsdb does.
	URL() string

	// Write makes what is there equal to objects, JSON by native keys. What differs is written at once where the kind can, in
	// the order of an import, and removed in the opposite order, where it cannot. A key of spoilt objects is left alone.
	Write(t *testing.T, objects objects)

	// Spoil lays something at an object's place that cannot be parsed, until the object is written anew.
	Spoil(t *testing.T, key string)

	// BadSetting makes the settings of all hosts a level that is none, and a status interval of 5s.
	BadSetting(t *testing.T)

	// HostStatus and ContainerStatus read a status as it stands. The stamp differs for each writing of it; "" is none there.
	HostStatus(t *testing.T, host spec.HostID) (status spec.HostStatus, stamp string)
	ContainerStatus(t *testing.T, host spec.HostID, id spec.ContainerID) (status spec.ContainerStatus, stamp string)

	// Squat writes a container's status as another owner, the supervisor before this one; leave ends that owner.
	Squat(t *testing.T, host spec.HostID, id spec.ContainerID) (leave func())
}

// Faults are the switches of a world's servers; nil where the kind has none such.
type Faults struct {
	Cut, Mend    func() // the host is cut off, the others are not
	Stop, Start  func() // no server is there
	Freeze, Thaw func() // all servers hang
	Roll         func() // every server is started anew, one after the other
}

// objects are JSON by native keys.
type objects map[string]string

// with is a copy with changes; "" removes.
func (o objects) with(changes objects) objects {
	all := maps.Clone(o)
	for key, value := range changes {
		all[key] = value
		if value == "" {
			delete(all, key)
		}
	}
	return all
}

// without is a copy less some keys.
func (o objects) without(keys ...string) objects {
	all := maps.Clone(o)
	for _, key := range keys {
		delete(all, key)
	}
	return all
}

// list has the objects in the order of an import.
func (o objects) list() (list []spec.Object) {
	for _, key := range slices.Sorted(maps.Keys(o)) {
		list = append(list, spec.Object{Key: key, Value: json.RawMessage(o[key])})
	}
	ordered := make([]spec.Object, len(list))
	for i, at := range native.ImportOrder(list) {
		ordered[i] = list[at]
	}
	return ordered
}

// id makes a UUID, which every kind takes: class tells the objects apart.
func id(class string, n int) string {
	first := map[string]int{"host": 1, "port": 2, "container": 3, "group": 4, "configuration": 5, "connection": 6}[class]
	return fmt.Sprintf("%08d-0000-4000-8000-%012d", first, n)
}

var (
	ours   = spec.HostID(id("host", 1))
	theirs = spec.HostID(id("host", 2))
)

func port(n int) spec.PortID           { return spec.PortID(id("port", n)) }
func container(n int) spec.ContainerID { return spec.ContainerID(id("container", n)) }

// Keys of the objects that belong to the number n.
func hostKey(n int) string          { return "hosts/" + id("host", n) }
func bindingKey(host, n int) string { return "bindings/" + id("host", host) + "/" + id("port", n) }
func containerKey(n int) string     { return "containers/" + id("container", n) }
func groupKey(n int) string         { return "groups/" + id("group", n) }
func configurationKey(n int) string { return "configurations/" + id("configuration", n) }

// edit changes members of an object; nil removes one.
type edit map[string]any

func object(members edit, edits ...edit) string {
	for _, e := range edits {
		for key, value := range e {
			if members[key] = value; value == nil {
				delete(members, key)
			}
		}
	}
	value, err := json.Marshal(members)
	if err != nil {
		panic(err)
	}
	return string(value)
}

func hostObject(n int, edits ...edit) string {
	return object(edit{"id": id("host", n), "name": fmt.Sprintf("host-%d", n), "containerWeight": 3, "containerLimit": 50}, edits...)
}

func bindingObject(host, n int, edits ...edit) string {
	return object(edit{
		"portId": id("port", n), "hostId": id("host", host), "interfaceName": fmt.Sprintf("vpn-%d", n), "containerId": id("container", n),
		"addresses": []string{fmt.Sprintf("169.254.%d.1/30", n)}, "mac": mac(n << 16),
	}, edits...)
}

func mac(n int) string {
	return fmt.Sprintf("ca:08:%02x:%02x:%02x:%02x", n>>24&255, n>>16&255, n>>8&255, n&255)
}

func containerObject(n int, edits ...edit) string {
	return object(edit{
		"id": id("container", n), "serviceType": "IPSEC", "groupId": id("group", 1), "configurationId": id("configuration", n), "portId": id("port", n),
	}, edits...)
}

func groupObject(n int) string {
	return object(edit{"id": id("group", n), "policy": "leastContainers", "hostIds": []string{id("host", 1), id("host", 2)}})
}

// configurationObject is one that every kind can carry: it says what MidoNet's objects can say, and all of it.
func configurationObject(n int, psk string, edits ...edit) string {
	return object(edit{
		"id": id("configuration", n), "externalIps": []string{fmt.Sprintf("100.64.%d.2", n)}, "externalMac": mac(n<<16 | 1),
		"connections": []edit{{
			"id": id("connection", n), "name": fmt.Sprintf("to-%d", n), "adminStateUp": true,
			"peerAddress": "200.200.200.2", "peerId": "200.200.200.2", "localId": fmt.Sprintf("100.64.%d.2", n), "psk": psk,
			"localCidrs": []string{"10.1.0.0/24"}, "peerCidrs": []string{"10.2.0.0/24"}, "initiator": "bi-directional", "mtu": 1400,
			"dpd": edit{"action": "hold", "interval": 30, "timeout": 120},
			"ikePolicy": edit{
				"ikeVersion": "v2", "phase1NegotiationMode": "main", "encryptionAlgorithm": "aes-256", "authAlgorithm": "sha1", "pfs": "group14", "lifetime": 3600,
			},
			"ipsecPolicy": edit{
				"transformProtocol": "esp", "encapsulationMode": "tunnel", "encryptionAlgorithm": "aes-256", "authAlgorithm": "sha1",
				"pfs": "group14", "lifetime": 3600,
			},
		}},
	}, edits...)
}

// whole are the objects of one container that is bound to a host.
func whole(host, n int) objects {
	return objects{
		bindingKey(host, n): bindingObject(host, n), containerKey(n): containerObject(n),
		configurationKey(n): configurationObject(n, "secret"),
	}
}

// base is what most tests begin with: two hosts, two groups, containers 1 and 2 here and 9 on the other host.
func base() objects {
	all := objects{hostKey(1): hostObject(1), hostKey(2): hostObject(2), groupKey(1): groupObject(1), groupKey(2): groupObject(2)}
	for _, part := range []objects{whole(1, 1), whole(1, 2), whole(2, 9)} {
		maps.Copy(all, part)
	}
	return all
}

// badSetting is BadSetting's, in its native form.
const badSetting = `{"log-level":"loud","status-interval":"5s"}`

// another is the status that another owner wrote, and squatted its native form.
func another(host spec.HostID) spec.ContainerStatus {
	return spec.ContainerStatus{Code: spec.Stopping, Message: "another's", HostID: host, NamespaceName: "vpn-1", InterfaceName: "vpn-1"}
}

func squatted(host spec.HostID) string {
	value, _ := json.Marshal(another(host))
	return string(value)
}

// memory is a native.Reader of objects: what is wanted of a kind is what native.Assemble makes of it.
type memory objects

func (m memory) Get(_ context.Context, key native.Key) (*native.Document, error) {
	value, ok := m[string(key)]
	if !ok {
		return nil, native.ErrAbsent
	}
	return native.Parse([]byte(value), native.JSON)
}

func (m memory) Bindings(_ context.Context, host spec.HostID) (ids []string, err error) {
	for key := range m {
		if port, ok := strings.CutPrefix(key, string(native.BindingsKey(host))+"/"); ok {
			ids = append(ids, port)
		}
	}
	return ids, nil
}

// wanted is the set that objects come to for our host.
func wanted(all objects) spec.Desired {
	desired, _ := native.Assemble(context.Background(), memory(all), ours)
	return desired
}

// differs says in what a set is not the wanted one, less what kinds say in their own words; "" if in nothing.
func differs(got, want spec.Desired) string {
	switch {
	case (got.Unread == "") != (want.Unread == ""):
		return fmt.Sprintf("unread %q, wanted %q", got.Unread, want.Unread)
	case got.Unread != "":
		return ""
	case got.Host != want.Host:
		return fmt.Sprintf("host %+v, wanted %+v", got.Host, want.Host)
	case !maps.Equal(got.Settings, want.Settings):
		return fmt.Sprintf("settings %v, wanted %v", got.Settings, want.Settings)
	case len(got.Bindings) != len(want.Bindings):
		return fmt.Sprintf("%d bindings, wanted %d", len(got.Bindings), len(want.Bindings))
	}
	for i := range want.Bindings {
		if text := differ(&got.Bindings[i], &want.Bindings[i]); text != "" {
			return text
		}
	}
	return ""
}

// differ says in what two bindings are not the same.
func differ(got, want *spec.Binding) string {
	switch {
	case got.PortID != want.PortID || got.Reading != want.Reading:
		return fmt.Sprintf("port %s reading %d (%s), wanted port %s reading %d (%s)", got.PortID, got.Reading, got.Fault, want.PortID, want.Reading, want.Fault)
	case got.Reading == spec.Unread:
		return ""
	case got.Container.InterfaceName != want.Container.InterfaceName || got.Container.ContainerID != want.Container.ContainerID:
		return fmt.Sprintf("names %+v, wanted %+v", got.Container, want.Container)
	case got.Reading != spec.Whole:
		return ""
	case got.Container != want.Container:
		return fmt.Sprintf("container %+v, wanted %+v", got.Container, want.Container)
	case !slices.Equal(got.Port.Addresses, want.Port.Addresses) || got.Port.MAC != want.Port.MAC || got.Port.Bridge != want.Port.Bridge:
		return fmt.Sprintf("port %+v, wanted %+v", got.Port, want.Port)
	case !sameJSON(got.Configuration, want.Configuration):
		return fmt.Sprintf("configuration %s, wanted %s", got.Configuration, want.Configuration)
	}
	return ""
}

func sameJSON(a, b json.RawMessage) bool {
	one, errOne := native.Parse(a, native.JSON)
	other, errOther := native.Parse(b, native.JSON)
	return errOne == nil && errOther == nil && one.Same(other)
}

// hearer is our host's supervisor, as far as it hears and speaks.
type hearer struct {
	*testing.T
	watch.NSDB
	stop func() // ends Run and closes, once

	mu   sync.Mutex
	sets []spec.Desired
	news chan struct{}
}

// hear opens an NSDB for our host and runs it until the test ends.
func hear(t *testing.T, w World) *hearer {
	t.Helper()
	h := open(t, w)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := h.NSDB.Run(ctx, h.changed); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	h.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		if err := h.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	t.Cleanup(h.stop)
	return h
}

// open opens one that only speaks.
func open(t *testing.T, w World) *hearer {
	t.Helper()
	nsdb, err := watch.Open(w.URL(), ours, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	h := &hearer{T: t, NSDB: nsdb, news: make(chan struct{}, 1)}
	h.stop = sync.OnceFunc(func() { _ = nsdb.Close() })
	t.Cleanup(h.stop)
	return h
}

func (h *hearer) changed(desired spec.Desired) {
	h.mu.Lock()
	h.sets = append(h.sets, desired)
	h.mu.Unlock()
	select {
	case h.news <- struct{}{}:
	default:
	}
}

// since returns the sets from the nth on.
func (h *hearer) since(n int) []spec.Desired {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sets[n:]
}

func (h *hearer) count() int { return len(h.since(0)) }

// hears waits until the last set is what objects come to.
func (h *hearer) hears(what string, all objects) {
	h.Helper()
	want := wanted(all)
	text := "no set at all"
	h.until(what, func(d spec.Desired) bool { text = differs(d, want); return text == "" }, &text)
}

// until waits until the last set is as wanted.
func (h *hearer) until(what string, good func(spec.Desired) bool, why *string) {
	h.Helper()
	late := time.After(deadline)
	for {
		if sets := h.since(0); len(sets) > 0 && good(sets[len(sets)-1]) {
			return
		}
		select {
		case <-h.news:
		case <-late:
			text := ""
			if why != nil {
				text = ": " + *why
			}
			h.Fatalf("%s: not heard in %v, %d sets%s", what, deadline, h.count(), text)
		}
	}
}

// await waits for a condition that is looked at again and again.
func await(t *testing.T, what string, within time.Duration, good func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !good(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not in %v", what, within)
		}
	}
}
