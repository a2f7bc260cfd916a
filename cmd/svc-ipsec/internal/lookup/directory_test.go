package lookup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// keyTree is a temporary directory with a key directory, other directories, and the directory of a container.
type keyTree struct {
	*testing.T
	dir string
}

func newKeyTree(t *testing.T) *keyTree {
	t.Helper()
	p := &keyTree{t, t.TempDir()}
	for _, name := range []string{"keys", "keys/deep", "elsewhere", "svc-one", "svc-one/a"} {
		p.must(os.Mkdir(p.at(name), 0o700))
	}
	for _, name := range []string{"keys/key", "keys/deep/key", "elsewhere/key", "svc-one/a/secrets"} {
		write(t, p.at(name), []byte("key of "+name), 0o600)
	}
	p.configure(p.at("keys") + "\n")
	return p
}

func (p *keyTree) at(name string) string { return filepath.Join(p.dir, name) }

func (p *keyTree) must(errs ...error) {
	p.Helper()
	if err := errors.Join(errs...); err != nil {
		p.Fatal(err)
	}
}

func (p *keyTree) configure(content string) {
	p.Helper()
	write(p.T, p.at("key-directory"), []byte(content), 0o644)
}

// open returns a KeyFiles for the configuration of the tree, with the reserved directory of the tree.
func (p *keyTree) open() *KeyFiles {
	k := OpenKeyFiles(p.at("key-directory"))
	k.reserved = []string{p.at("svc-*")}
	return k
}

func TestFileInConfiguredDirectoryIsRead(t *testing.T) {
	p := newKeyTree(t)
	p.must(os.Symlink("deep/key", p.at("keys/relative")), os.Symlink("../key", p.at("keys/deep/up")),
		os.Symlink(p.at("keys/key"), p.at("keys/absolute")), os.Symlink("keys", p.at("other-name")))
	for path, want := range map[string]string{
		"keys/key": "keys/key", "keys/deep/key": "keys/deep/key",
		"keys/relative": "keys/deep/key", "keys/deep/up": "keys/key", "keys/absolute": "keys/key",
	} {
		if content, err := p.open().Read(p.at(path), 64, true); err != nil || string(content) != "key of "+want {
			t.Errorf("%s: got %q %v", path, content, err)
		}
	}
	// The configured directory may be a symbolic link. Paths may then begin with the link or with its target.
	p.configure(p.at("other-name") + "/")
	for _, path := range []string{"other-name/key", "keys/key"} {
		k := p.open()
		content, err := k.Read(p.at(path), 64, true)
		if err != nil || string(content) != "key of keys/key" || len(k.Unexpected()) > 0 {
			t.Errorf("%s: got %q %v, unexpected %q", path, content, err, k.Unexpected())
		}
	}
}

func TestErrorForPathOutsideDoesNotDependOnTheFile(t *testing.T) {
	p := newKeyTree(t)
	p.must(os.Mkdir(p.at("keys-not"), 0o700), unix.Mkfifo(p.at("elsewhere/pipe"), 0o600),
		os.Mkdir(p.at("open"), 0o700), os.Chmod(p.at("open"), 0o777))
	write(t, p.at("keys-not/key"), []byte("x"), 0o644)
	for link, target := range map[string]string{
		"to-a-key": p.at("elsewhere/key"), "to-nothing": p.at("elsewhere/nothing"), "to-a-directory": p.at("elsewhere"),
		"to-a-pipe": "../elsewhere/pipe", "relative": "../elsewhere/key", "relative-to-nothing": "../elsewhere/nothing",
		"out-and-in": "../keys/key", "through": "../elsewhere/nothing/../../keys/key",
		"to-the-root": "/", "to-the-parent": "..", "to-kmsg": "/proc/kmsg", "to-a-loop": p.at("loop"),
		"to-open": p.at("open/x"), "to-reserved": p.at("svc-one/a/secrets"),
	} {
		p.must(os.Symlink(target, p.at("keys/"+link)))
	}
	p.must(os.Symlink(p.at("loop"), p.at("loop")))
	outside := []string{
		"/etc/shadow", "/etc/nothing", "/", "/etc", "/dev/zero",
		p.at("elsewhere/key"), p.at("elsewhere/nothing"), p.at("elsewhere/pipe"), p.at("elsewhere"),
		p.at("keys-not/key"), p.at("loop"), p.at("svc-one/a/secrets"), p.dir, p.dir + "/keys/../elsewhere/key",
		p.at("keys/to-a-directory/key"), p.at("keys/to-a-directory/nothing"), p.at("keys/to-the-root/etc/shadow"),
		p.at("keys/to-the-parent/elsewhere/key"),
	}
	entries, err := os.ReadDir(p.at("keys"))
	p.must(err)
	for _, entry := range entries {
		if entry.Type() == os.ModeSymlink {
			outside = append(outside, p.at("keys/"+entry.Name()))
		}
	}
	if len(outside) < 30 {
		t.Fatalf("only %q", outside)
	}
	want := "allowed: a file below " + p.at("keys")
	for _, path := range outside {
		for _, secret := range []bool{true, false} {
			content, err := p.open().Read(path, 64, secret)
			if err == nil || err.Error() != want || content != nil {
				t.Errorf("%s: got %q %v, want %s", path, content, err, want)
			}
		}
	}
}

