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

// waitTime is how long a test waits for an expected condition.
const waitTime = 10 * time.Second

// fixture has a directory for executables. At the end of the test it reports processes and descriptors that are left.
type fixture struct {
	*testing.T
	dir string
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: an executable of another owner is refused")
	}
	// The inventory refuses executables below /tmp, because every user can write there.
	dir, err := os.MkdirTemp("/srv", "svc-plugin-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	f := &fixture{t, dir}
	f.must(os.Chmod(f.dir, 0o755))
	r, w, err := os.Pipe() // the runtime opens descriptors of its own with the first pipe, which must not count
	f.must(errors.Join(err, r.Close(), w.Close(), adoptOrphans()))
	before := descriptors()
	t.Cleanup(func() {
		var left map[int]bool
		var open int
		clean := func() bool {
			left, open = childrenOfThis(), descriptors()
			return len(left) == 0 && open <= before
		}
		if !eventually(clean) {
			t.Errorf("left: processes %v, %d descriptors, %d at the start", left, open, before)
		}
	})
	return f
}

func (f *fixture) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// eventually waits until the condition is true, and returns false after waitTime.
func eventually(condition func() bool) bool {
	for end := time.Now().Add(waitTime); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if condition() {
			return true
		}
	}
	return condition()
}

func (f *fixture) eventually(what string, condition func() bool) {
	f.Helper()
	if !eventually(condition) {
		f.Fatalf("not in %v: %s", waitTime, what)
	}
}

func descriptors() int {
	entries, _ := os.ReadDir("/proc/self/fd")
	return len(entries)
}

// alive reports whether a process exists and is not a zombie.
func alive(pid int) bool {
	for _, p := range processes() {
		if p.pid == pid {
			return !p.zombie
		}
	}
	return false
}

// path returns the path of a file in the directory.
func (f *fixture) path(name string) string { return filepath.Join(f.dir, name) }

// write writes an executable file. It prevents forks meanwhile: a child process would inherit the descriptor, and a
// file that is open for writing cannot be executed (golang/go#22315).
func (f *fixture) write(path, content string) string {
	f.Helper()
	f.must(os.MkdirAll(filepath.Dir(path), 0o755))
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	f.must(os.WriteFile(path, []byte(content), 0o755))
	f.must(os.Chmod(path, 0o755))
	return path
}

// versionAnswer returns a valid answer to VERSION.
func versionAnswer(serviceType, version string) string {
	return fmt.Sprintf(`{"cniVersion":"1.1.0","supportedVersions":["1.1.0"],"serviceType":"%s","serviceVersion":"%s",`+
		`"contractVersion":1,"reconfigure":true}`, serviceType, version)
}

// serviceScript returns a script with a valid answer to VERSION. At STATUS it runs the commands of status.
func serviceScript(serviceType, version, status string) string {
	return "#!/bin/sh\ncase $CNI_COMMAND in\n" +
		"VERSION) echo '" + versionAnswer(serviceType, version) + "';;\nSTATUS) " + status + "\n;;\nesac\n"
}

// executable writes an executable of type T that is ready.
func (f *fixture) executable(name, version string) string {
	f.Helper()
	return f.write(f.path(name), serviceScript("T", version, ":"))
}

// inventory makes an inventory of the given directories, or of the directory of the fixture if there are none.
func (f *fixture) inventory(dirs ...string) *Inventory {
	f.Helper()
	if len(dirs) == 0 {
		dirs = []string{f.dir}
	}
	v, err := NewInventory(dirs, waitTime, slog.New(slog.DiscardHandler))
	f.must(err)
	return v
}

// call writes a shell script with the given body, and returns a call of it.
func (f *fixture) call(body string) Call {
	f.Helper()
	return Call{
		Executable: f.write(f.path("script"), "#!/bin/sh\n"+body+"\n"), Verb: spec.Add, ContainerID: "id-" + f.Name(),
		Namespace: "/run/netns/x", Stdin: []byte("{}"), Deadline: waitTime,
	}
}

// run runs a shell script with the given body as a verb.
func (f *fixture) run(body string) ([]byte, error) {
	f.Helper()
	return f.inventory().Run(context.Background(), f.call(body))
}

// pid waits until a script has written a process id to a file, and returns it.
func (f *fixture) pid(name string) int {
	f.Helper()
	var pid int
	f.eventually("a process id in "+name, func() bool {
		content, err := os.ReadFile(f.path(name))
		pid, _ = strconv.Atoi(strings.TrimSuffix(string(content), "\n"))
		return err == nil && pid > 0 && strings.HasSuffix(string(content), "\n")
	})
	return pid
}

func (f *fixture) touch(name string) {
	f.Helper()
	f.must(os.WriteFile(f.path(name), nil, 0o600))
}

// noAnswer fails the test unless err is a *NoAnswer whose reason has the given prefix.
func (f *fixture) noAnswer(err error, reason string) *NoAnswer {
	f.Helper()
	var failure *NoAnswer
	if !errors.As(err, &failure) || !strings.HasPrefix(failure.Reason, reason) {
		f.Fatalf("want no answer because of %q, got %v", reason, err)
	}
	if strings.Contains(failure.Error(), "\n") {
		f.Errorf("%q is not one line", failure.Error())
	}
	return failure
}

// lineCounter is a log handler that counts the lines.
type lineCounter struct {
	slog.Handler
	lines *atomic.Int64
}

func (c lineCounter) Enabled(context.Context, slog.Level) bool { return true }
func (c lineCounter) Handle(context.Context, slog.Record) error {
	c.lines.Add(1)
	return nil
}
