// Package logs makes the loggers of the program. They write text to stderr, one line per event, and each logger has a
// level.
//
// Names of loggers are hierarchical, with dots (`containers`, `containers.ipsec`). A logger without a level of its own
// has the level of the longest prefix with a level. Under journald a line has no time stamp but a priority prefix
// (sd-daemon(3)), so that `journalctl -p warning` works. Levels can be changed while the program runs.
package logs

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Levels has the minimum level of each logger. The key "" is the level of all loggers without a level of their own. It
// is safe for concurrent use.
type Levels struct {
	mu     sync.RWMutex
	base   map[string]slog.Level // set by Set
	levels map[string]slog.Level // in effect: base with the overlay
}

const allowed = "debug, info, warn or error, for all or as <logger>=<level>" +
	" (loggers: containers, containers.<type>, containers.<type>.<part>)"

// Parse parses the value of --log-level and sets the levels. The value is a list separated by commas, with elements
// like `info` and `containers.ipsec=debug`. If there are several levels for one logger, the last one applies. The names
// of loggers and levels are the same as in the settings of the NSDB. If Parse returns an error, no level has changed.
func (l *Levels) Parse(list string) error {
	levels := map[string]slog.Level{"": slog.LevelInfo}
	for element := range strings.SplitSeq(list, ",") {
		logger, name, found := strings.Cut(strings.TrimSpace(element), "=")
		if !found {
			logger, name = "", logger
		}
		if name == "" && !found {
			continue
		}
		setting := spec.SettingLogLevel
		if found {
			setting += "." + logger
		}
		_, err := spec.ParseSetting(setting, name)
		var level slog.Level
		if err != nil || level.UnmarshalText([]byte(name)) != nil {
			return &spec.Fault{Key: "--log-level", Value: element, Allowed: allowed}
		}
		levels[logger] = level
	}
	l.Set(levels)
	return nil
}

// Set replaces all levels, including the overlay.
func (l *Levels) Set(levels map[string]slog.Level) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.base, l.levels = maps.Clone(levels), maps.Clone(levels)
}

// Overlay sets levels that take precedence over those of Set, per logger. It replaces the previous overlay: a logger
// that is no longer in the overlay gets the level of Set again. Overlay reports whether any level changed.
func (l *Levels) Overlay(levels map[string]slog.Level) (changed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	effective := map[string]slog.Level{}
	maps.Copy(effective, l.base)
	maps.Copy(effective, levels)
	changed = !maps.Equal(effective, l.levels)
	l.levels = effective
	return changed
}

// Loggers lists the loggers that have a level of their own, sorted.
func (l *Levels) Loggers() []string {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return slices.DeleteFunc(slices.Sorted(maps.Keys(l.levels)), func(logger string) bool { return logger == "" })
}

// of returns the level of a logger: its own, or that of its longest prefix with a level.
func (l *Levels) of(logger string) slog.Level {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for {
		if level, ok := l.levels[logger]; ok {
			return level
		}
		dot := strings.LastIndexByte(logger, '.')
		if dot < 0 {
			return l.levels[""]
		}
		logger = logger[:dot]
	}
}

// New makes the logger with the given name. journal means that journald reads w.
func New(w io.Writer, journal bool, levels *Levels, name string) *slog.Logger {
	h := &handler{levels: levels, name: name, journal: journal, out: &lockedWriter{w: w}}
	h.text = slog.NewTextHandler(h.out, &slog.HandlerOptions{
		Level: slog.LevelDebug,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if journal && len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	})
	return slog.New(h).With("logger", name)
}

// handler adds the levels, and the priority for journald, to the text handler of slog.
type handler struct {
	levels  *Levels
	name    string
	journal bool
	out     *lockedWriter
	text    slog.Handler
}

func (h *handler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.levels.of(h.name)
}

func (h *handler) Handle(ctx context.Context, record slog.Record) error {
	if h.journal {
		h.out.mu.Lock()
		defer h.out.mu.Unlock()
		h.out.prefix = priority(record.Level)
	}
	return h.text.Handle(ctx, record)
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	copied := *h
	copied.text = h.text.WithAttrs(attrs)
	return &copied
}

func (h *handler) WithGroup(name string) slog.Handler {
	copied := *h
	copied.text = h.text.WithGroup(name)
	return &copied
}

// priority returns the prefix of a log line with the syslog priority, in the form of sd-daemon(3).
func priority(level slog.Level) string {
	switch {
	case level >= slog.LevelError:
		return "<3>"
	case level >= slog.LevelWarn:
		return "<4>"
	case level >= slog.LevelInfo:
		return "<6>"
	default:
		return "<7>"
	}
}

// lockedWriter writes the prefix before each line. Handle sets the prefix while it holds mu, and slog's text handler
// calls Write once per line.
type lockedWriter struct {
	mu     sync.Mutex
	prefix string
	w      io.Writer
}

func (l *lockedWriter) Write(line []byte) (int, error) {
	if l.prefix == "" {
		return l.w.Write(line)
	}
	n, err := l.w.Write(append([]byte(l.prefix), line...))
	return max(0, n-len(l.prefix)), err
}

// String returns the levels in effect, sorted by logger, in a form like that of --log-level.
func (l *Levels) String() string {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var elements []string
	for _, logger := range slices.Sorted(maps.Keys(l.levels)) {
		elements = append(elements, strings.TrimPrefix(fmt.Sprintf("%s=%v", logger, l.levels[logger]), "="))
	}
	return strings.Join(elements, ",")
}
