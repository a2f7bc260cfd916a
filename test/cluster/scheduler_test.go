package cluster

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zktest"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/model"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/text"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/text/texttest"
)

// other is a second host. It has othersLoad containers, so this host is the one with the least containers.
const (
	other      = model.UUID("22222222-2222-4222-8222-222222222222")
	othersLoad = 5
)

// The default values of cluster.containers in MidoNet.
const (
	schedulerTimeout = 10 * time.Second // scheduler_timeout: the time from the binding to RUNNING
	schedulerRetry   = 15 * time.Second // scheduler_retry
	badHostLifetime  = 30 * time.Second // scheduler_bad_host_lifetime
)

// stepTimeout is how long one step of the supervisor, the scheduler or the servers may take on a busy machine.
const stepTimeout = time.Minute

func TestTheSupervisorWorksWithTheScheduler(t *testing.T) {
	needsSandbox(t)
	disk := diskT{t, t.TempDir()}
	cluster := zktest.Start(disk, 3)

	t.Run("a new container runs within ten seconds", func(t *testing.T) {
		s := open(t, disk, cluster, "/new")
		s.lab.start(s.url)
		s.expectCount(0)
		s.schedule()
		s.expectHistory("schedule here, up here")
		t.Logf("RUNNING %s after the port was bound", s.scheduler.timeToRunning().Round(time.Millisecond))
		s.expectCount(1)
		s.expectAlwaysPresent(s.hostState())
		s.expectAlwaysPresent(s.status())
		for _, status := range s.statuses() {
			if code := spec.StatusCode(status.Text("status_code")); code != spec.Starting && code != spec.Running {
				t.Errorf("status %s was written", code)
			}
		}
		s.expectStrict()
		s.expectUnknownFieldsKept()
		s.expectHistory("schedule here, up here")
	})

	t.Run("a weight of 0 moves the container to the other host, and 1 allows it again", func(t *testing.T) {
		s := open(t, disk, cluster, "/weight")
		s.lab.start(s.url)
		s.expectCount(0)
		s.schedule()
		s.expectHistory("schedule here, up here")
		s.expectCount(1)

		s.setWeight(host, 0)
		s.expectHistory("schedule here, up here, unschedule here, schedule there, up there")
		s.expectNothingLeft()
		s.expectCount(0)
		if weight := s.scheduler.hostView(host).weight; weight != 0 {
			t.Errorf("the scheduler has read weight %d", weight)
		}

		s.setWeight(host, 1)
		within(t, stepTimeout, "the scheduler has read the new weight", func() bool {
			return s.scheduler.hostView(host).running()
		})
		// The scheduler keeps the current host.
		s.expectHistory("schedule here, up here, unschedule here, schedule there, up there")
		s.setWeight(other, 0)
		s.expectHistory("schedule here, up here, unschedule here, schedule there, up there, " +
			"unschedule there, schedule here, up here")
		s.expectAlwaysPresent(s.hostState())
		s.expectStrict()
		s.expectUnknownFieldsKept()
	})

	t.Run("a failing container is moved to the other host", func(t *testing.T) {
		s := open(t, disk, cluster, "/failing")
		if err := os.WriteFile(filepath.Join(s.lab.dir, "failing"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		s.lab.start(s.url)
		s.expectCount(0)
		s.schedule()
		s.expectHistory("schedule here, bad here for 15s, unschedule here, schedule there, up there")
		s.expectNothingLeft()
		s.expectCount(0)
		messages := ""
		for _, status := range s.statuses() {
			if status.Text("status_code") == "ERROR" {
				messages += status.Text("status_message") + "\n"
			}
		}
		if !strings.Contains(messages, "requested by the test") || strings.Count(messages, "\n") != 1 {
			t.Errorf("messages of status ERROR: %q: allowed: one, with the message of the executable", messages)
		}
		s.expectAlwaysPresent(s.hostState())
		s.expectStrict()
		s.expectUnknownFieldsKept()
	})

	for _, end := range []struct {
		name   string
		signal syscall.Signal
	}{{"a restart", syscall.SIGTERM}, {"a kill and a start", syscall.SIGKILL}} {
		t.Run(end.name+" does not affect the container", func(t *testing.T) {
			s := open(t, disk, cluster, "/restart-"+strconv.Itoa(int(end.signal)))
			first := s.startKeeping()
			s.expectCount(0)
			s.schedule()
			s.expectHistory("schedule here, up here")
			s.expectCount(1)
			unitStates, session := s.lab.unitStates(), s.owner(s.hostState())

			began := time.Now()
			_ = first.Process.Signal(end.signal)
			_ = first.Wait()
			s.lab.start(s.url)
			for _, node := range []string{s.hostState(), s.status()} {
				within(t, stepTimeout, "another session owns "+node, func() bool {
					now := s.owner(node)
					return now != 0 && now != session
				})
			}
			t.Logf("both nodes taken over %s after the signal", time.Since(began).Round(time.Millisecond))
			within(t, 2*time.Minute, "the old session ends", func() bool { return s.ended(session) })

			s.expectHistory("schedule here, up here")
			s.expectCount(1)
			s.expectAlwaysPresent(s.hostState())
			s.expectAlwaysPresent(s.status())
			s.expectStrict()
			if now := s.lab.unitStates(); now != unitStates {
				t.Errorf("units changed, from\n%s\nto\n%s", unitStates, now)
			}
			if calls := s.lab.calls(); strings.Count(calls, "ADD ") != 1 || strings.Contains(calls, "DEL ") {
				t.Errorf("verbs ran:\n%s", calls)
			}
		})
	}
}

// fixture is a MidoNet tree with two hosts, this one and another, and a container whose port is not bound yet.
type fixture struct {
	t         *testing.T
	lab       *lab
	cluster   *zktest.Cluster
	disk      diskT
	conn      *zk.Conn
	tree      model.Tree
	url       string
	scheduler *scheduler
	ctx       context.Context
	running   sync.WaitGroup
}

var (
	thePort      = model.UUID(id(kindPort, 0))
	theContainer = model.UUID(id(kindContainer, 0))
	theName      = name(0)
)

// unknownField is a field that neither the supervisor nor the scheduler knows. Each writer of an object must keep it.
const unknownField = "a_later_release: \"knows it\"\n"

// open creates the tree below root with the two hosts and more objects, and starts the other host.
func open(t *testing.T, disk diskT, cluster *zktest.Cluster, root string, more ...spec.Object) *fixture {
	t.Helper()
	tree, err := model.ParseRoot(root)
	if err != nil {
		t.Fatal(err)
	}
	s := &fixture{t: t, lab: newLab(t), cluster: cluster, disk: disk, conn: cluster.Dial(), tree: tree}
	s.url = withOption(cluster.URL(root), "sessionTimeout=30s")
	beside := spec.Object{
		Key: "hosts/" + string(other), Value: fmt.Appendf(nil, `{"id": %q, "name": "neighbour"}`, other),
	}
	seed(t, s.conn, tree, slices.Concat(objects(t, 1), []spec.Object{beside}, more))
	for _, object := range []string{
		tree.Object(model.Port, thePort), tree.Object(model.Host, host), tree.Object(model.Host, other),
	} {
		data, _, err := s.conn.Get(object)
		if err != nil {
			t.Fatal(err)
		}
		m, err := text.Parse(append(data, unknownField...))
		if err != nil {
			t.Fatal(err)
		}
		m.Fields = slices.DeleteFunc(m.Fields, func(f text.Field) bool {
			return f.Name == "host_id" || f.Name == "interface_name" || f.Name == "port_ids" && same(f.Value, thePort)
		})
		cluster.Put(s.conn, object, string(m.Print()))
	}
	for _, state := range []string{tree.HostState(other), tree.ContainerState(other, theContainer)} {
		cluster.Put(s.conn, filepath.Dir(state), "")
	}
	ctx, end := context.WithCancel(context.Background())
	t.Cleanup(func() {
		end()
		s.running.Wait()
	})
	s.ctx = ctx
	n := &otherHost{t: t, conn: cluster.Dial(), tree: tree}
	s.running.Go(func() { watchNode(ctx, n.conn, tree.Object(model.Host, other), n.update) })
	return s
}

// schedule starts the scheduler.
func (s *fixture) schedule() {
	s.scheduler = &scheduler{
		t: s.t, conn: s.cluster.Dial(), tree: s.tree, todo: make(chan func()), timer: time.NewTimer(time.Hour),
		hosts: map[model.UUID]hostState{}, bad: map[model.UUID]time.Time{},
	}
	s.running.Go(func() { s.scheduler.run(s.ctx) })
}

func (s *fixture) hostState() string { return s.tree.HostState(host) }
func (s *fixture) status() string    { return s.tree.ContainerState(host, theContainer) }

// owner returns the session that owns an ephemeral node, or 0 if there is no such node.
func (s *fixture) owner(node string) int64 {
	exists, stat, err := s.conn.Exists(node)
	if err != nil || !exists {
		return 0
	}
	return stat.EphemeralOwner
}

// startKeeping starts a supervisor that does not remove its containers when it ends. The given variables are added to
// its environment and can override that.
func (s *fixture) startKeeping(environment ...string) *exec.Cmd {
	s.t.Helper()
	log, err := os.Create(filepath.Join(s.lab.dir, "log.first"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = log.Close() })
	c := s.lab.command(s.url, "run")
	c.Env = append(append(c.Env, "SVC_STOP_CONTAINERS=0"), environment...)
	c.Stderr = log
	if err := c.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if c.ProcessState == nil {
			_ = c.Process.Kill()
			_ = c.Wait()
		}
		if text, err := os.ReadFile(log.Name()); err == nil && s.t.Failed() {
			s.t.Logf("log of the supervisor:\n%s", text)
		}
	})
	return c
}

