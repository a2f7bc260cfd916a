package atomicfile

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func put(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func content(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func names(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

func TestFileIsReplacedAndNothingElseIsLeft(t *testing.T) {
	for name, o := range map[string]Options{
		"default": {}, "random name": {Temporary: ".x-*"}, "fixed name": {Temporary: ".x"}, "durable": {Sync: true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "file")
			for _, want := range []string{"new", "replaced", ""} {
				if err := Write(path, []byte(want), o); err != nil {
					t.Fatal(err)
				}
				if got := content(t, path); got != want {
					t.Errorf("content is %q, want %q", got, want)
				}
			}
			if got := names(t, dir); !slices.Equal(got, []string{"file"}) {
				t.Errorf("files are %q", got)
			}
		})
	}
}

func TestModeDoesNotDependOnTheUmask(t *testing.T) {
	for _, mask := range []int{0, 0o077} {
		for given, want := range map[fs.FileMode]fs.FileMode{0: 0o600, 0o644: 0o644, 0o640: 0o640} {
			path := filepath.Join(t.TempDir(), "file")
			before := unix.Umask(mask)
			err := Write(path, nil, Options{Mode: given})
			unix.Umask(before)
			if err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode().Perm() != want {
				t.Errorf("umask %04o, mode %04o: the file has %04o, want %04o", mask, given, info.Mode().Perm(), want)
			}
		}
	}
}

func TestFixedTemporaryFileOfAKilledProcessIsReplaced(t *testing.T) {
	dir := t.TempDir()
	path, temporary, victim := filepath.Join(dir, "file"), filepath.Join(dir, ".tmp"), filepath.Join(dir, "victim")
	put(t, victim, "untouched")
	for name, leave := range map[string]func() error{
		"file": func() error { return os.WriteFile(temporary, []byte("longer than the new content"), 0o400) },
		"link": func() error { return os.Symlink(victim, temporary) },
		"pipe": func() error { return unix.Mkfifo(temporary, 0o600) },
	} {
		if err := leave(); err != nil {
			t.Fatal(err)
		}
		if err := Write(path, []byte("new"), Options{Temporary: ".tmp"}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if content(t, path) != "new" || content(t, victim) != "untouched" || len(names(t, dir)) != 2 {
			t.Errorf("%s: files are %q", name, names(t, dir))
		}
	}
}

func TestLinkIsReplacedAndNotFollowed(t *testing.T) {
	dir := t.TempDir()
	path, victim := filepath.Join(dir, "file"), filepath.Join(dir, "victim")
	put(t, victim, "untouched")
	if err := os.Symlink(victim, path); err != nil {
		t.Fatal(err)
	}
	if err := Write(path, []byte("new"), Options{}); err != nil {
		t.Fatal(err)
	}
	if content(t, path) != "new" || content(t, victim) != "untouched" {
		t.Error("the target of the link was written")
	}
}

func TestFailedWriteLeavesTheFormerState(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "directory")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, o := range []Options{{}, {Temporary: ".tmp"}, {Sync: true}} {
		if err := Write(path, []byte("new"), o); err == nil {
			t.Error("a file replaced a directory")
		}
		if got := names(t, dir); !slices.Equal(got, []string{"directory"}) {
			t.Errorf("files are %q", got)
		}
	}
	if err := Write(filepath.Join(dir, "missing", "file"), nil, Options{}); err == nil {
		t.Error("a file was written to a missing directory")
	}
}
