package libreswan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/regular"
	"github.com/svc-supervisor/svc-supervisor/internal/patience"
)

// Spec is one conn as it should be loaded.
type Spec struct {
	Name string
	Text []byte // its file
	// Former is the file that an earlier version wrote for it.
	Former []byte
	Start  bool // or wait for the peer
	// Certificate is the nickname of the one that it needs in the key database, "" if none.
	Certificate string
	// Matches says why a conn in the daemon is not the one that was asked for, "" if it is: Libreswan replaces an identity
	// that it cannot parse by the address and says nothing.
	Matches func(Conn) string
}

const (
	addconnLimit = 10 * time.Second
	// loadPatience is how long nothing new may show up in the daemon before the rest counts as refused. The daemon loads
	// its files after it has told systemd that it is ready.
	loadPatience = 2 * time.Second
	loadPause    = 25 * time.Millisecond // between two questions; less at first
	answerWithin = 5 * time.Second       // of a daemon that systemd has just started
	batch        = 256
)

// AwaitLoaded waits until a daemon that was just started answers, has loaded the conns from its files and has found their
// interfaces. It returns the daemon's last answer and the conns that it has not loaded.
func (d *Daemon) AwaitLoaded(ctx context.Context, specs []Spec) (answer Answer, missing []Spec, err error) {
	missing = specs
	answered := false
	quiet := patience.Start() // since something new was seen
	for pause := loadPause / 8; ; pause = min(2*pause, loadPause) {
		if answer, err = d.Ask(ctx); err == nil {
			left := unready(answer.Conns, specs)
			if !answered || len(left) < len(missing) {
				quiet = patience.Start()
			}
			missing, answered = left, true
			if len(missing) == 0 || quiet.Elapsed() > loadPatience {
				return answer, missing, nil
			}
		} else if answered || quiet.Elapsed() > answerWithin {
			return Answer{}, nil, err
		}
		select {
		case <-ctx.Done():
			return Answer{}, nil, fmt.Errorf("wait for pluto to load %d conns: %w", len(missing), context.Cause(ctx))
		case <-time.After(pause):
		}
	}
}

// unready lists the conns that are not loaded, or not bound to an interface: the daemon first reads all its files, and only
// then listens. A conn that is loaded and not bound to an interface yet is not refused.
func unready(loaded map[string]Conn, specs []Spec) []Spec {
	return slices.DeleteFunc(slices.Clone(specs), func(s Spec) bool {
		conn, ok := loaded[s.Name]
		return ok && !conn.Unoriented
	})
}

// Load adds or replaces conns, in as few runs of addconn as possible, and returns the reason of each that the daemon
// does not have afterwards. Each of those was also tried alone, so that one invalid conn does not cause others to be refused. If
// an addconn for one conn is killed or reaches its time limit, Load returns an error and no reason for that conn. A run
// for several conns that fails is not an error: those that are missing then are tried one by one.
func (d *Daemon) Load(ctx context.Context, specs []Spec) (map[string]string, error) {
	began := time.Now()
	for chunk := range slices.Chunk(specs, batch) {
		if _, err := d.addconn(ctx, chunk); err != nil && ctx.Err() != nil {
			return nil, err
		}
	}
	loaded, err := d.Status(ctx)
	if err != nil {
		return nil, err
	}
	return d.Refusals(ctx, loaded, specs, began)
}

// Refusals tries each conn that the daemon does not have alone once more, and returns why it refuses them. A conn that it has with
// other identities is deleted and counts as refused. loaded is what the daemon has.
func (d *Daemon) Refusals(ctx context.Context, loaded map[string]Conn, specs []Spec, since time.Time) (map[string]string, error) {
	var err error
	refused, said := map[string]string{}, map[string]string{}
	again := false
	for _, s := range specs {
		if _, ok := loaded[s.Name]; ok {
			continue
		}
		again = true
		if said[s.Name], err = d.addconn(ctx, []Spec{s}); err != nil {
			return nil, err
		}
	}
	if again {
		if loaded, err = d.Status(ctx); err != nil {
			return nil, err
		}
	}
	for _, s := range specs {
		conn, ok := loaded[s.Name]
		switch {
		case !ok:
			refused[s.Name] = said[s.Name]
		case s.Matches(conn) != "":
			refused[s.Name] = s.Matches(conn)
			if err := d.Delete(ctx, s.Name); err != nil {
				return nil, err
			}
		}
	}
	d.explain(ctx, refused, since)
	return refused, nil
}

// addconn loads conns. It returns addconn's error message if addconn exited or crashed, and an error if it was killed.
func (d *Daemon) addconn(ctx context.Context, specs []Spec) (refusal string, err error) {
	defer func() { _ = os.Remove(d.staging()) }()
	var text bytes.Buffer
	args := []string{"--ctlsocket", d.socket(), "--config", d.staging()}
	for _, s := range specs {
		text.Write(s.Text)
		args = append(args, s.Name)
	}
	if err := d.writeReadable(d.staging(), text.Bytes()); err != nil {
		return "", fmt.Errorf("load conns: %w", err)
	}
	if _, err = d.Place.run(ctx, addconnLimit, d.Tools.Addconn, args...); exited(err) {
		return err.Error(), nil
	}
	return "", wrapf(err, "load conns")
}

// explain replaces messages of addconn by the reason in pluto's log, because addconn prints none when pluto refuses.
func (d *Daemon) explain(ctx context.Context, refused map[string]string, since time.Time) {
	var silent []string
	for conn, reason := range refused {
		if reason == "" || strings.HasPrefix(reason, "addconn: ") {
			silent = append(silent, conn)
		}
	}
	if len(silent) == 0 {
		return
	}
	// What the daemon writes takes a moment to be in the journal.
	for clock := patience.Start(); ; {
		words := LoadFailures(d.journal(ctx, since, ""))
		silent = slices.DeleteFunc(silent, func(conn string) bool {
			if words[conn] != "" {
				refused[conn] = words[conn]
			}
			return words[conn] != ""
		})
		if len(silent) == 0 || clock.Elapsed() > time.Second || ctx.Err() != nil {
			break
		}
		time.Sleep(2 * loadPause)
	}
	for _, conn := range silent {
		refused[conn] = strings.TrimSuffix("pluto refused it: "+refused[conn], ": ")
	}
}

// Loaded lists the conns that have a file: those that the daemon accepted. What is no regular file counts as missing.
func (d *Daemon) Loaded() (map[string][]byte, error) {
	paths, err := filepath.Glob(filepath.Join(d.Conns(), "*.conf"))
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for _, path := range paths {
		text, err := regular.ReadFile(path)
		if errors.Is(err, regular.ErrNot) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read conn: %w", err)
		}
		files[strings.TrimSuffix(filepath.Base(path), ".conf")] = text
	}
	return files, nil
}

// File is the file of a conn that every start loads.
func (d *Daemon) File(conn string) string { return filepath.Join(d.Conns(), conn+".conf") }
