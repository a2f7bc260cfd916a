package publish

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// store is a fake Store that records the statuses that reach it, in order.
type store struct {
	mu      sync.Mutex
	log     []string
	has     map[spec.ContainerID]string
	earlier map[spec.ContainerID]string // statuses of an earlier process that were not put again
	fails   map[string]error            // by target: "host", a container id or "list"; "all" fails every write
	block   chan struct{}               // if not nil, every write waits until the channel is closed
	called  int
	session chan struct{}
}

func newStore() *store {
	return &store{
		has: map[spec.ContainerID]string{}, earlier: map[spec.ContainerID]string{}, fails: map[string]error{},
		session: make(chan struct{}, 1),
	}
}

var errDown = errors.New("no connection")

// take records a call and applies its change, or returns the scripted error.
func (n *store) take(ctx context.Context, id spec.ContainerID, text string, change func()) error {
	what := cmp.Or(string(id), "host")
	n.mu.Lock()
	n.called++
	block := n.block
	n.mu.Unlock()
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := errors.Join(ctx.Err(), n.fails["all"], n.fails[what]); err != nil {
		return err
	}
	n.log = append(n.log, what+" "+text)
	change()
	return nil
}

func (n *store) EncodeHost(s spec.HostStatus) ([]byte, error) { return fmt.Append(nil, s.Count), nil }

func (n *store) EncodeContainer(s spec.ContainerStatus) ([]byte, error) {
	if s.Code == "" {
		return nil, errors.New("no code")
	}
	return []byte(s.Code), nil
}

func (n *store) PutStatus(ctx context.Context, id spec.ContainerID, value []byte) error {
	return n.take(ctx, id, string(value), func() {
		n.has[id] = string(value)
		delete(n.earlier, id)
	})
}

func (n *store) DeleteStatus(ctx context.Context, id spec.ContainerID) error {
	return n.take(ctx, id, "removed", func() {
		delete(n.has, id)
		delete(n.earlier, id)
	})
}

func (n *store) ListStatuses(context.Context) (map[spec.ContainerID][]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	listed := map[spec.ContainerID][]byte{}
	for id := range n.has {
		listed[id] = nil
	}
	for id, value := range n.earlier {
		listed[id] = []byte(value)
	}
	return listed, n.fails["list"]
}

func (n *store) SessionChanged() <-chan struct{} { return n.session }

// changeSession ends the session: the store loses all statuses that were put in it.
func (n *store) changeSession() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.has)
	n.session <- struct{}{}
}

func (n *store) fail(what string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fails[what] = err
}

// hold makes every call wait until the returned function is called.
func (n *store) hold() (release func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	block := make(chan struct{})
	n.block = block
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.block = nil
		close(block)
	}
}

func (n *store) requests() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.log)
}

func (n *store) calls() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.called
}

// withPublisher runs a test with a publisher and a fake store, in a synctest bubble.
func withPublisher(t *testing.T, test func(t *testing.T, p *Publisher, n *store)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := newStore()
		p := New(n, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { p.Run(ctx) })
		test(t, p, n)
		cancel()
		running.Wait()
	})
}

func status(id spec.ContainerID, code spec.StatusCode) spec.ContainerStatus {
	return spec.ContainerStatus{Code: code, HostID: "host", InterfaceName: spec.Name(id)}
}

func set(p *Publisher, id spec.ContainerID, code spec.StatusCode) { p.Set(id, status(id, code)) }

