package zoom

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/model"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/zoomtest"
)

func TestSettingsAreWrittenReadAndReported(t *testing.T) {
	f := newFixture(t, sharedServers.start(t))
	f.putBindings(1)
	n := f.open(f.cluster.URL(f.tree.Root()))
	ctx := t.Context()
	scope := spec.SettingScope(f.host)
	if _, err := n.Setting(ctx, scope, "log-level"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	f.run(n)
	f.waitForSet("the set", whole(1))
	f.check(n.SetSetting(ctx, spec.SettingDefault, "log-level", "warn"))
	f.check(n.SetSetting(ctx, scope, "status-interval", "7s"))
	f.waitForSet("both", func(d spec.Desired) bool {
		return d.Settings["log-level"] == "warn" && d.Settings["status-interval"] == "7s"
	})
	f.check(n.SetSetting(ctx, scope, "log-level", "debug"))
	f.waitForSet("the host's over the default", func(d spec.Desired) bool { return d.Settings["log-level"] == "debug" })
	if value, err := n.Setting(ctx, spec.SettingDefault, "log-level"); value != "warn" || err != nil {
		t.Error(value, err)
	}
	_, err := n.Setting(ctx, scope, "log-level.containers")
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "zk://127") {
		t.Error(err)
	}
	var fault *spec.Fault
	if err := n.SetSetting(ctx, scope, "log-level", "loud"); !errors.As(err, &fault) {
		t.Error(err)
	}
}

func TestSetHostWaitsForTheMutexAndKeepsOtherFields(t *testing.T) {
	f := newFixture(t, sharedServers.start(t))
	f.putBindings(2)
	path := f.object(model.Host, string(f.host))
	before, after := uuid("id", string(f.host))+"new_field: ", "\ncontainer_weight: 1\n"+uuid("port_ids", id(ports))
	f.cluster.Put(f.conn.Conn, path, before+"7"+after)
	n := f.open(f.cluster.URL(f.tree.Root()))
	f.run(n)
	f.waitForSet("the set", whole(1))
	// Another client holds the mutex as Curator does, and writes the object meanwhile.
	f.check(makeParents(&client{f.conn.Conn, 0}, f.tree.Mutex()+"/"))
	held, err := f.conn.CreateProtectedEphemeralSequential(f.tree.Mutex()+"/lock-", nil, worldACL)
	f.check(err)
	done := make(chan error, 1)
	go func() { done <- n.SetHost(t.Context(), f.host, spec.HostWeight, 5) }()
	f.waitFor("a second in the queue", func() bool {
		names, _, err := f.conn.Children(f.tree.Mutex())
		return err == nil && len(names) == 2
	})
	select {
	case err := <-done:
		t.Fatalf("it did not wait for the mutex: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	f.cluster.Put(f.conn.Conn, path, before+"8"+after)
	f.check(f.conn.Delete(held, -1))
	f.check(<-done)
	d := f.waitForSet("the weight", func(d spec.Desired) bool { return d.Host.Weight == 5 })
	data, _ := f.stored(path)
	if !strings.Contains(data, "new_field: 8") || !strings.Contains(data, "container_weight: 5") ||
		len(d.Bindings) != 1 {
		t.Errorf("%q", data)
	}
	if names, _, err := f.conn.Children(f.tree.Mutex()); err != nil || len(names) > 0 {
		t.Error("the mutex is still held: ", names, err)
	}
	if err := n.SetHost(t.Context(), spec.HostID(id(98)), spec.HostLimit, 5); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestSetHostTimesOutIfTheMutexIsNotReleased(t *testing.T) {
	f := newFixture(t, sharedServers.start(t))
	f.putBindings(1)
	f.check(makeParents(&client{f.conn.Conn, 0}, f.tree.Mutex()+"/"))
	_, err := f.conn.CreateProtectedEphemeralSequential(f.tree.Mutex()+"/lock-", nil, worldACL)
	f.check(err)
	n := f.open(f.cluster.URL(f.tree.Root()))
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if err := n.SetHost(ctx, f.host, spec.HostWeight, 5); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	f.waitFor("the queue is left", func() bool {
		names, _, err := f.conn.Children(f.tree.Mutex())
		return err == nil && len(names) == 1
	})
}

func TestAnExportHasTheSameDesiredStateInAnotherTree(t *testing.T) {
	f := newFixture(t, sharedServers.start(t))
	const many = 150
	f.putBindings(many)
	for i := range many {
		text := "policy: LEAST_SCHEDULER\n" + uuid("service_container_ids", id(containers+i))
		f.put(model.ServiceContainerGroup, id(groups+i), text)
	}
	from := f.open(f.cluster.URL(f.tree.Root()))
	f.check(from.SetSetting(t.Context(), spec.SettingScope(f.host), "log-level", "warn"))
	objects, err := from.Export(t.Context())
	f.check(err)
	sorted := slices.IsSortedFunc(objects, func(a, b spec.Object) int { return strings.Compare(a.Key, b.Key) })
	if !sorted || len(objects) < 4*many {
		t.Fatalf("%d objects", len(objects))
	}
	f.run(from)
	want := f.waitForSet("the set", whole(many))

	other := newFixture(t, f.cluster)
	into := other.open(f.cluster.URL(other.tree.Root()))
	f.check(zoomtest.Seed(other.conn.Conn, other.tree, objects))
	other.run(into)
	got := other.waitForSet("the same set", whole(many))
	for i := range want.Bindings {
		a, b := want.Bindings[i], got.Bindings[i]
		if a.Container != b.Container || !bytes.Equal(a.Configuration, b.Configuration) {
			t.Fatalf("%+v\nis not\n%+v\n%s\n%s", a, b, a.Configuration, b.Configuration)
		}
	}
	if got.Settings["log-level"] != "warn" {
		t.Error(got.Settings)
	}
	again, err := into.Export(t.Context())
	f.check(err)
	if !slices.EqualFunc(objects, again, func(a, b spec.Object) bool {
		return a.Key == b.Key && bytes.Equal(a.Value, b.Value)
	}) {
		t.Error("the objects differ from their export")
	}
}

func TestAnImportIsRefused(t *testing.T) {
	f := newFixture(t, sharedServers.start(t))
	f.putBindings(1)
	n := f.open(f.cluster.URL(f.tree.Root()))
	before, err := n.Export(t.Context())
	var incomplete *native.Incomplete
	if err != nil && !errors.As(err, &incomplete) {
		t.Fatal(err)
	}
	host := spec.Object{Key: string(native.HostKey(f.host)), Value: []byte(`{"containerWeight":9}`)}
	err = n.Import(t.Context(), []spec.Object{host})
	if err == nil || err.Error() != n.conn.location.Endpoint()+
		": MidoNet's own tools write its objects: allowed: an NSDB of files or in etcd" {
		t.Error(err)
	}
	after, _ := n.Export(t.Context())
	if !slices.EqualFunc(before, after, func(a, b spec.Object) bool {
		return a.Key == b.Key && bytes.Equal(a.Value, b.Value)
	}) {
		t.Errorf("the import changed the objects from %s to %s", before, after)
	}
}

func TestErrorsForAWrongRootNameIt(t *testing.T) {
	f := newFixture(t, sharedServers.start(t))
	n := f.open(f.cluster.URL(f.tree.Root()))
	_, err := n.Export(t.Context())
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), f.tree.Objects(model.Host)) {
		t.Error(err)
	}
	err = n.SetHost(t.Context(), f.host, spec.HostWeight, 1)
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), f.tree.Zoom()) {
		t.Error(err)
	}
	if exists, _, _ := f.conn.Exists(f.tree.Root()); exists {
		t.Error("the wrong root was created")
	}
}

