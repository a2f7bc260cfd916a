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

	"github.com/svc-supervisor/svc-supervisor/internal/publish"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

// deadline is how long a test waits for an expected event. It is no statement about performance.
const deadline = 30 * time.Second

// outageDuration returns the duration of each failure of servers.
func outageDuration(t *testing.T) time.Duration {
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
	Name          string
	Parallel      bool // its backends share no server
	Bridge        bool // a binding can have a bridge
	RefusesImport bool // objects cannot be imported, because other tools write them

	// Fresh returns a new NSDB without objects.
	Fresh func(t *testing.T) Backend

	// WithFaults returns a new NSDB with servers of its own.
	WithFaults func(t *testing.T) (Backend, Faults)
}

// Backend is an NSDB as another client sees it. It writes objects and reads statuses.
type Backend interface {
	// URL returns the --nsdb URL.
	URL() string

	// Write makes the objects of the NSDB equal to objects, which are JSON by native key. It writes all differences in
	// one transaction if the kind has transactions. Otherwise it writes objects in import order, and then removes
	// objects in reverse order. A corrupted object is replaced or removed like any other.
	Write(t *testing.T, objects objects)

	// Corrupt replaces an object by something that cannot be parsed, until the object is written again.
	Corrupt(t *testing.T, key string)

	// BadSetting sets the default settings to an invalid log level and a status interval of 5s.
	BadSetting(t *testing.T)

	// HostStatus and ContainerStatus read a status. The stamp changes with every write; it is "" if there is no status.
	HostStatus(t *testing.T, host spec.HostID) (status spec.HostStatus, stamp string)
	ContainerStatus(t *testing.T, host spec.HostID, id spec.ContainerID) (status spec.ContainerStatus, stamp string)

	// WriteAsOther writes a container's status as another owner, like the previous supervisor. endOwner ends that
	// owner.
	WriteAsOther(t *testing.T, host spec.HostID, id spec.ContainerID) (endOwner func())
}

// Faults are functions that cause and end failures of servers. A function is nil if the kind does not support it.
type Faults struct {
	Cut, Restore func() // only this host is cut off
	Stop, Start  func() // no server runs
	Freeze, Thaw func() // all servers hang
	Roll         func() // all servers are restarted, one after the other
}

// objects are JSON values by native key.
type objects map[string]string

// with returns a copy with changes. A change to "" removes the object.
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

// without returns a copy without some keys.
func (o objects) without(keys ...string) objects {
	all := maps.Clone(o)
	for _, key := range keys {
		delete(all, key)
	}
	return all
}

// list returns the objects in import order.
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

// id returns a UUID for an object. All kinds accept UUIDs. class distinguishes objects with the same number.
func id(class string, n int) string {
	first := map[string]int{
		"host": 1, "port": 2, "container": 3, "group": 4, "configuration": 5, "connection": 6,
	}[class]
	return fmt.Sprintf("%08d-0000-4000-8000-%012d", first, n)
}

var (
	thisHost  = spec.HostID(id("host", 1))
	otherHost = spec.HostID(id("host", 2))
)

func port(n int) spec.PortID           { return spec.PortID(id("port", n)) }
func container(n int) spec.ContainerID { return spec.ContainerID(id("container", n)) }

// Native keys of the objects with number n.
func hostKey(n int) string          { return "hosts/" + id("host", n) }
func bindingKey(host, n int) string { return "bindings/" + id("host", host) + "/" + id("port", n) }
func containerKey(n int) string     { return "containers/" + id("container", n) }
func groupKey(n int) string         { return "groups/" + id("group", n) }
func configurationKey(n int) string { return "configurations/" + id("configuration", n) }

// edit are changed members of an object; nil removes a member.
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
	return object(edit{
		"id": id("host", n), "name": fmt.Sprintf("host-%d", n), "containerWeight": 3, "containerLimit": 50,
	}, edits...)
}

func bindingObject(host, n int, edits ...edit) string {
	return object(edit{
		"portId": id("port", n), "hostId": id("host", host),
		"interfaceName": fmt.Sprintf("vpn-%d", n), "containerId": id("container", n),
		"addresses": []string{fmt.Sprintf("169.254.%d.1/30", n)}, "mac": mac(n << 16),
	}, edits...)
}

