package plugin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// roleVariable makes the test binary run as a supervisor that the test kills. Its value is the executable to run.
const roleVariable = "PLUGIN_TEST_ROLE"

func TestMain(m *testing.M) {
	if script := os.Getenv(roleVariable); script != "" {
		v, err := NewInventory(nil, time.Second, nil)
		if err == nil {
			_, err = v.Run(context.Background(), Call{Executable: script, Deadline: time.Minute})
		}
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func TestEnvironmentIsExactlyThatOfTheContract(t *testing.T) {
	f := newFixture(t)
	for _, name := range []string{
		"NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_FDS", "JOURNAL_STREAM", "CNI_ARGS", "LD_PRELOAD_X", "TMPDIR",
	} {
		t.Setenv(name, "leaked")
	}
	call := f.call(`tr '\0' '\n' </proc/$$/environ`)
	stdout, err := f.inventory("/a", "/b").Run(context.Background(), call)
	f.must(err)
	want := []string{
		"CNI_COMMAND=ADD",
		"CNI_CONTAINERID=id-TestEnvironmentIsExactlyThatOfTheContract",
		"CNI_IFNAME=svc0",
		"CNI_NETNS=/run/netns/x",
		"CNI_PATH=/a:/b",
		"LC_ALL=C",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	}
	got := strings.Split(strings.TrimSuffix(string(stdout), "\n"), "\n")
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
}

func TestExecutableStartsInRootDirectoryWithThreeDescriptors(t *testing.T) {
	f := newFixture(t)
	stdout, err := f.run(`pwd; echo $#; echo $0; ls /proc/self/fd | wc -l`)
	f.must(err)
	if want := "/\n0\n" + f.path("script") + "\n4\n"; string(stdout) != want { // the fourth descriptor is opened by ls
		t.Errorf("got  %q\nwant %q", stdout, want)
	}
}

func TestStdinIsDelivered(t *testing.T) {
	f := newFixture(t)
	call := f.call("cat")
	call.Stdin = bytes.Repeat([]byte("0123456789abcdef"), 30000) // many times the capacity of a pipe
	stdout, err := f.inventory().Run(context.Background(), call)
	f.must(err)
	if !bytes.Equal(stdout, call.Stdin) {
		t.Errorf("%d of %d bytes were returned", len(stdout), len(call.Stdin))
	}
}

func TestExecutableNeedNotReadStdin(t *testing.T) {
	f := newFixture(t)
	call := f.call("echo '{}'")
	call.Stdin = make([]byte, 1<<20)
	if stdout, err := f.inventory().Run(context.Background(), call); err != nil || string(stdout) != "{}\n" {
		t.Errorf("%q, %v", stdout, err)
	}
}

func TestAnswers(t *testing.T) {
	for _, r := range []struct {
		name   string
		body   string
		stdout string      // of a success
		object *spec.Error // or the error object
		reason string      // or why there is no answer
	}{
		{name: "no output and success", body: `:`},
		{name: "an object and success", body: `echo '{"a":1}'`, stdout: "{\"a\":1}\n"},
		{name: "other text and success is returned, because only the caller knows the form", body: `echo ok`,
			stdout: "ok\n"},
		{name: "an error object",
			body:   `echo '{"cniVersion":"1.1.0","code":7,"msg":"bad key","details":"psk"}'; exit 1`,
			object: &spec.Error{CNIVersion: "1.1.0", Code: 7, Msg: "bad key", Details: "psk"}},
		{name: "an error object with another exit status", body: `echo '{"code":11,"msg":"later"}'; exit 42`,
			object: &spec.Error{Code: 11, Msg: "later"}},
		{name: "an error of several lines becomes one line",
			body:   `printf '{"code":101,"msg":"a\\nb\\u001b[1m","details":" c\\td "}'; exit 1`,
			object: &spec.Error{Code: 101, Msg: "a b�[1m", Details: "c d"}},
		{name: "an exit status without output", body: `exit 3`, reason: "exit status 3 without an error object"},
		{name: "an exit status and other text", body: `echo oops; exit 1`,
			reason: "exit status 1 without an error object"},
		{name: "an exit status and another object", body: `echo '{"cniVersion":"1.1.0"}'; exit 1`,
			reason: "exit status 1 without an error object"},
		{name: "an error object of code 0", body: `echo '{"code":0,"msg":"x"}'; exit 1`,
			reason: "exit status 1 without an error object"},
		{name: "two error objects", body: `echo '{"code":7,"msg":"x"}{"code":8,"msg":"y"}'; exit 1`,
			reason: "exit status 1 without an error object"},
		{name: "an error object on stderr", body: `echo '{"code":7,"msg":"x"}' >&2; exit 1`,
			reason: "exit status 1 without an error object"},
		{name: "an error object and success", body: `echo '{"cniVersion":"1.1.0","code":7,"msg":"bad key"}'`,
			object: &spec.Error{CNIVersion: "1.1.0", Code: 7, Msg: "bad key"}},
		{name: "code 0 and success is no error object", body: `echo '{"code":0}'`, stdout: "{\"code\":0}\n"},
		{name: "code is a string and success", body: `echo '{"code":"7"}'`,
			reason: `error object: key code: a JSON string does not fit: printed "{\"code\":\"7\"}"`},
		{name: "code is a string and an exit status", body: `echo '{"code":"7","msg":"no"}'; exit 1`,
			reason: `exit status 1 without an error object: error object: key code: a JSON string does not fit: ` +
				`printed "{\"code\":\"7\",\"msg\":\"no\"}"`},
		{name: "code is negative", body: `echo '{"code":-7,"msg":"no"}'`,
			reason: `error object: key code: a JSON number -7 does not fit: printed`},
		{name: "msg is a list", body: `echo '{"code":7,"msg":["no"]}'`,
			reason: `error object: key msg: a JSON array does not fit: printed`},
		{name: "text before an error object and success", body: `echo 'debug: {x} hello'; echo '{"code":7,"msg":"no"}'`,
			reason: `error object "debug: {x} hello\n{\"code\":7,\"msg\":\"no\"}": allowed: a JSON object and ` +
				`nothing else`},
		{name: "text before an error object and an exit status",
			body: `echo debug; echo '{"code":7,"msg":"no"}'; exit 1`,
			reason: `exit status 1 without an error object: error object ` +
				`"debug\n{\"code\":7,\"msg\":\"no\"}": allowed`},
		{name: "text after an error object and success", body: `echo '{"code":7,"msg":"no"}'; echo bye`,
			reason: `error object "{\"code\":7,\"msg\":\"no\"}\nbye": allowed`},
		{name: "an exit status and a line is quoted", body: `printf 'o\033[1mops\nbye\n'; exit 1`,
			reason: `exit status 1 without an error object: printed "o\x1b[1mops\nbye"`},
		{name: "an exit status and a long text, which is truncated", body: `yes | head -c 100000; exit 1`,
			reason: `exit status 1 without an error object: printed ` +
				`"y\ny\ny\ny\ny\ny\ny\ny\ny\ny\ny\ny\ny\ny\ny\ny\ny\ny\ny\ny\ny\ny\ny\ny\ny\ny\ny\ny\ny\ny\ny\ny\n" ` +
				`(the first 64 of 99999 bytes)`},
		{name: "killed by a signal", body: `kill -KILL $$`, reason: "signal: killed"},
		{name: "killed by a signal after an answer", body: `echo '{"a":1}'; kill -TERM $$`,
			reason: "signal: terminated"},
		{name: "killed by a signal after an error object", body: `echo '{"code":7,"msg":"x"}'; kill -SEGV $$`,
			reason: "signal: segmentation fault"},
	} {
		t.Run(r.name, func(t *testing.T) {
			f := newFixture(t)
			stdout, err := f.run(r.body)
			var object *spec.Error
			switch {
			case r.reason != "":
				f.noAnswer(err, r.reason)
			case r.object != nil:
				if !errors.As(err, &object) || *object != *r.object || stdout != nil {
					t.Errorf("got %q, %#v", stdout, err)
				}
			case err != nil || string(stdout) != r.stdout:
				t.Errorf("got %q, %v", stdout, err)
			}
		})
	}
}

func TestFailedStartIsNoAnswer(t *testing.T) {
	f := newFixture(t)
	for name, path := range map[string]string{
		"no such file":           f.path("missing"),
		"an empty file":          f.write(f.path("empty"), ""),
		"text without a shebang": f.write(f.path("text"), "hello\n"),
		"a missing interpreter":  f.write(f.path("lost"), "#!/no/such/interpreter\n"),
		"half an ELF header":     f.write(f.path("half"), "\x7fELF\x02\x01"),
		"a directory":            f.dir,
	} {
		_, err := f.inventory().Run(context.Background(), Call{Executable: path, Deadline: waitTime})
		if failure := f.noAnswer(err, "start "+path+": "); strings.Count(failure.Reason, path) != 1 {
			t.Errorf("%s: %q contains the path more than once", name, failure.Reason)
		}
	}
}

func TestStdoutIsBounded(t *testing.T) {
	for _, r := range []struct{ name, body string }{
		{"an endless line", `exec cat /dev/zero`},
		{"endless lines", `exec yes`},
		{"a gigabyte", `exec head -c 1G /dev/zero`},
		{"a gigabyte, and SIGPIPE is ignored", `trap '' PIPE; head -c 1G /dev/zero; head -c 1G /dev/zero; sleep 1000`},
		{"one byte too many and success", fmt.Sprintf(`head -c %d /dev/zero`, stdoutLimit+1)},
	} {
		t.Run(r.name, func(t *testing.T) {
			f := newFixture(t)
			begin := time.Now()
			_, err := f.run(r.body)
			f.noAnswer(err, "more than 1048576 bytes on stdout")
			if time.Since(begin) > waitTime {
				t.Errorf("took %v", time.Since(begin))
			}
		})
	}
	t.Run("output of the maximum size is complete", func(t *testing.T) {
		f := newFixture(t)
		stdout, err := f.run(fmt.Sprintf(`head -c %d /dev/zero`, stdoutLimit))
		if err != nil || len(stdout) != stdoutLimit {
			t.Errorf("%d bytes, %v", len(stdout), err)
		}
	})
}

func TestStderrIsRelayedLineByLine(t *testing.T) {
	f := newFixture(t)
	call := f.call(`printf 'one\n\n  two\r\nthr\033ee\tx\nlast without end' >&2`)
	var lines []string
	call.Stderr = func(line string) { lines = append(lines, line) }
	_, err := f.inventory().Run(context.Background(), call)
	f.must(err)
	if want := []string{"one", "two", "thr�ee x", "last without end"}; !slices.Equal(lines, want) {
		t.Errorf("got %q", lines)
	}
}

func TestStderrIsBoundedAndItsEndIsInTheError(t *testing.T) {
	for _, r := range []struct{ name, body, last string }{
		{"many lines", `yes noise | head -c 3000000 >&2; echo the last line >&2; exit 1`, "the last line"},
		{
			"a long line",
			`head -c 3000000 /dev/zero | tr '\0' x >&2; echo >&2; echo the last line >&2; exit 1`, "the last line",
		},
	} {
		t.Run(r.name, func(t *testing.T) {
			f := newFixture(t)
			call := f.call(r.body)
			call.Deadline = 5 * time.Minute
			relayed := 0
			call.Stderr = func(line string) { relayed += len(line) }
			_, err := f.inventory().Run(context.Background(), call)
			failure := f.noAnswer(err, "exit status 1")
			if relayed > stderrLimit+lineLimit {
				t.Errorf("%d bytes were relayed", relayed)
			}
			if len(failure.Stderr) > lastLines || failure.Stderr[len(failure.Stderr)-1] != r.last {
				t.Errorf("last lines %q", failure.Stderr)
			}
		})
	}
}

func TestDeadlineErrorHasTheDeadlineAndTheLastLines(t *testing.T) {
	f := newFixture(t)
	call := f.call(`for i in 1 2 3 4 5 6 7; do echo line $i >&2; done; sleep 1000`)
	call.Deadline = 300 * time.Millisecond
	_, err := f.inventory().Run(context.Background(), call)
	f.noAnswer(err, "deadline of 300ms")
	if want := "deadline of 300ms: stderr: line 3 | line 4 | line 5 | line 6 | line 7"; err.Error() != want {
		t.Errorf("got  %s\nwant %s", err, want)
	}
}

func TestBusyVerbGetsFiveTimesItsDeadline(t *testing.T) {
	f := newFixture(t)
	call := f.call(`while :; do :; done`)
	call.Deadline = 300 * time.Millisecond
	began := time.Now()
	_, err := f.inventory().Run(context.Background(), call)
	f.noAnswer(err, "deadline of 300ms")
	if took := time.Since(began); took < 4*call.Deadline {
		t.Errorf("the verb was killed after %v", took)
	}
}

func TestOnlyABlockedVerbIsReported(t *testing.T) {
	f := newFixture(t)
	v := f.inventory() // one for all rows: an inventory ends the processes that it has not started
	for _, row := range []struct {
		name, body string
		blocked    bool
	}{
		{"waits", `sleep 60`, true},
		{"child waits", `sh -c 'sleep 60; :'`, true},
		{"works", `end=$(($(date +%s) + 6)); while [ $(date +%s) -lt $end ]; do :; done; touch "$0.done"`, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			script := f.path(row.name)
			call := f.call("")
			call.Executable = f.write(script, "#!/bin/sh\n"+row.body+"\n")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var blocked atomic.Bool
			call.Blocked = func() { blocked.Store(true); cancel() }
			call.Deadline = 5 * time.Minute
			_, err := v.Run(ctx, call)
			if blocked.Load() != row.blocked {
				t.Errorf("reported as blocked: %v; the verb ended with %v", blocked.Load(), err)
			}
			if _, missing := os.Stat(script + ".done"); !row.blocked && missing != nil {
				t.Errorf("the verb has not ended by itself: %v", err)
			}
		})
	}
}

// escapes are ways in which a process can try to outlive its verb. Each process writes its process id to the file
// $dir/pid.
var escapes = []struct{ name, body string }{
	{"a child", `(echo $(exec sh -c 'echo $PPID') >$dir/pid; sleep 1000) &`},
	{
		"a child that ignores signals",
		`sh -c 'trap "" TERM HUP INT; echo $$ >'$dir'/pid; while :; do sleep 1000; done' &`,
	},
	{"a child without an open pipe", `sh -c 'echo $$ >'$dir'/pid; exec sleep 1000' </dev/null >/dev/null 2>&1 &`},
	{"a child in its own process group", `set -m; sh -c 'echo $$ >'$dir'/pid; exec sleep 1000' & set +m`},
	{"a child in its own session", `setsid sh -c 'echo $$ >'$dir'/pid; exec sleep 1000' &`},
	{
		"an orphan in its own session, after a double fork",
		`setsid sh -c 'sh -c "echo \$\$ >'$dir'/pid; exec sleep 1000" & exit' &`,
	},
	{
		"an orphan without the environment",
		`setsid env -i sh -c '/bin/sh -c "echo \$\$ >'$dir'/pid; exec /bin/sleep 1000" & exit' &`,
	},
	{
		"an orphan without environment and pipes",
		`setsid env -i sh -c '/bin/sh -c "echo \$\$ >'$dir'/pid; exec /bin/sleep 1000" & exit' </dev/null >/dev/null ` +
			`2>&1 &`,
	},
	{
		"an orphan that forks repeatedly",
		`setsid sh -c 'sh -c "echo \$\$ >'$dir'/pid; while :; do sleep 0.01; done" & exit' &`,
	},
}

// If a shell executes the supervisor in its own place, the jobs of the shell become children of the supervisor:
// log-forwarder & exec svc-supervisor run.
func TestPreexistingChildIsNotTouched(t *testing.T) {
	f := newFixture(t)
	forwarder := exec.Command("sleep", "1000")
	forwarder.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // in the test's session it would not be touched anyway
	f.must(forwarder.Start())
	defer func() {
		f.must(forwarder.Process.Kill())
		_ = forwarder.Wait()
	}()
	v := f.inventory()
	for _, escape := range escapes {
		call := f.call("dir=" + f.dir + "\n" + escape.body +
			"\nwhile ! test -s $dir/pid; do sleep 0.01; done; echo '{}'")
		if _, err := v.Run(context.Background(), call); err != nil {
			t.Error(err)
		}
		if pid := f.pid("pid"); alive(pid) {
			t.Errorf("%s still runs", escape.name)
		}
		f.must(os.Remove(f.path("pid")))
	}
	if !alive(forwarder.Process.Pid) {
		t.Error("the preexisting child was killed")
	}
}

// Packages of the supervisor run programs of the host while verbs run, for example getent.
func TestProgramsOfTheSupervisorAreNotTouched(t *testing.T) {
	f := newFixture(t)
	v := f.inventory()
	for _, escape := range escapes {
		t.Run(escape.name, func(t *testing.T) {
			running, ended := exec.Command("sleep", "1000"), exec.Command("true")
			running.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			f.must(errors.Join(running.Start(), ended.Start()))
			f.eventually("the second program has ended", func() bool { return !alive(ended.Process.Pid) })
			call := f.call("dir=" + f.dir + "\n" + escape.body +
				"\nwhile ! test -s $dir/pid; do sleep 0.01; done; echo '{}'")
			if _, err := v.Run(context.Background(), call); err != nil {
				t.Error(err)
			}
			if alive(f.pid("pid")) {
				t.Error("the process that the verb left still runs")
			}
			f.must(os.Remove(f.path("pid")))
			if !alive(running.Process.Pid) {
				t.Error("the running program was killed")
			}
			if err := ended.Wait(); err != nil {
				t.Errorf("the ended program was reaped by the inventory: %v", err)
			}
			_ = running.Process.Kill()
			_ = running.Wait()
		})
	}
}

// A test cannot make a process that is blocked in the kernel. Instead, the end of the process is not reported.
func TestRunReturnsIfAProcessDoesNotEnd(t *testing.T) {
	f := newFixture(t)
	v := f.inventory()
	released := make(chan struct{})
	v.children.waitEnd = func(pid int) error {
		<-released
		return waitUnreaped(pid)
	}
	call := f.call("echo $$ >pid; exec sleep 60")
	call.Deadline = 300 * time.Millisecond
	begin := time.Now()
	_, err := v.Run(context.Background(), call)
	f.noAnswer(err, "deadline of 300ms, and process ")
	if took := time.Since(begin); took > killTimeout+5*time.Second {
		t.Errorf("Run took %v", took)
	}
	close(released)
	f.eventually("the process is reaped", func() bool { return len(childrenOfThis()) == 0 })
}

func TestNoProcessOutlivesASuccessfulVerb(t *testing.T) {
	for _, escape := range escapes {
		t.Run(escape.name, func(t *testing.T) {
			f := newFixture(t)
			begin := time.Now()
			stdout, err := f.run("dir=" + f.dir + "\n" + escape.body +
				"\nwhile ! test -s $dir/pid; do sleep 0.01; done; echo '{}'")
			if err != nil || string(stdout) != "{}\n" {
				t.Errorf("%q, %v", stdout, err)
			}
			if alive(f.pid("pid")) {
				t.Error("the process still runs")
			}
			if time.Since(begin) > waitTime/2 {
				t.Errorf("Run took %v: it waited for the process", time.Since(begin))
			}
		})
	}
}

func TestNoProcessOutlivesACancelledVerb(t *testing.T) {
	for _, escape := range escapes {
		t.Run(escape.name, func(t *testing.T) {
			f := newFixture(t)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			v := f.inventory()
			call := f.call("dir=" + f.dir + "\necho $$ >$dir/main\n" + escape.body + "\nsleep 1000")
			ended := make(chan error, 1)
			go func() {
				_, err := v.Run(ctx, call)
				ended <- err
			}()
			main, pid := f.pid("main"), f.pid("pid")
			cancel()
			f.noAnswer(<-ended, "context canceled")
			if alive(main) || alive(pid) {
				t.Error("a process still runs")
			}
		})
	}
}

func TestConcurrentVerbsKeepTheirProcesses(t *testing.T) {
	f := newFixture(t)
	v := f.inventory()
	// The long verb has a child, and an orphan with its environment, like a helper program that daemonises.
	long := f.call("echo $$ >" + f.path("main") + "; sh -c 'echo $$ >" + f.path("child") + "; exec sleep 1000' & " +
		"setsid sh -c 'sh -c \"echo \\$\\$ >" + f.path("orphan") + "; exec sleep 1000\" & exit' & " +
		"while ! test -e " + f.path("go") + "; do sleep 0.01; done; echo '{}'")
	long.ContainerID = "long"
	ended := make(chan error, 1)
	go func() {
		_, err := v.Run(context.Background(), long)
		ended <- err
	}()
	pids := []int{f.pid("main"), f.pid("child"), f.pid("orphan")}

	script := f.write(f.path("short"), "#!/bin/sh\nsleep 1000 & setsid sleep 1000 & exec sleep 0.0$CNI_CONTAINERID\n")
	var running sync.WaitGroup
	for i := range 10 {
		running.Go(func() {
			short := Call{Executable: script, Verb: spec.Add, ContainerID: fmt.Sprint(i), Deadline: waitTime}
			if i%2 == 0 {
				short.Deadline = 10 * time.Millisecond
			}
			_, err := v.Run(context.Background(), short)
			var failure *NoAnswer
			if err != nil && !errors.As(err, &failure) {
				t.Error(err)
			}
		})
	}
	running.Wait()
	for _, pid := range pids {
		if !alive(pid) {
			t.Errorf("one of the long verb's processes %v was killed: %d", pids, pid)
		}
	}
	f.touch("go")
	f.must(<-ended)
	for _, pid := range pids {
		if alive(pid) {
			t.Errorf("one of the long verb's processes %v outlived it: %d", pids, pid)
		}
	}
}

func TestUnassignedOrphanIsKilledWhenNoVerbRuns(t *testing.T) {
	f := newFixture(t)
	v := f.inventory()
	long := f.call("echo $$ >" + f.path("main") + "; while ! test -e " + f.path("go") + "; do sleep 0.01; done")
	long.ContainerID = "long"
	ended := make(chan error, 1)
	go func() {
		_, err := v.Run(context.Background(), long)
		ended <- err
	}()
	f.pid("main")
	short := f.write(f.path("short"), "#!/bin/sh\n"+
		"setsid env -i sh -c 'echo $$ >"+f.path("orphan")+"; exec /bin/sleep 1000' & "+
		"while ! test -s "+f.path("orphan")+"; do sleep 0.01; done\n")
	begin := time.Now()
	_, err := v.Run(context.Background(), Call{
		Executable: short, Verb: spec.Add, ContainerID: "short", Deadline: time.Minute,
	})
	f.must(err)
	if took := time.Since(begin); took > drainTime+waitTime {
		t.Errorf("Run took %v: it waited for the orphan, which has the pipes open", took)
	}
	orphan := f.pid("orphan")
	if !alive(orphan) {
		t.Error("an orphan that may belong to the long verb was killed")
	}
	f.touch("go")
	f.must(<-ended)
	if alive(orphan) {
		t.Error("the orphan outlived all verbs")
	}
}

func TestManyVerbsRunAtOnce(t *testing.T) {
	f := newFixture(t)
	v := f.inventory()
	script := f.write(f.path("script"), "#!/bin/sh\nsleep 1000 &\nread line\necho \"$CNI_CONTAINERID $line\"\n")
	var running sync.WaitGroup
	for i := range 30 {
		running.Go(func() {
			id := fmt.Sprint("container-", i)
			stdout, err := v.Run(context.Background(), Call{
				Executable: script, Verb: spec.Add, ContainerID: id, Stdin: []byte(id + "\n"), Deadline: waitTime,
			})
			if want := id + " " + id + "\n"; err != nil || string(stdout) != want {
				t.Errorf("got %q, want %q, %v", stdout, want, err)
			}
		})
	}
	running.Wait()
}

func TestVerbEndsWithTheSupervisor(t *testing.T) {
	f := newFixture(t)
	script := f.write(f.path("script"), "#!/bin/sh\necho $$ >"+f.path("pid")+"\nexec sleep 1000\n")
	supervisor := exec.Command(os.Args[0])
	supervisor.Env = append(os.Environ(), roleVariable+"="+script)
	f.must(supervisor.Start())
	pid := f.pid("pid")
	f.must(supervisor.Process.Kill())
	_ = supervisor.Wait()
	f.eventually("the verb has ended", func() bool { return !alive(pid) })
	_, _ = syscall.Wait4(pid, nil, 0, nil) // the orphaned verb became a child of this process
}

func TestOneLine(t *testing.T) {
	for in, want := range map[string]string{
		"":                  "",
		" a ":               "a",
		"a\nb\tc\rd":        "a b c d",
		"a\x00b\x1b[31m":    "a�b�[31m",
		"ä €":               "ä €",
		"a\xffb":            "a�b",
		"a\u202eb\u2028c":   "a�b�c",
		"\n\n":              "",
		"no-break\u00a0end": "no-break�end",
	} {
		if got := oneLine(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}
