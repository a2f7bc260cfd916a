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
)

func TestSettingsAreReadWrittenAndFollowed(t *testing.T) {
	g := newGround(t, common.start(t))
	g.fill(1)
	n := g.open(g.cluster.URL(g.tree.Root()))
	ctx := t.Context()
	scope := spec.SettingScope(g.host)
	if _, err := n.Setting(ctx, scope, "log-level"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	g.run(n)
	g.await("the set", whole(1))
	g.check(n.SetSetting(ctx, spec.SettingDefault, "log-level", "warn"))
	g.check(n.SetSetting(ctx, scope, "status-interval", "7s"))
	g.await("both", func(d spec.Desired) bool {
		return d.Settings["log-level"] == "warn" && d.Settings["status-interval"] == "7s"
	})
	g.check(n.SetSetting(ctx, scope, "log-level", "debug"))
	g.await("the host's over the default", func(d spec.Desired) bool { return d.Settings["log-level"] == "debug" })
	if value, err := n.Setting(ctx, spec.SettingDefault, "log-level"); value != "warn" || err != nil {
		t.Error(value, err)
	}
	if _, err := n.Setting(ctx, scope, "log-level.containers"); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "zk://127") {
		t.Error(err)
	}
	var fault *spec.Fault
	if err := n.SetSetting(ctx, scope, "log-level", "loud"); !errors.As(err, &fault) {
		t.Error(err)
	}
}

func TestAHostsWeightIsWrittenUnderTheMutexAndTheRestKept(t *testing.T) {
	g := newGround(t, common.start(t))
	g.fill(2)
	path := g.object(model.Host, string(g.host))
	g.cluster.Put(g.conn.Conn, path, uuid("id", string(g.host))+"new_field: 7\ncontainer_weight: 1\n"+uuid("port_ids", id(ports)))
	n := g.open(g.cluster.URL(g.tree.Root()))
	g.run(n)
	g.await("the set", whole(1))
	// Somebody like Curator holds the mutex, and writes the object meanwhile.
	g.check(makeParents(&client{g.conn.Conn, 0}, g.tree.Mutex()+"/"))
	held, err := g.conn.CreateProtectedEphemeralSequential(g.tree.Mutex()+"/lock-", nil, everybody)
	g.check(err)
	done := make(chan error, 1)
	go func() { done <- n.SetHost(t.Context(), g.host, spec.HostWeight, 5) }()
	g.until("a second in the queue", func() bool {
		names, _, err := g.conn.Children(g.tree.Mutex())
		return err == nil && len(names) == 2
	})
	select {
	case err := <-done:
		t.Fatalf("it did not wait for the mutex: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	g.cluster.Put(g.conn.Conn, path, uuid("id", string(g.host))+"new_field: 8\ncontainer_weight: 1\n"+uuid("port_ids", id(ports)))
	g.check(g.conn.Delete(held, -1))
	g.check(<-done)
	d := g.await("the weight", func(d spec.Desired) bool { return d.Host.Weight == 5 })
	data, _ := g.stands(path)
	if !strings.Contains(data, "new_field: 8") || !strings.Contains(data, "container_weight: 5") || len(d.Bindings) != 1 {
		t.Errorf("%q", data)
	}
	if names, _, err := g.conn.Children(g.tree.Mutex()); err != nil || len(names) > 0 {
		t.Error("the mutex is held on: ", names, err)
	}
	if err := n.SetHost(t.Context(), spec.HostID(id(98)), spec.HostLimit, 5); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestAMutexThatIsNotLetGoIsToldAndLeft(t *testing.T) {
	g := newGround(t, common.start(t))
	g.fill(1)
	g.check(makeParents(&client{g.conn.Conn, 0}, g.tree.Mutex()+"/"))
	_, err := g.conn.CreateProtectedEphemeralSequential(g.tree.Mutex()+"/lock-", nil, everybody)
	g.check(err)
	n := g.open(g.cluster.URL(g.tree.Root()))
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if err := n.SetHost(ctx, g.host, spec.HostWeight, 5); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	g.until("the queue is left", func() bool {
		names, _, err := g.conn.Children(g.tree.Mutex())
		return err == nil && len(names) == 1
	})
}

func TestAnExportIsImportedIntoAnEmptyServer(t *testing.T) {
	g := newGround(t, common.start(t))
	const many = 150
	g.fill(many)
	for i := range many {
		g.put(model.ServiceContainerGroup, id(groups+i), "policy: LEAST_SCHEDULER\n"+uuid("service_container_ids", id(containers+i)))
	}
	from := g.open(g.cluster.URL(g.tree.Root()))
	g.check(from.SetSetting(t.Context(), spec.SettingScope(g.host), "log-level", "warn"))
	objects, err := from.Export(t.Context())
	g.check(err)
	if !slices.IsSortedFunc(objects, func(a, b spec.Object) int { return strings.Compare(a.Key, b.Key) }) || len(objects) < 4*many {
		t.Fatalf("%d objects", len(objects))
	}
	g.run(from)
	want := g.await("the set", whole(many))

	other := newGround(t, g.cluster)
	into := other.open(g.cluster.URL(other.tree.Root()))
	g.check(into.Import(t.Context(), objects))
	other.run(into)
	got := other.await("the same set", whole(many))
	for i := range want.Bindings {
		a, b := want.Bindings[i], got.Bindings[i]
		if a.Container != b.Container || !bytes.Equal(a.Configuration, b.Configuration) {
			t.Fatalf("%+v\nis not\n%+v\n%s\n%s", a, b, a.Configuration, b.Configuration)
		}
	}
	if got.Settings["log-level"] != "warn" {
		t.Error(got.Settings)
	}
	_, sets := other.last()
	g.check(into.Import(t.Context(), objects))
	again, err := into.Export(t.Context())
	g.check(err)
	if !slices.EqualFunc(objects, again, func(a, b spec.Object) bool { return a.Key == b.Key && bytes.Equal(a.Value, b.Value) }) {
		t.Error("what was imported is exported otherwise")
	}
	if _, now := other.last(); now != sets {
		t.Errorf("importing the same again made %d sets", now-sets)
	}
}

func TestAnExportOfAWrongRootNamesIt(t *testing.T) {
	g := newGround(t, common.start(t))
	n := g.open(g.cluster.URL(g.tree.Root()))
	if _, err := n.Export(t.Context()); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), g.tree.Objects(model.Host)) {
		t.Error(err)
	}
	if err := n.SetHost(t.Context(), g.host, spec.HostWeight, 1); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), g.tree.Zoom()) {
		t.Error(err)
	}
	if there, _, _ := g.conn.Exists(g.tree.Root()); there {
		t.Error("a wrong root was made")
	}
}

