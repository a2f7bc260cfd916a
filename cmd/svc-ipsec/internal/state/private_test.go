package state

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// watch takes down what happens to the entries of a directory, in order: "name created", "name written", "name: another mode".
func watch(t *testing.T, dir string) (seen func() []string) {
	t.Helper()
	words := []struct {
		mask uint32
		word string
	}{{unix.IN_CREATE, " created"}, {unix.IN_ATTRIB, ": another mode"}, {unix.IN_MODIFY, " written"}, {unix.IN_MOVED_TO, " moved here"}}
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	var all uint32
	for _, w := range words {
		all |= w.mask
	}
	if _, err := unix.InotifyAddWatch(fd, dir, all); err != nil {
		t.Fatal(err)
	}
	return func() (events []string) {
		buffer := make([]byte, 64<<10)
		n, err := unix.Read(fd, buffer)
		if err != nil {
			t.Fatal(err)
		}
		for left := buffer[:n]; len(left) > 0; {
			mask, size := binary.NativeEndian.Uint32(left[4:]), binary.NativeEndian.Uint32(left[12:])
			name := strings.TrimRight(string(left[unix.SizeofInotifyEvent:unix.SizeofInotifyEvent+size]), "\x00")
			if strings.HasPrefix(name, unfinished) {
				name = "aside"
			}
			for _, w := range words {
				if mask&w.mask != 0 {
					events = append(events, name+w.word)
				}
			}
			left = left[unix.SizeofInotifyEvent+size:]
		}
		return events
	}
}

// TestNothingIsOpenToOthersEvenBeforeItIsWritten takes the umask away, so that a mode is the one that it was made with; what
// was made with another one had to be given this one, which the kernel tells.
func TestNothingIsOpenToOthersEvenBeforeItIsWritten(t *testing.T) {
	parent := t.TempDir()
	before := unix.Umask(0)
	defer unix.Umask(before)
	if err := os.Mkdir(filepath.Join(parent, "watched"), 0o700); err != nil {
		t.Fatal(err)
	}
	parent = filepath.Join(parent, "watched")
	inParent := watch(t, parent)
	root := filepath.Join(parent, "svc-ipsec")
	f, err := Open(context.Background(), root, "vpn", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if events := inParent(); !slices.Equal(events, []string{"svc-ipsec created"}) {
		t.Errorf("the root: %q", events)
	}
	inRoot := watch(t, root)
	if f, err = Open(context.Background(), root, "other", time.Second); err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if events := inRoot(); !slices.Equal(events, []string{"other created"}) {
		t.Errorf("a container's directory: %q", events)
	}

	inFolder := watch(t, f.Path)
	if err := f.SharedDir("etc"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{stateFile, stateFile, "etc/ipsec.secrets"} {
		if _, err := f.Write(name, []byte("a key in "+name+time.Now().String())); err != nil {
			t.Fatal(err)
		}
	}
	written := []string{"aside created", "aside written", "state.json moved here"}
	if events := inFolder(); !slices.Equal(events, slices.Concat([]string{"etc created"}, written, written)) {
		t.Errorf("in it: %q", events)
	}
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		info, statErr := entry.Info()
		want := map[bool]fs.FileMode{true: 0o700, false: 0o600}[entry.IsDir()]
		if path == root {
			want = rootMode
		}
		if err = errors.Join(err, statErr); err == nil && info.Mode().Perm() != want {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