func TestInvalidKeyDirectoryFileRefusesAllFiles(t *testing.T) {
	rows := []struct {
		name string
		make func(p *keyTree)
	}{
		{"a relative path", func(p *keyTree) { p.configure("keys\n") }},
		{"two lines", func(p *keyTree) { p.configure(p.at("keys") + "\n" + p.at("elsewhere") + "\n") }},
		{"an empty line before the path", func(p *keyTree) { p.configure("\n" + p.at("keys") + "\n") }},
		{"an empty line after the path", func(p *keyTree) { p.configure(p.at("keys") + "\n\n") }},
		{"an empty file", func(p *keyTree) { p.configure("") }},
		{"only a newline", func(p *keyTree) { p.configure("\n") }},
		{"a line that ends in CR LF", func(p *keyTree) { p.configure(p.at("keys") + "\r\n") }},
		{"a path with ..", func(p *keyTree) { p.configure(p.at("keys") + "/../keys\n") }},
		{"a path with a NUL", func(p *keyTree) { p.configure(p.at("keys") + "\x00\n") }},
		{"a blank after the path", func(p *keyTree) { p.configure(p.at("keys") + " \n") }},
		{"a path of 5,001 bytes", func(p *keyTree) { p.configure("/" + strings.Repeat("x", 5000)) }},
		{"a directory that does not exist", func(p *keyTree) { p.configure(p.at("none")) }},
		{"a file instead of a directory", func(p *keyTree) { p.configure(p.at("keys/key")) }},
		{"a directory that other users can write", func(p *keyTree) { p.must(os.Chmod(p.at("keys"), 0o777)) }},
		{"a file that other users can write", func(p *keyTree) { p.must(os.Chmod(p.at("key-directory"), 0o666)) }},
		{"a file that the group can write", func(p *keyTree) { p.must(os.Chmod(p.at("key-directory"), 0o664)) }},
		{"a file of another user", func(p *keyTree) {
			if os.Geteuid() != 0 {
				p.Skip("requires root: to change the owner of a file")
			}
			p.must(os.Chown(p.at("key-directory"), 65534, 0))
		}},
		{"a link to nothing", func(p *keyTree) {
			p.must(os.Remove(p.at("key-directory")), os.Symlink(p.at("none"), p.at("key-directory")))
		}},
		{"a directory", func(p *keyTree) {
			p.must(os.Remove(p.at("key-directory")), os.Mkdir(p.at("key-directory"), 0o700))
		}},
		{"a pipe without a writer", func(p *keyTree) {
			p.must(os.Remove(p.at("key-directory")), unix.Mkfifo(p.at("key-directory"), 0o600))
		}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			p := newKeyTree(t)
			row.make(p)
			for _, path := range []string{"keys/key", "keys/none", "elsewhere/key"} {
				k := p.open()
				content, err := k.Read(p.at(path), 64, true)
				if err == nil || content != nil || !strings.HasPrefix(err.Error(), p.at("key-directory")+": ") ||
					strings.ContainsAny(err.Error(), "\n\r\x00") {
					t.Errorf("%s: got %q %v", path, content, err)
				}
				if len(k.Unexpected()) > 0 {
					t.Errorf("unexpected %q", k.Unexpected())
				}
			}
		})
	}
}

func TestWithoutConfiguredDirectoryAllFilesAreRead(t *testing.T) {
	p := newKeyTree(t)
	p.must(os.Remove(p.at("key-directory")))
	k := p.open()
	for _, path := range []string{"elsewhere/key", "keys/key"} {
		if content, err := k.Read(p.at(path), 64, true); err != nil || string(content) != "key of "+path {
			t.Errorf("%s: got %q %v", path, content, err)
		}
	}
	_, missing := k.Read(p.at("elsewhere/none"), 64, true)
	_, usual := k.Read(usualDirectory+"/none", 64, true)
	if missing == nil || usual == nil {
		t.Error("a file that does not exist was read")
	}
	want := []string{p.at("elsewhere/key"), p.at("elsewhere/none"), p.at("keys/key")}
	if !slices.Equal(k.Unexpected(), want) {
		t.Errorf("got %q, want %q", k.Unexpected(), want)
	}

	p.configure("/\n")
	k = p.open()
	content, err := k.Read(p.at("elsewhere/key"), 64, true)
	if err != nil || len(content) == 0 || len(k.Unexpected()) > 0 {
		t.Errorf("with / as the directory: got %q %v, unexpected %q", content, err, k.Unexpected())
	}
}

