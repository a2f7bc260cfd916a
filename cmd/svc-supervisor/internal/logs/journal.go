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

// journalSocket is the socket on which journald accepts streams. Each line of a stream is a log message.
const journalSocket = "/run/systemd/journal/stdout"

// Stderr returns the writer for the log, and reports whether journald reads it. After the call SIGPIPE does not end the
// process. Otherwise a write to stderr would end it when journald has closed the stream.
//
// When journald's sockets are stopped, the stream that systemd connected to stderr is closed permanently, also after
// journald is started again. So the writer connects a new stream in the place of stderr and stdout as soon as journald
// accepts connections. If journald is stopped when the service starts, systemd connects stderr to /dev/null, and the
// writer replaces that in the same way.
func Stderr() (_ io.Writer, journal bool) {
	// signal.Ignore would do too, but child processes would inherit it.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	switch {
	case isStream(unix.Stderr, os.Getenv("JOURNAL_STREAM")):
		return &journalWriter{fd: unix.Stderr, stdout: unix.Stdout, socket: journalSocket}, true
	case os.Getenv("INVOCATION_ID") != "" && os.Getenv("NOTIFY_SOCKET") != "" && isNull(unix.Stderr):
		return &journalWriter{fd: unix.Stderr, stdout: unix.Stdout, socket: journalSocket, lostAt: time.Now()}, true
	}
	return os.Stderr, false
}

// isStream reports whether a descriptor is the stream with the given name. The name has the form of $JOURNAL_STREAM:
// <device>:<inode> (systemd.exec(5)).
func isStream(fd int, name string) bool {
	var stat unix.Stat_t
	return name != "" && unix.Fstat(fd, &stat) == nil && name == fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
}

// isNull reports whether a descriptor is /dev/null.
func isNull(fd int) bool {
	var stat, null unix.Stat_t
	return unix.Fstat(fd, &stat) == nil && unix.Stat(os.DevNull, &null) == nil &&
		stat.Mode&unix.S_IFMT == unix.S_IFCHR && stat.Rdev == null.Rdev
}

// journalWriter writes to the journald stream on a descriptor, and replaces the stream when it was closed. It is safe
// for concurrent use.
type journalWriter struct {
	fd     int
	stdout int // also replaced by a new stream if it had the same stream as fd; negative: none
	socket string

	mu     sync.Mutex
	lostAt time.Time // when the stream was found closed; zero if there is a stream
	lost   int       // the number of lines that were lost since lostAt
}

// Write writes one line. If journald does not accept connections, the line is lost, and Write logs the number of lost
// lines after the next successful connection. It always returns a nil error, because slog ignores errors.
func (w *journalWriter) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lostAt.IsZero() {
		err := writeAll(w.fd, line)
		if err == nil || !isClosed(err) {
			return len(line), nil
		}
		w.lostAt = time.Now()
	}
	if w.reconnect() != nil {
		w.lost++
		return len(line), nil
	}
	if w.lost > 0 {
		_ = writeAll(w.fd,
			fmt.Appendf(nil, "<4>level=WARN msg=\"log lines lost, journald was away\" count=%d since=%s\n",
				w.lost, w.lostAt.UTC().Format(time.RFC3339)))
	}
	w.lostAt, w.lost = time.Time{}, 0
	_ = writeAll(w.fd, line)
	return len(line), nil
}

// isClosed reports whether err means that journald has closed the stream.
func isClosed(err error) bool {
	return errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.ENOTCONN)
}

// reconnect connects a new stream and replaces fd, and stdout, by it. The first lines of a stream are the same as those
// of sd_journal_stream_fd(3): identifier, unit, default priority, whether lines have a priority prefix, and whether to
// forward to syslog, to kmsg and to the console.
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
	withStdout := w.stdout >= 0 && sameFile(w.fd, w.stdout)
	if err := unix.Dup3(fd, w.fd, 0); err != nil {
		return err
	}
	if withStdout {
		return unix.Dup3(fd, w.stdout, 0)
	}
	return nil
}

func sameFile(a, b int) bool {
	var first, second unix.Stat_t
	return unix.Fstat(a, &first) == nil && unix.Fstat(b, &second) == nil &&
		first.Dev == second.Dev && first.Ino == second.Ino
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