func mac(n int) string {
	return fmt.Sprintf("ca:08:%02x:%02x:%02x:%02x", n>>24&255, n>>16&255, n>>8&255, n&255)
}

func containerObject(n int, edits ...edit) string {
	return object(edit{
		"id": id("container", n), "serviceType": "IPSEC", "groupId": id("group", 1),
		"configurationId": id("configuration", n), "portId": id("port", n),
	}, edits...)
}

func groupObject(n int) string {
	return object(edit{
		"id": id("group", n), "policy": "leastContainers", "hostIds": []string{id("host", 1), id("host", 2)},
	})
}

// configurationObject returns a configuration that every kind can store: it has exactly the members that MidoNet's
// objects support.
func configurationObject(n int, psk string, edits ...edit) string {
	return object(edit{
		"id": id("configuration", n), "externalMac": mac(n<<16 | 1),
		"externalIps": []string{fmt.Sprintf("100.64.%d.2", n)},
		"connections": []edit{{
			"id": id("connection", n), "name": fmt.Sprintf("to-%d", n), "adminStateUp": true,
			"peerAddress": "200.200.200.2", "peerId": "200.200.200.2", "localId": fmt.Sprintf("100.64.%d.2", n),
			"psk": psk, "localCidrs": []string{"10.1.0.0/24"}, "peerCidrs": []string{"10.2.0.0/24"},
			"initiator": "bi-directional", "mtu": 1400,
			"dpd": edit{"action": "hold", "interval": 30, "timeout": 120},
			"ikePolicy": edit{
				"ikeVersion": "v2", "phase1NegotiationMode": "main", "encryptionAlgorithm": "aes-256",
				"authAlgorithm": "sha1", "pfs": "group14", "lifetime": 3600,
			},
			"ipsecPolicy": edit{
				"transformProtocol": "esp", "encapsulationMode": "tunnel", "encryptionAlgorithm": "aes-256",
				"authAlgorithm": "sha1", "pfs": "group14", "lifetime": 3600,
			},
		}},
	}, edits...)
}

// containerObjects returns the objects of one container that is bound to a host.
func containerObjects(host, n int) objects {
	return objects{
		bindingKey(host, n): bindingObject(host, n), containerKey(n): containerObject(n),
		configurationKey(n): configurationObject(n, "secret"),
	}
}

// baseObjects returns the objects that most tests start with: two hosts, two groups, containers 1 and 2 on this host,
// and container 9 on the other host.
func baseObjects() objects {
	all := objects{
		hostKey(1): hostObject(1), hostKey(2): hostObject(2), groupKey(1): groupObject(1), groupKey(2): groupObject(2),
	}
	for _, part := range []objects{containerObjects(1, 1), containerObjects(1, 2), containerObjects(2, 9)} {
		maps.Copy(all, part)
	}
	return all
}

// badSetting is the native form of the settings that BadSetting writes.
const badSetting = `{"log-level":"loud","status-interval":"5s"}`

// otherStatus returns the status that WriteAsOther writes.
func otherStatus(host spec.HostID) spec.ContainerStatus {
	return spec.ContainerStatus{
		Code: spec.Stopping, Message: "another's", HostID: host, NamespaceName: "vpn-1", InterfaceName: "vpn-1",
	}
}

// otherStatusJSON returns otherStatus in its native form.
func otherStatusJSON(host spec.HostID) string {
	value, _ := json.Marshal(otherStatus(host))
	return string(value)
}

// memoryReader is a native.Reader of objects in memory. Every kind must report the set that native.Assemble builds from
// it.
type memoryReader objects

func (m memoryReader) Get(_ context.Context, key native.Key) (*native.Document, error) {
	value, ok := m[string(key)]
	if !ok {
		return nil, native.ErrAbsent
	}
	return native.Parse([]byte(value), native.JSON)
}

func (m memoryReader) Bindings(_ context.Context, host spec.HostID) (ids []string, err error) {
	for key := range m {
		if port, ok := strings.CutPrefix(key, string(native.BindingsKey(host))+"/"); ok {
			ids = append(ids, port)
		}
	}
	return ids, nil
}

