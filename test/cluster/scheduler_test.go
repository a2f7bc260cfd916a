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

// other is a second host, that of a neighbour: it has containers enough for ours to be the one with the least.
const (
	other      = model.UUID("22222222-2222-4222-8222-222222222222")
	othersLoad = 5
)

// The defaults of MidoNet's cluster.containers.
const (
	schedulerTimeout = 10 * time.Second // scheduler_timeout: from the binding to RUNNING
	schedulerRetry   = 15 * time.Second // scheduler_retry
	badHostLifetime  = 30 * time.Second // scheduler_bad_host_lifetime
)

// soon is how long a step of the cluster's may take, that of a busy machine too.
const soon = schedulerTimeout

func TestTheSchedulerGetsWhatItWaitsFor(t *testing.T) {
	ground(t)
	disk := recorder{t, t.TempDir()}
	cluster := zktest.Start(disk, 3)

	t.Run("a new container runs within its ten seconds", func(t *testing.T) {
		s := open(t, disk, cluster, "/new")
		s.lab.start(s.url)
		s.expectCount(0)
		s.schedule()
		s.expectHistory("schedule here, up here")
		t.Logf("RUNNING %s after the port was bound", s.scheduler.took().Round(time.Millisecond))
		s.expectCount(1)
		s.expectStanding(s.hostState())
		s.expectStanding(s.status())
		for _, status := range s.statuses() {
			if code := spec.StatusCode(status.Text("status_code")); code != spec.Starting && code != spec.Running {
				t.Errorf("status %s was written", code)
			}
		}
		s.expectStrict()
		s.expectForeignFieldsKept()
		s.expectHistory("schedule here, up here")
	})

	t.Run("a weight of 0 moves the container away, and 1 takes it again", func(t *testing.T) {
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
		if weight := s.scheduler.view(host).weight; weight != 0 {
			t.Errorf("the scheduler sees weight %d", weight)
		}

		s.setWeight(host, 1)
		within(t, soon, "the scheduler may take the host again", func() bool { return s.scheduler.view(host).running() })
		s.expectHistory("schedule here, up here, unschedule here, schedule there, up there") // the current host is kept
		s.setWeight(other, 0)
		s.expectHistory("schedule here, up here, unschedule here, schedule there, up there, unschedule there, schedule here, up here")
		s.expectStanding(s.hostState())
		s.expectStrict()
		s.expectForeignFieldsKept()
	})

	t.Run("a container that fails goes elsewhere", func(t *testing.T) {
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
		told := ""
		for _, status := range s.statuses() {
			if status.Text("status_code") == "ERROR" {
				told += status.Text("status_message") + "\n"
			}
		}
		if !strings.Contains(told, "as the test wants it") || strings.Count(told, "\n") != 1 {
			t.Errorf("messages of status ERROR: %q: allowed: one, with the executable's own", told)
		}
		s.expectStanding(s.hostState())
		s.expectStrict()
		s.expectForeignFieldsKept()
	})

	for _, end := range []struct {
		name   string
		signal syscall.Signal
	}{{"a restart", syscall.SIGTERM}, {"a kill and a start", syscall.SIGKILL}} {
		t.Run(end.name+" goes unnoticed", func(t *testing.T) {
			s := open(t, disk, cluster, "/restart-"+strconv.Itoa(int(end.signal)))
			first := s.startToKeep()
			s.expectCount(0)
			s.schedule()
			s.expectHistory("schedule here, up here")
			s.expectCount(1)
			lives, session := s.lab.lives(), s.owner(s.hostState())

			began := time.Now()
			_ = first.Process.Signal(end.signal)
			_ = first.Wait()
			s.lab.start(s.url)
			for _, node := range []string{s.hostState(), s.status()} {
				within(t, soon, "another session has "+node, func() bool { now := s.owner(node); return now != 0 && now != session })
			}
			t.Logf("both nodes taken over %s after the signal", time.Since(began).Round(time.Millisecond))
			within(t, 2*time.Minute, "the old session ends", func() bool { return s.ended(session) })

			s.expectHistory("schedule here, up here")
			s.expectCount(1)
			s.expectStanding(s.hostState())
			s.expectStanding(s.status())
			s.expectStrict()
			if now := s.lab.lives(); now != lives {
				t.Errorf("units changed, from\n%s\nto\n%s", lives, now)
			}
			if calls := s.lab.calls(); strings.Count(calls, "ADD ") != 1 || strings.Contains(calls, "DEL ") {
				t.Errorf("verbs ran:\n%s", calls)
			}
		})
	}
}

