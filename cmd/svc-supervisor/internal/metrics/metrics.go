// Package metrics exports the state of the supervisor in the text format of Prometheus. docs/metrics.md lists the
// metrics.
package metrics

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/plugin"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Metrics holds the metrics that are counted when something happens. All others are read at each scrape.
type Metrics struct {
	registry *prometheus.Registry
	verbs    *prometheus.HistogramVec
}

// New returns Metrics without observations.
func New() *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		verbs: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "svc_verb_duration_seconds",
			Help:    "Duration of ADD, CHECK, DEL and GC, by service type, verb and outcome.",
			Buckets: []float64{.025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 150},
		}, []string{"type", "verb", "outcome"}),
	}
	m.registry.MustRegister(m.verbs, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// ObserveVerb counts a verb that has ended. The outcome is `ok`, `error` if the plugin answered with an error object,
// and `no answer` if it did not start, was killed, or printed no answer.
func (m *Metrics) ObserveVerb(t spec.ServiceType, verb spec.Verb, duration time.Duration, err error) {
	outcome := "ok"
	var noAnswer *plugin.NoAnswer
	switch {
	case errors.As(err, &noAnswer):
		outcome = "no answer"
	case err != nil:
		outcome = "error"
	}
	m.verbs.WithLabelValues(string(t), string(verb), outcome).Observe(duration.Seconds())
}

// retryInterval is the time between two attempts to listen.
const retryInterval = 30 * time.Second

// Serve serves GET /metrics at a TCP address until ctx ends. The containers are more important than the metrics:
// therefore an address that is in use is logged, and retried every 30 s, and does not stop the supervisor.
func Serve(ctx context.Context, address string, handler http.Handler, log *slog.Logger) {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", handler)
	server := &http.Server{Handler: mux, ReadTimeout: 10 * time.Second, WriteTimeout: time.Minute}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	for logged := false; ctx.Err() == nil; {
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
		if err == nil {
			log.Info("metrics served", "address", listener.Addr())
			err = server.Serve(listener)
		}
		if ctx.Err() == nil && !logged {
			logged = true
			log.Error("metrics not served", "address", address, "error", err, "retry", retryInterval)
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryInterval):
		}
	}
}

// Handler returns the handler of GET /metrics, which reads source and plugins at each request. It must be called once.
func (m *Metrics) Handler(version string, source Source, plugins Plugins) http.Handler {
	m.registry.MustRegister(&collector{version: version, source: source, plugins: plugins, causes: map[string]bool{}})
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}
