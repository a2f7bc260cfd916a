package logs

import (
	"bytes"
	"errors"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

func TestLoggerHasTheLevelOfItsLongestPrefix(t *testing.T) {
	for _, r := range []struct {
		name   string
		list   string
		logger string
		want   slog.Level
	}{
		{"the default is info", "", "containers", slog.LevelInfo},
		{"a level without a logger applies to all", "debug", "containers.ipsec", slog.LevelDebug},
		{"capital letters are allowed", "WARN", "containers", slog.LevelWarn},
		{"the logger's own level comes first", "warn,containers.ipsec=debug", "containers.ipsec", slog.LevelDebug},
		{"the level of another logger does not apply", "warn,containers.ipsec=debug", "containers.bgp", slog.LevelWarn},
		{"the level of the parent applies", "warn,containers=debug", "containers.ipsec", slog.LevelDebug},
		{
			"the longest prefix applies, in either order",
			"containers.ipsec=error,containers=debug", "containers.ipsec", slog.LevelError,
		},
		{"a prefix ends at a dot", "containers=debug", "containersX", slog.LevelInfo},
		{"the last of two levels applies", "debug,error", "containers", slog.LevelError},
		{"blanks and empty elements are ignored", " debug , ", "containers", slog.LevelDebug},
	} {
		t.Run(r.name, func(t *testing.T) {
			levels := new(Levels)
			if err := levels.Parse(r.list); err != nil {
				t.Fatal(err)
			}
			if got := levels.of(r.logger); got != r.want {
				t.Errorf("%s has %v", r.logger, got)
			}
		})
	}
}

func TestInvalidLevelIsRefused(t *testing.T) {
	for _, list := range []string{
		"loud", "containers=", "containers=loud", "debug,x=y\nz", "=", "=debug", "container=debug",
		"containers.IPSEC=debug", "info+2",
	} {
		levels := new(Levels)
		err := levels.Parse(list)
		var fault *spec.Fault
		if !errors.As(err, &fault) || fault.Key != "--log-level" || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v", list, err)
		}
		if levels.of("containers") != slog.LevelInfo {
			t.Errorf("%q changed the levels", list)
		}
	}
}

func TestLevelsCanBeChangedWhileTheProgramRuns(t *testing.T) {
	var out bytes.Buffer
	levels := new(Levels)
	log := New(&out, true, levels, "containers")
	log.Debug("one")
	levels.Set(map[string]slog.Level{"containers": slog.LevelDebug})
	log.Debug("two")
	if strings.Contains(out.String(), "one") || !strings.Contains(out.String(), "two") {
		t.Error(out.String())
	}
	if got := levels.String(); got != "containers=DEBUG" {
		t.Error(got)
	}
}

func TestStringListsTheLevels(t *testing.T) {
	levels := new(Levels)
	if err := levels.Parse("warn,containers=debug,containers.a=error"); err != nil {
		t.Fatal(err)
	}
	if got, want := levels.String(), "WARN,containers=DEBUG,containers.a=ERROR"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestLineUnderJournaldHasAPriorityAndNoTime(t *testing.T) {
	var out bytes.Buffer
	levels := new(Levels)
	levels.Set(map[string]slog.Level{"": slog.LevelDebug})
	log := New(&out, true, levels, "containers.ipsec").With("container", "vpn")
	log.Debug("d")
	log.Info("i", "n", 1)
	log.Warn("w")
	log.WithGroup("g").Error("e", "time", "kept")
	want := `<7>level=DEBUG msg=d logger=containers.ipsec container=vpn
<6>level=INFO msg=i logger=containers.ipsec container=vpn n=1
<4>level=WARN msg=w logger=containers.ipsec container=vpn
<3>level=ERROR msg=e logger=containers.ipsec container=vpn g.time=kept
`
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}

func TestLineWithoutJournaldHasATimeAndNoPriority(t *testing.T) {
	var out bytes.Buffer
	New(&out, false, new(Levels), "containers").Info("i")
	if !regexp.MustCompile(`\Atime=\S+ level=INFO msg=i logger=containers\n\z`).MatchString(out.String()) {
		t.Error(out.String())
	}
}

func TestEventWithLineBreaksIsOneLine(t *testing.T) {
	for _, journal := range []bool{true, false} {
		var out bytes.Buffer
		log := New(&out, journal, new(Levels), "containers")
		log.Info("a\n<3>forged", "k\nl", "v\r\n<0>forged", "error", errors.New("x\ny"))
		if strings.Count(out.String(), "\n") != 1 || strings.Contains(out.String(), "\r") {
			t.Errorf("%q", out.String())
		}
	}
}

func TestSecretIsNotLogged(t *testing.T) {
	var out bytes.Buffer
	New(&out, true, new(Levels), "containers").Info("i", "psk", spec.NewSecret([]byte("horse")))
	if strings.Contains(out.String(), "horse") || !strings.Contains(out.String(), "psk=[secret]") {
		t.Error(out.String())
	}
}

// lineChecker is a writer that reports an error unless each call has one complete line with the right priority.
type lineChecker struct {
	t  *testing.T
	mu sync.Mutex
	n  int
}

func (l *lineChecker) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.n++; !bytes.HasPrefix(b, []byte("<")) || bytes.Count(b, []byte("\n")) != 1 ||
		!bytes.HasSuffix(b, []byte("\n")) {
		l.t.Errorf("%q is not one line with its priority", b)
	}
	if warn := bytes.Contains(b, []byte("level=WARN")); warn != bytes.HasPrefix(b, []byte("<4>")) {
		l.t.Errorf("%q has the priority of another line", b)
	}
	return len(b), nil
}

func TestConcurrentLogLinesAreComplete(t *testing.T) {
	out := &lineChecker{t: t}
	log := New(out, true, new(Levels), "containers")
	var logging sync.WaitGroup
	for i := range 8 {
		logging.Go(func() {
			logger := log.With("i", i)
			for range 100 {
				logger.Info("i")
				logger.Warn("w")
			}
		})
	}
	logging.Wait()
	if out.n != 1600 {
		t.Errorf("%d lines", out.n)
	}
}

func TestRemovedOverlayRestoresTheLevels(t *testing.T) {
	levels := new(Levels)
	if err := levels.Parse("warn,containers.ipsec=debug"); err != nil {
		t.Fatal(err)
	}
	for _, r := range []struct {
		name    string
		overlay map[string]slog.Level
		changed bool
		want    string
	}{
		{"no overlay at first", nil, false, "WARN,containers.ipsec=DEBUG"},
		{
			"a level for all loggers does not change the level of one logger",
			map[string]slog.Level{"": slog.LevelError}, true, "ERROR,containers.ipsec=DEBUG",
		},
		{"the same overlay is no change", map[string]slog.Level{"": slog.LevelError}, false,
			"ERROR,containers.ipsec=DEBUG"},
		{
			"a level for one logger replaces the former overlay",
			map[string]slog.Level{"containers.ipsec": slog.LevelInfo}, true, "WARN,containers.ipsec=INFO",
		},
		{
			"a level for a logger without one",
			map[string]slog.Level{"containers": slog.LevelInfo}, true, "WARN,containers=INFO,containers.ipsec=DEBUG",
		},
		{"the overlay is removed", nil, true, "WARN,containers.ipsec=DEBUG"},
	} {
		if changed := levels.Overlay(r.overlay); changed != r.changed || levels.String() != r.want {
			t.Errorf("%s: %v, %s", r.name, changed, levels)
		}
	}
}