func expect(t *testing.T, n *store, want ...string) {
	t.Helper()
	synctest.Wait()
	if got := n.requests(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestWithdrawnHostStatusIsNotPublishedAgain(t *testing.T) {
	withPublisher(t, func(t *testing.T, p *Publisher, n *store) {
		p.SetHost(spec.HostStatus{Count: 1})
		expect(t, n, "host 1")
		n.fail("host", errDown)
		short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := p.Withdraw(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Withdraw without an answer of the NSDB: %v", err)
		}
		n.fail("host", nil)
		for range 2 {
			if err := p.Withdraw(t.Context()); err != nil {
				t.Error(err)
			}
		}
		p.SetHost(spec.HostStatus{Count: 0})
		set(p, "a", spec.Stopping)
		expect(t, n, "host 1", "host removed", "a STOPPING")
	})
}

func TestWithdrawTakesEffectAfterAPublicationInProgress(t *testing.T) {
	withPublisher(t, func(t *testing.T, p *Publisher, n *store) {
		release := n.hold()
		p.SetHost(spec.HostStatus{Count: 1})
		synctest.Wait()
		withdrawn := make(chan error, 1)
		go func() { withdrawn <- p.Withdraw(t.Context()) }()
		synctest.Wait()
		release()
		if err := <-withdrawn; err != nil {
			t.Error(err)
		}
		expect(t, n, "host 1", "host removed")
	})
}

func TestStatusesArePublishedInOrder(t *testing.T) {
	withPublisher(t, func(t *testing.T, p *Publisher, n *store) {
		for _, report := range []func(){
			func() { set(p, "a", spec.Starting) },
			func() { set(p, "a", spec.Running) },
			func() { set(p, "a", spec.Stopping) },
			func() { p.Remove("a") },
		} {
			report()
			synctest.Wait()
		}
		expect(t, n, "a STARTING", "a RUNNING", "a STOPPING", "a removed")
	})
}

func TestUnchangedStatusIsNotPublishedAgain(t *testing.T) {
	withPublisher(t, func(t *testing.T, p *Publisher, n *store) {
		for range 3 {
			p.SetHost(spec.HostStatus{Count: 1})
			synctest.Wait()
			set(p, "a", spec.Running)
			set(p, "a", spec.Running)
			synctest.Wait()
		}
		expect(t, n, "host 1", "a RUNNING")
	})
}

func TestOnlyTheLatestOfManyStatusesIsPublished(t *testing.T) {
	withPublisher(t, func(t *testing.T, p *Publisher, n *store) {
		release := n.hold()
		set(p, "a", spec.Starting)
		synctest.Wait() // the call with STARTING waits
		for i := range 100 {
			failed := status("a", spec.Failed)
			failed.Message = fmt.Sprint(i)
			p.Set("a", failed)
			p.SetHost(spec.HostStatus{Count: i})
		}
		set(p, "a", spec.Running)
		release()
		expect(t, n, "a STARTING", "host 99", "a RUNNING")
	})
}

func TestReportsDoNotWaitForAHungNSDB(t *testing.T) {
	withPublisher(t, func(t *testing.T, p *Publisher, n *store) {
		release := n.hold()
		begin := time.Now()
		for range 1000 {
			set(p, "a", spec.Starting)
			set(p, "a", spec.Running)
			p.SetHost(spec.HostStatus{})
			p.Remove("b")
		}
		if time.Since(begin) != 0 {
			t.Errorf("waited %v", time.Since(begin))
		}
		release()
	})
}

func TestFailedPublicationIsRetriedWithGrowingDelay(t *testing.T) {
	withPublisher(t, func(t *testing.T, p *Publisher, n *store) {
		n.fail("all", errDown)
		set(p, "a", spec.Running)
		var times []int
		begin, calls := time.Now(), 0
		for time.Since(begin) < 100*time.Second {
			synctest.Wait()
			if c := n.calls(); c != calls {
				calls = c
				times = append(times, int(time.Since(begin).Seconds()))
			}
			time.Sleep(time.Second)
		}
		if want := []int{0, 1, 3, 7, 15, 31, 61, 91}; !slices.Equal(times, want) {
			t.Errorf("tried at %v, want %v", times, want)
		}
		n.fail("all", nil)
		time.Sleep(lastRetry)
		expect(t, n, "a RUNNING")
		n.fail("all", errDown)
		set(p, "a", spec.Stopping)
		synctest.Wait()
		n.fail("all", nil)
		time.Sleep(afterRetry) // the delay starts again at firstRetry
		expect(t, n, "a RUNNING", "a STOPPING")
	})
}

func TestOutageIsLoggedAsOneError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newStore()
		n.fail("all", errDown)
		var log strings.Builder
		p := New(n, slog.New(slog.NewTextHandler(&log, nil)))
		for i := range 100 {
			set(p, spec.ContainerID(fmt.Sprint("c", i)), spec.Running)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { p.Run(ctx) })
		synctest.Wait()
		cancel()
		running.Wait()
		for line := range strings.Lines(log.String()) {
			if strings.Count(line, errDown.Error()) != 1 || !strings.Contains(line, "failed=100 ") {
				t.Errorf("log line %s", line)
			}
		}
		if log.Len() == 0 {
			t.Error("no error was logged")
		}
	})
}

