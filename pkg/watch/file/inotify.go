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

// inotify reports changes in directories, using inotify(7). Unlike fsnotify, it distinguishes a file that was renamed
// into place, which is complete, from a file that was created in place, which is yet to be written.
type inotify struct {
	events chan event
	lost   chan error // receives the reason when events were lost
	file   *os.File
	conn   syscall.RawConn
	closed chan struct{}

	mu    sync.Mutex
	paths map[int32][]string // watched directories by watch descriptor; several paths can lead to one directory
}

// event is one change in a watched directory.
type event struct {
	path    string // of the file, or of the watched directory if the directory itself changed
	renamed bool   // the file was renamed into this place
}

const (
	eventMask = unix.IN_CREATE | unix.IN_MODIFY | unix.IN_CLOSE_WRITE | unix.IN_ATTRIB | unix.IN_DELETE |
		unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR
	eventBufferSize = 64 << 10 // bytes; one event has at most 272
)

var errOverflow = errors.New("inotify event queue overflowed")

func newInotify() (*inotify, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify: %w", err)
	}
	i := &inotify{
		events: make(chan event),
		lost:   make(chan error),
		file:   os.NewFile(uintptr(fd), "inotify"),
		closed: make(chan struct{}),
		paths:  map[int32][]string{},
	}
	if i.conn, err = i.file.SyscallConn(); err != nil {
		_ = i.file.Close()
		return nil, fmt.Errorf("inotify: %w", err)
	}
	go i.read()
	return i, nil
}

// add watches a directory.
func (i *inotify) add(path string) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	var descriptor int
	var failed error
	err := i.conn.Control(func(fd uintptr) { descriptor, failed = unix.InotifyAddWatch(int(fd), path, eventMask) })
	if err = errors.Join(err, failed); err != nil {
		return fmt.Errorf("watch %s: %w", path, err)
	}
	if list := i.paths[int32(descriptor)]; !slices.Contains(list, path) {
		i.paths[int32(descriptor)] = append(list, path)
	}
	return nil
}

// watched reports whether a directory is watched. The kernel removes a watch when the directory is deleted or
// unmounted.
func (i *inotify) watched(path string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, list := range i.paths {
		if slices.Contains(list, path) {
			return true
		}
	}
	return false
}

func (i *inotify) close() {
	close(i.closed)
	_ = i.file.Close()
}

// read sends the events of the kernel until close is called.
func (i *inotify) read() {
	buffer := make([]byte, eventBufferSize)
	for {
		n, err := i.file.Read(buffer)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil { // without paths, dirWatches.update replaces this instance
			i.mu.Lock()
			clear(i.paths)
			i.mu.Unlock()
			select {
			case i.lost <- fmt.Errorf("inotify: %w", err):
			case <-i.closed:
			}
			return
		}
		for rest := buffer[:n]; len(rest) >= unix.SizeofInotifyEvent; {
			descriptor, mask := int32(binary.NativeEndian.Uint32(rest)), binary.NativeEndian.Uint32(rest[4:])
			end := min(unix.SizeofInotifyEvent+int(binary.NativeEndian.Uint32(rest[12:])), len(rest))
			name, _, _ := bytes.Cut(rest[unix.SizeofInotifyEvent:end], []byte{0})
			rest = rest[end:]
			if !i.send(descriptor, mask, string(name)) {
				return
			}
		}
	}
}

// send sends one event of the kernel. It returns false after close.
func (i *inotify) send(descriptor int32, mask uint32, name string) bool {
	if mask&unix.IN_Q_OVERFLOW != 0 {
		select {
		case i.lost <- errOverflow:
			return true
		case <-i.closed:
			return false
		}
	}
	i.mu.Lock()
	directories := slices.Clone(i.paths[descriptor])
	if mask&unix.IN_IGNORED != 0 { // the watch has ended
		delete(i.paths, descriptor)
	}
	i.mu.Unlock()
	for _, directory := range directories {
		select {
		case i.events <- event{filepath.Join(directory, name), mask&unix.IN_MOVED_TO != 0}:
		case <-i.closed:
			return false
		}
	}
	return true
}
