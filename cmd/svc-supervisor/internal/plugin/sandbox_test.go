package plugin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// settleTime is how long a test waits for what must come.
const settleTime = 10 * time.Second

// ground is a directory of executables, and the promise that a test leaves neither a process nor a descriptor.
type ground struct {
	*testing.T
	dir string
}

func newGround(t *testing.T) *ground {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: an executable of another owner is refused")
	}
	// Not in /tmp, which everybody can write: an executable there is refused.
	dir, err := os.MkdirTemp("/srv", "svc-plugin-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	g := &ground{t, dir}
	g.must(os.Chmod(g.dir, 0o755))
	r, w, err := os.Pipe() // the runtime keeps descriptors of its own from the first one on
	g.must(errors.Join(err, r.Close(), w.Close(), adoptOrphans()))
	before := descriptors()
	t.Cleanup(func() {
		var left map[int]bool
		var open int
		if !eventually(func() bool { left, open = childrenOfThis(), descriptors(); return len(left) == 0 && open <= before }) {
			t.Errorf("left: processes %v, %d descriptors, %d at the start", left, open, before)
		}
	})
	return g
}

func (g *ground) must(err error) {
	g.Helper()
	if err != nil {
		g.Fatal(err)
	}
}

// eventually waits for a condition.
func eventually(condition func() bool) bool {
	for end := time.Now().Add(settleTime); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if condition() {
			return true
		}
	}
	return condition()
}

func (g *ground) eventually(what string, condition func() bool) {
	g.Helper()
	if !eventually(condition) {
		g.Fatalf("not in %v: %s", settleTime, what)
	}
}

func descriptors() int {
	entries, _ := os.ReadDir("/proc/self/fd")
	return len(entries)
}

// alive says whether a process runs; a zombie does not.
func alive(pid int) bool {
	for _, p := range processes() {
		if p.pid == pid {
			return !p.zombie
		}
	}
	return false
}

// path is a file in the ground's directory.
func (g *ground) path(name string) string { return filepath.Join(g.dir, name) }

// write writes an executable file. No process may be forked meanwhile: it would hold the file open for writing, and a file
// that is open for writing cannot be executed (golang/go#22315).
func (g *ground) write(path, content string) string {
	g.Helper()
	g.must(os.MkdirAll(filepath.Dir(path), 0o755))
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	g.must(os.WriteFile(path, []byte(content), 0o755))
	g.must(os.Chmod(path, 0o755))
	return path
}

// versionAnswer is what a good executable answers to VERSION.
func versionAnswer(serviceType, version string) string {
	return fmt.Sprintf(`{"cniVersion":"1.1.0","supportedVersions":["1.1.0"],"serviceType":"%s","serviceVersion":"%s",`+
		`"contractVersion":1,"reconfigure":true}`, serviceType, version)
}

// serves is a good executable; status is what it does for STATUS.
func serves(serviceType, version, status string) string {
	return "#!/bin/sh\ncase $CNI_COMMAND in\nVERSION) echo '" + versionAnswer(serviceType, version) + "';;\nSTATUS) " + status + "\n;;\nesac\n"
}

// executable writes a good executable of type T.
func (g *ground) executable(name, version string) string {
	g.Helper()
	return g.write(g.path(name), serves("T", version, ":"))
}

// inventory makes an inventory of the ground's directory, or of others.
func (g *ground) inventory(dirs ...string) *Inventory {
	g.Helper()
	if len(dirs) == 0 {
		dirs = []string{g.dir}
	}
	v, err := NewInventory(dirs, settleTime, slog.New(slog.DiscardHandler))
	g.must(err)
	return v
}

// call makes a call of a script that does what body says.
func (g *ground) call(body string) Call {
	g.Helper()
	return Call{
		Executable: g.write(g.path("script"), "#!/bin/sh\n"+body+"\n"), Verb: spec.Add, ContainerID: "id-" + g.Name(),
		Namespace: "/run/netns/x", Stdin: []byte("{}"), Deadline: settleTime,
	}
}

// run runs what body says.
func (g *ground) run(body string) ([]byte, error) {
	g.Helper()
	return g.inventory().Run(context.Background(), g.call(body))
}

// pid reads a process id that a script wrote to a file, once it is there.
func (g *ground) pid(name string) int {
	g.Helper()
	var pid int
	g.eventually("a process id in "+name, func() bool {
		content, err := os.ReadFile(g.path(name))
		pid, _ = strconv.Atoi(strings.TrimSuffix(string(content), "\n"))
		return err == nil && pid > 0 && strings.HasSuffix(string(content), "\n")
	})
	return pid
}

func (g *ground) touch(name string) {
	g.Helper()
	g.must(os.WriteFile(g.path(name), nil, 0o600))
}

// noAnswer fails unless the error is one whose reason begins so.
func (g *ground) noAnswer(err error, reason string) *NoAnswer {
	g.Helper()
	var silent *NoAnswer
	if !errors.As(err, &silent) || !strings.HasPrefix(silent.Reason, reason) {
		g.Fatalf("want no answer for %q, got %v", reason, err)
	}
	if strings.Contains(silent.Error(), "\n") {
		g.Errorf("%q is not one line", silent.Error())
	}
	return silent
}

// counting counts the lines that are logged.
type counting struct {
	slog.Handler
	lines *atomic.Int64
}

func (c counting) Enabled(context.Context, slog.Level) bool { return true }
func (c counting) Handle(context.Context, slog.Record) error {
	c.lines.Add(1)
	return nil
}
