package report

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// nsdb is a fake Publisher that records the statuses that reach it, in order.
type nsdb struct {
	mu     sync.Mutex
	log    []string
	has    map[spec.ContainerID]spec.ContainerStatus
	host   spec.HostStatus
	fails  map[string]error // by target: "host" or a container id; "all" fails every call
	block  chan struct{}    // if not nil, every call waits until the channel is closed
	called int
}

func newNSDB() *nsdb {
	return &nsdb{has: map[spec.ContainerID]spec.ContainerStatus{}, fails: map[string]error{}}
}

var errDown = errors.New("no connection")

// take records a call and applies its change, or returns the scripted error.
func (n *nsdb) take(ctx context.Context, what, text string, change func()) error {
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
	n.log = append(n.log, text)
	change()
	return nil
}

func (n *nsdb) PublishHost(ctx context.Context, s spec.HostStatus) error {
	return n.take(ctx, "host", fmt.Sprint("host ", s.Count), func() { n.host = s })
}

func (n *nsdb) RemoveHost(ctx context.Context) error {
	return n.take(ctx, "host", "host removed", func() { n.host = spec.HostStatus{} })
}

func (n *nsdb) PublishContainer(ctx context.Context, id spec.ContainerID, s spec.ContainerStatus) error {
	return n.take(ctx, string(id), fmt.Sprint(id, " ", s.Code), func() { n.has[id] = s })
}

func (n *nsdb) RemoveContainer(ctx context.Context, id spec.ContainerID) error {
	return n.take(ctx, string(id), fmt.Sprint(id, " removed"), func() { delete(n.has, id) })
}

func (n *nsdb) Published(context.Context) ([]spec.ContainerID, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var ids []spec.ContainerID
	for id := range n.has {
		ids = append(ids, id)
	}
	return ids, n.fails["published"]
}

func (n *nsdb) fail(what string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fails[what] = err
}

// hold makes every call wait until the returned function is called.
func (n *nsdb) hold() (release func()) {
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

func (n *nsdb) requests() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.log)
}

func (n *nsdb) calls() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.called
}

// onBoard runs a test with a board and a fake NSDB, in a synctest bubble.
func onBoard(t *testing.T, test func(t *testing.T, b *Board, n *nsdb)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := newNSDB()
		b := NewBoard(n, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { b.Run(ctx) })
		test(t, b, n)
		cancel()
		running.Wait()
	})
}

func of(id string) spec.Container {
	return spec.Container{HostID: "host", InterfaceName: spec.Name(id), ContainerID: spec.ContainerID(id)}
}