func TestFailedPublicationIsNamedInTheLog(t *testing.T) {
	for _, r := range []struct {
		name string
		put  func(*Publisher)
		want string
	}{
		{"a status", func(p *Publisher) { set(p, "c1", spec.Running) },
			` error="no connection" container=c1 containerId=c1`},
		{"a removal", func(p *Publisher) { p.Remove("c1") }, ` error="no connection" containerId=c1`},
		{"the status of the host", func(p *Publisher) { p.SetHost(spec.HostStatus{Count: 2}) },
			" error=\"no connection\"\n"},
	} {
		t.Run(r.name, func(t *testing.T) {
			n := newStore()
			n.fail("all", errDown)
			var log strings.Builder
			p := New(n, slog.New(slog.NewTextHandler(&log, nil)))
			r.put(p)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			p.Run(ctx)
			if !strings.Contains(log.String(), r.want) {
				t.Errorf("log %q", log.String())
			}
		})
	}
}

func TestFailedPublicationDoesNotDelayOthers(t *testing.T) {
	withPublisher(t, func(t *testing.T, p *Publisher, n *store) {
		n.fail("bad", errDown)
		set(p, "bad", spec.Running)
		time.Sleep(time.Minute) // the delay has reached lastRetry
		set(p, "good", spec.Starting)
		expect(t, n, "good STARTING")
		p.SetHost(spec.HostStatus{Count: 2})
		expect(t, n, "good STARTING", "host 2")
		n.fail("bad", nil)
		time.Sleep(lastRetry)
		expect(t, n, "good STARTING", "host 2", "bad RUNNING")
	})
}

func TestFailedStatusIsNotPublishedAfterANewerOne(t *testing.T) {
	withPublisher(t, func(t *testing.T, p *Publisher, n *store) {
		n.fail("all", errDown)
		set(p, "a", spec.Starting)
		synctest.Wait()
		set(p, "a", spec.Running)
		synctest.Wait()
		n.fail("all", nil)
		time.Sleep(time.Minute)
		expect(t, n, "a RUNNING")
	})
}

func TestFailedRemovalIsRetried(t *testing.T) {
	withPublisher(t, func(t *testing.T, p *Publisher, n *store) {
		set(p, "a", spec.Running)
		synctest.Wait()
		n.fail("a", errDown)
		p.Remove("a")
		synctest.Wait()
		n.fail("a", nil)
		time.Sleep(time.Minute)
		expect(t, n, "a RUNNING", "a removed")
		p.mu.Lock()
		defer p.mu.Unlock()
		if len(p.entries) != 0 {
			t.Error("the publisher still has the removed container")
		}
	})
}

func TestStatusReportedDuringARemovalIsPublished(t *testing.T) {
	withPublisher(t, func(t *testing.T, p *Publisher, n *store) {
		set(p, "a", spec.Running)
		synctest.Wait()
		release := n.hold()
		p.Remove("a")
		synctest.Wait()
		set(p, "a", spec.Starting)
		release()
		expect(t, n, "a RUNNING", "a removed", "a STARTING")
	})
}

func TestPruneRemovesUnknownStatusesOfAnEarlierRun(t *testing.T) {
	withPublisher(t, func(t *testing.T, p *Publisher, n *store) {
		for _, id := range []spec.ContainerID{"kept", "reported", "old"} {
			n.has[id] = "RUNNING"
		}
		set(p, "reported", spec.Running)
		if err := p.Prune(t.Context(), func(id spec.ContainerID) bool { return id == "kept" }); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		n.mu.Lock()
		defer n.mu.Unlock()
		if _, old := n.has["old"]; len(n.has) != 2 || old {
			t.Errorf("%v", n.has)
		}
	})
}

