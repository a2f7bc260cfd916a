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

	"github.com/svc-supervisor/svc-supervisor/internal/busyclock"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

const (
	stdoutLimit = 1 << 20 // bytes; a result with a thousand connections has a third of that
	// how long to read the pipes after the verb has ended, by the clock of package busyclock
	drainTime   = time.Second
	killTimeout = 5 * time.Second // how long to wait after SIGKILL
)

// BlockedTime is how long a verb and its descendants must have used at most 10 ms of processor time to count as
// blocked, by the clock of package busyclock.
const BlockedTime = 2 * time.Second

// Runner runs verbs of executables. It is safe for concurrent use.
type Runner struct {
	pluginPath []string // the directories, for CNI_PATH
	children   children
}

// newRunner returns a runner. The process becomes a child subreaper, so that orphaned descendants of verbs are found.
// Its existing children are not touched.
func newRunner(pluginPath []string) (*Runner, error) {
	if err := adoptOrphans(); err != nil {
		return nil, fmt.Errorf("become a child subreaper: %w", err)
	}
	closeDescriptorsOnExec()
	return &Runner{
		pluginPath: pluginPath,
		children:   children{running: map[int]bool{}, preexisting: childrenOfThis(), waitEnd: waitUnreaped},
	}, nil
}

// Run runs a verb and returns its stdout. The error is a *spec.Error if the executable printed an error object, and a
// *NoAnswer otherwise. When ctx is cancelled, the verb is killed, as at its deadline. If SIGKILL does not end the
// process, because it is blocked in the kernel, Run returns after some seconds, and the process is reaped when it has
// ended.
func (r *Runner) Run(ctx context.Context, call Call) ([]byte, error) {
	// The last scan may be some seconds old, and the owner or mode of a directory on the path may have changed since.
	if f := inspect(call.Executable); f.refusal != "" {
		return nil, &NoAnswer{Reason: fmt.Sprintf("start %s: refused: %s", call.Executable, f.refusal)}
	}
	process, streams, err := r.children.start(&call, r.pluginPath)
	if err != nil {
		return nil, &NoAnswer{Reason: fmt.Sprintf("start %s: %v", call.Executable, err)}
	}
	// start has locked this goroutine to its thread. Pdeathsig kills the child when the thread that started it ends, so
	// the thread must stay until the child has ended.
	defer runtime.UnlockOSThread()

	used := func() time.Duration { return processorTime(process.Pid) }
	ctx, cancel := busyclock.WithTimeoutCause(ctx, call.Deadline, used, fmt.Errorf("deadline of %v", call.Deadline))
	defer cancel()
	if call.Blocked != nil {
		go awaitBlocked(ctx, process.Pid, call.Blocked)
	}

	transfer := streams.read(call.Stdin, call.Stderr)
	exited := make(chan error, 1)
	go func() { exited <- r.children.waitEnd(process.Pid) }()

	var killed error // the reason, if the verb did not end by itself
	select {
	case <-exited:
	case <-transfer.overflow:
		killed = fmt.Errorf("more than %d bytes on stdout", stdoutLimit)
	case <-ctx.Done():
		killed = context.Cause(ctx)
	}
	// The process is not reaped yet, so its process id and process group id cannot belong to another process.
	r.children.killTree(process.Pid, &call, killed == nil)
	if killed != nil {
		select {
		case <-exited:
		case <-time.After(killTimeout):
			go func() {
				<-exited
				transfer.finish(drainTime)
				r.children.reap(process)
			}()
			return nil, &NoAnswer{Reason: fmt.Sprintf("%v, and process %d does not die", killed, process.Pid)}
		}
	}
	stdout, stderr := transfer.finish(drainTime)
	state := r.children.reap(process)

	switch {
	case killed != nil:
		return nil, &NoAnswer{Reason: killed.Error(), Stderr: stderr}
	case transfer.overflowed():
		return nil, &NoAnswer{Reason: fmt.Sprintf("more than %d bytes on stdout", stdoutLimit), Stderr: stderr}
	case state == nil || !state.Exited():
		return nil, &NoAnswer{Reason: fmt.Sprintf("%v", state), Stderr: stderr}
	}
	return parseAnswer(call.Verb, stdout, stderr, state.ExitCode())
}

// awaitBlocked calls blocked once, when the verb has used at most one tick of processor time within BlockedTime. It
// returns after that, or when ctx is cancelled.
func awaitBlocked(ctx context.Context, pid int, blocked func()) {
	for before := time.Duration(0); ; {
		wait, cancel := busyclock.WithTimeout(ctx, BlockedTime)
		<-wait.Done()
		cancel()
		if ctx.Err() != nil {
			return
		}
		now := processorTime(pid)
		if ctx.Err() != nil { // the verb has ended meanwhile
			return
		}
		if now <= before+tick {
			blocked()
			return
		}
		before = now
	}
}

// parseAnswer returns stdout if the verb succeeded. An error object on stdout is an error with any exit status, because
// a script that prints one may forget to exit with 1. An exit status other than 0 without an error object is a
// *NoAnswer.
func parseAnswer(verb spec.Verb, stdout []byte, stderr []string, exit int) ([]byte, error) {
	object, err := spec.ErrorIn(verb, stdout)
	switch {
	case object != nil:
		object.Msg, object.Details = oneLine(object.Msg), oneLine(object.Details)
		return nil, object
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

// start starts the executable in a new session and process group. If it succeeds, the calling goroutine is locked to
// its thread.
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
	s.closeChildEnds()
	if err != nil {
		runtime.UnlockOSThread()
		s.closeOwnEnds()
		var pathErr *os.PathError
		if errors.As(err, &pathErr) {
			err = pathErr.Err
		}
		return nil, nil, err
	}
	return process, s, nil
}

// waitUnreaped waits until a child has ended, and leaves it as a zombie, so that its process id is not reused.
func waitUnreaped(pid int) error {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
