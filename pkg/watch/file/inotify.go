package file

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// watcher reports changes in directories, from inotify(7). Unlike fsnotify it distinguishes a file that was renamed into place, which
// is complete, from one that was created there and is still to be written.
type watcher struct {
	events chan event
	lost   chan error // events were lost
	file   *os.File
	conn   syscall.RawConn
	closed chan struct{}

	mu    sync.Mutex
	paths map[int32][]string // of the watched directories, by watch descriptor; several paths can lead to one directory
}

// event is one change.
type event struct {
	path    string // of the file, or of the watched directory if that itself changed
	renamed bool   // the file was renamed into this place
}

const (
	watchMask = unix.IN_CREATE | unix.IN_MODIFY | unix.IN_CLOSE_WRITE | unix.IN_ATTRIB | unix.IN_DELETE | unix.IN_MOVED_FROM |
		unix.IN_MOVED_TO | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR
	watchBuffer = 64 << 10 // bytes; one event has 272 at most
)

var errOverflow = errors.New("inotify event queue overflowed")

func newWatcher() (*watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify: %w", err)
	}
	w := &watcher{
		events: make(chan event), lost: make(chan error), file: os.NewFile(uintptr(fd), "inotify"), closed: make(chan struct{}),
		paths: map[int32][]string{},
	}
	if w.conn, err = w.file.SyscallConn(); err != nil {
		_ = w.file.Close()
		return nil, fmt.Errorf("inotify: %w", err)
	}
	go w.read()
	return w, nil
}

// add watches a directory.
func (w *watcher) add(path string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var descriptor int
	var failed error
	err := w.conn.Control(func(fd uintptr) { descriptor, failed = unix.InotifyAddWatch(int(fd), path, watchMask) })
	if err = errors.Join(err, failed); err != nil {
		return fmt.Errorf("watch %s: %w", path, err)
	}
	if list := w.paths[int32(descriptor)]; !slices.Contains(list, path) {
		w.paths[int32(descriptor)] = append(list, path)
	}
	return nil
}

// watched says whether a directory is watched. The kernel ends a watch when the directory is deleted or unmounted.
func (w *watcher) watched(path string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, list := range w.paths {
		if slices.Contains(list, path) {
			return true
		}
	}
	return false
}

func (w *watcher) close() {
	close(w.closed)
	_ = w.file.Close()
}

// read hands over what the kernel reports, until close.
func (w *watcher) read() {
	buffer := make([]byte, watchBuffer)
	for {
		n, err := w.file.Read(buffer)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil { // nothing is watched any more, so follow makes another watcher
			w.mu.Lock()
			clear(w.paths)
			w.mu.Unlock()
			select {
			case w.lost <- fmt.Errorf("inotify: %w", err):
			case <-w.closed:
			}
			return
		}
		for rest := buffer[:n]; len(rest) >= unix.SizeofInotifyEvent; {
			descriptor, mask := int32(binary.NativeEndian.Uint32(rest)), binary.NativeEndian.Uint32(rest[4:])
			end := min(unix.SizeofInotifyEvent+int(binary.NativeEndian.Uint32(rest[12:])), len(rest))
			name, _, _ := bytes.Cut(rest[unix.SizeofInotifyEvent:end], []byte{0})
			rest = rest[end:]
			if !w.hand(descriptor, mask, string(name)) {
				return
			}
		}
	}
}

// hand hands over one event; false after close.
func (w *watcher) hand(descriptor int32, mask uint32, name string) bool {
	if mask&unix.IN_Q_OVERFLOW != 0 {
		select {
		case w.lost <- errOverflow:
			return true
		case <-w.closed:
			return false
		}
	}
	w.mu.Lock()
	directories := slices.Clone(w.paths[descriptor])
	if mask&unix.IN_IGNORED != 0 { // the watch has ended
		delete(w.paths, descriptor)
	}
	w.mu.Unlock()
	for _, directory := range directories {
		select {
		case w.events <- event{filepath.Join(directory, name), mask&unix.IN_MOVED_TO != 0}:
		case <-w.closed:
			return false
		}
	}
	return true
}