// setWeight sets the weight of a host with the command of an operator.
func (s *fixture) setWeight(of model.UUID, weight int) {
	s.t.Helper()
	c := s.lab.command(s.url, "host", "set", "container-weight", strconv.Itoa(weight))
	c.Env = append(c.Env, "SVC_HOST_ID="+string(of))
	if out, err := c.CombinedOutput(); err != nil {
		s.t.Fatalf("host set: %v: %s", err, out)
	}
}

// expectHistory waits until the actions of the scheduler are exactly those in want. In it, here means this host and
// there the other one.
func (s *fixture) expectHistory(want string) {
	s.t.Helper()
	for end := time.Now().Add(2 * stepTimeout); s.scheduler.actions() != want; time.Sleep(5 * time.Millisecond) {
		if got := s.scheduler.actions(); time.Now().After(end) || !strings.HasPrefix(want, got) {
			s.t.Fatalf("the scheduler did:\n%s\nallowed:\n%s", got, want)
		}
	}
}

func (s *fixture) expectCount(n int) {
	s.t.Helper()
	within(s.t, stepTimeout, fmt.Sprintf("the host's count is %d", n), func() bool {
		data, _, err := s.conn.Get(s.hostState())
		if err != nil {
			return false
		}
		values, err := texttest.Read("ContainerServiceStatus", data)
		return err == nil && values.Int("count") == int64(n)
	})
}

