// Secrets runs a command of the test suites. It fails if a key that the tests use appears in a place where keys must
// not be: in the journal, in a status, in a unit, on a command line, in an environment, in a temporary directory, or in
// the output of the command.
//
//	secrets [-every DURATION] [-held DIRECTORY] COMMAND [ARG…]
//	secrets -in FILE…
//
// The keys are those in the sources of the tests, and those in the files that contain keys by design while the command
// runs. These files are below /run/svc-ipsec, where only root and the container's own user id can read them (see
// mayHoldKeys), and the records, which only root can read. The program searches for each key of at least 8 bytes, in
// its original form and in the forms in which programs may print it (see forms). A shorter key would be found in texts
// that are unrelated to it.
//
// Processes are polled at an interval. A process that ends within the interval can be missed, but tests run most
// programs so often that a key on a command line is found sooner or later. With -in, the program only searches files
// for the keys in the sources.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

func main() {
	every := flag.Duration("every", 4*time.Millisecond, "the interval at which to poll for new processes")
	held := flag.String("held", "/", "the root of the directories that contain keys by design")
	in := flag.Bool("in", false, "search files instead of running a command")
	flag.Parse()
	if flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "usage: secrets [-every DURATION] [-held DIRECTORY] COMMAND [ARG…] | secrets -in FILE…")
		os.Exit(2)
	}
	known := newKeys()
	if err := known.fromSources("."); err != nil {
		fmt.Fprintln(os.Stderr, "secrets:", err)
		os.Exit(1)
	}
	if *in {
		os.Exit(searchFiles(known, flag.Args()))
	}
	os.Exit(watch(known, *every, *held, flag.Args()))
}

func searchFiles(known *keys, paths []string) int {
	s := newSearch(known)
	for _, path := range paths {
		s.file(path)
	}
	return s.report(os.Stdout, fmt.Sprintf("%d files", len(paths)))
}

// tick is the maximum by which the time stamp of a new file may lie in the past: the kernel's clock for time stamps
// advances with each timer tick only.
const tick = 10 * time.Millisecond

// watch runs the command, collects texts while it runs, and searches them and the remaining files after it has ended.
// It returns the exit code of the command if that failed, and otherwise 1 if a key was found.
func watch(known *keys, every time.Duration, held string, command []string) int {
	began := time.Now()
	var output tee
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, output.to(os.Stdout), output.to(os.Stderr)
	// A process that the command left behind may keep its output open.
	cmd.WaitDelay = 5 * time.Second
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "secrets:", err)
		return 127
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()

	m := newMonitor("/", held, known)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			m.poll()
			continue
		case s := <-signals:
			_ = cmd.Process.Signal(s)
			continue
		case err := <-ended:
			m.poll()
			code := 0
			if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
				code = max(cmd.ProcessState.ExitCode(), 1)
			}
			s := newSearch(known)
			m.search(s)
			s.remaining("/", began.Add(-tick))
			s.text("output of the command", output.text.Bytes())
			where := m.String() + ", the journal, the files in temporary directories, the output"
			if found := s.report(os.Stdout, where); code == 0 {
				code = found
			}
			return code
		}
	}
}

// tee keeps a copy of the output that passes through its writers.
type tee struct {
	lock sync.Mutex
	text bytes.Buffer
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

// to returns a writer that writes to w and to the copy.
func (t *tee) to(w io.Writer) io.Writer {
	return writer(func(b []byte) (int, error) {
		t.lock.Lock()
		defer t.lock.Unlock()
		t.text.Write(b)
		return w.Write(b)
	})
}