// site is a MidoNet tree with two hosts, ours and a neighbour's, and a container whose port waits to be bound.
type site struct {
	t         *testing.T
	lab       *lab
	cluster   *zktest.Cluster
	disk      recorder
	conn      *zk.Conn
	tree      model.Tree
	url       string
	scheduler *scheduler
	life      context.Context
	running   sync.WaitGroup
}

var (
	thePort      = model.UUID(id(kindPort, 0))
	theContainer = model.UUID(id(kindContainer, 0))
	theName      = name(0)
)

// foreign is a field of an object that nobody here knows, and that each writer has to keep.
const foreign = "a_later_release: \"knows it\"\n"

func open(t *testing.T, disk recorder, cluster *zktest.Cluster, root string) *site {
	t.Helper()
	tree, err := model.ParseRoot(root)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, lab: newLab(t), cluster: cluster, disk: disk, conn: cluster.Dial(), tree: tree}
	s.url = withOption(cluster.URL(root), "sessionTimeout=8s")
	beside := spec.Object{Key: "hosts/" + string(other), Value: fmt.Appendf(nil, `{"id": %q, "name": "neighbour"}`, other)}
	s.lab.load(s.url, append(objects(t, 1), beside))
	for _, object := range []string{tree.Object(model.Port, thePort), tree.Object(model.Host, host), tree.Object(model.Host, other)} {
		data, _, err := s.conn.Get(object)
		if err != nil {
			t.Fatal(err)
		}
		m, err := text.Parse(append(data, foreign...))
		if err != nil {
			t.Fatal(err)
		}
		for _, bound := range []string{"host_id", "interface_name", "port_ids"} {
			m.Remove(bound)
		}
		cluster.Put(s.conn, object, string(m.Print()))
	}
	for _, state := range []string{tree.HostState(other), tree.ContainerState(other, theContainer)} {
		cluster.Put(s.conn, filepath.Dir(state), "")
	}
	life, end := context.WithCancel(context.Background())
	t.Cleanup(func() {
		end()
		s.running.Wait()
	})
	s.life = life
	n := &neighbour{t: t, conn: cluster.Dial(), tree: tree}
	s.running.Go(func() { follow(life, n.conn, tree.Object(model.Host, other), n.live) })
	return s
}

// schedule lets the scheduler begin.
func (s *site) schedule() {
	s.scheduler = &scheduler{
		t: s.t, conn: s.cluster.Dial(), tree: s.tree, todo: make(chan func()), timer: time.NewTimer(time.Hour),
		hosts: map[model.UUID]hostState{}, bad: map[model.UUID]time.Time{},
	}
	s.running.Go(func() { s.scheduler.run(s.life) })
}

func (s *site) hostState() string { return s.tree.HostState(host) }
func (s *site) status() string    { return s.tree.ContainerState(host, theContainer) }

// owner is the session that has a node, 0 if there is no node.
func (s *site) owner(node string) int64 {
	there, stat, err := s.conn.Exists(node)
	if err != nil || !there {
		return 0
	}
	return stat.EphemeralOwner
}

// startToKeep starts a supervisor whose containers stay when it ends, unless its environment has more.
func (s *site) startToKeep(environment ...string) *exec.Cmd {
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
	})
	return c
}

// setWeight is what an operator does.
func (s *site) setWeight(of model.UUID, weight int) {
	s.t.Helper()
	c := s.lab.command(s.url, "host", "set", "container-weight", strconv.Itoa(weight))
	c.Env = append(c.Env, "SVC_HOST_ID="+string(of))
	if out, err := c.CombinedOutput(); err != nil {
		s.t.Fatalf("host set: %v: %s", err, out)
	}
}

// expectHistory waits until the scheduler has done this and no more.
func (s *site) expectHistory(want string) {
	s.t.Helper()
	for end := time.Now().Add(2 * soon); s.scheduler.said() != want; time.Sleep(5 * time.Millisecond) {
		if got := s.scheduler.said(); time.Now().After(end) || !strings.HasPrefix(want, got) {
			s.t.Fatalf("the scheduler did:\n%s\nallowed:\n%s", got, want)
		}
	}
}

func (s *site) expectCount(n int) {
	s.t.Helper()
	within(s.t, soon, fmt.Sprintf("the host's count is %d", n), func() bool {
		data, _, err := s.conn.Get(s.hostState())
		if err != nil {
			return false
		}
		values, err := texttest.Read("ContainerServiceStatus", data)
		return err == nil && values.Int("count") == int64(n)
	})
}