// expectNothingLeft waits until no part of the container is left on this host, and its status is removed.
func (s *fixture) expectNothingLeft() {
	s.t.Helper()
	absent := func(file string) bool {
		_, err := os.Lstat(file)
		return errors.Is(err, os.ErrNotExist)
	}
	for what, gone := range map[string]func() bool{
		"record":    func() bool { return absent(filepath.Join(s.lab.dir, "state/containers", theName+".IPSEC")) },
		"namespace": func() bool { return absent("/run/netns/" + theName) },
		"status":    func() bool { return s.owner(s.status()) == 0 },
		"unit": func() bool {
			out, err := exec.Command("systemctl", "show", "--property=LoadState", "svc-"+theName+".service").Output()
			return err == nil && strings.TrimSpace(string(out)) == "LoadState=not-found"
		},
	} {
		within(s.t, stepTimeout, "the "+what+" of the container is removed", gone)
	}
}

// expectUnknownFieldsKept checks that the objects still have unknownField after they were written.
func (s *fixture) expectUnknownFieldsKept() {
	s.t.Helper()
	for _, object := range []string{
		s.tree.Object(model.Port, thePort), s.tree.Object(model.Host, host), s.tree.Object(model.Host, other),
	} {
		if data, _, err := s.conn.Get(object); err != nil || !strings.HasSuffix(string(data), unknownField) {
			s.t.Errorf("%s has lost a field or does not exist: %v\n%s", object, err, data)
		}
	}
}

