// Package logs makes the program's loggers: text on stderr, one event a line, a level for each logger.
//
// Loggers have names with dots (`containers`, `containers.ipsec`); one without a level of its own has that of the longest
// prefix that has one. Under journald a line has no time stamp and carries its priority (sd-daemon(3)), so that
// `journalctl -p warning` works. Levels can be changed while the program runs.
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

// Levels says from which level on each logger speaks; "" is all of them.
type Levels struct {
	mu     sync.RWMutex
	first  map[string]slog.Level // as set
	levels map[string]slog.Level // in effect: the overlay over the first
}

const allowed = "debug, info, warn or error, for all or as <logger>=<level>" +
	" (loggers: containers, containers.<type>, containers.<type>.<part>)"

// Parse reads --log-level: `info`, or `containers.ipsec=debug`, each word of a list separated by commas. The last of two
// wins. Loggers and levels are those of the NSDB's settings.
func (l *Levels) Parse(list string) error {
	levels := map[string]slog.Level{"": slog.LevelInfo}
	for word := range strings.SplitSeq(list, ",") {
		logger, name, found := strings.Cut(strings.TrimSpace(word), "=")
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
			return &spec.Fault{Key: "--log-level", Value: word, Allowed: allowed}
		}
		levels[logger] = level
	}
	l.Set(levels)
	return nil
}

// Set replaces all levels, those of an overlay too.
func (l *Levels) Set(levels map[string]slog.Level) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.first, l.levels = maps.Clone(levels), maps.Clone(levels)
}

// Overlay lays levels over those that were set, logger by logger, in place of an earlier overlay: a logger that is in it no
// more has the level again that was set. It returns whether a level changed.
func (l *Levels) Overlay(levels map[string]slog.Level) (changed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	effective := map[string]slog.Level{}
	maps.Copy(effective, l.first)
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

// New makes the logger of the given name. journal says that w is read by journald.
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

// handler adds level and priority to slog's text handler.
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

// priority is syslog's, as sd-daemon(3) wants it in front of a line.
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

// lockedWriter puts the prefix in front of the one line that a Handle writes.
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

// String lists the levels, for the log of a change.
func (l *Levels) String() string {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var words []string
	for _, logger := range slices.Sorted(maps.Keys(l.levels)) {
		words = append(words, strings.TrimPrefix(fmt.Sprintf("%s=%v", logger, l.levels[logger]), "="))
	}
	return strings.Join(words, ",")
}
