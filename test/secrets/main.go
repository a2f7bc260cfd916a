// Secrets runs a command of the test suites and fails if a key that they use can be seen where none may be: in the
// journal, in a status, in a unit, on a command line or in an environment, in temporary folders, or in what the command
// itself prints.
//
//	secrets [-every DURATION] [-held FOLDER] COMMAND [ARG…]
//	secrets -in FILE…
//
// The keys are those in the sources of the tests, and those that svc-ipsec and the supervisor hold by design while the command runs:
// /run/svc-ipsec, readable by root and by the container's own user id (see isClosed), and the records, readable by root alone. They are looked for as they are and as programs
// would print them (see forms), if they have 8 bytes or more: a shorter one is found in any text.
//
// What comes and goes is looked at every so often: a program that ends sooner can be missed once, but not each of the
// hundred times that it is run. With -in it only searches files, for the keys in the sources.
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
	every := flag.Duration("every", 4*time.Millisecond, "how often to look for new processes")
	held := flag.String("held", "/", "the root of the folders that hold keys by design")
	in := flag.Bool("in", false, "search files instead")
	flag.Parse()
	if flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "usage: secrets [-every DURATION] [-held FOLDER] COMMAND [ARG…] | secrets -in FILE…")
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

// tick is how much older than now the kernel may make a file: its clock for that stands still between two ticks.
const tick = 10 * time.Millisecond

// watch runs the command, looks around meanwhile and afterwards, and answers with the exit code for both.
func watch(known *keys, every time.Duration, held string, command []string) int {
	began := time.Now()
	var output tee
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, output.to(os.Stdout), output.to(os.Stderr)
	// What the command left running may hold its output.
	cmd.WaitDelay = 5 * time.Second
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "secrets:", err)
		return 127
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()

	v := newView("/", held, known)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			v.look()
			continue
		case s := <-signals:
			_ = cmd.Process.Signal(s)
			continue
		case err := <-ended:
			v.look()
			code := 0
			if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
				code = max(cmd.ProcessState.ExitCode(), 1)
			}
			s := newSearch(known)
			v.search(s)
			s.left("/", began.Add(-tick))
			s.text("what the command printed", output.text.Bytes())
			if found := s.report(os.Stdout, v.String()+", the journal, what is left in temporary folders, the output"); code == 0 {
				code = found
			}
			return code
		}
	}
}

// tee keeps what it passes on.
type tee struct {
	lock sync.Mutex
	text bytes.Buffer
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

func (t *tee) to(w io.Writer) io.Writer {
	return writer(func(b []byte) (int, error) {
		t.lock.Lock()
		defer t.lock.Unlock()
		t.text.Write(b)
		return w.Write(b)
	})
}