// expectAlwaysPresent checks that a node, once it was created, existed after every transaction.
func (s *fixture) expectAlwaysPresent(node string) {
	s.t.Helper()
	exists, ever := false, false
	for _, transaction := range s.transactions() {
		touched := false
		for _, c := range transaction.changes {
			if c.path == node {
				touched, exists = true, c.kind != deleted
			}
		}
		ever = ever || exists
		if touched && !exists {
			s.t.Errorf("transaction %#x of session %#x removed %s", transaction.zxid, transaction.session, node)
		}
	}
	if !ever || !exists {
		s.t.Errorf("%s: ever created: %v, exists now: %v", node, ever, exists)
	}
}

// written returns all values that were ever written to a node.
func (s *fixture) written(node string) (all []string) {
	s.t.Helper()
	for _, transaction := range s.transactions() {
		for _, c := range transaction.changes {
			if c.path == node && c.kind != deleted {
				all = append(all, string(c.data))
			}
		}
	}
	return all
}

// expectStrict checks that all values of the host's node and of the status have exactly the form that MidoNet prints.
func (s *fixture) expectStrict() {
	s.t.Helper()
	for node, proto := range map[string]string{s.hostState(): "ContainerServiceStatus", s.status(): "ContainerStatus"} {
		for _, data := range s.written(node) {
			if err := texttest.Check(proto, []byte(data)); err != nil {
				s.t.Errorf("%s: %v\n%s", node, err, data)
			}
		}
	}
}

// statuses returns all statuses that this host has ever published for the container.
func (s *fixture) statuses() (all []texttest.Values) {
	s.t.Helper()
	for _, data := range s.written(s.status()) {
		values, err := texttest.Read("ContainerStatus", []byte(data))
		if err != nil {
			s.t.Fatal(err)
		}
		all = append(all, values)
	}
	return all
}

// scheduler behaves like the scheduler of MidoNet's cluster for one container: it has the same phases (down, scheduled,
// up), selection, timers and transactions, and reads states in the same way. It expects that the container's port is
// unbound at the start. It does not implement Host objects that are added or removed, ports that an operator moves, and
// the limit of retries while no host is available.
type scheduler struct {
	t    *testing.T
	conn *zk.Conn
	tree model.Tree
	todo chan func() // updates, which the goroutine of run applies to the fields below

	phase     phase
	selected  model.UUID // the selected host, or ""
	hosts     map[model.UUID]hostState
	bad       map[model.UUID]time.Time // excluded hosts with the time until which they are excluded
	code      string                   // the code of the selected host's status, "" if it cannot be read
	stopping  bool                     // whether the timer of the only retry after STOPPING was started
	timer     *time.Timer
	bound     time.Time
	stopWatch context.CancelFunc // ends the watch on the status

	mu      sync.Mutex // protects the fields below, which the tests read
	history []string
	up      time.Duration
	views   map[model.UUID]hostState
}

