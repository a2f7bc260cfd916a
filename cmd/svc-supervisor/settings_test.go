package main

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/logs"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

func TestNSDBSettingsOverrideFlags(t *testing.T) {
	levels := new(logs.Levels)
	if err := levels.Parse("warn,containers.ipsec=debug"); err != nil {
		t.Fatal(err)
	}
	s := newSettings(levels, 30*time.Second, slog.New(slog.DiscardHandler))
	for _, r := range []struct {
		name     string
		settings map[string]string
		levels   string
		interval time.Duration
	}{
		{"none", nil, "WARN,containers.ipsec=DEBUG", 30 * time.Second},
		{
			"all", map[string]string{
				"log-level": "error", "log-level.containers.ipsec": "info", "status-interval": "5s",
			},
			"ERROR,containers.ipsec=INFO", 5 * time.Second,
		},
		{
			"two settings removed", map[string]string{"log-level.containers.ipsec": "info"},
			"WARN,containers.ipsec=INFO", 30 * time.Second,
		},
		{
			"invalid values are ignored", map[string]string{
				"log-level": "loud", "status-interval": "-1s", "other": "x",
			},
			"WARN,containers.ipsec=DEBUG", 30 * time.Second,
		},
		{"none again", map[string]string{}, "WARN,containers.ipsec=DEBUG", 30 * time.Second},
	} {
		s.apply(r.settings)
		if levels.String() != r.levels || s.statusInterval() != r.interval {
			t.Errorf("%s: %s, %v", r.name, levels, s.statusInterval())
		}
	}
}

func TestUnknownLoggerIsWarnedAboutOnce(t *testing.T) {
	levels := new(logs.Levels)
	if err := levels.Parse("info,containers.ipsce=debug,containers.ipsec=debug"); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	s := newSettings(
		levels, time.Second, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn})))
	warned := func() (loggers []string) {
		for line := range strings.Lines(log.String()) {
			_, rest, found := strings.Cut(line, `msg="log level of an unknown logger has no effect" unknown=`)
			if !found || !strings.HasSuffix(rest, "loggers=\"[containers containers.echo containers.ipsec]\"\n") {
				t.Error(line)
			}
			loggers = append(loggers, strings.Fields(rest)[0])
		}
		log.Reset()
		return loggers
	}
	s.apply(map[string]string{"log-level.containers": "debug", "log-level.containers.haproxy": "debug"})
	if got := warned(); got != nil {
		t.Error("before the plugins are known: ", got)
	}
	for _, step := range []struct {
		do   func()
		want []string
	}{
		{
			func() { s.setTypes(func() []spec.ServiceType { return []spec.ServiceType{"ECHO", "IPSEC"} }) },
			[]string{"containers.haproxy", "containers.ipsce"},
		},
		{func() { s.apply(map[string]string{"log-level.containers.haproxy": "info"}) }, nil},
		{func() { s.apply(nil) }, nil},
		{func() { s.apply(map[string]string{"log-level.containers.haproxy": "info"}) }, []string{"containers.haproxy"}},
	} {
		step.do()
		if got := warned(); !slices.Equal(got, step.want) {
			t.Errorf("warned of %v, want %v", got, step.want)
		}
	}
}
