package main

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/logs"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/metrics"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/observe"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/plugin"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/reconcile"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/report"
	"github.com/svc-supervisor/svc-supervisor/pkg/netns"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/statedir"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

// fakeNSDB is an NSDB without objects. Run returns err at once if it is not nil, and at the end of ctx otherwise.
type fakeNSDB struct{ err error }

func (n fakeNSDB) Run(ctx context.Context, _ func(spec.Desired)) error {
	if n.err == nil {
		<-ctx.Done()
	}
	return n.err
}
func (fakeNSDB) EncodeHost(spec.HostStatus) ([]byte, error)                { return nil, nil }
func (fakeNSDB) EncodeContainer(spec.ContainerStatus) ([]byte, error)      { return nil, nil }
func (fakeNSDB) PutStatus(context.Context, spec.ContainerID, []byte) error { return nil }
func (fakeNSDB) DeleteStatus(context.Context, spec.ContainerID) error      { return nil }
func (fakeNSDB) SessionChanged() <-chan struct{}                           { return nil }
func (fakeNSDB) ListStatuses(context.Context) (map[spec.ContainerID][]byte, error) {
	return nil, nil
}
func (fakeNSDB) Close() error { return nil }

// An empty host: the test must not see the namespaces, links and units of the host that it runs on.
type (
	noNamespaces struct{ reconcile.Namespaces }
	noLinks      struct{ reconcile.Links }
	noUnits      struct{ reconcile.Units }
)

func (noNamespaces) Observe(name spec.Name) (netns.Namespace, error) {
	return netns.Namespace{Name: name, State: netns.Absent}, nil
}
func (noNamespaces) List() ([]netns.Namespace, error)                          { return nil, nil }
func (noNamespaces) ReleaseUnused(context.Context, func(spec.Name) bool) error { return nil }
func (noLinks) Observe(name spec.Name) (netns.Link, error) {
	return netns.Link{Name: name, State: netns.Absent}, nil
}
func (noLinks) List() ([]netns.Link, error)                          { return nil, nil }
func (noUnits) List(context.Context, ...string) ([]unit.Unit, error) { return nil, nil }
func (noUnits) ShuttingDown(context.Context) (bool, error)           { return false, nil }

// emptySupervisor returns a supervisor without executables, with one record in the given phase.
func emptySupervisor(t *testing.T, handler slog.Handler, nsdb fakeNSDB, phase statedir.Phase) *supervisor {
	t.Helper()
	log := slog.New(handler)
	records, err := statedir.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	inventory, err := plugin.NewInventory(nil, time.Second, log)
	if err != nil {
		t.Fatal(err)
	}
	s := &supervisor{
		log: log, records: records, inventory: inventory, bus: unit.Open(), nsdb: nsdb, runDir: t.TempDir(),
		rescan: time.Minute, resyncInterval: time.Minute, settings: newSettings(new(logs.Levels), time.Minute, log),
		metrics: metrics.New(),
	}
	t.Cleanup(s.close)
	s.statuses = report.New(s.nsdb, log)
	observer := observe.New("b", records, noNamespaces{}, noLinks{}, noUnits{}, inventory)
	s.reconciler = reconcile.New(reconcile.Settings{
		BootID: "b", Parallel: 4, VerbDeadline: time.Second, CheckInterval: time.Minute, Grace: time.Second,
	}, observer, records, noNamespaces{}, noLinks{}, noUnits{}, &s.events, inventory, s.statuses, log,
		func(spec.ServiceType) *slog.Logger { return log })
	container := spec.Container{
		PortID: "p", HostID: "h", InterfaceName: "no-such-name", ContainerID: "c",
		ServiceType: "T", GroupID: "g", ConfigurationID: "k",
	}
	if err := records.Write(&statedir.Record{Phase: phase, BootID: "b", Container: container}); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestWaitingDrainLogsItsContainers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		s := emptySupervisor(t, slog.NewTextHandler(&log, nil), fakeNSDB{}, statedir.Deleting)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
		defer cancel()
		var working sync.WaitGroup
		working.Go(func() { s.reconciler.Run(ctx) })
		s.drain(ctx)
		working.Wait()
		want := `msg="stop waits for containers" containers="[no-such-name: no executable serves type T]"`
		if got := strings.Count(log.String(), want); got != 2 {
			t.Errorf("logged %d times in 100 s, want 2:\n%s", got, log.String())
		}
	})
}

func TestContainersAreRemovedOnlyAtARequestedStop(t *testing.T) {
	broken := errors.New("broken for good")
	for _, r := range []struct {
		name           string
		stopContainers bool
		requested      bool
		nsdb           error
		stays          bool
		want           error
	}{
		{"a requested stop with --stop-containers", true, true, nil, false, nil},
		{"a requested stop without --stop-containers", false, true, nil, true, nil},
		{"a stop because of an error, with --stop-containers", true, false, broken, true, broken},
	} {
		t.Run(r.name, func(t *testing.T) {
			// A drain removes a record in phase `deleted` without an executable.
			s := emptySupervisor(t, slog.DiscardHandler, fakeNSDB{r.nsdb}, statedir.Deleted)
			s.stopContainers = r.stopContainers
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if r.requested {
				cancel()
			}
			if err := s.run(ctx); !errors.Is(err, r.want) {
				t.Errorf("run: %v", err)
			}
			if stays := len(s.records.Names()) == 1; stays != r.stays {
				t.Errorf("the record stays: %v", stays)
			}
		})
	}
}