type phase int

const (
	down phase = iota
	scheduled
	up
)

// hostState is the state that a host has published. read is false until the scheduler has read the node.
type hostState struct {
	exists, read         bool
	weight, quota, count int64
}

func (h hostState) running() bool { return h.exists && h.weight > 0 }

func (s *scheduler) run(ctx context.Context) {
	var following sync.WaitGroup
	defer following.Wait()
	for _, of := range []model.UUID{host, other} {
		following.Go(func() {
			watchNode(ctx, s.conn, s.tree.HostState(of), func(data []byte, exists bool) {
				s.do(ctx, func() { s.updateHost(of, data, exists) })
			})
		})
	}
	for {
		select {
		case <-ctx.Done():
			return
		case do := <-s.todo:
			do()
		case <-s.timer.C:
			s.expire()
		}
		s.evaluate(ctx, &following)
	}
}

func (s *scheduler) do(ctx context.Context, what func()) {
	select {
	case s.todo <- what:
	case <-ctx.Done():
	}
}

func (s *scheduler) updateHost(of model.UUID, data []byte, exists bool) {
	now := hostState{read: true}
	values, err := texttest.Read("ContainerServiceStatus", data)
	if exists && err == nil {
		now = hostState{true, true, values.Int("weight"), values.Int("quota"), values.Int("count")}
	}
	if now.running() && !s.hosts[of].running() {
		delete(s.bad, of)
	}
	s.hosts[of] = now
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.views == nil {
		s.views = map[model.UUID]hostState{}
	}
	s.views[of] = now
}

// updateStatus reads the status of the selected host. A status with another host id is ignored.
func (s *scheduler) updateStatus(data []byte, exists bool) {
	values, err := texttest.Read("ContainerStatus", data)
	switch {
	case !exists || err != nil:
		s.code = ""
		if s.phase == up { // the next evaluate selects the same host again, which must publish RUNNING
			s.phase = down
			s.record("down", s.selected, "")
		}
	case values.UUID("host_id") == string(s.selected):
		s.code = values.Text("status_code")
	}
}

func (s *scheduler) expire() {
	if s.phase == scheduled {
		s.mark(badHostLifetime)
		s.leave()
	}
}

func (s *scheduler) evaluate(ctx context.Context, following *sync.WaitGroup) {
	if !s.hosts[host].read || !s.hosts[other].read {
		return
	}
	switch {
	case s.phase != down && !s.eligible(s.selected):
		s.leave()
	case s.phase == scheduled && s.code == "RUNNING":
		s.timer.Stop()
		s.phase = up
		s.mu.Lock()
		s.up = time.Since(s.bound)
		s.mu.Unlock()
		s.record("up", s.selected, "")
	case s.phase == scheduled && s.code == "STOPPING" && !s.stopping:
		s.stopping = true
		s.timer.Reset(schedulerRetry)
	case s.phase == scheduled && s.code == "ERROR", s.phase == up && (s.code == "ERROR" || s.code == "STOPPING"):
		s.mark(schedulerRetry)
		s.leave()
	}
	if s.phase != down {
		return
	}
	if to := s.choose(); to != "" {
		s.schedule(ctx, to, following)
	} else {
		s.timer.Reset(schedulerRetry)
	}
}

func (s *scheduler) eligible(h model.UUID) bool {
	return s.hosts[h].running() && time.Now().After(s.bad[h])
}

// choose returns the current host if it is eligible, otherwise the eligible host with the least containers and a quota
// left.
func (s *scheduler) choose() (best model.UUID) {
	if s.selected != "" && s.eligible(s.selected) {
		return s.selected
	}
	for _, h := range []model.UUID{host, other} {
		if s.eligible(h) && s.hosts[h].quota != 0 && (best == "" || s.hosts[h].count < s.hosts[best].count) {
			best = h
		}
	}
	return best
}

