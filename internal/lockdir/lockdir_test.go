package lockdir

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func lock(t *testing.T, path string) func() {
	t.Helper()
	unlock, err := Lock(t.Context(), path, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return unlock
}

func TestHeldLockIsAnErrorAfterTheTimeout(t *testing.T) {
	path := t.TempDir()
	unlock := lock(t, path)
	if _, err := Lock(t.Context(), path, 20*time.Millisecond); !errors.Is(err, ErrBusy) {
		t.Errorf("got %v, want ErrBusy", err)
	}
	unlock()
	lock(t, path)()
}

func TestWaitEndsWithTheContext(t *testing.T) {
	path := t.TempDir()
	defer lock(t, path)()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := Lock(ctx, path, time.Hour); !errors.Is(err, context.Canceled) || errors.Is(err, ErrBusy) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

func TestWaiterGetsTheLockThatIsReleased(t *testing.T) {
	path := t.TempDir()
	unlock := lock(t, path)
	time.AfterFunc(20*time.Millisecond, unlock)
	lock(t, path)()
}

func TestWaiterOfARemovedDirectoryLocksTheNewOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "directory")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	former := lock(t, path)
	defer former()
	if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700)); err != nil {
		t.Fatal(err)
	}
	defer lock(t, path)()
	if _, err := Lock(t.Context(), path, 20*time.Millisecond); !errors.Is(err, ErrBusy) {
		t.Errorf("the new directory is not locked: %v", err)
	}
}

func TestMissingDirectoryAndLinkAreErrors(t *testing.T) {
	parent := t.TempDir()
	if _, err := Lock(t.Context(), filepath.Join(parent, "missing"), time.Minute); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing directory: %v", err)
	}
	link := filepath.Join(parent, "link")
	if err := os.Symlink(t.TempDir(), link); err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(t.Context(), link, time.Minute); err == nil {
		t.Error("a symbolic link was locked")
	}
}

func TestLockPrivateCreatesTheDirectoryAndRefusesAPublicOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := LockPrivate(t.Context(), path, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the created directory: %v, %v", info, err)
	}
	if _, err := LockPrivate(t.Context(), path, 20*time.Millisecond); !errors.Is(err, ErrBusy) {
		t.Errorf("got %v, want ErrBusy", err)
	}
	unlock()
	for name, prepare := range map[string]func(path string) error{
		"open for others": func(path string) error { return errors.Join(os.Mkdir(path, 0o700), os.Chmod(path, 0o755)) },
		"a file":          func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"a link":          func(path string) error { return os.Symlink(t.TempDir(), path) },
	} {
		path := filepath.Join(t.TempDir(), "lock")
		if err := prepare(path); err != nil {
			t.Fatal(err)
		}
		if _, err := LockPrivate(t.Context(), path, time.Minute); err == nil || errors.Is(err, ErrBusy) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
