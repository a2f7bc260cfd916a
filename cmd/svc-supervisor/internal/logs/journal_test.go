package logs

import (
	"bufio"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// journald is a server on a socket in the place of journald.
type journald struct {
	t        *testing.T
	path     string
	listener *net.UnixListener
	stream   *net.UnixConn
}

func (j *journald) start() {
	j.t.Helper()
	_ = os.Remove(j.path)
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: j.path, Net: "unix"})
	if err != nil {
		j.t.Fatal(err)
	}
	j.listener = listener
}

// accept accepts the next stream and returns its lines.
func (j *journald) accept() *bufio.Scanner {
	j.t.Helper()
	stream, err := j.listener.AcceptUnix()
	if err != nil {
		j.t.Fatal(err)
	}
	j.stream = stream
	return bufio.NewScanner(stream)
}

func (j *journald) stop() {
	_ = j.stream.Close()
	_ = j.listener.Close()
}

// read returns the next n lines, separated by "|".
func read(lines *bufio.Scanner, n int) string {
	var text []string
	for len(text) < n && lines.Scan() {
		text = append(text, lines.Text())
	}
	return strings.Join(text, "|")
}

func TestLoggingContinuesAfterJournaldRestarts(t *testing.T) {
	j := &journald{t: t, path: filepath.Join(t.TempDir(), "stdout")}
	j.start()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	stdout, err := unix.Dup(fds[0])
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(stdout)
	w := &journalWriter{fd: fds[0], stdout: stdout, socket: j.path}
	write := func(line string) {
		t.Helper()
		if n, err := w.Write([]byte(line + "\n")); n != len(line)+1 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
	write("one")
	_ = unix.Close(fds[1])
	_ = j.listener.Close()
	write("two")
	write("three")
	j.start()
	write("four")
	lines := j.accept()
	header := filepath.Base(os.Args[0]) + "||6|1|0|0|0"
	if got := read(lines, 7); got != header {
		t.Errorf("header %q", got)
	}
	got := read(lines, 2)
	const lost = `<4>level=WARN msg="log lines lost, journald was away" count=2 since=`
	if !strings.HasPrefix(got, lost) || !strings.HasSuffix(got, "|four") {
		t.Errorf("lines %q", got)
	}
	if err := writeAll(stdout, []byte("stdout\n")); err != nil || read(lines, 1) != "stdout" {
		t.Errorf("stdout did not get the new stream: %v", err)
	}
	write("five")
	if got := read(lines, 1); got != "five" {
		t.Errorf("line %q", got)
	}

	// If nothing is logged while journald restarts, no line is lost.
	j.stop()
	j.start()
	write("six")
	lines = j.accept()
	if got := read(lines, 8); got != header+"|six" {
		t.Errorf("lines %q", got)
	}
	j.stop()
}

func TestOtherFilesAreNotTheJournalStream(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if isStream(int(file.Fd()), "8:1") || isStream(int(file.Fd()), "") || isNull(int(file.Fd())) {
		t.Error("a file is recognized as the journal's stream or as /dev/null")
	}
	if !isNull(int(null.Fd())) || isStream(int(null.Fd()), "8:1") {
		t.Error("/dev/null is not recognized")
	}
}
