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

// store is a cluster of real servers. The functions that observe it do not use the supervisor or the relay.
type store struct {
	url     string // the URL of the relay to the servers
	load    func(*lab, []spec.Object)
	roll    func()      // restarts all members one after the other
	cut     func()      // interrupts the relay
	mend    func()      // ends the interruption
	running func() int  // returns the number of statuses of this host that are RUNNING
	host    func() bool // reports whether the status of the host exists
	remove  func()      // removes the Host object
	restore func()      // restores the Host object
}

// recoveryTimeout is how long the supervisor may take to publish all statuses after the NSDB is available again.
const recoveryTimeout = 2 * time.Second

func TestOutagesOfTheNSDBAffectNoContainer(t *testing.T) {
	needsSandbox(t)
	for kind, open := range map[string]func(*testing.T) store{"etcd": etcd, "zk": zookeeper} {
		t.Run(kind, func(t *testing.T) {
			s := open(t)
			l := newLab(t)
			s.load(l, objects(t, containers))
			l.start(s.url)
			within(t, 10*time.Minute, "all RUNNING", func() bool { return s.running() == containers && s.host() })
			untouched := l.untouched()
			allPublished := func() bool { return s.running() == containers && s.host() }

			t.Run("a rolling restart of all members", func(t *testing.T) {
				s.roll()
				took := within(t, recoveryTimeout, "all statuses", allPublished)
				t.Logf("all statuses after %s", took.Round(time.Millisecond))
				untouched()
			})
			t.Run("a partition that outlives session and lease", func(t *testing.T) {
				s.cut()
				within(t, time.Minute, "all statuses expire", func() bool { return s.running() == 0 && !s.host() })
				time.Sleep(outageDuration(t, 0))
				untouched()
				s.mend()
				took := within(t, recoveryTimeout, "all statuses", allPublished)
				t.Logf("all statuses after %s", took.Round(time.Millisecond))
				time.Sleep(time.Second)
				untouched()
			})
			t.Run("the Host object is removed and restored", func(t *testing.T) {
				s.remove()
				within(t, time.Minute, "ps shows the unknown host", func() bool {
					return strings.Contains(l.ps(), "host unknown, nothing is changed")
				})
				time.Sleep(time.Second)
				untouched()
				// A status that had expired because the machine was busy is published again.
				within(t, time.Minute, "all are RUNNING", func() bool { return s.running() == containers })
				s.restore()
				within(t, time.Minute, "ps shows the known host", func() bool {
					return !strings.Contains(l.ps(), "host unknown")
				})
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
		url:  withOption(relay.URL("/svc"), "ttl=3s"),
		load: func(l *lab, objects []spec.Object) { l.load(relay.URL("/svc"), objects) },
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
		remove: func() {
			kept = string(get(object).Kvs[0].Value)
			if _, err := client.Delete(context.Background(), object); err != nil {
				t.Fatal(err)
			}
		},
		restore: func() {
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
		url:  withOption(relay.URL("/midonet"), "sessionTimeout=3s"),
		load: func(_ *lab, objects []spec.Object) { seed(t, conn, tree, objects) },
		roll: func() {
			for i := range cluster.Len() {
				cluster.Restart(i)
				cluster.Await(i)
			}
		},
		cut: relay.Cut, mend: relay.Mend,
		running: func() int { return runningInZooKeeper(conn, tree) },
		host: func() bool {
			exists, _, err := conn.Exists(tree.HostState(host))
			return err == nil && exists
		},
		remove: func() {
			data, stat, err := conn.Get(object)
			if err != nil {
				t.Fatal(err)
			}
			kept = data
			if err := conn.Delete(object, stat.Version); err != nil {
				t.Fatal(err)
			}
		},
		restore: func() {
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