func expect(t *testing.T, n *nsdb, want ...string) {
	t.Helper()
	synctest.Wait()
	if got := n.requests(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestWithdrawnHostStatusIsNotPublishedAgain(t *testing.T) {
	onBoard(t, func(t *testing.T, b *Board, n *nsdb) {
		b.Host(spec.HostStatus{Count: 1})
		expect(t, n, "host 1")
		n.fail("host", errDown)
		short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := b.Withdraw(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Withdraw without an answer of the NSDB: %v", err)
		}
		n.fail("host", nil)
		for range 2 {
			if err := b.Withdraw(t.Context()); err != nil {
				t.Error(err)
			}
		}
		b.Host(spec.HostStatus{Count: 0})
		b.Stopping(of("a"))
		expect(t, n, "host 1", "host removed", "a STOPPING")
	})
}

func TestWithdrawTakesEffectAfterAPublicationInProgress(t *testing.T) {
	onBoard(t, func(t *testing.T, b *Board, n *nsdb) {
		release := n.hold()
		b.Host(spec.HostStatus{Count: 1})
		synctest.Wait()
		withdrawn := make(chan error, 1)
		go func() { withdrawn <- b.Withdraw(t.Context()) }()
		synctest.Wait()
		release()
		if err := <-withdrawn; err != nil {
			t.Error(err)
		}
		expect(t, n, "host 1", "host removed")
	})
}

func TestStatusesArePublishedInOrder(t *testing.T) {
	onBoard(t, func(t *testing.T, b *Board, n *nsdb) {
		for _, report := range []func(){
			func() { b.Starting(of("a")) },
			func() { b.Running(of("a"), nil) },
			func() { b.Stopping(of("a")) },
			func() { b.Remove("a") },
		} {
			report()
			synctest.Wait()
		}
		expect(t, n, "a STARTING", "a RUNNING", "a STOPPING", "a removed")
	})
}

func TestUnchangedStatusIsNotPublishedAgain(t *testing.T) {
	onBoard(t, func(t *testing.T, b *Board, n *nsdb) {
		for range 3 {
			b.Host(spec.HostStatus{Count: 1})
			synctest.Wait()
			b.Running(of("a"), &spec.Health{Code: spec.Running})
			b.Running(of("a"), nil)
			synctest.Wait()
		}
		expect(t, n, "host 1", "a RUNNING")
	})
}

func TestOnlyTheLatestOfManyStatusesIsPublished(t *testing.T) {
	onBoard(t, func(t *testing.T, b *Board, n *nsdb) {
		release := n.hold()
		b.Starting(of("a"))
		synctest.Wait() // the call with STARTING waits
		for i := range 100 {
			b.Failing(of("a"), Problem{Reason: fmt.Sprint(i)})
			b.Host(spec.HostStatus{Count: i})
		}
		b.Running(of("a"), nil)
		release()
		expect(t, n, "a STARTING", "host 99", "a RUNNING")
	})
}

func TestReportsDoNotWaitForAHungNSDB(t *testing.T) {
	onBoard(t, func(t *testing.T, b *Board, n *nsdb) {
		release := n.hold()
		begin := time.Now()
		for range 1000 {
			b.Starting(of("a"))
			b.Running(of("a"), nil)
			b.Host(spec.HostStatus{})
			b.Remove("b")
			b.Status("a")
		}
		if time.Since(begin) != 0 {
			t.Errorf("waited %v", time.Since(begin))
		}
		release()
	})
}

func TestFailedPublicationIsRetriedWithGrowingDelay(t *testing.T) {
	onBoard(t, func(t *testing.T, b *Board, n *nsdb) {
		n.fail("all", errDown)
		b.Running(of("a"), nil)
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
		b.Stopping(of("a"))
		synctest.Wait()
		n.fail("all", nil)
		time.Sleep(firstRetry) // the delay starts again at firstRetry
		expect(t, n, "a RUNNING", "a STOPPING")
	})
}

func TestOutageIsLoggedAsOneError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNSDB()
		n.fail("all", errDown)
		var log strings.Builder
		b := NewBoard(n, slog.New(slog.NewTextHandler(&log, nil)))
		for i := range 100 {
			b.Running(of(fmt.Sprint("c", i)), nil)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { b.Run(ctx) })
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
		put  func(*Board)
		want string
	}{
		{"a status", func(b *Board) { b.Running(of("c1"), nil) }, ` error="no connection" container=c1 containerId=c1`},
		{"a removal", func(b *Board) { b.Remove("c1") }, ` error="no connection" containerId=c1`},
		{"the status of the host", func(b *Board) { b.Host(spec.HostStatus{Count: 2}) }, " error=\"no connection\"\n"},
	} {
		t.Run(r.name, func(t *testing.T) {
			n := newNSDB()
			n.fail("all", errDown)
			var log strings.Builder
			b := NewBoard(n, slog.New(slog.NewTextHandler(&log, nil)))
			r.put(b)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			b.Run(ctx)
			if !strings.Contains(log.String(), r.want) {
				t.Errorf("log %q", log.String())
			}
		})
	}
}