func TestPruneRemovesNothingIfTheNSDBCannotBeRead(t *testing.T) {
	withPublisher(t, func(t *testing.T, p *Publisher, n *store) {
		n.has["old"] = "RUNNING"
		n.fail("list", errDown)
		if err := p.Prune(t.Context(), func(spec.ContainerID) bool { return false }); !errors.Is(err, errDown) {
			t.Error(err)
		}
		expect(t, n)
	})
}

func TestLatestStatusesArePublishedWhenTheSupervisorStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newStore()
		p := New(n, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		n.fail("all", errDown)
		set(p, "a", spec.Running)
		var running sync.WaitGroup
		running.Go(func() { p.Run(ctx) })
		synctest.Wait()
		n.fail("all", nil)
		p.mu.Lock() // a status is set and ctx ends before Run continues
		cancel()
		p.setLocked("a", status("a", spec.Stopping))
		p.mu.Unlock()
		running.Wait()
		expect(t, n, "a STOPPING")
	})
}

func TestStopDoesNotWaitForAHungNSDB(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newStore()
		n.hold()
		p := New(n, slog.New(slog.DiscardHandler))
		set(p, "a", spec.Running)
		ctx, cancel := context.WithCancel(t.Context())
		begin := time.Now()
		var running sync.WaitGroup
		running.Go(func() { p.Run(ctx) })
		synctest.Wait()
		cancel()
		running.Wait()
		if took := time.Since(begin); took > writeTimeout {
			t.Errorf("took %v", took)
		}
	})
}

func TestSessionChangeWritesAllStatusesAgainInOrder(t *testing.T) {
	withPublisher(t, func(t *testing.T, p *Publisher, n *store) {
		set(p, "starting", spec.Starting)
		set(p, "running", spec.Running)
		set(p, "removed", spec.Running)
		p.SetHost(spec.HostStatus{Count: 3})
		synctest.Wait()
		p.Remove("removed")
		synctest.Wait()
		n.log = nil
		n.changeSession()
		expect(t, n, "host 3", "running RUNNING", "starting STARTING")
	})
}

func TestSessionChangeDuringAWriteIsNotLost(t *testing.T) {
	withPublisher(t, func(t *testing.T, p *Publisher, n *store) {
		release := n.hold()
		set(p, "a", spec.Running)
		synctest.Wait()
		n.changeSession()
		release()
		expect(t, n, "a RUNNING", "a RUNNING")
	})
}

func TestSessionChangeEndsTheBackoff(t *testing.T) {
	withPublisher(t, func(t *testing.T, p *Publisher, n *store) {
		n.fail("all", errDown)
		set(p, "a", spec.Running)
		time.Sleep(time.Minute) // the delay has reached lastRetry
		synctest.Wait()
		n.fail("all", nil)
		n.changeSession()
		expect(t, n, "a RUNNING")
	})
}

func TestEarlierStatusesAreTakenOverUnchanged(t *testing.T) {
	withPublisher(t, func(t *testing.T, p *Publisher, n *store) {
		n.earlier["unknown"], n.earlier["replaced"], n.earlier["removed"] = "RUNNING # kept", "ERROR", "RUNNING"
		expect(t, n) // nothing is taken over before a status is set
		p.mu.Lock()
		p.setLocked("replaced", status("replaced", spec.Starting))
		p.setLocked("removed", nil)
		p.mu.Unlock()
		synctest.Wait()
		want := map[spec.ContainerID]string{"unknown": "RUNNING # kept", "replaced": "STARTING"}
		if !maps.Equal(n.has, want) || len(n.earlier) > 0 {
			t.Errorf("has %q, and of the earlier session %q", n.has, n.earlier)
		}
		n.changeSession()
		synctest.Wait()
		if !maps.Equal(n.has, want) {
			t.Errorf("has %q after the session has changed", n.has)
		}
		set(p, "unknown", spec.Running)
		p.Remove("replaced")
		synctest.Wait()
		if want := map[spec.ContainerID]string{"unknown": "RUNNING"}; !maps.Equal(n.has, want) {
			t.Errorf("has %q after this process has set them", n.has)
		}
	})
}

