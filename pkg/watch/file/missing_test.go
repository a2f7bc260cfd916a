package file

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

const missingDirectory = "SVC_TEST_MISSING_DIRECTORY"

// TestMissingDirectoryUsesNoCPU runs this test in a separate process and measures the CPU time of that process.
func TestMissingDirectoryUsesNoCPU(t *testing.T) {
	if dir := os.Getenv(missingDirectory); dir != "" {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		nsdb := Open(Location{Dir: dir, Status: t.TempDir(), Rescan: time.Hour}, "h", slog.New(slog.DiscardHandler))
		_ = nsdb.Run(ctx, func(spec.Desired) {})
		var used unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
			t.Fatal(err)
		}
		if total := time.Duration(used.Utime.Nano() + used.Stime.Nano()); total > time.Second {
			t.Errorf("%v of CPU time in 2 s", total)
		}
		return
	}
	plain := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{filepath.Join(t.TempDir(), "missing"), plain} {
		test := exec.Command(os.Args[0], "-test.run=^TestMissingDirectoryUsesNoCPU$")
		test.Env = append(os.Environ(), missingDirectory+"="+dir)
		if output, err := test.CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", dir, err, output)
		}
	}
}
