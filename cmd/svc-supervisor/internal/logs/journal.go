package logs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// journalSocket is where journald accepts streams: each line of one is a message.
const journalSocket = "/run/systemd/journal/stdout"

// Stderr returns the writer for the log, and whether journald reads it. From then on SIGPIPE does not end the process: a write to
// stderr after journald has gone would, otherwise.
//
// When journald's sockets are stopped, the stream that systemd connected is gone for good, and no later write reaches journald. So the
// writer connects a stream of its own, in the place of stderr and stdout, as soon as journald is back. If journald is away when the
// service starts, systemd gives it /dev/null for stderr; then the writer does the same.
func Stderr() (_ io.Writer, journal bool) {
	// Not signal.Ignore: programs that this process starts would inherit that.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	switch {
	case isStream(unix.Stderr, os.Getenv("JOURNAL_STREAM")):
		return &journalWriter{fd: unix.Stderr, stdout: unix.Stdout, socket: journalSocket}, true
	case os.Getenv("INVOCATION_ID") != "" && os.Getenv("NOTIFY_SOCKET") != "" && isNull(unix.Stderr):
		return &journalWriter{fd: unix.Stderr, stdout: unix.Stdout, socket: journalSocket, lostAt: time.Now()}, true
	}
	return os.Stderr, false
}

// isStream reports whether a descriptor is the stream that $JOURNAL_STREAM names, as <device>:<inode> (systemd.exec(5)).
func isStream(fd int, name string) bool {
	var stat unix.Stat_t
	return name != "" && unix.Fstat(fd, &stat) == nil && name == fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
}

func isNull(fd int) bool {
	var stat, null unix.Stat_t
	return unix.Fstat(fd, &stat) == nil && unix.Stat(os.DevNull, &null) == nil &&
		stat.Mode&unix.S_IFMT == unix.S_IFCHR && stat.Rdev == null.Rdev
}

// journalWriter writes to the stream on a descriptor, and replaces a stream that is gone. It is safe for concurrent use.
type journalWriter struct {
	fd     int
	stdout int // gets the new stream too, if it had the same one; negative: none
	socket string

	mu     sync.Mutex
	lostAt time.Time // since when there is no stream; zero: there is one
	lost   int       // lines since then
}

// Write writes one line, or loses it if journald is away. It never returns an error: slog would do nothing with it.
func (w *journalWriter) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lostAt.IsZero() {
		err := writeAll(w.fd, line)
		if err == nil || !isGone(err) {
			return len(line), nil
		}
		w.lostAt = time.Now()
	}
	if w.reconnect() != nil {
		w.lost++
		return len(line), nil
	}
	if w.lost > 0 {
		_ = writeAll(w.fd, fmt.Appendf(nil, "<4>level=WARN msg=\"log lines lost, journald was away\" count=%d since=%s\n",
			w.lost, w.lostAt.UTC().Format(time.RFC3339)))
	}
	w.lostAt, w.lost = time.Time{}, 0
	_ = writeAll(w.fd, line)
	return len(line), nil
}

func isGone(err error) bool {
	return errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.ENOTCONN)
}

// reconnect puts a new stream in the place of the old one. Its first lines are those of sd_journal_stream_fd(3): identifier, unit,
// priority, whether a line begins with its own priority, and three places where journald could forward it to.
func (w *journalWriter) reconnect() error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: w.socket}); err != nil {
		return err
	}
	header := filepath.Base(os.Args[0]) + "\n\n6\n1\n0\n0\n0\n"
	if err := errors.Join(unix.Shutdown(fd, unix.SHUT_RD), writeAll(fd, []byte(header))); err != nil {
		return err
	}
	both := w.stdout >= 0 && sameFile(w.fd, w.stdout)
	if err := unix.Dup3(fd, w.fd, 0); err != nil {
		return err
	}
	if both {
		return unix.Dup3(fd, w.stdout, 0)
	}
	return nil
}

func sameFile(a, b int) bool {
	var first, second unix.Stat_t
	return unix.Fstat(a, &first) == nil && unix.Fstat(b, &second) == nil && first.Dev == second.Dev && first.Ino == second.Ino
}

func writeAll(fd int, text []byte) error {
	for len(text) > 0 {
		n, err := unix.Write(fd, text)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		text = text[max(n, 0):]
	}
	return nil
}
