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

// anywhere is without a configured directory.
func anywhere() *KeyFiles { return OpenKeyFiles("/nonexistent") }

func write(t *testing.T, path string, content []byte, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, content, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask
		t.Fatal(err)
	}
}

func TestASecretIsReadOnlyWhereRootAloneCouldHaveTouchedIt(t *testing.T) {
	const most = 8
	for _, test := range []struct {
		name string
		make func(t *testing.T, dir, path string)
		says string // "" is: it is read
	}{
		{"a private file", func(t *testing.T, _, path string) { write(t, path, []byte("k\x00\n"), 0o600) }, ""},
		{"one that can only be read", func(t *testing.T, _, path string) { write(t, path, []byte("k\x00\n"), 0o400) }, ""},
		{"one that the group may read", func(t *testing.T, _, path string) { write(t, path, []byte("k\x00\n"), 0o640) }, "mode 0640"},
		{"one that others may write", func(t *testing.T, _, path string) { write(t, path, []byte("k\x00\n"), 0o602) }, "mode 0602"},
		{"an empty one", func(t *testing.T, _, path string) { write(t, path, nil, 0o600) }, "1 to 8 bytes"},
		{"one far too large", func(t *testing.T, _, path string) {
			write(t, path, nil, 0o600)
			if err := os.Truncate(path, 1<<40); err != nil {
				t.Fatal(err)
			}
		}, "1 to 8 bytes"},
		{"one too large", func(t *testing.T, _, path string) { write(t, path, []byte("the-secret"), 0o600) }, "1 to 8 bytes"},
		{"none", func(*testing.T, string, string) {}, "no such file"},
		{"a folder", func(t *testing.T, _, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, "no regular file"},
		{"a pipe that nobody writes", func(t *testing.T, _, path string) {
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
		}, "a link too many"},
		{"a folder that others may write", func(t *testing.T, dir, path string) {
			write(t, path, []byte("k\x00\n"), 0o600)
			if err := os.Chmod(dir, 0o777); err != nil {
				t.Fatal(err)
			}
		}, "others may write"},
		{"a link in a folder that others may write", func(t *testing.T, dir, path string) {
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
		}, "others may write"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "keys")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "key")
			test.make(t, dir, path)
			content, err := anywhere().Read(path, most, true)
			if test.says == "" {
				if err != nil || !bytes.Equal(content, []byte("k\x00\n")) {
					t.Errorf("got %q, %v", content, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "the-secret") {
				t.Errorf("got %v, want %s", err, test.says)
			}
		})
	}
}

// TestNothingButARegularFileIsOpened is of what waits for a writer, has no end, or acts when it is opened.
func TestNothingButARegularFileIsOpened(t *testing.T) {
	dir := t.TempDir()
	pipe, socket, folder := filepath.Join(dir, "pipe"), filepath.Join(dir, "socket"), filepath.Join(dir, "folder")
	if err := errors.Join(unix.Mkfifo(pipe, 0o600), os.Mkdir(folder, 0o700)); err != nil {
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
	for _, path := range []string{pipe, socket, folder, dir} {
		if _, err := unix.InotifyAddWatch(opened, path, unix.IN_OPEN); err != nil {
			t.Fatal(err)
		}
	}
	// Neither may /dev/zero, which has no end, nor what the kernel makes up when it is read.
	for path, says := range map[string]string{pipe: "no regular file", socket: "no regular file", folder: "no regular file", "/dev/zero": "no regular file",
		"/dev/null": "no regular file", "/": "no regular file", "/proc/self/environ": "1 to 8 bytes", pipe + "/x": "not a directory"} {
		for _, secret := range []bool{true, false} {
			if _, err := anywhere().Read(path, 8, secret); err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("%s: got %v, want %s", path, err, says)
			}
		}
	}
	events := make([]byte, 4096)
	if n, err := unix.Read(opened, events); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("one was opened: %d bytes of events, %v", n, err)
	}
	if f, err := os.Open(folder); err != nil { // the watch works
		t.Fatal(err)
	} else {
		_ = f.Close()
	}
	if n, err := unix.Read(opened, events); n <= 0 {
		t.Errorf("nothing tells of what is opened: %v", err)
	}
}

func TestWhatIsNoSecretMayBeReadByAll(t *testing.T) {
	path := filepath.Join(t.TempDir(), "certificate")
	write(t, path, []byte("c"), 0o644)
	if _, err := anywhere().Read(path, 1, false); err != nil {
		t.Error(err)
	}
	write(t, path, []byte("c"), 0o666)
	if _, err := anywhere().Read(path, 1, false); err == nil {
		t.Error("a file that all may write was read")
	}
}

func TestAnothersFileIsNotRead(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("requires root: to give a file away")
	}
	path := filepath.Join(t.TempDir(), "key")
	write(t, path, []byte("k"), 0o600)
	if err := os.Chown(path, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if _, err := anywhere().Read(path, 1, true); err == nil || !strings.Contains(err.Error(), "another user's") {
		t.Errorf("got %v", err)
	}
}
