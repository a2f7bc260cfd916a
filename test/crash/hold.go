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

// strace delays each call of the kind on its entry, and has printed it by then. When the call is the one, strace itself is
// stopped: nobody lets the call go on any more, and the process stays right before it until it is killed. Counting by
// strace (inject=…:when=n) would be by thread, and goroutines change threads: which point it hits is luck.
const delay = 25 * time.Millisecond

// errMissed says that the call was over before strace could be stopped, or never came.
var errMissed = errors.New("not hit")

// inject watches one kind of call.
func inject(call, pipe string) []string {
	return []string{"-o", pipe, "-e", "trace=" + call, "-e", fmt.Sprintf("inject=%s:delay_enter=%dms", call, delay.Milliseconds())}
}

// straceArguments watches one kind of call. What the process executes is left alone (-b), unless it is the execution that is
// waited for.
func straceArguments(call, pipe string) []string {
	arguments := inject(call, pipe)
	if call != "execve" {
		arguments = append(arguments, "-b", "execve")
	}
	return arguments
}

// trace is what strace prints, as it comes.
type trace struct {
	path string
	pipe *os.File
}

func newTrace(path string) (*trace, error) {
	_ = os.Remove(path)
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return nil, err
	}
	// For writing too: then it never ends, whoever else has it open or not.
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

// hold is a process right before a call.
type hold struct {
	caller int // the thread
	tracer int
	line   string
}

// await waits for the nth call that matches and holds it. over says that no call can come any more.
func (t *trace) await(match *regexp.Regexp, nth int, over func() bool) (*hold, error) {
	var text []byte
	seen, counted := 0, -1 // counted: where the last line starts that was counted
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
			return nil, fmt.Errorf("%w: %d of %d such calls came", errMissed, seen, nth)
		}
		last = over()
	}
}

func (t *trace) read(text *[]byte, patience time.Duration) (int, error) {
	buffer := make([]byte, 1<<16)
	_ = t.pipe.SetReadDeadline(time.Now().Add(patience))
	n, err := t.pipe.Read(buffer)
	*text = append(*text, buffer[:n]...)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
	}
	return n, err
}

// freeze stops strace, and makes sure that it had not let the call go on.
func (t *trace) freeze(text []byte, start int) (*hold, error) {
	caller, err := strconv.Atoi(string(bytes.Fields(text[start:])[0]))
	if err != nil {
		return nil, err
	}
	tracer, err := strconv.Atoi(status(caller, "TracerPid"))
	if err != nil || tracer == 0 {
		return nil, fmt.Errorf("%w: it has no tracer any more", errMissed)
	}
	if err := unix.Kill(tracer, unix.SIGSTOP); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(time.Second); !strings.HasPrefix(status(tracer, "State"), "T") && time.Now().Before(deadline); {
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
		return nil, fmt.Errorf("%w: it was over already", errMissed)
	}
	return &hold{caller, tracer, string(line)}, nil
}

// kill ends what is held, and then strace. The processes are dead before anything lets them go on.
func (h *hold) kill(processes ...int) {
	for _, pid := range append(processes, h.group()) {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	h.release()
}

// group is the process of the thread that makes the call: a program that is about to be executed has its own.
func (h *hold) group() int {
	if pid, err := strconv.Atoi(status(h.caller, "Tgid")); err == nil {
		return pid
	}
	return h.caller
}

func (h *hold) release() { _ = unix.Kill(h.tracer, unix.SIGKILL) }

// attach lets strace watch a process that runs.
func attach(pid int, arguments []string) (*exec.Cmd, error) {
	arguments = append([]string{"-f", "-y", "-s", "250", "-p", strconv.Itoa(pid)}, arguments...)
	cmd := exec.Command("strace", arguments...)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(5 * time.Second); !watched(pid); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			return nil, errors.New("strace does not attach")
		}
	}
	return cmd, nil
}

// detach ends strace and lets the process go on.
func detach(strace *exec.Cmd) {
	_ = strace.Process.Signal(unix.SIGINT)
	ended := time.AfterFunc(5*time.Second, func() { _ = strace.Process.Kill() })
	_ = strace.Wait()
	ended.Stop()
}

// watched says whether every thread of a process has a tracer.
func watched(pid int) bool {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	for _, task := range tasks {
		if tid, err := strconv.Atoi(filepath.Base(task)); err != nil || status(tid, "TracerPid") == "0" {
			return false
		}
	}
	return len(tasks) > 0
}

// status is one line of a process's status; nothing if there is no such process.
func status(pid int, key string) string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(text)) {
		if name, value, _ := strings.Cut(line, ":"); name == key {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// dead says whether a process has ended, reaped or not.
func dead(pid int) bool {
	state := status(pid, "State")
	return state == "" || strings.HasPrefix(state, "Z") || strings.HasPrefix(state, "X")
}
