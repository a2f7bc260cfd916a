package lookup

import (
	"bytes"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// anywhere returns a KeyFiles without a configured directory.
func anywhere() *KeyFiles { return OpenKeyFiles("/nonexistent") }

func write(t *testing.T, path string, content []byte, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, content, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // WriteFile applies the umask
		t.Fatal(err)
	}
}

func TestSecretFileMustBelongToRootAlone(t *testing.T) {
	for _, test := range []struct {
		name string
		make func(t *testing.T, dir, path string)
		want string // part of the error, or "" if the file is read
	}{
		{"a private file", func(t *testing.T, _, path string) { write(t, path, []byte("k\x00\n"), 0o600) }, ""},
		{"a read-only file", func(t *testing.T, _, path string) { write(t, path, []byte("k\x00\n"), 0o400) }, ""},
		{"a file that the group can read", func(t *testing.T, _, path string) {
			write(t, path, []byte("k\x00\n"), 0o640)
		}, "mode 0640"},
		{"a file that other users can write", func(t *testing.T, _, path string) {
			write(t, path, []byte("k\x00\n"), 0o602)
		}, "mode 0602"},
		{"an empty file", func(t *testing.T, _, path string) { write(t, path, nil, 0o600) }, "1 to 8 bytes"},
		{"a sparse file of 1 TiB", func(t *testing.T, _, path string) {
			write(t, path, nil, 0o600)
			if err := os.Truncate(path, 1<<40); err != nil {
				t.Fatal(err)
			}
		}, "1 to 8 bytes"},
		{"a file of 10 bytes", func(t *testing.T, _, path string) {
			write(t, path, []byte("the-secret"), 0o600)
		}, "1 to 8 bytes"},
		{"no file", func(*testing.T, string, string) {}, "no such file"},
		{"a directory", func(t *testing.T, _, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, "no regular file"},
		{"a pipe without a writer", func(t *testing.T, _, path string) {
			if err := unix.Mkfifo(path, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "no regular file"},
		{"a link to a private file", func(t *testing.T, dir, path string) {
			write(t, filepath.Join(dir, "real"), []byte("k\x00\n"), 0o600)
			if err := os.Symlink("real", path); err != nil {
				t.Fatal(err)
			}
		}, ""},
		{"a link to itself", func(t *testing.T, _, path string) {
			if err := os.Symlink(path, path); err != nil {
				t.Fatal(err)
			}
		}, "one link too many"},
		{"a directory that other users can write", func(t *testing.T, dir, path string) {
			write(t, path, []byte("k\x00\n"), 0o600)
			if err := os.Chmod(dir, 0o777); err != nil {
				t.Fatal(err)
			}
		}, "is writable by other users"},
		{"a link in a directory that other users can write", func(t *testing.T, dir, path string) {
			open := filepath.Join(dir, "open")
			write(t, filepath.Join(dir, "real"), []byte("k\x00\n"), 0o600)
			if err := os.Mkdir(open, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("../real", filepath.Join(open, "link")); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(open, 0o777); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("open/link", path); err != nil {
				t.Fatal(err)
			}
		}, "is writable by other users"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "keys")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "key")
			test.make(t, dir, path)
			content, err := anywhere().Read(path, 8, true)
			if test.want == "" {
				if err != nil || !bytes.Equal(content, []byte("k\x00\n")) {
					t.Errorf("got %q, %v", content, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "the-secret") {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

// TestOnlyRegularFilesAreOpened has files that block without a writer, that are endless, or for which open has side
// effects.
func TestOnlyRegularFilesAreOpened(t *testing.T) {
	dir := t.TempDir()
	pipe, socket := filepath.Join(dir, "pipe"), filepath.Join(dir, "socket")
	directory := filepath.Join(dir, "directory")
	if err := errors.Join(unix.Mkfifo(pipe, 0o600), os.Mkdir(directory, 0o700)); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	opened, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(opened) }()
	for _, path := range []string{pipe, socket, directory, dir} {
		if _, err := unix.InotifyAddWatch(opened, path, unix.IN_OPEN); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{
		pipe: "no regular file", socket: "no regular file", directory: "no regular file",
		"/dev/zero": "no regular file",
		"/dev/null": "no regular file", "/": "no regular file", "/proc/self/environ": "1 to 8 bytes",
		pipe + "/x": "not a directory",
	} {
		for _, secret := range []bool{true, false} {
			if _, err := anywhere().Read(path, 8, secret); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v, want %s", path, err, want)
			}
		}
	}
	events := make([]byte, 4096)
	if n, err := unix.Read(opened, events); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("a file was opened: %d bytes of events, %v", n, err)
	}
	if f, err := os.Open(directory); err != nil { // to show that the watch works
		t.Fatal(err)
	} else {
		_ = f.Close()
	}
	if n, err := unix.Read(opened, events); n <= 0 {
		t.Errorf("no event for an opened directory: %v", err)
	}
}

func TestCertificateMayBeReadableByAll(t *testing.T) {
	path := filepath.Join(t.TempDir(), "certificate")
	write(t, path, []byte("c"), 0o644)
	if _, err := anywhere().Read(path, 1, false); err != nil {
		t.Error(err)
	}
	write(t, path, []byte("c"), 0o666)
	if _, err := anywhere().Read(path, 1, false); err == nil {
		t.Error("a file that all users can write was read")
	}
}

func TestFileOfAnotherUserIsNotRead(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("requires root: to change the owner of a file")
	}
	path := filepath.Join(t.TempDir(), "key")
	write(t, path, []byte("k"), 0o600)
	if err := os.Chown(path, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if _, err := anywhere().Read(path, 1, true); err == nil ||
		!strings.Contains(err.Error(), "belongs to another user") {
		t.Errorf("got %v", err)
	}
}
