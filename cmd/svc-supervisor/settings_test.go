package main

import (
	"log/slog"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/logs"
)

func TestTheNSDBsSettingsStandOverTheFlags(t *testing.T) {
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
		{"all", map[string]string{"log-level": "error", "log-level.containers.ipsec": "info", "status-interval": "5s"}, "ERROR,containers.ipsec=INFO", 5 * time.Second},
		{"one less", map[string]string{"log-level.containers.ipsec": "info"}, "WARN,containers.ipsec=INFO", 30 * time.Second},
		{"what no kind of NSDB hands over", map[string]string{"log-level": "loud", "status-interval": "-1s", "other": "x"}, "WARN,containers.ipsec=DEBUG", 30 * time.Second},
		{"none again", map[string]string{}, "WARN,containers.ipsec=DEBUG", 30 * time.Second},
	} {
		s.follow(r.settings)
		if levels.String() != r.levels || s.statusInterval() != r.interval {
			t.Errorf("%s: %s, %v", r.name, levels, s.statusInterval())
		}
	}
}