// desiredSet returns the set that this host must report for the objects.
func desiredSet(all objects) spec.Desired {
	desired, _ := native.Assemble(context.Background(), memoryReader(all), thisHost)
	return desired
}

// diffSets returns the first difference between two sets, or "". It ignores the texts of faults, which differ between
// the kinds.
func diffSets(got, want spec.Desired) string {
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
		if text := diffBindings(&got.Bindings[i], &want.Bindings[i]); text != "" {
			return text
		}
	}
	return ""
}

// diffBindings returns the first difference between two bindings, or "".
func diffBindings(got, want *spec.Binding) string {
	switch {
	case got.PortID != want.PortID || got.Reading != want.Reading:
		return fmt.Sprintf("port %s reading %d (%s), wanted port %s reading %d (%s)",
			got.PortID, got.Reading, got.Fault, want.PortID, want.Reading, want.Fault)
	case got.Reading == spec.Unread:
		return ""
	case got.Container.InterfaceName != want.Container.InterfaceName ||
		got.Container.ContainerID != want.Container.ContainerID:
		return fmt.Sprintf("names %+v, wanted %+v", got.Container, want.Container)
	case got.Reading != spec.Complete:
		return ""
	case got.Container != want.Container:
		return fmt.Sprintf("container %+v, wanted %+v", got.Container, want.Container)
	case !slices.Equal(got.Port.Addresses, want.Port.Addresses) || got.Port.MAC != want.Port.MAC ||
		got.Port.Bridge != want.Port.Bridge:
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

// observer is the NSDB of this host, with the sets that its Run reports.
type observer struct {
	*testing.T
	watch.NSDB
	stop func() // ends Run and closes the NSDB; may be called again

	mu     sync.Mutex
	sets   []spec.Desired
	notify chan struct{}
}

// observe opens an NSDB for this host and runs it until the test ends.
func observe(t *testing.T, backend Backend) *observer {
	t.Helper()
	o := open(t, backend)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := o.NSDB.Run(ctx, o.changed); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	o.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		if err := o.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	t.Cleanup(o.stop)
	return o
}

// open opens an NSDB for this host without running it.
func open(t *testing.T, backend Backend) *observer {
	t.Helper()
	nsdb, err := watch.Open(backend.URL(), thisHost, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	o := &observer{T: t, NSDB: nsdb, notify: make(chan struct{}, 1)}
	o.stop = sync.OnceFunc(func() { _ = nsdb.Close() })
	t.Cleanup(o.stop)
	return o
}

// runPublisher runs a publisher, as the supervisor does, until the observer stops.
func (o *observer) runPublisher() *publish.Publisher {
	p := publish.New(o, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { p.Run(ctx) })
	stop := o.stop
	o.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		stop()
	})
	o.Cleanup(o.stop)
	return p
}

func (o *observer) changed(desired spec.Desired) {
	o.mu.Lock()
	o.sets = append(o.sets, desired)
	o.mu.Unlock()
	select {
	case o.notify <- struct{}{}:
	default:
	}
}

// since returns the sets from index n on.
func (o *observer) since(n int) []spec.Desired {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.sets[n:]
}

func (o *observer) count() int { return len(o.since(0)) }

// waitForSet waits until the last set is the one that the objects require.
func (o *observer) waitForSet(what string, all objects) {
	o.Helper()
	want := desiredSet(all)
	text := "no set at all"
	o.waitFor(what, func(d spec.Desired) bool { text = diffSets(d, want); return text == "" }, &text)
}

// waitFor waits until the last set meets a condition. why may point to the reason why it does not yet.
func (o *observer) waitFor(what string, condition func(spec.Desired) bool, why *string) {
	o.Helper()
	timeout := time.After(deadline)
	for {
		if sets := o.since(0); len(sets) > 0 && condition(sets[len(sets)-1]) {
			return
		}
		select {
		case <-o.notify:
		case <-timeout:
			text := ""
			if why != nil {
				text = ": " + *why
			}
			o.Fatalf("%s: not reported in %v, %d sets%s", what, deadline, o.count(), text)
		}
	}
}

// await polls a condition until it holds.
func await(t *testing.T, what string, within time.Duration, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not in %v", what, within)
		}
	}
}
