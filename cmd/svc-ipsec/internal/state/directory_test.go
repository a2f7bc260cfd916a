package state

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

func root(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "svc-ipsec")
}

func TestOneVerbAtATimeHoldsTheLock(t *testing.T) {
	dir := root(t)
	var holders, maxHolders, done int
	var mu sync.Mutex
	var wait sync.WaitGroup
	for range 20 {
		wait.Go(func() {
			f, err := Open(context.Background(), dir, "vpn", 20*time.Second)
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			mu.Lock()
			holders++
			maxHolders = max(maxHolders, holders)
			mu.Unlock()
			if _, err := f.Files().Write("x", []byte("y")); err != nil {
				t.Error(err)
			}
			mu.Lock()
			holders--
			done++
			mu.Unlock()
			if err := f.Remove(); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if maxHolders != 1 || done != 20 {
		t.Errorf("%d at the same time, %d done", maxHolders, done)
	}
	if names, err := List(dir); err != nil || len(names) != 0 {
		t.Errorf("remaining directories: %v %v", names, err)
	}
}

func TestLockTimeout(t *testing.T) {
	dir := root(t)
	f, err := Open(context.Background(), dir, "vpn", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := Open(context.Background(), dir, "vpn", 30*time.Millisecond); !errors.Is(err, ErrBusy) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Find(ctx, dir, "vpn", time.Minute); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, err := Find(context.Background(), dir, "none", time.Second); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestInsecureDirectoryIsRefused(t *testing.T) {
	dir := root(t)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(context.Background(), dir, "vpn", time.Second); err == nil {
		t.Error("a directory that all users can write was used")
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(t.TempDir(), link); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(context.Background(), link, "vpn", time.Second); err == nil {
		t.Error("a link was used")
	}
	dir = root(t)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(t.TempDir(), filepath.Join(dir, "vpn")); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(context.Background(), dir, "vpn", time.Second); err == nil {
		t.Error("a link in the place of a container's directory was used")
	}
}

func TestWriteIsAtomicAndPrivate(t *testing.T) {
	f, err := Open(context.Background(), root(t), "vpn", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, want := range []bool{true, false} {
		changed, err := f.Files().Write("secrets", []byte("s"))
		if err != nil || changed != want {
			t.Errorf("changed %v, %v", changed, err)
		}
	}
	info, err := os.Stat(filepath.Join(f.Path, "secrets"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	entries, _ := os.ReadDir(f.Path)
	if len(entries) != 1 {
		t.Errorf("remaining files: %v", entries)
	}
}

func TestTidyRemovesUnfinishedFiles(t *testing.T) {
	f, err := Open(context.Background(), root(t), "vpn", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, path := range []string{"etc", "etc/.new-secrets", ".new-import", ".new-import/key"} {
		if err := os.Mkdir(filepath.Join(f.Path, path), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Files().Tidy(); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(f.Path, "*", "*")); len(left) != 0 {
		t.Errorf("remaining files: %v", left)
	}
	if left, _ := filepath.Glob(filepath.Join(f.Path, "*")); len(left) != 1 {
		t.Errorf("remaining files: %v", left)
	}
}