func TestContainerFileIsNeverRead(t *testing.T) {
	rows := []struct {
		name string
		make func(p *keyTree, path string)
	}{
		{"by a symbolic link", func(p *keyTree, path string) { p.must(os.Symlink(p.at("svc-one/a/secrets"), path)) }},
		{"by a symbolic link to its directory", func(p *keyTree, path string) {
			p.must(os.Symlink(p.at("svc-one/a"), p.at("elsewhere/link")), os.Symlink("../elsewhere/link/secrets", path))
		}},
		{"by a hard link", func(p *keyTree, path string) { p.must(os.Link(p.at("svc-one/a/secrets"), path)) }},
		{"by a file descriptor of this process", func(p *keyTree, path string) {
			f, err := os.Open(p.at("svc-one/a/secrets"))
			p.must(err)
			p.Cleanup(func() { _ = f.Close() })
			p.must(os.Symlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), path))
		}},
		{"by the root directory of this process", func(p *keyTree, path string) {
			p.must(os.Symlink("/proc/self/root"+p.at("svc-one/a/secrets"), path))
		}},
	}
	for _, row := range rows {
		for _, configured := range []bool{false, true} {
			t.Run(row.name, func(t *testing.T) {
				p := newKeyTree(t)
				path, want := p.at("keys/file"), errReserved.Error()
				row.make(p, path)
				if !configured {
					p.must(os.Remove(p.at("key-directory")))
				} else if stat, err := os.Lstat(path); err == nil && stat.Mode()&os.ModeSymlink != 0 {
					want = "allowed: a file below " + p.at("keys")
				}
				content, err := p.open().Read(path, 64, true)
				if err == nil || content != nil || err.Error() != want {
					t.Errorf("got %q %v, want %s", content, err, want)
				}
			})
		}
	}
	t.Run("by its own path, existing or not", func(t *testing.T) {
		p := newKeyTree(t)
		p.must(os.Remove(p.at("key-directory")))
		for _, path := range []string{"svc-one/a/secrets", "svc-one/a/none", "svc-one/none/x", "svc-one/a"} {
			if _, err := p.open().Read(p.at(path), 64, true); !errors.Is(err, errReserved) {
				t.Errorf("%s: got %v", path, err)
			}
		}
	})
}

func TestBindMountOfContainerFilesIsNotRead(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("requires root: to mount")
	}
	p := newKeyTree(t)
	p.must(os.Mkdir(p.at("keys/mounted"), 0o700))
	write(t, p.at("keys/one"), []byte("x"), 0o600)
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The thread is never unlocked, so it ends with this function, and its mount namespace with it.
		runtime.LockOSThread()
		err := errors.Join(unix.Unshare(unix.CLONE_NEWNS|unix.CLONE_FS),
			unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
			unix.Mount(p.at("svc-one/a"), p.at("keys/mounted"), "", unix.MS_BIND, ""),
			unix.Mount(p.at("svc-one/a/secrets"), p.at("keys/one"), "", unix.MS_BIND, ""))
		if err != nil {
			t.Errorf("mount: %v", err)
			return
		}
		for _, path := range []string{"keys/mounted/secrets", "keys/one"} {
			if content, err := p.open().Read(p.at(path), 64, true); !errors.Is(err, errReserved) || content != nil {
				t.Errorf("%s: got %q %v", path, content, err)
			}
		}
		if content, err := p.open().Read(p.at("keys/key"), 64, true); err != nil || len(content) == 0 {
			t.Errorf("a file in the same directory: got %q %v", content, err)
		}
	}()
	<-done
}

func TestDirectoryOfDaemonIsNotSearched(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("requires root: to change the owner of a directory")
	}
	p := newKeyTree(t)
	p.must(os.Mkdir(p.at("svc-one/a/run"), 0o700), os.Link(p.at("keys/key"), p.at("svc-one/a/run/link")),
		os.Chown(p.at("svc-one/a/run"), 65534, 65534))
	if content, err := p.open().Read(p.at("keys/key"), 64, true); err != nil || len(content) == 0 {
		t.Errorf("the key was not read because of a hard link of the daemon: %q %v", content, err)
	}
}

func TestReservedDirectories(t *testing.T) {
	for path, want := range map[string]bool{
		"/var/lib/svc-supervisor/containers/a.IPSEC": true, "/run/svc-supervisor/by-hand/a.json": true,
		"/run/svc-ipsec/a/found.json": true, "/run/svc-echo/a/x": true,
		"/etc/svc-supervisor/keys/a": false, "/run/keys/a": false, "/run/svc-key": false,
		"/var/lib/svc-supervisor-keys/a": false, "/srv/run/svc-ipsec/a": false, "/": false,
	} {
		if got := anywhere().isReserved(path); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
}
