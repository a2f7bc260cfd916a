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

// watch records the events of the files in a directory. The returned function returns the events since its last call,
// in order: "name created", "name: mode changed", "name written", "name moved here". The name of an unfinished file is
// "temporary".
func watch(t *testing.T, dir string) (events func() []string) {
	t.Helper()
	texts := []struct {
		mask uint32
		text string
	}{
		{unix.IN_CREATE, " created"},
		{unix.IN_ATTRIB, ": mode changed"},
		{unix.IN_MODIFY, " written"},
		{unix.IN_MOVED_TO, " moved here"},
	}
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	var all uint32
	for _, event := range texts {
		all |= event.mask
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
				name = "temporary"
			}
			for _, event := range texts {
				if mask&event.mask != 0 {
					events = append(events, name+event.text)
				}
			}
			left = left[unix.SizeofInotifyEvent+size:]
		}
		return events
	}
}

// TestFilesAreCreatedWithFinalMode sets the umask to 0, so that the final mode of a file is the one with which it was
// created. If the mode was changed later, inotify reports it.
func TestFilesAreCreatedWithFinalMode(t *testing.T) {
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

	inDirectory := watch(t, f.Path)
	if err := f.Files().SharedDir("etc"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{stateFile, stateFile, "etc/ipsec.secrets"} {
		if _, err := f.Files().Write(name, []byte("a key in "+name+time.Now().String())); err != nil {
			t.Fatal(err)
		}
	}
	written := []string{"temporary created", "temporary written", "state.json moved here"}
	if events := inDirectory(); !slices.Equal(events, slices.Concat([]string{"etc created"}, written, written)) {
		t.Errorf("in the container's directory: %q", events)
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