func TestUnreadableNodesAreLeftOutOfAnExport(t *testing.T) {
	f := newFixture(t, sharedServers.start(t))
	f.putBindings(2)
	for i := range 2 {
		f.put(model.ServiceContainerGroup, id(groups+i), "policy: LEAST_SCHEDULER\n")
	}
	node, dir := f.object(model.IPSecSiteConnection, id(connections)), f.tree.Objects(model.HostGroup)
	for _, path := range []string{node, dir} {
		_, err := f.conn.SetACL(path, zk.DigestACL(zk.PermAll, "another", "client"), -1)
		f.check(err)
	}
	objects, err := f.open(f.cluster.URL(f.tree.Root())).Export(t.Context())
	var incomplete *native.Incomplete
	if !errors.As(err, &incomplete) {
		t.Fatal(err)
	}
	for _, path := range []string{node, dir} {
		if !slices.ContainsFunc(incomplete.Faults, func(f native.Fault) bool {
			return strings.HasPrefix(f.String(), path+": not permitted")
		}) {
			t.Errorf("no fault of %s in %v", path, incomplete.Faults)
		}
	}
	var configurations int
	unreadable := string(native.ConfigurationKey(spec.ConfigurationID(id(routers))))
	for _, o := range objects {
		if strings.HasPrefix(o.Key, native.Configurations+"/") {
			configurations++
		}
		if o.Key == unreadable && !strings.HasSuffix(string(o.Value), `"connections":[]}`) {
			t.Errorf("%s", o.Value)
		}
	}
	if configurations != 2 || len(objects) != 1+2*4 {
		t.Errorf("%d objects with %d configurations", len(objects), configurations)
	}
}

func TestMutexNodesAreSortedByTheirSequenceNumber(t *testing.T) {
	f := newFixture(t, sharedServers.start(t))
	dir := f.tree.Mutex()
	f.check(makeParents(&client{f.conn.Conn, 0}, dir+"/"))
	for _, name := range []string{"_c_ffff-lock-0000000001", "_c_0000-lock-0000000002", "other"} {
		_, err := f.conn.Create(dir+"/"+name, nil, 0, zk.WorldACL(zk.PermAll))
		f.check(err)
	}
	before, err := predecessor(&client{f.conn.Conn, 0}, dir, "_c_0000-lock-0000000002")
	if before != "_c_ffff-lock-0000000001" || err != nil {
		t.Error(before, err)
	}
}