// expectNothingLeft waits until nothing of the container is on this host, nor is its status.
func (s *site) expectNothingLeft() {
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
		within(s.t, soon, "its "+what+" is gone", gone)
	}
}

// expectForeignFieldsKept holds that nobody lost a field in writing an object.
func (s *site) expectForeignFieldsKept() {
	s.t.Helper()
	for _, object := range []string{s.tree.Object(model.Port, thePort), s.tree.Object(model.Host, host), s.tree.Object(model.Host, other)} {
		if data, _, err := s.conn.Get(object); err != nil || !strings.HasSuffix(string(data), foreign) {
			s.t.Errorf("%s has lost a field, or is gone: %v\n%s", object, err, data)
		}
	}
}

// expectStanding holds that a node, once made, was there after every transaction.
func (s *site) expectStanding(node string) {
	s.t.Helper()
	there, ever := false, false
	for _, transaction := range s.transactions() {
		touched := false
		for _, c := range transaction.changes {
			if c.path == node {
				touched, there = true, c.kind != deleted
			}
		}
		ever = ever || there
		if touched && !there {
			s.t.Errorf("transaction %#x of session %#x left no %s", transaction.zxid, transaction.session, node)
		}
	}
	if !ever || !there {
		s.t.Errorf("%s: was there: %v, is there: %v", node, ever, there)
	}
}

