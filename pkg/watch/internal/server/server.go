// Package server is what the harnesses of real servers share: a process on loopback that is killed with whoever started it,
// and ports for it.
package server

import (
	"net"
	"os"
	"path/filepath"
	"syscall"
)

// Must is the variable that makes a server that is not installed a failure: otherwise the test is skipped.
const Must = "SVC_TEST_NSDB"

// TB is what a harness needs of a test; a command can stand in for one.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(func())
	TempDir() string
}

// Absent skips where the caller can be skipped and nothing demands the servers.
func Absent(tb TB, format string, args ...any) {
	tb.Helper()
	if skipper, ok := tb.(interface{ Skipf(string, ...any) }); ok && os.Getenv(Must) != "1" {
		skipper.Skipf(format, args...)
	}
	tb.Fatalf(format, args...)
}

// FreePorts finds ports that nobody listens on now. All are held until the last is found, so that they differ.
func FreePorts(n int) (ports []int, err error) {
	for range n {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer listener.Close()
		ports = append(ports, listener.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

// Process is a server that may run.
type Process struct {
	process *os.Process
	gone    chan struct{}
}

// Start starts the program argv[0] in the folder of its log, which its output is added to.
func (p *Process) Start(argv []string, log string) error {
	output, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer output.Close()
	process, err := os.StartProcess(argv[0], argv, &os.ProcAttr{
		Dir:   filepath.Dir(log),
		Env:   []string{"PATH=/usr/bin:/bin"},
		Files: []*os.File{nil, output, output},
		Sys:   &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true},
	})
	if err != nil {
		return err
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, _ = process.Wait()
	}()
	p.process, p.gone = process, gone
	return nil
}

// Started says whether it was started and not killed since. It may have ended by itself: see Gone.
func (p *Process) Started() bool { return p.process != nil }

// Gone is closed when the process that was started last has ended.
func (p *Process) Gone() <-chan struct{} { return p.gone }

// Signal sends a started process a signal.
func (p *Process) Signal(signal os.Signal) error { return p.process.Signal(signal) }

// Kill ends the process, a frozen one too, and waits for its end.
func (p *Process) Kill() {
	if p.process == nil {
		return
	}
	_ = p.process.Kill()
	<-p.gone
	p.process = nil
}