func (s *scheduler) mark(lasting time.Duration) {
	s.bad[s.selected] = time.Now().Add(lasting)
	s.record("bad", s.selected, " for "+lasting.String())
}

// schedule binds the port to a host and starts a new watch on the status of that host.
func (s *scheduler) schedule(ctx context.Context, to model.UUID, following *sync.WaitGroup) {
	if s.stopWatch != nil {
		s.stopWatch()
	}
	s.phase, s.selected, s.code, s.stopping, s.bound = scheduled, to, "", false, time.Now()
	s.timer.Reset(schedulerTimeout)
	s.record("schedule", to, "")
	s.bind(to, true)
	var still context.Context
	still, s.stopWatch = context.WithCancel(ctx)
	following.Go(func() {
		watchNode(still, s.conn, s.tree.ContainerState(to, theContainer), func(data []byte, exists bool) {
			s.do(still, func() {
				if still.Err() == nil {
					s.updateStatus(data, exists)
				}
			})
		})
	})
}

func (s *scheduler) leave() {
	s.stopWatch()
	s.record("unschedule", s.selected, "")
	s.bind(s.selected, false)
	s.phase, s.selected = down, ""
}

// bind writes the port and the host in one transaction, as MidoNet's onScheduled and onUnscheduled do.
func (s *scheduler) bind(to model.UUID, on bool) {
	portPath, hostPath := s.tree.Object(model.Port, thePort), s.tree.Object(model.Host, to)
	for {
		port, portVersion, portErr := object(s.conn, portPath)
		its, hostVersion, hostErr := object(s.conn, hostPath)
		if err := errors.Join(portErr, hostErr); err != nil {
			s.t.Errorf("scheduler: %v", err)
			return
		}
		if on {
			setPortHost(port, to)
			addPort(its, thePort)
		} else {
			if now, ok := port.Last("host_id"); ok && same(now, to) {
				port.Fields = slices.DeleteFunc(port.Fields, func(f text.Field) bool { return f.Name == "host_id" })
			}
			its.Fields = slices.DeleteFunc(its.Fields, func(f text.Field) bool {
				return f.Name == "port_ids" && same(f.Value, thePort)
			})
		}
		_, err := s.conn.Multi(&zk.SetDataRequest{Path: portPath, Data: port.Print(), Version: portVersion},
			&zk.SetDataRequest{Path: hostPath, Data: its.Print(), Version: hostVersion})
		if errors.Is(err, zk.ErrBadVersion) {
			continue
		}
		if err != nil {
			s.t.Errorf("scheduler: %v", err)
		}
		return
	}
}

// setPortHost sets the host of a port, and the interface name if the port has none.
func setPortHost(port *text.Message, to model.UUID) {
	earlier := []string{
		"id", "network_id", "router_id", "inbound_filter_id", "outbound_filter_id", "tunnel_key", "peer_id", "vif_id",
	}
	isLater := func(field string) bool { return !slices.Contains(earlier, field) }
	port.Set("host_id", value(to), isLater)
	if _, named := port.Last("interface_name"); !named {
		earlier = append(earlier, "host_id")
		port.Set("interface_name", text.Quoted("vpn-"+string(thePort)[:8]), isLater)
	}
}

// addPort adds a port to the ports of a host.
func addPort(its *text.Message, port model.UUID) {
	if slices.ContainsFunc(its.All("port_ids"), func(v text.Value) bool { return same(v, port) }) {
		return
	}
	later := []string{"host_group_ids", "a_later_release"}
	at := slices.IndexFunc(its.Fields, func(f text.Field) bool { return slices.Contains(later, f.Name) })
	its.Fields = slices.Insert(its.Fields, at, text.Field{Name: "port_ids", Value: value(port)})
}

