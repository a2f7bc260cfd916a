package plugin

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/internal/patience"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

const (
	stdoutLimit = 1 << 20 // bytes; a result with a thousand connections has a third of it
	drainTime   = time.Second
	dyingTime   = 5 * time.Second
)

// BlockedTime is how long, by the clock of package patience, a verb and its descendants use less than 10 ms of a processor before
// the verb counts as blocked.
const BlockedTime = 2 * time.Second

// Run runs the verb and returns its stdout. The error is a *spec.Error if the executable answered with one, else a
// *NoAnswer. ctx ends the verb early, as its deadline does. A process that even SIGKILL does not end, since the kernel keeps
// it, is left behind, and collected when it has ended.
func (v *Inventory) Run(ctx context.Context, call Call) ([]byte, error) {
	// The last scan may be some seconds old, and the owner of a directory on the path may have changed since.
	if f := look(call.Executable); f.refusal != "" {
		return nil, &NoAnswer{Reason: fmt.Sprintf("start %s: refused: %s", call.Executable, f.refusal)}
	}
	process, streams, err := v.children.start(&call, v.dirs)
	if err != nil {
		return nil, &NoAnswer{Reason: fmt.Sprintf("start %s: %v", call.Executable, err)}
	}
	// The kernel kills a child whose parent thread ends (Pdeathsig is the thread's): this one must live as long.
	defer runtime.UnlockOSThread()

	ctx, cancel := patience.WithTimeoutCause(ctx, call.Deadline, func() time.Duration { return used(process.Pid) },
		fmt.Errorf("deadline of %v", call.Deadline))
	defer cancel()
	if call.Blocked != nil {
		go awaitBlocked(ctx, process.Pid, call.Blocked)
	}

	reading := streams.read(call.Stdin, call.Stderr)
	exited := make(chan error, 1)
	go func() { exited <- v.children.ended(process.Pid) }()

	var ended error
	select {
	case <-exited:
	case <-reading.overflow:
		ended = fmt.Errorf("more than %d bytes on stdout", stdoutLimit)
	case <-ctx.Done():
		ended = context.Cause(ctx)
	}
	// Not reaped yet, so the process id, and the group that it names, cannot be another's.
	v.children.killFamily(process.Pid, &call, ended == nil)
	if ended != nil {
		select {
		case <-exited:
		case <-time.After(dyingTime):
			go func() {
				<-exited
				reading.finish(drainTime)
				v.children.reap(process)
			}()
			return nil, &NoAnswer{Reason: fmt.Sprintf("%v, and process %d does not die", ended, process.Pid)}
		}
	}
	stdout, stderr := reading.finish(drainTime)
	state := v.children.reap(process)

	switch {
	case ended != nil:
		return nil, &NoAnswer{Reason: ended.Error(), Stderr: stderr}
	case reading.overflowed():
		return nil, &NoAnswer{Reason: fmt.Sprintf("more than %d bytes on stdout", stdoutLimit), Stderr: stderr}
	case state == nil || !state.Exited():
		return nil, &NoAnswer{Reason: fmt.Sprintf("%v", state), Stderr: stderr}
	}
	return answer(call.Verb, stdout, stderr, state.ExitCode())
}

// awaitBlocked calls blocked when the verb has used no processor for BlockedTime, or returns when ctx ends.
func awaitBlocked(ctx context.Context, pid int, blocked func()) {
	for before := time.Duration(0); ; {
		wait, cancel := patience.WithTimeout(ctx, BlockedTime)
		<-wait.Done()
		cancel()
		if ctx.Err() != nil {
			return
		}
		now := used(pid)
		if now <= before+tick {
			blocked()
			return
		}
		before = now
	}
}

// answer tells a success from an error object. An error object is an error whatever the exit status is: a script that prints one may
// forget to exit with 1. An exit status alone says nothing but that something went wrong.
func answer(verb spec.Verb, stdout []byte, stderr []string, exit int) ([]byte, error) {
	said, err := spec.ErrorIn(verb, stdout)
	switch {
	case said != nil:
		said.Msg, said.Details = oneLine(said.Msg), oneLine(said.Details)
		return nil, said
	case exit != 0:
		reason := fmt.Sprintf("exit status %d without an error object", exit)
		if err != nil {
			reason += ": " + err.Error()
		} else if printed := strings.TrimSpace(string(stdout)); printed != "" {
			reason += ": printed " + spec.Quote(printed)
		}
		return nil, &NoAnswer{Reason: reason, Stderr: stderr}
	case err != nil:
		return nil, &NoAnswer{Reason: err.Error(), Stderr: stderr}
	}
	return stdout, nil
}

// start starts the executable in a session and a process group of its own, with the calling goroutine locked to its thread.
func (c *children) start(call *Call, pluginPath []string) (*os.Process, *streams, error) {
	s, err := openStreams()
	if err != nil {
		return nil, nil, err
	}
	runtime.LockOSThread()
	c.mu.Lock()
	process, err := os.StartProcess(call.Executable, []string{call.Executable}, &os.ProcAttr{
		Dir:   "/",
		Env:   call.environment(pluginPath),
		Files: s.childEnds,
		Sys:   &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL},
	})
	if err == nil {
		c.running[process.Pid] = true
	}
	c.mu.Unlock()
	s.closeTheirs()
	if err != nil {
		runtime.UnlockOSThread()
		s.closeOurs()
		var pathErr *os.PathError
		if errors.As(err, &pathErr) {
			err = pathErr.Err
		}
		return nil, nil, err
	}
	return process, s, nil
}

// waitUnreaped waits for the end of a child and leaves it as a zombie, which keeps its process id taken.
func waitUnreaped(pid int) error {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
