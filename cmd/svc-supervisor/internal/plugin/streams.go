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
	"unicode"
)

const (
	lineLimit   = 2 << 10   // bytes of a stderr line that are kept
	stderrLimit = 256 << 10 // bytes of stderr of one verb that are relayed
	lastLines   = 5         // stderr lines that an error repeats
)

// streams are the three pipes to an executable.
type streams struct {
	stdin, stdout, stderr *os.File // our ends
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
		s.closeOurs()
		s.closeTheirs()
		return nil, err
	}
	return s, nil
}

func (s *streams) closeTheirs() {
	for _, f := range s.childEnds {
		_ = f.Close()
	}
}

func (s *streams) closeOurs() {
	for _, f := range []*os.File{s.stdin, s.stdout, s.stderr} {
		_ = f.Close()
	}
}

// reading is the traffic of one verb on its three pipes.
type reading struct {
	streams  *streams
	done     sync.WaitGroup
	overflow chan struct{} // closed when stdout passes its limit
	stdout   bytes.Buffer
	last     []string
}

// read starts to write stdin and to read the others.
func (s *streams) read(stdin []byte, line func(string)) *reading {
	r := &reading{streams: s, overflow: make(chan struct{})}
	r.done.Go(func() {
		_, _ = s.stdin.Write(stdin) // an executable need not read it: a broken pipe is no fault
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

// relay hands on stderr line by line. What is too much is read and dropped, so that the executable does not block.
func (r *reading) relay(stderr io.Reader, line func(string)) {
	lines := bufio.NewReaderSize(stderr, lineLimit)
	relayed := 0
	for {
		text, isPrefix, err := lines.ReadLine()
		if err != nil {
			return
		}
		s := oneLine(string(text))
		for isPrefix && err == nil {
			_, isPrefix, err = lines.ReadLine() // the rest of an over-long line
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

// finish waits for the end of the streams, which a child that holds the pipe may put off: then it cuts them after the
// given time.
func (r *reading) finish(patience time.Duration) (stdout []byte, lastLines []string) {
	deadline := time.Now().Add(patience)
	for _, f := range []*os.File{r.streams.stdin, r.streams.stdout, r.streams.stderr} {
		_ = f.SetDeadline(deadline)
	}
	r.done.Wait()
	r.streams.closeOurs()
	return r.stdout.Bytes(), r.last
}

func (r *reading) overflowed() bool {
	select {
	case <-r.overflow:
		return true
	default:
		return false
	}
}

// oneLine makes one printable line of foreign text.
func oneLine(s string) string {
	s = strings.Map(func(c rune) rune {
		if c == '\n' || c == '\t' || c == '\r' {
			return ' '
		}
		if !unicode.IsPrint(c) {
			return '�'
		}
		return c
	}, s)
	return strings.TrimSpace(s)
}
