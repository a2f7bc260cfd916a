package main

import (
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/logs"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// settings are those that the NSDB may change while the supervisor runs: its settings over the flags. One that goes away
// gives its place back to the flag's.
type settings struct {
	log      *slog.Logger
	levels   *logs.Levels
	flag     time.Duration // --status-interval
	interval atomic.Int64  // a time.Duration, the one in effect
}

// newSettings begins with the flags: levels holds theirs already.
func newSettings(levels *logs.Levels, statusInterval time.Duration, log *slog.Logger) *settings {
	s := &settings{log: log, levels: levels, flag: statusInterval}
	s.interval.Store(int64(statusInterval))
	return s
}

func (s *settings) statusInterval() time.Duration { return time.Duration(s.interval.Load()) }

// follow puts the NSDB's settings in effect. Their values were checked where they were read; one that is none all the same
// is left out. It is called by one goroutine.
func (s *settings) follow(wanted map[string]string) {
	overlay := map[string]slog.Level{}
	interval := s.flag
	for key, value := range wanted {
		if key == spec.SettingStatusInterval {
			if d, err := time.ParseDuration(value); err == nil && d > 0 {
				interval = d
			}
			continue
		}
		logger, ofLevel := strings.CutPrefix(key, spec.SettingLogLevel)
		var level slog.Level
		if ofLevel && level.UnmarshalText([]byte(value)) == nil {
			overlay[strings.TrimPrefix(logger, ".")] = level
		}
	}
	if s.levels.Overlay(overlay) {
		s.log.Info("log levels changed", "levels", s.levels.String())
	}
	if before := s.interval.Swap(int64(interval)); before != int64(interval) {
		s.log.Info("status interval changed", "from", time.Duration(before), "to", interval)
	}
}
