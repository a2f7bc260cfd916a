package cluster

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/etcdtest"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zktest"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/model"
)

// store is a cluster with real servers, and a look into it past the supervisor.
type store struct {
	url     string // through a relay
	roll    func() // every member is started again, one after the other
	cut     func()
	mend    func()
	running func() int  // statuses of this host that are RUNNING
	host    func() bool // whether the host's status is there
	forget  func()      // removes the host's object
	recall  func()      // and puts it back
}

// again is how soon the statuses are there again when the NSDB is.
const again = 2 * time.Second

func TestTroubleOfTheNSDBTouchesNoContainer(t *testing.T) {
	ground(t)
	for kind, open := range map[string]func(*testing.T) store{"etcd": etcd, "zk": zookeeper} {
		t.Run(kind, func(t *testing.T) {
			s := open(t)
			l := newLab(t)
			l.load(s.url, objects(t, containers))
			l.start(s.url)
			within(t, 2*time.Minute, "all RUNNING", func() bool { return s.running() == containers && s.host() })
			untouched := l.untouched()
			back := func() bool { return s.running() == containers && s.host() }

			t.Run("a rolling restart of all members", func(t *testing.T) {
				s.roll()
				t.Logf("all statuses after %s", within(t, again, "all statuses", back).Round(time.Millisecond))
				untouched()
			})
			t.Run("a partition that outlives session and lease", func(t *testing.T) {
				s.cut()
				within(t, time.Minute, "the statuses go", func() bool { return s.running() == 0 && !s.host() })
				time.Sleep(long(t, 0))
				untouched()
				s.mend()
				t.Logf("all statuses after %s", within(t, again, "all statuses", back).Round(time.Millisecond))
				time.Sleep(time.Second)
				untouched()
			})
			t.Run("the host's object goes, and comes back", func(t *testing.T) {
				s.forget()
				within(t, 10*time.Second, "ps says so", func() bool { return strings.Contains(l.ps(), "host unknown, nothing is changed") })
				time.Sleep(time.Second)
				untouched()
				if n := s.running(); n != containers {
					t.Errorf("%d statuses are RUNNING", n)
				}
				s.recall()
				within(t, 10*time.Second, "ps knows it again", func() bool { return !strings.Contains(l.ps(), "host unknown") })
				time.Sleep(time.Second)
				untouched()
			})
		})
	}
}

func etcd(t *testing.T) store {
	cluster := etcdtest.Start(t, 3)
	relay := cluster.Relay()
	client := cluster.Client()
	get := func(key string, options ...clientv3.OpOption) *clientv3.GetResponse {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		answer, err := client.Get(ctx, key, options...)
		if err != nil {
			t.Logf("get %s: %v", key, err)
			return &clientv3.GetResponse{}
		}
		return answer
	}
	object := "/svc/hosts/" + string(host)
	var kept string
	return store{
		url: withOption(relay.URL("/svc"), "ttl=3s"),
		roll: func() {
			for i := range cluster.Len() {
				cluster.Restart(i)
				cluster.Await()
			}
		},
		cut: relay.Cut, mend: relay.Mend,
		running: func() (n int) {
			for _, kv := range get("/svc/status/containers/"+string(host)+"/", clientv3.WithPrefix()).Kvs {
				var status spec.ContainerStatus
				if json.Unmarshal(kv.Value, &status) == nil && status.Code == spec.Running {
					n++
				}
			}
			return n
		},
		host: func() bool { return len(get("/svc/status/hosts/"+string(host)).Kvs) == 1 },
		forget: func() {
			kept = string(get(object).Kvs[0].Value)
			if _, err := client.Delete(context.Background(), object); err != nil {
				t.Fatal(err)
			}
		},
		recall: func() {
			if _, err := client.Put(context.Background(), object, kept); err != nil {
				t.Fatal(err)
			}
		},
	}
}

func zookeeper(t *testing.T) store {
	cluster := zktest.Start(t, 3)
	relay := cluster.Relay()
	conn := cluster.Dial()
	tree, err := model.ParseRoot("/midonet")
	if err != nil {
		t.Fatal(err)
	}
	object := tree.Object(model.Host, host)
	var kept []byte
	return store{
		url: withOption(relay.URL("/midonet"), "sessionTimeout=3s"),
		roll: func() {
			for i := range cluster.Len() {
				cluster.Restart(i)
				cluster.Await(i)
			}
		},
		cut: relay.Cut, mend: relay.Mend,
		running: func() int { return runningInZooKeeper(conn, tree) },
		host: func() bool {
			there, _, err := conn.Exists(tree.HostState(host))
			return err == nil && there
		},
		forget: func() {
			data, stat, err := conn.Get(object)
			if err != nil {
				t.Fatal(err)
			}
			kept = data
			if err := conn.Delete(object, stat.Version); err != nil {
				t.Fatal(err)
			}
		},
		recall: func() {
			if _, err := conn.Create(object, kept, 0, zk.WorldACL(zk.PermAll)); err != nil {
				t.Fatal(err)
			}
		},
	}
}

func runningInZooKeeper(conn *zk.Conn, tree model.Tree) (n int) {
	children, _, err := conn.Children(tree.ContainerStates(host))
	if err != nil {
		return 0
	}
	for _, child := range children {
		container, err := model.ParseUUID("container", child)
		if err != nil {
			continue
		}
		data, _, err := conn.Get(tree.ContainerState(host, container))
		if err != nil {
			continue
		}
		if status, err := model.ReadContainerStatus(data); err == nil && status.Code == spec.Running {
			n++
		}
	}
	return n
}

func withOption(url, option string) string {
	if strings.Contains(url, "?") {
		return url + "&" + option
	}
	return url + "?" + option
}
