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

// settings are the options that the NSDB can change while the supervisor runs. A setting of the NSDB takes precedence
// over the flag. When it is removed, the value of the flag applies again.
type settings struct {
	log      *slog.Logger
	levels   *logs.Levels
	flag     time.Duration // --status-interval
	interval atomic.Int64  // a time.Duration, the one in effect

	mu     sync.Mutex
	types  func() []spec.ServiceType // lists the types that have a plugin; nil until setTypes
	warned map[string]bool           // unknown loggers that the last check found
}

// newSettings returns settings with the values of the flags. levels already contains those of --log-level.
func newSettings(levels *logs.Levels, statusInterval time.Duration, log *slog.Logger) *settings {
	s := &settings{log: log, levels: levels, flag: statusInterval}
	s.interval.Store(int64(statusInterval))
	return s
}

func (s *settings) statusInterval() time.Duration { return time.Duration(s.interval.Load()) }

// apply puts the settings of the NSDB into effect. The values were checked when they were read, so an invalid value is
// ignored here. Calls must not be concurrent.
func (s *settings) apply(fromNSDB map[string]string) {
	overlay := map[string]slog.Level{}
	interval := s.flag
	for key, value := range fromNSDB {
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

// setTypes sets the function that lists the service types with a plugin, and checks the loggers. Each of these types
// has a logger.
func (s *settings) setTypes(types func() []spec.ServiceType) {
	s.mu.Lock()
	s.types = types
	s.mu.Unlock()
	s.checkLoggers()
}

// checkLoggers logs a warning for each logger that has a level, by the flag or by a setting, but does not exist. It
// repeats the warning only after the level was removed and set again.
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
