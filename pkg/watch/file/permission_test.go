package file

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// asNobody runs f on a thread whose file system user is nobody, so that permissions are checked even if the test runs
// as root. The thread ends after f.
func asNobody(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		_ = unix.Setfsuid(65534)
		f()
	}()
	<-done
}

func TestPermissionDeniedIsNotAbsent(t *testing.T) {
	rows := []struct {
		name    string
		path    string
		unread  string
		reading spec.Reading
		fault   string
	}{
		{"to the directory", ".", "the directory cannot be read: permission denied", 0, ""},
		{"to the directory of hosts", "hosts", "hosts/h: h.yaml: permission denied", 0, ""},
		{"to the Host object", "hosts/h.yaml", "hosts/h: permission denied", 0, ""},
		{"to the directory of its bindings", "bindings/h", "bindings/h: cannot be listed: permission denied", 0, ""},
		{"to the directory of all bindings", "bindings", "bindings/h: cannot be listed: permission denied", 0, ""},
		{"to a binding", bindingP, "", spec.Unread, "bindings/h/p: permission denied"},
		{"to the directory of containers", "containers", "", spec.Unknown, "containers/c: c.yaml: permission denied"},
		{"to a container", "containers/c.yaml", "", spec.Unknown, "containers/c: permission denied"},
		{"to a configuration", "configurations/k.yaml", "", spec.Unknown, "configurations/k: permission denied"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			f, c, now := newScanFixture(t)
			now = now.Add(time.Second)
			for dir := filepath.Dir(f.dir); strings.Contains(dir, "TestPermission"); dir = filepath.Dir(dir) {
				f.check(os.Chmod(dir, 0o755)) // t.TempDir creates directories that only their owner can open
			}
			f.check(os.Chmod(f.path(row.path), 0))
			t.Cleanup(func() { _ = os.Chmod(f.path(row.path), 0o755) })
			asNobody(func() {
				result := c.fullScan(t.Context(), now)
				if !result.stable || strings.ReplaceAll(result.desired.Unread, " "+f.dir, "") != row.unread {
					t.Errorf("got %+v", result)
				}
				b := find(result.desired, "p")
				if row.unread == "" && (b == nil || b.Reading != row.reading || b.Fault != row.fault) {
					t.Errorf("got %+v", result.desired)
				}
			})
			f.check(os.Chmod(f.path(row.path), 0o755))
			for _, wait := range []time.Duration{time.Minute, time.Minute + defaultTiming.removalDelay} {
				if result := c.fullScan(t.Context(), now.Add(wait)); result.stable && hasWholeBinding(result.desired) {
					return
				}
			}
			t.Error("the objects were not read again after the permission was restored")
		})
	}
}
