package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// delay is the time by which strace delays each traced call on its entry, after it has printed the call. If the harness
// recognizes the call, it stops strace within this time. The process then stays right before the call until it is
// killed. strace's own counting (inject=…:when=n) is not used, because it counts the calls of each thread, and
// goroutines move between threads.
const delay = 25 * time.Millisecond

// errMissed means that the call was over before strace could be stopped, or that it was never made.
var errMissed = errors.New("not hit")

// inject returns the arguments with which strace traces and delays one system call and writes to a pipe.
func inject(call, pipe string) []string {
	injection := fmt.Sprintf("inject=%s:delay_enter=%dms", call, delay.Milliseconds())
	return []string{"-o", pipe, "-e", "trace=" + call, "-e", injection}
}

// straceArguments returns the arguments of inject. In addition strace detaches from a process that calls execve (-b),
// unless execve is the traced call.
func straceArguments(call, pipe string) []string {
	arguments := inject(call, pipe)
	if call != "execve" {
		arguments = append(arguments, "-b", "execve")
	}
	return arguments
}

// trace is a pipe to which strace writes.
type trace struct {
	path string
	pipe *os.File
}

func newTrace(path string) (*trace, error) {
	_ = os.Remove(path)
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return nil, err
	}
	// The pipe is open for writing too, so that a read never returns the end of the file when no strace has it open.
	pipe, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	return &trace{path, pipe}, nil
}

func (t *trace) close() {
	_ = t.pipe.Close()
	_ = os.Remove(t.path)
}

// heldProcess is a process that is stopped right before a system call.
type heldProcess struct {
	caller int // the thread that makes the call
	tracer int
	line   string
}

// await waits for the nth call that matches, and holds its process. over reports that no further call can come; await
// then returns an error that wraps errMissed.
func (t *trace) await(match *regexp.Regexp, nth int, over func() bool) (*heldProcess, error) {
	var text []byte
	seen, counted := 0, -1 // counted is the start of the last line that was counted
	start := 0
	for last := false; ; {
		n, err := t.read(&text, 20*time.Millisecond)
		if err != nil {
			return nil, err
		}
		for start < len(text) {
			line := text[start:]
			end := bytes.IndexByte(line, '\n')
			if end >= 0 {
				line = line[:end]
			}
			if counted != start && match.Match(line) && !bytes.Contains(line, []byte(" resumed>")) {
				seen, counted = seen+1, start
				if seen == nth {
					return t.freeze(text, start)
				}
			}
			if end < 0 {
				break
			}
			start += end + 1
		}
		if n == 0 && last {
			return nil, fmt.Errorf("%w: only %d of %d matching calls were made", errMissed, seen, nth)
		}
		last = over()
	}
}

// read appends the available output of strace to text. It waits for output at most for timeout.
func (t *trace) read(text *[]byte, timeout time.Duration) (int, error) {
	buffer := make([]byte, 1<<16)
	_ = t.pipe.SetReadDeadline(time.Now().Add(timeout))
	n, err := t.pipe.Read(buffer)
	*text = append(*text, buffer[:n]...)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
	}
	return n, err
}

// freeze stops strace, and then checks that strace had not let the call continue before it stopped. start is the
// position of the call's line in text.
func (t *trace) freeze(text []byte, start int) (*heldProcess, error) {
	caller, err := strconv.Atoi(string(bytes.Fields(text[start:])[0]))
	if err != nil {
		return nil, err
	}
	tracer, err := strconv.Atoi(status(caller, "TracerPid"))
	if err != nil || tracer == 0 {
		return nil, fmt.Errorf("%w: the thread is not traced any more", errMissed)
	}
	if err := unix.Kill(tracer, unix.SIGSTOP); err != nil {
		return nil, err
	}
	deadline := time.Now().Add(time.Second)
	for !strings.HasPrefix(status(tracer, "State"), "T") && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	for {
		n, err := t.read(&text, time.Millisecond)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			break
		}
	}
	line, rest, _ := bytes.Cut(text[start:], []byte("\n"))
	resumed := regexp.MustCompile(fmt.Sprintf(`(?m)^%d +<\.\.\. `, caller))
	if bytes.Contains(line, []byte(") = ")) || bytes.Contains(line, []byte("detached")) || resumed.Match(rest) {
		_ = unix.Kill(tracer, unix.SIGCONT)
		return nil, fmt.Errorf("%w: the call was already over", errMissed)
	}
	return &heldProcess{caller, tracer, string(line)}, nil
}

// kill kills the held process and the given ones, and then strace. In this order the processes cannot continue before
// they are killed.
func (h *heldProcess) kill(processes ...int) {
	for _, pid := range append(processes, h.group()) {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	h.release()
}

// group returns the process id of the thread that makes the call. It differs from the id of the executable if a child
// process is about to call execve.
func (h *heldProcess) group() int {
	if pid, err := strconv.Atoi(status(h.caller, "Tgid")); err == nil {
		return pid
	}
	return h.caller
}

func (h *heldProcess) release() { _ = unix.Kill(h.tracer, unix.SIGKILL) }

// attach starts strace on a running process, and waits until all of its threads are traced.
func attach(pid int, arguments []string) (*exec.Cmd, error) {
	arguments = append([]string{"-f", "-y", "-s", "250", "-p", strconv.Itoa(pid)}, arguments...)
	cmd := exec.Command("strace", arguments...)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(30 * time.Second); !isTraced(pid); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			return nil, errors.New("strace does not attach")
		}
	}
	return cmd, nil
}

// detach ends strace, and the process continues.
func detach(strace *exec.Cmd) {
	_ = strace.Process.Signal(unix.SIGINT)
	ended := time.AfterFunc(5*time.Second, func() { _ = strace.Process.Kill() })
	_ = strace.Wait()
	ended.Stop()
}

// isTraced reports whether every thread of a process is traced.
func isTraced(pid int) bool {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	for _, task := range tasks {
		if tid, err := strconv.Atoi(filepath.Base(task)); err != nil || status(tid, "TracerPid") == "0" {
			return false
		}
	}
	return len(tasks) > 0
}

// status returns the value of a key in the status file of a process, or "" if there is no such process.
func status(pid int, key string) string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(text)) {
		if name, value, _ := strings.Cut(line, ":"); name == key {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// dead reports whether a process has ended. A zombie counts as ended.
func dead(pid int) bool {
	state := status(pid, "State")
	return state == "" || strings.HasPrefix(state, "Z") || strings.HasPrefix(state, "X")
}