func TestFailedPublicationDoesNotDelayOthers(t *testing.T) {
	onBoard(t, func(t *testing.T, b *Board, n *nsdb) {
		n.fail("bad", errDown)
		b.Running(of("bad"), nil)
		time.Sleep(time.Minute) // the delay has reached lastRetry
		b.Starting(of("good"))
		expect(t, n, "good STARTING")
		b.Host(spec.HostStatus{Count: 2})
		expect(t, n, "good STARTING", "host 2")
		n.fail("bad", nil)
		time.Sleep(lastRetry)
		expect(t, n, "good STARTING", "host 2", "bad RUNNING")
	})
}

func TestFailedStatusIsNotPublishedAfterANewerOne(t *testing.T) {
	onBoard(t, func(t *testing.T, b *Board, n *nsdb) {
		n.fail("all", errDown)
		b.Starting(of("a"))
		synctest.Wait()
		b.Running(of("a"), nil)
		synctest.Wait()
		n.fail("all", nil)
		time.Sleep(time.Minute)
		expect(t, n, "a RUNNING")
	})
}

func TestFailedRemovalIsRetried(t *testing.T) {
	onBoard(t, func(t *testing.T, b *Board, n *nsdb) {
		b.Running(of("a"), nil)
		synctest.Wait()
		n.fail("a", errDown)
		b.Remove("a")
		synctest.Wait()
		n.fail("a", nil)
		time.Sleep(time.Minute)
		expect(t, n, "a RUNNING", "a removed")
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(b.containers) != 0 {
			t.Error("the board still has the removed container")
		}
	})
}

func TestStatusReportedDuringARemovalIsPublished(t *testing.T) {
	onBoard(t, func(t *testing.T, b *Board, n *nsdb) {
		b.Running(of("a"), nil)
		synctest.Wait()
		release := n.hold()
		b.Remove("a")
		synctest.Wait()
		b.Starting(of("a"))
		release()
		expect(t, n, "a RUNNING", "a removed", "a STARTING")
	})
}

func TestPruneRemovesUnknownStatusesOfAnEarlierRun(t *testing.T) {
	onBoard(t, func(t *testing.T, b *Board, n *nsdb) {
		for _, id := range []spec.ContainerID{"kept", "reported", "old"} {
			n.has[id] = spec.ContainerStatus{}
		}
		b.Running(of("reported"), nil)
		if err := b.Prune(t.Context(), func(id spec.ContainerID) bool { return id == "kept" }); err != nil {
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
	onBoard(t, func(t *testing.T, b *Board, n *nsdb) {
		n.has["old"] = spec.ContainerStatus{}
		n.fail("published", errDown)
		if err := b.Prune(t.Context(), func(spec.ContainerID) bool { return false }); !errors.Is(err, errDown) {
			t.Error(err)
		}
		expect(t, n)
	})
}

func TestLatestStatusesArePublishedWhenTheSupervisorStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNSDB()
		b := NewBoard(n, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		n.fail("all", errDown)
		b.Running(of("a"), nil)
		var running sync.WaitGroup
		running.Go(func() { b.Run(ctx) })
		synctest.Wait()
		n.fail("all", nil)
		b.mu.Lock() // a status is reported and ctx ends before Run continues
		cancel()
		b.containers["a"].status = &spec.ContainerStatus{Code: spec.Stopping}
		b.mu.Unlock()
		running.Wait()
		expect(t, n, "a STOPPING")
	})
}

func TestStopDoesNotWaitForAHungNSDB(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNSDB()
		n.hold()
		b := NewBoard(n, slog.New(slog.DiscardHandler))
		b.Running(of("a"), nil)
		ctx, cancel := context.WithCancel(t.Context())
		begin := time.Now()
		var running sync.WaitGroup
		running.Go(func() { b.Run(ctx) })
		synctest.Wait()
		cancel()
		running.Wait()
		if took := time.Since(begin); took > publishTimeout {
			t.Errorf("took %v", took)
		}
	})
}
