package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/observe"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/report"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// instance is one run of a supervisor in the world. It ends by stop, by kill or after a number of side effects.
type instance struct {
	w         *world
	r         *Reconciler
	publisher *report.StatusPublisher
	cancel    context.CancelFunc
	end       sync.WaitGroup
	left      int // number of side effects before it dies; negative: no limit
	dead      bool

	subscriptions map[spec.Name]func() // the subscriptions, which end with the instance
}

var errDead = errors.New("the supervisor is dead")

var settings = Settings{
	Parallel: 8, VerbDeadline: 30 * time.Second, CheckInterval: time.Minute, Grace: 30 * time.Second,
}

// start starts a supervisor and gives it the current desired state.
func (w *world) start(change ...func(*Settings)) *instance {
	w.t.Helper()
	l := w.startWithoutDesired(change...)
	w.sendDesired()
	return l
}

// startWithoutDesired starts a supervisor that has not read the NSDB yet.
func (w *world) startWithoutDesired(change ...func(*Settings)) *instance {
	w.t.Helper()
	s := settings
	s.BootID = w.boot
	for _, c := range change {
		c(&s)
	}
	l := &instance{w: w, left: -1, subscriptions: map[spec.Name]func(){}}
	log := slog.New(logRecorder{slog.NewTextHandler(w.t.Output(), nil), w})
	l.publisher = report.New(l, log)
	observer := observe.New(s.BootID, records{l}, namespaces{l}, links{l}, units{l}, executables{l})
	l.r = New(s, observer, records{l}, namespaces{l}, links{l}, units{l}, kernelEvents{l}, executables{l},
		reporter{l}, log, func(spec.ServiceType) *slog.Logger { return log })
	if err := l.r.LoadRecords(); err != nil {
		w.t.Fatal(err)
	}
	var ctx context.Context
	ctx, l.cancel = context.WithCancel(context.Background())
	l.end.Go(func() { l.r.Run(ctx) })
	l.end.Go(func() {
		for ctx.Err() == nil { // as cmd/svc-supervisor does
			_ = l.r.FindLeftovers(ctx)
			select {
			case <-ctx.Done():
			case <-time.After(30 * time.Second):
				l.r.CollectGarbage(ctx)
				l.r.MarkHeld(ctx)
			}
		}
	})
	w.current = l
	return l
}

// logRecorder prints warnings. It records log lines about connections, deletions and holds as message and attributes in
// order.
type logRecorder struct {
	slog.Handler
	w *world
}

func (j logRecorder) Handle(ctx context.Context, record slog.Record) error {
	line := record.Message
	record.Attrs(func(a slog.Attr) bool {
		line += fmt.Sprintf(" %s=%v", a.Key, a.Value)
		return true
	})
	j.w.mu.Lock()
	switch {
	case strings.HasPrefix(line, "connection ") || strings.HasPrefix(line, "delete "):
		j.w.logged = append(j.w.logged, line)
		if record.Level == slog.LevelWarn {
			j.w.warned = append(j.w.warned, line)
		}
	case strings.HasPrefix(line, "container held "):
		j.w.holds = append(j.w.holds, line)
	}
	j.w.mu.Unlock()
	if record.Level < slog.LevelWarn {
		return nil
	}
	return j.Handler.Handle(ctx, record)
}

// stop stops the instance in the regular way.
func (l *instance) stop() {
	l.cancel()
	l.end.Wait()
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	l.dead = true
	l.w.current = nil
}

// kill ends the instance at once. No later effect of it reaches the world.
func (l *instance) kill() {
	l.w.mu.Lock()
	l.dieLocked()
	l.w.mu.Unlock()
	l.stop()
}

// crashAfter kills the instance after n more side effects.
func (l *instance) crashAfter(n int) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	l.left = n
	if n == 0 {
		l.dieLocked()
	}
}

func (l *instance) isDead() bool {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	return l.dead
}

func (l *instance) dieLocked() {
	l.dead = true
	clear(l.w.busy) // the verbs are killed with the supervisor
}

// effect applies a side effect. It is the only way in which an instance changes the world.
func (l *instance) effect(name string, change func()) error {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	return l.effectLocked(name, change)
}

func (l *instance) effectLocked(name string, change func()) error {
	if l.dead {
		return errDead
	}
	change()
	l.w.trace = append(l.w.trace, name)
	if l.left > 0 {
		if l.left--; l.left == 0 {
			l.dieLocked()
		}
	}
	return nil
}

func (w *world) violationLocked(format string, values ...any) {
	w.violations = append(w.violations, fmt.Sprintf(format, values...))
}