func (s *scheduler) record(what string, of model.UUID, more string) {
	where := map[model.UUID]string{host: " here", other: " there"}[of]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.history = append(s.history, what+where+more)
}

// actions returns all actions of the scheduler.
func (s *scheduler) actions() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.history, ", ")
}

// timeToRunning returns the time from the last binding until the scheduler read RUNNING.
func (s *scheduler) timeToRunning() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.up
}

// hostView returns the state of a host as the scheduler has read it.
func (s *scheduler) hostView(of model.UUID) hostState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.views[of]
}

// otherHost publishes the state of the other host in a session of its own: the weight of its Host object, the number of
// its ports, and the status RUNNING as soon as the container is bound to it.
type otherHost struct {
	t    *testing.T
	conn *zk.Conn
	tree model.Tree
}

// update publishes the state for a new value of the Host object.
func (n *otherHost) update(data []byte, exists bool) {
	m, err := text.Parse(data)
	if !exists || err != nil {
		n.t.Errorf("other host: object exists: %v, %v", exists, err)
		return
	}
	weight, _ := m.Last("container_weight")
	w, err := strconv.Atoi(weight.Text)
	if err != nil {
		n.t.Errorf("other host: weight: %v", err)
	}
	ports := m.All("port_ids")
	path := n.tree.ContainerState(other, theContainer)
	if len(ports) == 0 {
		if err := n.conn.Delete(path, -1); err != nil && !errors.Is(err, zk.ErrNoNode) {
			n.t.Errorf("other host: %v", err)
		}
	} else {
		running, err := model.PrintContainerStatus(spec.ContainerStatus{
			Code: spec.Running, HostID: spec.HostID(other), NamespaceName: theName, InterfaceName: spec.Name(theName),
		})
		if err != nil {
			n.t.Errorf("other host: %v", err)
		}
		n.publish(path, running)
	}
	status := spec.HostStatus{Weight: w, Quota: -1, Count: othersLoad + len(ports)}
	n.publish(n.tree.HostState(other), model.PrintHostStatus(status))
}

func (n *otherHost) publish(path string, data []byte) {
	_, err := n.conn.Set(path, data, -1)
	if errors.Is(err, zk.ErrNoNode) {
		_, err = n.conn.Create(path, data, zk.FlagEphemeral, zk.WorldACL(zk.PermAll))
	}
	if err != nil {
		n.t.Errorf("other host: %s: %v", path, err)
	}
}

// watchNode calls update with the current value of a node, or with exists false, and again after every event of the
// node, until ctx ends.
func watchNode(ctx context.Context, conn *zk.Conn, path string, update func(data []byte, exists bool)) {
	for ctx.Err() == nil {
		data, _, event, err := conn.GetW(path)
		exists := err == nil
		if errors.Is(err, zk.ErrNoNode) {
			if exists, _, event, err = conn.ExistsW(path); err == nil && exists {
				continue // the node was created since the first call
			}
		}
		if err != nil { // the client reconnects in the background
			event = nil
			time.Sleep(50 * time.Millisecond)
			continue
		}
		update(data, exists)
		select {
		case <-event:
		case <-ctx.Done():
		}
	}
}

func object(conn *zk.Conn, path string) (*text.Message, int32, error) {
	data, stat, err := conn.Get(path)
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", path, err)
	}
	m, err := text.Parse(data)
	return m, stat.Version, err
}

// value returns an id as a UUID message, which has the two halves of the id.
func value(of model.UUID) text.Value {
	hex := strings.ReplaceAll(string(of), "-", "")
	msb, _ := strconv.ParseUint(hex[:16], 16, 64)
	lsb, _ := strconv.ParseUint(hex[16:], 16, 64)
	return text.Of(text.Field{Name: "msb", Value: text.Uint(msb)}, text.Field{Name: "lsb", Value: text.Uint(lsb)})
}

