package plugin

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/svc-supervisor/svc-supervisor/internal/busyclock"
	"github.com/svc-supervisor/svc-supervisor/internal/oneline"
)

const (
	lineLimit   = 2 << 10   // bytes of a stderr line; the rest of the line is dropped
	stderrLimit = 256 << 10 // bytes of stderr of one verb that are relayed
	lastLines   = 5         // number of stderr lines in an error
)

// streams has the three pipes to an executable.
type streams struct {
	stdin, stdout, stderr *os.File // the ends of this process
	childEnds             []*os.File
}

func openStreams() (*streams, error) {
	s := new(streams)
	var errs []error
	pipe := func() (r, w *os.File) {
		r, w, err := os.Pipe()
		errs = append(errs, err)
		return r, w
	}
	inR, inW := pipe()
	outR, outW := pipe()
	errR, errW := pipe()
	s.stdin, s.stdout, s.stderr = inW, outR, errR
	s.childEnds = []*os.File{inR, outW, errW}
	if err := errors.Join(errs...); err != nil {
		s.closeOwnEnds()
		s.closeChildEnds()
		return nil, err
	}
	return s, nil
}

func (s *streams) closeChildEnds() {
	for _, f := range s.childEnds {
		_ = f.Close()
	}
}

func (s *streams) closeOwnEnds() {
	for _, f := range []*os.File{s.stdin, s.stdout, s.stderr} {
		_ = f.Close()
	}
}

// transfer moves the data of one verb on its three pipes.
type transfer struct {
	streams  *streams
	done     sync.WaitGroup
	overflow chan struct{} // closed when stdout exceeds stdoutLimit
	stdout   bytes.Buffer
	last     []string // the last lines of stderr
}

// read starts to write stdin and to read stdout and stderr. It calls line for each line of stderr.
func (s *streams) read(stdin []byte, line func(string)) *transfer {
	r := &transfer{streams: s, overflow: make(chan struct{})}
	r.done.Go(func() {
		_, _ = s.stdin.Write(stdin) // an executable need not read stdin, so EPIPE is not an error
		_ = s.stdin.Close()
	})
	r.done.Go(func() {
		n, _ := io.Copy(&r.stdout, io.LimitReader(s.stdout, stdoutLimit+1))
		if n > stdoutLimit {
			close(r.overflow)
		}
	})
	r.done.Go(func() { r.relay(s.stderr, line) })
	return r
}

// relay calls line for each line of stderr that is not empty. Output above the limits is read and dropped, so that the
// executable does not block.
func (r *transfer) relay(stderr io.Reader, line func(string)) {
	lines := bufio.NewReaderSize(stderr, lineLimit)
	relayed := 0
	for {
		text, isPrefix, err := lines.ReadLine()
		if err != nil {
			return
		}
		s := oneLine(string(text))
		for isPrefix && err == nil {
			_, isPrefix, err = lines.ReadLine() // drop the rest of a line above lineLimit
		}
		if s == "" {
			continue
		}
		r.last = append(r.last, s)
		if len(r.last) > lastLines {
			r.last = r.last[1:]
		}
		if relayed > stderrLimit {
			continue
		}
		if relayed += len(s); relayed > stderrLimit {
			s = "more output on stderr is not relayed"
		}
		if line != nil {
			line(s)
		}
	}
}

// finish waits for the end of the streams, and returns stdout and the last lines of stderr. Another process may hold a
// pipe open; then finish stops reading after the timeout.
func (r *transfer) finish(timeout time.Duration) (stdout []byte, lastLines []string) {
	stop := busyclock.AfterFunc(timeout, nil, func() {
		for _, f := range []*os.File{r.streams.stdin, r.streams.stdout, r.streams.stderr} {
			_ = f.SetDeadline(time.Now())
		}
	})
	r.done.Wait()
	stop()
	r.streams.closeOwnEnds()
	return r.stdout.Bytes(), r.last
}

func (r *transfer) overflowed() bool {
	select {
	case <-r.overflow:
		return true
	default:
		return false
	}
}

var blanks = strings.NewReplacer("\n", " ", "\t", " ", "\r", " ")

// oneLine makes one printable line of a text from outside of the supervisor.
func oneLine(s string) string {
	return strings.TrimSpace(oneline.Replace(blanks.Replace(s), '�'))
}