func TestFailedTakeOverIsRetried(t *testing.T) {
	withPublisher(t, func(t *testing.T, p *Publisher, n *store) {
		n.earlier["a"] = "RUNNING"
		n.fail("list", errDown)
		p.SetHost(spec.HostStatus{Count: 1})
		p.Remove("b")
		expect(t, n, "host 1", "b removed")
		n.earlier["b"] = "RUNNING" // as if it was listed before its removal
		n.fail("list", nil)
		time.Sleep(afterRetry)
		expect(t, n, "host 1", "b removed", "a RUNNING")
	})
}

func TestPruneRemovesAStatusThatWasTakenOver(t *testing.T) {
	withPublisher(t, func(t *testing.T, p *Publisher, n *store) {
		n.earlier["old"], n.earlier["kept"], n.earlier["lost"] = "RUNNING", "RUNNING", "RUNNING"
		n.fail("all", errDown)
		p.SetHost(spec.HostStatus{Count: 1})
		synctest.Wait()
		delete(n.earlier, "lost") // expired before it was put again
		if err := p.Prune(t.Context(), func(id spec.ContainerID) bool { return id == "kept" }); err != nil {
			t.Fatal(err)
		}
		n.fail("all", nil)
		time.Sleep(lastRetry)
		synctest.Wait()
		if want := map[spec.ContainerID]string{"": "1", "kept": "RUNNING"}; !maps.Equal(n.has, want) ||
			len(n.earlier) > 0 {
			t.Errorf("has %q, and of the earlier session %q", n.has, n.earlier)
		}
	})
}

// MidoNet has no place for the status of a container whose object was deleted.
func TestStatusOfADeletedContainerIsNotRetried(t *testing.T) {
	withPublisher(t, func(t *testing.T, p *Publisher, n *store) {
		n.earlier["earlier"] = "RUNNING"
		n.fail("earlier", ErrNoObject)
		set(p, "written", spec.Running)
		expect(t, n, "written RUNNING")
		n.fail("written", ErrNoObject)
		n.changeSession()
		synctest.Wait()
		calls := n.calls()
		time.Sleep(time.Minute)
		if again := n.calls(); again != calls {
			t.Errorf("%d writes were retried", again-calls)
		}
		n.fail("new", ErrNoObject)
		set(p, "new", spec.Starting) // its object may be created soon
		synctest.Wait()
		n.fail("earlier", nil)
		n.fail("written", nil)
		n.fail("new", nil)
		time.Sleep(afterRetry)
		expect(t, n, "written RUNNING", "new STARTING")
		n.changeSession()
		synctest.Wait()
		want := map[spec.ContainerID]string{"written": "RUNNING", "new": "STARTING"}
		if !maps.Equal(n.has, want) {
			t.Errorf("has %q", n.has)
		}
	})
}

// afterRetry is when the first retry has run. At the same moment as its timer it may not have run yet.
const afterRetry = firstRetry + time.Millisecond

func TestEarlierStatusIsKeptWhileAFileOfTheStoreIsMissing(t *testing.T) {
	withPublisher(t, func(t *testing.T, p *Publisher, n *store) {
		n.earlier["earlier"] = "RUNNING"
		n.fail("earlier", fs.ErrNotExist) // for example the password file
		p.SetHost(spec.HostStatus{Count: 1})
		expect(t, n, "host 1")
		n.fail("earlier", nil)
		time.Sleep(afterRetry)
		expect(t, n, "host 1", "earlier RUNNING")
	})
}

func TestStatusThatCannotBeEncodedDoesNotDelayOthers(t *testing.T) {
	withPublisher(t, func(t *testing.T, p *Publisher, n *store) {
		set(p, "bad", "")
		set(p, "good", spec.Running)
		expect(t, n, "good RUNNING")
	})
}

// Each status that is set tries the failed ones again too. That must not lengthen the time until the next retry.
func TestBackOffIsNotAdvancedByOtherStatuses(t *testing.T) {
	withPublisher(t, func(t *testing.T, p *Publisher, n *store) {
		n.fail("refused", errDown)
		set(p, "refused", spec.Running)
		for i := range 10 {
			set(p, spec.ContainerID(fmt.Sprint(i)), spec.Running)
			synctest.Wait()
		}
		n.fail("refused", nil)
		time.Sleep(afterRetry)
		synctest.Wait()
		if n.has["refused"] != "RUNNING" {
			t.Errorf("not written after %v; the NSDB has %q", afterRetry, n.has)
		}
	})
}