func same(v text.Value, of model.UUID) bool {
	return v.Kind == text.Nested && string(v.Message.Print()) == string(value(of).Message.Print())
}

// diskT is a testing.T whose TempDir returns a known directory, in which the servers keep their data.
type diskT struct {
	*testing.T
	dir string
}

// TempDir returns the directory of the servers.
func (r diskT) TempDir() string { return r.dir }

// transaction is one transaction in the log of a server. Its changes became visible at the same time.
type transaction struct {
	zxid, session int64
	ended         bool // whether it ended the session
	changes       []change
}

type change struct {
	kind int32
	path string
	data []byte
}

// The types of transactions, from org.apache.zookeeper.ZooDefs.OpCode.
const (
	created, deleted, set, multi, closeSession = 1, 2, 5, 14, -11
)

// transactions returns all transactions before the call from the log of the first server, ordered by zxid. A watch
// could miss that a node was absent for a moment; the log cannot.
func (s *fixture) transactions() (all []transaction) {
	s.t.Helper()
	mark, err := s.conn.Create("/mark-", nil, zk.FlagSequence, zk.WorldACL(zk.PermAll))
	if err != nil {
		s.t.Fatal(err)
	}
	within(s.t, stepTimeout, "the log has all transactions", func() bool {
		all = nil
		files, err := filepath.Glob(filepath.Join(s.disk.dir, "zk1/data/version-2/log.*"))
		if err != nil {
			s.t.Fatal(err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				s.t.Fatal(err)
			}
			all = append(all, readLog(data)...)
		}
		return slices.ContainsFunc(
			all, func(t transaction) bool { return len(t.changes) == 1 && t.changes[0].path == mark })
	})
	slices.SortFunc(all, func(a, b transaction) int { return cmp.Compare(a.zxid, b.zxid) })
	return all
}

// ended reports whether a session has ended.
func (s *fixture) ended(session int64) bool {
	return slices.ContainsFunc(s.transactions(), func(t transaction) bool { return t.ended && t.session == session })
}

// readLog parses a log file of ZooKeeper 3.6 or later: a header of 16 bytes, then for each transaction a checksum, the
// length, the transaction and the byte B. The rest of the file is filled with zeros.
func readLog(data []byte) (all []transaction) {
	log := &jute{data: data}
	log.next(16)
	for {
		log.next(8)
		record := &jute{data: log.buffer()}
		if log.next(1) == nil || len(record.data) == 0 {
			return all
		}
		t := transaction{session: record.long()}
		record.next(4) // the number of the transaction within its session
		t.zxid = record.long()
		record.next(8) // the time
		t.add(record.integer(), record)
		all = append(all, t)
	}
}

func (t *transaction) add(kind int32, record *jute) {
	switch kind {
	case created, deleted, set:
		c := change{kind: kind, path: string(record.buffer())}
		if kind != deleted {
			c.data = record.buffer()
		}
		t.changes = append(t.changes, c)
	case multi:
		for range record.integer() {
			kind := record.integer()
			t.add(kind, &jute{data: record.buffer()})
		}
	case closeSession:
		t.ended = true
		for range max(0, record.integer()) {
			t.changes = append(t.changes, change{kind: deleted, path: string(record.buffer())})
		}
	}
}

// jute decodes ZooKeeper's encoding. After the end of the data it returns zero values.
type jute struct{ data []byte }

func (j *jute) next(n int) []byte {
	if n > len(j.data) {
		j.data = nil
		return nil
	}
	taken := j.data[:n]
	j.data = j.data[n:]
	return taken
}

func (j *jute) integer() int32 {
	if b := j.next(4); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

func (j *jute) long() int64 {
	if b := j.next(8); b != nil {
		return int64(binary.BigEndian.Uint64(b))
	}
	return 0
}

func (j *jute) buffer() []byte { return j.next(int(max(0, j.integer()))) }