func TestNodesThatNobodyMayReadAreLeftOutOfAnExport(t *testing.T) {
	g := newGround(t, common.start(t))
	g.fill(2)
	for i := range 2 {
		g.put(model.ServiceContainerGroup, id(groups+i), "policy: LEAST_SCHEDULER\n")
	}
	node, folder := g.object(model.IPSecSiteConnection, id(connections)), g.tree.Objects(model.HostGroup)
	for _, path := range []string{node, folder} {
		_, err := g.conn.SetACL(path, zk.DigestACL(zk.PermAll, "another", "client"), -1)
		g.check(err)
	}
	objects, err := g.open(g.cluster.URL(g.tree.Root())).Export(t.Context())
	var incomplete *native.Incomplete
	if !errors.As(err, &incomplete) {
		t.Fatal(err)
	}
	for _, path := range []string{node, folder} {
		if !slices.ContainsFunc(incomplete.Faults, func(f native.Fault) bool { return strings.HasPrefix(f.String(), path+": not permitted") }) {
			t.Errorf("no fault of %s in %v", path, incomplete.Faults)
		}
	}
	var configurations int
	for _, o := range objects {
		if strings.HasPrefix(o.Key, native.Configurations+"/") {
			configurations++
		}
		if o.Key == string(native.ConfigurationKey(spec.ConfigurationID(id(routers)))) && !strings.HasSuffix(string(o.Value), `"connections":[]}`) {
			t.Errorf("%s", o.Value)
		}
	}
	if configurations != 2 || len(objects) != 1+2*4 {
		t.Errorf("%d objects with %d configurations", len(objects), configurations)
	}
}

func TestAForeignLockIsSortedByItsNumber(t *testing.T) {
	g := newGround(t, common.start(t))
	folder := g.tree.Mutex()
	g.check(makeParents(&client{g.conn.Conn, 0}, folder+"/"))
	for _, name := range []string{"_c_ffff-lock-0000000001", "_c_0000-lock-0000000002", "other"} {
		_, err := g.conn.Create(folder+"/"+name, nil, 0, zk.WorldACL(zk.PermAll))
		g.check(err)
	}
	before, err := predecessor(&client{g.conn.Conn, 0}, folder, "_c_0000-lock-0000000002")
	if before != "_c_ffff-lock-0000000001" || err != nil {
		t.Error(before, err)
	}
}
