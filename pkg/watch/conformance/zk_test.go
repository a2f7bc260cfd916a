package conformance

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zktest"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/model"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/zoomtest"
)

func zkKind(t *testing.T) *Kind {
	cluster := zktest.Start(t, members)
	fresh := func(c *zktest.Cluster) *zkRoot {
		root := fmt.Sprintf("/midonet-%d", prefixes.Add(1))
		tree, err := model.ParseRoot(root)
		if err != nil {
			t.Fatal(err)
		}
		return &zkRoot{cluster: c, conn: c.Dial(), tree: tree, url: c.URL(root), written: map[string]string{}}
	}
	return &Kind{
		Name: "zk", RefusesImport: true,
		Fresh: func(*testing.T) Backend { return fresh(cluster) },
		WithFaults: func(t *testing.T) (Backend, Faults) {
			c := zktest.Start(t, members)
			backend, relay := fresh(c), c.Relay()
			backend.url = relay.URL(backend.tree.Root())
			each := func(do func(int)) {
				for i := range c.Len() {
					do(i)
				}
			}
			return backend, Faults{
				Cut: relay.Cut, Restore: relay.Mend,
				Stop: func() { each(c.Kill) }, Start: func() { each(c.Restart); each(c.Await) },
				Freeze: func() { each(c.Freeze) }, Thaw: func() { each(c.Thaw); each(c.Await) },
				Roll: func() { each(func(i int) { c.Restart(i); c.Await(i) }) },
			}
		},
	}
}

// zkRoot is a Backend below a root of its own. It writes the nodes that MidoNet's API would write for the native
// objects.
type zkRoot struct {
	cluster *zktest.Cluster
	conn    *zk.Conn
	tree    model.Tree
	url     string
	written map[string]string // data by path
}

func (z *zkRoot) URL() string { return z.url }

// Write uses one multi request, like a transaction of MidoNet.
func (z *zkRoot) Write(t *testing.T, all objects) {
	t.Helper()
	nodes, err := zoomtest.Nodes(z.tree, all.list())
	if err != nil {
		t.Fatal(err)
	}
	if len(z.written) == 0 {
		z.prepare(t)
	}
	var operations []any
	desiredSet := map[string]string{}
	for _, node := range nodes {
		data := string(node.Data)
		desiredSet[node.Path] = data
		switch written, exists := z.written[node.Path]; {
		case !exists:
			create := &zk.CreateRequest{Path: node.Path, Data: node.Data, Acl: zk.WorldACL(zk.PermAll)}
			operations = append(operations, create)
		case written != data:
			operations = append(operations, &zk.SetDataRequest{Path: node.Path, Data: node.Data, Version: -1})
		}
	}
	for path := range z.written {
		if _, stays := desiredSet[path]; !stays {
			operations = append(operations, &zk.DeleteRequest{Path: path, Version: -1})
		}
	}
	if len(operations) > 0 {
		z.do(t, func() error { _, err := z.conn.Multi(operations...); return err })
	}
	z.written = desiredSet
}

// prepare creates the nodes that a MidoNet cluster creates when it starts.
func (z *zkRoot) prepare(t *testing.T) {
	t.Helper()
	for _, class := range model.Classes {
		z.cluster.Put(z.conn, z.tree.Objects(class), "")
	}
	for _, path := range []string{
		z.tree.Mutex(), z.tree.Zoom() + "/zoomlocks", z.tree.Zoom() + "/state",
		z.tree.TemplateSettings("other"), z.tree.HostSettings("other"),
	} {
		z.cluster.Put(z.conn, path, "{}")
	}
	z.do(t, func() error { return z.conn.Delete(z.tree.HostSettings("other"), -1) })
}

// do runs an operation, and repeats it if the connection is lost before the operation has succeeded.
func (z *zkRoot) do(t *testing.T, operation func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(deadline); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err = operation(); err == nil {
			return
		}
		if !errors.Is(err, zk.ErrConnectionClosed) && !errors.Is(err, zk.ErrNoServer) &&
			!errors.Is(err, zk.ErrSessionMoved) {
			break
		}
	}
	t.Fatal(err)
}

func (z *zkRoot) Corrupt(t *testing.T, key string) {
	t.Helper()
	dir, rest, _ := strings.Cut(key, "/")
	class := map[string]model.Class{
		"hosts": model.Host, "bindings": model.Port, "containers": model.ServiceContainer,
		"configurations": model.Router,
	}[dir]
	path := z.tree.Object(class, model.UUID(rest[strings.LastIndexByte(rest, '/')+1:]))
	z.do(t, func() error { _, err := z.conn.Set(path, []byte("id { msb: \"hunter2"), -1); return err })
	z.written[path] = "corrupt"
}

func (z *zkRoot) BadSetting(t *testing.T) {
	t.Helper()
	z.cluster.Put(z.conn, z.tree.TemplateSettings("default"),
		`{"agent":{"loggers":{"root":"loud"},"containers":{"ipsec":{"status_update_interval":"5s"}}}}`)
}

func (z *zkRoot) HostStatus(t *testing.T, host spec.HostID) (status spec.HostStatus, stamp string) {
	t.Helper()
	data, stamp := z.get(t, z.tree.HostState(model.UUID(host)))
	if stamp != "" {
		var err error
		if status, err = model.ReadHostStatus(data); err != nil {
			t.Fatal(err)
		}
	}
	return status, stamp
}

func (z *zkRoot) ContainerStatus(
	t *testing.T, host spec.HostID, id spec.ContainerID,
) (status spec.ContainerStatus, stamp string) {
	t.Helper()
	data, stamp := z.get(t, z.tree.ContainerState(model.UUID(host), model.UUID(id)))
	if stamp != "" {
		var err error
		if status, err = model.ReadContainerStatus(data); err != nil {
			t.Fatal(err)
		}
	}
	return status, stamp
}

func (z *zkRoot) get(t *testing.T, path string) (data []byte, stamp string) {
	t.Helper()
	z.do(t, func() error {
		// This server may lag behind the server that the supervisor uses.
		if _, err := z.conn.Sync(path); err != nil && !errors.Is(err, zk.ErrNoNode) {
			return err
		}
		found, stat, err := z.conn.Get(path)
		if errors.Is(err, zk.ErrNoNode) {
			data, stamp = nil, ""
			return nil
		}
		if err == nil {
			data, stamp = found, fmt.Sprint(stat.Czxid, stat.Mzxid)
			if stat.EphemeralOwner == 0 {
				t.Errorf("%s belongs to no session", path)
			}
		}
		return err
	})
	return data, stamp
}

func (z *zkRoot) WriteAsOther(t *testing.T, host spec.HostID, id spec.ContainerID) (endOwner func()) {
	t.Helper()
	path := z.tree.ContainerState(model.UUID(host), model.UUID(id))
	data, err := model.PrintContainerStatus(otherStatus(host))
	if err != nil {
		t.Fatal(err)
	}
	z.cluster.Put(z.conn, path[:strings.LastIndexByte(path, '/')], "")
	conn := z.cluster.Dial()
	if _, err := conn.Create(path, data, zk.FlagEphemeral, zk.WorldACL(zk.PermAll)); err != nil {
		t.Fatal(err)
	}
	return conn.Close
}
