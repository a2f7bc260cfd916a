package cluster

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/go-zookeeper/zk"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zktest"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/model"
)

func TestStopContainersRemovesTheNodeOfTheHostFirst(t *testing.T) {
	needsSandbox(t)
	disk := diskT{t, t.TempDir()}
	s := open(t, disk, zktest.Start(disk, 1), "/stop")
	first := s.startKeeping("SVC_STOP_CONTAINERS=1")
	s.expectCount(0)
	s.schedule()
	s.expectHistory("schedule here, up here")
	s.expectCount(1)
	_ = first.Process.Signal(syscall.SIGTERM)
	if err := first.Wait(); err != nil {
		t.Error(err)
	}
	s.expectHistory("schedule here, up here, unschedule here, schedule there, up there")
	s.expectNothingLeft()
	hostDeleted, stopping := -1, -1
	for i, transaction := range s.transactions() {
		for _, c := range transaction.changes {
			switch {
			case c.path == s.hostState() && c.kind == deleted && hostDeleted < 0:
				hostDeleted = i
			case c.path == s.hostState() && hostDeleted >= 0:
				t.Errorf("transaction %#x changes the host's node after it was deleted", transaction.zxid)
			case c.path == s.status() && (c.kind == deleted || strings.Contains(string(c.data), "STOPPING")) &&
				stopping < 0:
				stopping = i
			}
		}
	}
	if hostDeleted < 0 || stopping < 0 || hostDeleted > stopping {
		t.Errorf("the host's node was deleted in transaction %d, the first container was stopped in %d",
			hostDeleted, stopping)
	}
}

// A MidoNet agent serves HAPROXY on the same host. It publishes the host's node and the status of its container. The
// supervisor must change neither of them.
func TestContainersOfTheAgentAreNotTouched(t *testing.T) {
	needsSandbox(t)
	for _, row := range []struct{ name, types string }{
		{"without a list of types", ""},
		{"with a list of types", "IPSEC"},
	} {
		t.Run(row.name, func(t *testing.T) {
			disk := diskT{t, t.TempDir()}
			s := open(t, disk, zktest.Start(disk, 1), "/beside", balancer(t)...)
			s.url = withOption(s.url, "container=leave")
			agent := s.cluster.Dial()
			agentStatus := s.tree.ContainerState(host, balancerContainer)
			running, err := model.PrintContainerStatus(spec.ContainerStatus{
				Code: spec.Running, HostID: spec.HostID(host), InterfaceName: spec.Name(name(7)),
			})
			if err != nil {
				t.Fatal(err)
			}
			publish := func(path string, data []byte) {
				t.Helper()
				s.cluster.Put(s.conn, filepath.Dir(path), "")
				if _, err := agent.Create(path, data, zk.FlagEphemeral, zk.WorldACL(zk.PermAll)); err != nil {
					t.Fatal(err)
				}
			}
			publish(s.hostState(), model.PrintHostStatus(spec.HostStatus{Weight: 1, Quota: -1, Count: 1}))
			supervisor := s.startKeeping("SVC_TYPES=" + row.types)
			if row.types == "" { // the supervisor must know the binding before the agent publishes its status
				within(t, 2*stepTimeout, "ps shows the binding", func() bool {
					return strings.Contains(s.lab.ps(), "no executable serves type HAPROXY")
				})
			}
			publish(agentStatus, running)
			s.schedule()
			s.expectHistory("schedule here, up here") // the history of the container of type IPSEC
			_ = supervisor.Process.Signal(syscall.SIGTERM)
			_ = supervisor.Wait()
			session := s.owner(s.status())
			again := s.startKeeping("SVC_TYPES="+row.types, "SVC_STOP_CONTAINERS=1") // nothing is left for the next row
			within(t, 2*stepTimeout, "the second supervisor has taken over the status of type IPSEC", func() bool {
				now := s.owner(s.status())
				return strings.Contains(s.lab.ps(), theName) && now != 0 && now != session
			})
			if shown := s.lab.ps(); strings.Contains(shown, name(7)) == (row.types != "") {
				t.Errorf("ps:\n%s", shown)
			}
			_ = again.Process.Signal(syscall.SIGTERM)
			_ = again.Wait()
			for _, path := range []string{agentStatus, s.hostState()} {
				if owner := s.owner(path); owner != agent.SessionID() {
					t.Errorf("%s: owner %#x", path, owner)
				}
			}
			for _, transaction := range s.transactions() {
				touches := func(c change) bool { return c.path == agentStatus || c.path == s.hostState() }
				if transaction.session != agent.SessionID() && slices.ContainsFunc(transaction.changes, touches) {
					t.Errorf("transaction %#x of session %#x writes a node of the agent", transaction.zxid,
						transaction.session)
				}
			}
			if calls := s.lab.calls(); strings.Contains(calls, name(7)) {
				t.Errorf("verbs ran:\n%s", calls)
			}
		})
	}
}

var balancerContainer = model.UUID(id(kindContainer, 7))

// balancer returns the objects of a container of type HAPROXY that is bound to this host.
func balancer(t *testing.T) []spec.Object {
	t.Helper()
	port, router := id(kindPort, 7), id(kindRouter, 7)
	object := func(key string, value map[string]any) spec.Object {
		text, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		return spec.Object{Key: key, Value: text}
	}
	return []spec.Object{
		object(fmt.Sprintf("bindings/%s/%s", host, port), map[string]any{
			"portId": port, "hostId": host, "interfaceName": name(7), "containerId": balancerContainer,
			"addresses": []string{"169.254.7.1/30"}, "mac": "ca:fe:00:00:00:07",
		}),
		object("containers/"+string(balancerContainer),
			map[string]any{"id": balancerContainer, "serviceType": "HAPROXY",
				"groupId": id(kindGroup, 1), "configurationId": router, "portId": port}),
		object("configurations/"+router, map[string]any{"id": router}),
	}
}
