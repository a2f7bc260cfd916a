package libreswan

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/internal/busyclock"
)

// Spec is one conn as it should be loaded.
type Spec struct {
	Name string
	Text []byte // the content of its file
	// Matches returns how a loaded conn differs from the wanted one, or "" if it does not. It is needed because
	// Libreswan silently replaces an identity that it cannot parse by the address.
	Matches func(Conn) string
}

// Loader loads conns into a running daemon and finds out which of them the daemon has refused.
type Loader struct {
	files     Files
	isolation Isolation
	addconn   string // path of the program
	control   Control
	journal   Journal
}

const (
	addconnLimit = 10 * time.Second
	// loadTimeout is how long the daemon may load no further conn before the missing ones count as refused. The daemon
	// loads its files after it has reported to systemd that it is ready.
	loadTimeout  = 2 * time.Second
	pollInterval = 25 * time.Millisecond // between two queries; shorter at first
	answerWithin = 5 * time.Second       // limit for a daemon that systemd has just started
	batch        = 256
)

// AwaitLoaded waits until a daemon that was just started answers, has loaded the conns from its files, and has oriented
// them. It returns the last answer and the conns that are not loaded.
func (l *Loader) AwaitLoaded(ctx context.Context, specs []Spec) (answer Answer, missing []Spec, err error) {
	missing = specs
	answered := false
	progress := busyclock.Start() // restarted whenever something new was loaded
	for pause := pollInterval / 8; ; pause = min(2*pause, pollInterval) {
		if answer, err = l.control.Query(ctx); err == nil {
			left := unready(answer.Conns, specs)
			if !answered || len(left) < len(missing) {
				progress = busyclock.Start()
			}
			missing, answered = left, true
			if len(missing) == 0 || progress.Elapsed() > loadTimeout {
				return answer, missing, nil
			}
		} else if answered || progress.Elapsed() > answerWithin {
			return Answer{}, nil, err
		}
		select {
		case <-ctx.Done():
			return Answer{}, nil, fmt.Errorf("wait for pluto to load %d conns: %w", len(missing), context.Cause(ctx))
		case <-time.After(pause):
		}
	}
}

// unready returns the conns that are not loaded or not oriented. The daemon first reads all its files and then opens
// its sockets, so a conn that is loaded but not yet oriented is not refused.
func unready(loaded map[string]Conn, specs []Spec) []Spec {
	return slices.DeleteFunc(slices.Clone(specs), func(s Spec) bool {
		conn, ok := loaded[s.Name]
		return ok && !conn.Unoriented
	})
}

// Load adds or replaces conns, in as few runs of addconn as possible. It returns the conns that the daemon refused,
// with the reasons, and the daemon's answer after these runs. Each conn that is missing in the answer is then tried
// alone, so that one invalid conn does not cause others to be refused.
// If a run of addconn for a single conn is killed or reaches its time limit, Load returns an error and no reason for
// that conn. A failed run for several conns is not an error, because the missing ones are then tried one by one.
func (l *Loader) Load(ctx context.Context, specs []Spec) (map[string]string, Answer, error) {
	began := time.Now()
	for chunk := range slices.Chunk(specs, batch) {
		if _, err := l.runAddconn(ctx, chunk); err != nil && ctx.Err() != nil {
			return nil, Answer{}, err
		}
	}
	answer, err := l.control.Query(ctx)
	if err != nil {
		return nil, Answer{}, err
	}
	refused, err := l.Refusals(ctx, answer.Conns, specs, began)
	return refused, answer, err
}

// Refusals tries each conn that is not in loaded once more, alone, and returns why the daemon refuses it. loaded is
// what the daemon has. A conn that the daemon has with another identity is deleted and counts as refused.
func (l *Loader) Refusals(ctx context.Context, loaded map[string]Conn, specs []Spec,
	since time.Time,
) (map[string]string, error) {
	var err error
	refused, messages := map[string]string{}, map[string]string{}
	again := false
	for _, s := range specs {
		if _, ok := loaded[s.Name]; ok {
			continue
		}
		again = true
		if messages[s.Name], err = l.runAddconn(ctx, []Spec{s}); err != nil {
			return nil, err
		}
	}
	if again {
		if loaded, err = l.control.Status(ctx); err != nil {
			return nil, err
		}
	}
	for _, s := range specs {
		conn, ok := loaded[s.Name]
		switch {
		case !ok:
			refused[s.Name] = messages[s.Name]
		case s.Matches(conn) != "":
			refused[s.Name] = s.Matches(conn)
			if err := l.control.Delete(ctx, s.Name); err != nil {
				return nil, err
			}
		}
	}
	l.addLoggedReasons(ctx, refused, since)
	return refused, nil
}

// runAddconn loads conns. It returns the error message of an addconn that exited or crashed, and an error if addconn
// was killed.
func (l *Loader) runAddconn(ctx context.Context, specs []Spec) (refusal string, err error) {
	defer func() { _ = os.Remove(l.files.staging()) }()
	var text bytes.Buffer
	args := []string{"--ctlsocket", l.files.socket(), "--config", l.files.staging()}
	for _, s := range specs {
		text.Write(s.Text)
		args = append(args, s.Name)
	}
	if err := writeReadable(l.isolation.User, l.files.staging(), text.Bytes()); err != nil {
		return "", fmt.Errorf("load conns: %w", err)
	}
	if _, err = l.isolation.run(ctx, addconnLimit, l.addconn, args...); exited(err) {
		return err.Error(), nil
	}
	return "", wrapf(err, "load conns")
}

// addLoggedReasons replaces empty and generic messages of addconn by the reason in pluto's log, because addconn prints
// no reason when pluto refuses a conn.
func (l *Loader) addLoggedReasons(ctx context.Context, refused map[string]string, since time.Time) {
	var unexplained []string
	for conn, reason := range refused {
		if reason == "" || strings.HasPrefix(reason, "addconn: ") {
			unexplained = append(unexplained, conn)
		}
	}
	if len(unexplained) == 0 {
		return
	}
	// It takes a moment until the daemon's log lines are in the journal.
	for clock := busyclock.Start(); ; {
		logged := LoadFailures(l.journal.since(ctx, since, ""))
		unexplained = slices.DeleteFunc(unexplained, func(conn string) bool {
			if logged[conn] != "" {
				refused[conn] = logged[conn]
			}
			return logged[conn] != ""
		})
		if len(unexplained) == 0 || clock.Elapsed() > time.Second || ctx.Err() != nil {
			break
		}
		time.Sleep(2 * pollInterval)
	}
	for _, conn := range unexplained {
		refused[conn] = strings.TrimSuffix("pluto refused it: "+refused[conn], ": ")
	}
}
