// Package server starts server processes on loopback addresses for the test harnesses of this module. It has free ports
// for them, and relays that can be cut. The kernel kills the processes when their parent ends.
package server

import (
	"net"
	"os"
	"path/filepath"
	"syscall"
)

// requireEnv is the environment variable that makes a missing server a test failure. Without it, the test is skipped.
const requireEnv = "SVC_TEST_NSDB"

// TB is the part of testing.TB that a harness uses. A caller that is not a test may implement it too.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(func())
	TempDir() string
}

// SkipOrFail reports a missing server. It skips the test if tb can be skipped and SVC_TEST_NSDB is not 1, and fails it
// otherwise.
func SkipOrFail(tb TB, format string, args ...any) {
	tb.Helper()
	if skipper, ok := tb.(interface{ Skipf(string, ...any) }); ok && os.Getenv(requireEnv) != "1" {
		skipper.Skipf(format, args...)
	}
	tb.Fatalf(format, args...)
}

// FreePorts returns n different TCP ports that are free at the moment. It keeps all of them open until the last one is
// found.
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

// Process is a server process. The zero value is one that was not started.
type Process struct {
	process *os.Process
	done    chan struct{}
}

// Start starts the program argv[0] in the directory of the log file and appends its output to that file.
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
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = process.Wait()
	}()
	p.process, p.done = process, done
	return nil
}

// Started reports whether the process was started and not killed since. It may have ended by itself: see Done.
func (p *Process) Started() bool { return p.process != nil }

// Done returns a channel that is closed when the process that was started last has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Signal sends a signal to a started process.
func (p *Process) Signal(signal os.Signal) error { return p.process.Signal(signal) }

// Kill sends SIGKILL to the process and waits for its end. That also ends a stopped process.
func (p *Process) Kill() {
	if p.process == nil {
		return
	}
	_ = p.process.Kill()
	<-p.done
	p.process = nil
}