// written is all that was ever written to a node.
func (s *site) written(node string) (all []string) {
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

// expectStrict holds that all that this host wrote of itself and of the container is what MidoNet's own printer prints.
func (s *site) expectStrict() {
	s.t.Helper()
	for node, proto := range map[string]string{s.hostState(): "ContainerServiceStatus", s.status(): "ContainerStatus"} {
		for _, data := range s.written(node) {
			if err := texttest.Check(proto, []byte(data)); err != nil {
				s.t.Errorf("%s: %v\n%s", node, err, data)
			}
		}
	}
}

// statuses are all that this host ever wrote of the container.
func (s *site) statuses() (all []texttest.Values) {
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

// scheduler stands in for that of MidoNet's cluster, for one container: down, scheduled or up, with its selection, its timers
// and its transactions. It reads states as that does, and takes the container's port as unbound when it begins. What is not
// here: hosts that come and go as objects, ports that are moved by hand, the limit of retries while no host is to be had.
type scheduler struct {
	t    *testing.T
	conn *zk.Conn
	tree model.Tree
	todo chan func() // what was seen, for the one goroutine that has the following

	phase    phase
	selected model.UUID // "" while none is
	hosts    map[model.UUID]hostState
	bad      map[model.UUID]time.Time // until when
	code     string                   // of the selected host's status, "" if there is none that can be read
	stopping bool                     // the one retry after STOPPING runs
	timer    *time.Timer
	bound    time.Time
	unfollow context.CancelFunc // of the status

	mu      sync.Mutex // of what the test looks at
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

// hostState is what a host says of itself; the zero value says nothing.
type hostState struct {
	there, read          bool
	weight, quota, count int64
}

func (h hostState) running() bool { return h.there && h.weight > 0 }

func (s *scheduler) run(ctx context.Context) {
	var following sync.WaitGroup
	defer following.Wait()
	for _, of := range []model.UUID{host, other} {
		following.Go(func() {
			follow(ctx, s.conn, s.tree.HostState(of), func(data []byte, there bool) {
				s.do(ctx, func() { s.seeHost(of, data, there) })
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

func (s *scheduler) seeHost(of model.UUID, data []byte, there bool) {
	now := hostState{read: true}
	values, err := texttest.Read("ContainerServiceStatus", data)
	if there && err == nil {
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

// seeStatus takes the selected host's status. One that names another host is none of it.
func (s *scheduler) seeStatus(data []byte, there bool) {
	values, err := texttest.Read("ContainerStatus", data)
	switch {
	case !there || err != nil:
		s.code = ""
		if s.phase == up { // evaluated at once: the same host is selected again, and has to say RUNNING
			s.phase = down
			s.note("down", s.selected, "")
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
		s.note("up", s.selected, "")
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

// choose keeps the current host, and else takes the one with the least containers that has room.
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
	s.note("bad", s.selected, " for "+lasting.String())
}

// schedule binds the port, and reads the status of the selected host anew.
func (s *scheduler) schedule(ctx context.Context, to model.UUID, following *sync.WaitGroup) {
	if s.unfollow != nil {
		s.unfollow()
	}
	s.phase, s.selected, s.code, s.stopping, s.bound = scheduled, to, "", false, time.Now()
	s.timer.Reset(schedulerTimeout)
	s.note("schedule", to, "")
	s.bind(to, true)
	var still context.Context
	still, s.unfollow = context.WithCancel(ctx)
	following.Go(func() {
		follow(still, s.conn, s.tree.ContainerState(to, theContainer), func(data []byte, there bool) {
			s.do(still, func() {
				if still.Err() == nil {
					s.seeStatus(data, there)
				}
			})
		})
	})
}

func (s *scheduler) leave() {
	s.unfollow()
	s.note("unschedule", s.selected, "")
	s.bind(s.selected, false)
	s.phase, s.selected = down, ""
}

// bind writes both ends of the binding in one transaction, as onScheduled and onUnscheduled do.
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
			occupy(port, to)
			refer(its, thePort)
		} else {
			if now, ok := port.Last("host_id"); ok && same(now, to) {
				port.Remove("host_id")
			}
			its.Fields = slices.DeleteFunc(its.Fields, func(f text.Field) bool { return f.Name == "port_ids" && same(f.Value, thePort) })
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

// occupy sets a port's host, and its interface's name if it has none.
func occupy(port *text.Message, to model.UUID) {
	earlier := []string{"id", "network_id", "router_id", "inbound_filter_id", "outbound_filter_id", "tunnel_key", "peer_id", "vif_id"}
	port.Set("host_id", value(to), func(other string) bool { return !slices.Contains(earlier, other) })
	if _, named := port.Last("interface_name"); !named {
		earlier = append(earlier, "host_id")
		port.Set("interface_name", text.Quoted("vpn-"+string(thePort)[:8]), func(other string) bool { return !slices.Contains(earlier, other) })
	}
}

// refer adds a port to a host's.
func refer(its *text.Message, port model.UUID) {
	if slices.ContainsFunc(its.All("port_ids"), func(v text.Value) bool { return same(v, port) }) {
		return
	}
	later := []string{"host_group_ids", "a_later_release"}
	at := slices.IndexFunc(its.Fields, func(f text.Field) bool { return slices.Contains(later, f.Name) })
	its.Fields = slices.Insert(its.Fields, at, text.Field{Name: "port_ids", Value: value(port)})
}

func (s *scheduler) note(what string, of model.UUID, more string) {
	where := map[model.UUID]string{host: " here", other: " there"}[of]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.history = append(s.history, what+where+more)
}

// said is all that the scheduler did.
func (s *scheduler) said() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.history, ", ")
}

// took is how long it took from the last binding to RUNNING, as the scheduler saw it.
func (s *scheduler) took() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.up
}

// view is how the scheduler sees a host.
func (s *scheduler) view(of model.UUID) hostState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.views[of]
}

// neighbour is the other host: what its object says of weight and ports it publishes in a session of its own, and every
// container of its ports is RUNNING at once.
type neighbour struct {
	t    *testing.T
	conn *zk.Conn
	tree model.Tree
}

func (n *neighbour) live(data []byte, there bool) {
	m, err := text.Parse(data)
	if !there || err != nil {
		n.t.Errorf("neighbour: its object: there: %v, %v", there, err)
		return
	}
	weight, _ := m.Last("container_weight")
	w, err := strconv.Atoi(weight.Text)
	if err != nil {
		n.t.Errorf("neighbour: weight: %v", err)
	}
	ports := m.All("port_ids")
	status := n.tree.ContainerState(other, theContainer)
	if len(ports) == 0 {
		if err := n.conn.Delete(status, -1); err != nil && !errors.Is(err, zk.ErrNoNode) {
			n.t.Errorf("neighbour: %v", err)
		}
	} else {
		running, err := model.PrintContainerStatus(spec.ContainerStatus{
			Code: spec.Running, HostID: spec.HostID(other), NamespaceName: theName, InterfaceName: spec.Name(theName),
		})
		if err != nil {
			n.t.Errorf("neighbour: %v", err)
		}
		n.publish(status, running)
	}
	n.publish(n.tree.HostState(other), model.PrintHostStatus(spec.HostStatus{Weight: w, Quota: -1, Count: othersLoad + len(ports)}))
}

func (n *neighbour) publish(path string, data []byte) {
	_, err := n.conn.Set(path, data, -1)
	if errors.Is(err, zk.ErrNoNode) {
		_, err = n.conn.Create(path, data, zk.FlagEphemeral, zk.WorldACL(zk.PermAll))
	}
	if err != nil {
		n.t.Errorf("neighbour: %s: %v", path, err)
	}
}

// follow tells what a node holds, or that it is not there, now and after every event of it, until ctx ends.
func follow(ctx context.Context, conn *zk.Conn, path string, tell func(data []byte, there bool)) {
	for ctx.Err() == nil {
		data, _, event, err := conn.GetW(path)
		there := err == nil
		if errors.Is(err, zk.ErrNoNode) {
			if there, _, event, err = conn.ExistsW(path); err == nil && there {
				continue // made in between: read it
			}
		}
		if err != nil { // the connection is made again meanwhile
			event = nil
			time.Sleep(50 * time.Millisecond)
			continue
		}
		tell(data, there)
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

// value is an id as the two halves of a UUID message.
func value(of model.UUID) text.Value {
	hex := strings.ReplaceAll(string(of), "-", "")
	msb, _ := strconv.ParseUint(hex[:16], 16, 64)
	lsb, _ := strconv.ParseUint(hex[16:], 16, 64)
	return text.Of(text.Field{Name: "msb", Value: text.Uint(msb)}, text.Field{Name: "lsb", Value: text.Uint(lsb)})
}

func same(v text.Value, of model.UUID) bool {
	return v.Kind == text.Nested && string(v.Message.Print()) == string(value(of).Message.Print())
}

// recorder is a test that knows where its servers keep their data.
type recorder struct {
	*testing.T
	dir string
}

// TempDir is the servers' folder.
func (r recorder) TempDir() string { return r.dir }

// transaction is one of the servers': what it changed became visible at once.
type transaction struct {
	zxid, session int64
	ended         bool // it ended the session
	changes       []change
}

type change struct {
	kind int32
	path string
	data []byte
}

// The types of transactions, by org.apache.zookeeper.ZooDefs.OpCode.
const (
	made, deleted, set, several, closed = 1, 2, 5, 14, -11
)

// transactions reads the log of the first server: no watch can tell as surely that a node was never absent. It holds all that
// was done before the call.
func (s *site) transactions() (all []transaction) {
	s.t.Helper()
	mark, err := s.conn.Create("/mark-", nil, zk.FlagSequence, zk.WorldACL(zk.PermAll))
	if err != nil {
		s.t.Fatal(err)
	}
	within(s.t, soon, "the log has all transactions", func() bool {
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
		return slices.ContainsFunc(all, func(t transaction) bool { return len(t.changes) == 1 && t.changes[0].path == mark })
	})
	slices.SortFunc(all, func(a, b transaction) int { return cmp.Compare(a.zxid, b.zxid) })
	return all
}

// ended says whether a session is over.
func (s *site) ended(session int64) bool {
	return slices.ContainsFunc(s.transactions(), func(t transaction) bool { return t.ended && t.session == session })
}

// readLog reads a file of ZooKeeper 3.6 and later: a header of 16 bytes, then for each transaction a checksum, its length,
// itself and a B. The rest of the file is zeros.
func readLog(data []byte) (all []transaction) {
	log := &jute{data: data}
	log.take(16)
	for {
		log.take(8)
		record := &jute{data: log.buffer()}
		if log.take(1) == nil || len(record.data) == 0 {
			return all
		}
		t := transaction{session: record.long()}
		record.take(4) // the session's own number of it
		t.zxid = record.long()
		record.take(8) // the time
		t.add(record.integer(), record)
		all = append(all, t)
	}
}

func (t *transaction) add(kind int32, record *jute) {
	switch kind {
	case made, deleted, set:
		c := change{kind: kind, path: string(record.buffer())}
		if kind != deleted {
			c.data = record.buffer()
		}
		t.changes = append(t.changes, c)
	case several:
		for range record.integer() {
			kind := record.integer()
			t.add(kind, &jute{data: record.buffer()})
		}
	case closed:
		t.ended = true
		for range max(0, record.integer()) {
			t.changes = append(t.changes, change{kind: deleted, path: string(record.buffer())})
		}
	}
}

// jute reads ZooKeeper's encoding; behind the end there are zeros.
type jute struct{ data []byte }

func (j *jute) take(n int) []byte {
	if n > len(j.data) {
		j.data = nil
		return nil
	}
	taken := j.data[:n]
	j.data = j.data[n:]
	return taken
}

func (j *jute) integer() int32 {
	if b := j.take(4); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

func (j *jute) long() int64 {
	if b := j.take(8); b != nil {
		return int64(binary.BigEndian.Uint64(b))
	}
	return 0
}

func (j *jute) buffer() []byte { return j.take(int(max(0, j.integer()))) }
