package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Masterminds/semver/v3"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/plugin"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/reconcile"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// source returns fixed values.
type source struct {
	rows    []reconcile.Row
	host    reconcile.HostRow
	backlog reconcile.Backlog
}

func (s source) Rows() []reconcile.Row      { return s.rows }
func (s source) HostRow() reconcile.HostRow { return s.host }
func (s source) Backlog() reconcile.Backlog { return s.backlog }

type plugins struct{}

func (plugins) List() ([]plugin.Executable, []plugin.Refusal) {
	version := semver.MustParse("0.2.0")
	return []plugin.Executable{
		{Found: "/p/svc-ipsec", Type: "IPSEC", Version: version},
		{Found: "/p/old", Type: "IPSEC", Version: version, Unready: "no pluto"},
		{Found: "/p/svc-ipsec", Type: "IPSEC", Version: version}, // of a directory that is on the path twice
	}, []plugin.Refusal{{Found: "/p/README", Reason: "not executable"}, {Found: "/p/\xff", Reason: "not executable"}}
}

func sample() source {
	limit := 100
	down := func(reason string) spec.Connection { return spec.Connection{Status: spec.Down, Reason: reason} }
	return source{
		rows: []reconcile.Row{
			{Name: "vpn-1", Type: "IPSEC", Status: reconcile.RowRunning, Restarts: 3, RestartsKnown: true,
				Health: &spec.Health{
					Connections: []spec.Connection{
						{Status: spec.Active, Pairs: []spec.Pair{
							{BytesIn: 100, BytesOut: 20}, {BytesIn: 1, BytesOut: 2},
						}},
						down("peer 192.0.2.2 rejected our proposal: NO_PROPOSAL_CHOSEN"),
						down("no answer from 192.0.2.2"),
						down(""),
						{Status: spec.Down, Disabled: true, Reason: "administratively down"},
					},
				}},
			{Name: "vpn-2", Type: "IPSEC", Status: reconcile.RowHeld, Reason: "WEIGHT_ZERO"},
			{Name: "vpn-2", Type: "IPSEC", Status: reconcile.RowHeld, Reason: "name vpn-2 is taken by port p"},
			{Status: reconcile.RowUnknown, Reason: "bindings/h/p: is not YAML"},
		},
		host:    reconcile.HostRow{ID: "h", Limit: &limit, HostStatus: spec.HostStatus{Weight: 1, Quota: 98, Count: 2}},
		backlog: reconcile.Backlog{Queued: 4, Busy: 2, OldestNotRunning: 90 * time.Second},
	}
}

// TestMetricsHaveTheValuesOfTheSource compares the output with testdata/metrics.txt, and requires that Prometheus'
// linter finds nothing.
func TestMetricsHaveTheValuesOfTheSource(t *testing.T) {
	m := New()
	m.ObserveVerb("IPSEC", spec.Add, 300*time.Millisecond, nil)
	m.ObserveVerb("IPSEC", spec.Add, 30*time.Second, &plugin.NoAnswer{Reason: "deadline of 30s"})
	m.ObserveVerb("IPSEC", spec.Check, time.Second, fmt.Errorf("wrapped: %w", errors.New("broken")))
	handler := m.Handler("0.2.0", sample(), plugins{})
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if recorder.Code != http.StatusOK {
		t.Fatal(recorder.Code, recorder.Body)
	}
	var ours strings.Builder
	for line := range strings.Lines(recorder.Body.String()) {
		if strings.Contains(line, "svc_") && !strings.Contains(line, "_bucket{") {
			ours.WriteString(line)
		}
	}
	const golden = "testdata/metrics.txt"
	if os.Getenv("UPDATE") == "1" {
		if err := os.WriteFile(golden, []byte(ours.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil || string(want) != ours.String() {
		t.Errorf("%v, not as in %s:\n%s", err, golden, ours.String())
	}
	problems, err := testutil.GatherAndLint(m.registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v: %v", problems, err)
	}
	if !strings.Contains(recorder.Body.String(), "\nprocess_resident_memory_bytes ") {
		t.Error("no metrics of the process")
	}
}

// TestReasonsOfPeersCreateFewTimeSeries has more error names than the limit.
func TestReasonsOfPeersCreateFewTimeSeries(t *testing.T) {
	s := sample()
	for i := range 3 * causeLimit {
		s.rows[0].Health.Connections = append(s.rows[0].Health.Connections,
			spec.Connection{Status: spec.Down, Reason: fmt.Sprintf("the peer sent EVIL_%d", i)},
			spec.Connection{Status: spec.Down, Reason: "the peer sent EVIL_" + strings.Repeat("X", 1000)})
	}
	c := &collector{source: s, plugins: plugins{}, causes: map[string]bool{}}
	for range 2 {
		causes, total := map[string]bool{}, 0.0
		for key, n := range c.countConnections(s.rows) {
			causes[key.cause] = true
			total += n
		}
		if len(causes) > causeLimit+2 || total != float64(len(s.rows[0].Health.Connections)) {
			t.Errorf("%d causes of %v connections", len(causes), total)
		}
	}
}

// TestServeWaitsForAnAddressInUse occupies the address first.
func TestServeWaitsForAnAddressInUse(t *testing.T) {
	occupied, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := occupied.Addr().String()
	var logged strings.Builder
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			Serve(ctx, address, http.NotFoundHandler(), slog.New(slog.NewTextHandler(&logged, nil)))
			close(done)
		}()
		time.Sleep(3 * retryInterval) // three attempts, one line
		stop()
		<-done
	})
	if n := strings.Count(logged.String(), "address already in use"); n != 1 {
		t.Errorf("%d lines: %s", n, logged.String())
	}
	occupied.Close()

	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		Serve(ctx, address, New().Handler("0.2.0", sample(), plugins{}), slog.New(slog.DiscardHandler))
		close(done)
	}()
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		response, err := http.Get("http://" + address + "/metrics")
		if err == nil {
			body, err := io.ReadAll(response.Body)
			response.Body.Close()
			if err != nil || !strings.Contains(string(body), `svc_supervisor_info{version="0.2.0"} 1`) {
				t.Errorf("%v: %s", err, body)
			}
			break
		}
		if time.Since(began) > time.Minute {
			t.Fatal(err)
		}
	}
	stop()
	<-done
}
