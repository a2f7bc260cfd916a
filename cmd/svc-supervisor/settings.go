package main

import (
	"log/slog"
	"slices"
	"strings"
	"sync"
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

	mu     sync.Mutex
	types  func() []spec.ServiceType // those that have a plugin; nil until setTypes
	warned map[string]bool           // the loggers of the last check that do not exist
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
	s.checkLoggers()
	if before := s.interval.Swap(int64(interval)); before != int64(interval) {
		s.log.Info("status interval changed", "from", time.Duration(before), "to", interval)
	}
}

// setTypes sets the function that lists the service types with a plugin. Each of them has a logger.
func (s *settings) setTypes(types func() []spec.ServiceType) {
	s.mu.Lock()
	s.types = types
	s.mu.Unlock()
	s.checkLoggers()
}

// checkLoggers warns once of each logger that has a level and does not exist, in the flag or in a setting.
func (s *settings) checkLoggers() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.types == nil {
		return
	}
	existing := []string{"containers"}
	for _, t := range s.types() {
		existing = append(existing, "containers."+strings.ToLower(string(t)))
	}
	unknown := map[string]bool{}
	for _, logger := range s.levels.Loggers() {
		if slices.Contains(existing, logger) {
			continue
		}
		unknown[logger] = true
		if !s.warned[logger] {
			s.log.Warn("log level of an unknown logger has no effect", "unknown", logger, "loggers", existing)
		}
	}
	s.warned = unknown
}
