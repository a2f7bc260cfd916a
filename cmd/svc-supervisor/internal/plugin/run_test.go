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
	"syscall"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// roleVariable makes the test program play a supervisor that is killed.
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

func TestTheEnvironmentIsExactlyTheContracts(t *testing.T) {
	g := newGround(t)
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_FDS", "JOURNAL_STREAM", "CNI_ARGS", "LD_PRELOAD_X", "TMPDIR"} {
		t.Setenv(name, "leaked")
	}
	call := g.call(`tr '\0' '\n' </proc/$$/environ`)
	stdout, err := g.inventory("/a", "/b").Run(context.Background(), call)
	g.must(err)
	want := []string{
		"CNI_COMMAND=ADD",
		"CNI_CONTAINERID=id-TestTheEnvironmentIsExactlyTheContracts",
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

func TestAnExecutableStartsInTheRootWithItsNameAloneAndThreeDescriptors(t *testing.T) {
	g := newGround(t)
	stdout, err := g.run(`pwd; echo $#; echo $0; ls /proc/self/fd | wc -l`)
	g.must(err)
	if want := "/\n0\n" + g.path("script") + "\n4\n"; string(stdout) != want { // the fourth is the one that ls reads
		t.Errorf("got  %q\nwant %q", stdout, want)
	}
}

func TestStdinIsDelivered(t *testing.T) {
	g := newGround(t)
	call := g.call("cat")
	call.Stdin = bytes.Repeat([]byte("0123456789abcdef"), 30000) // many times what a pipe holds
	stdout, err := g.inventory().Run(context.Background(), call)
	g.must(err)
	if !bytes.Equal(stdout, call.Stdin) {
		t.Errorf("%d of %d bytes came back", len(stdout), len(call.Stdin))
	}
}

func TestAnExecutableNeedNotReadItsStdin(t *testing.T) {
	g := newGround(t)
	call := g.call("echo '{}'")
	call.Stdin = make([]byte, 1<<20)
	if stdout, err := g.inventory().Run(context.Background(), call); err != nil || string(stdout) != "{}\n" {
		t.Errorf("%q, %v", stdout, err)
	}
}

func TestWhatAnExecutableAnswers(t *testing.T) {
	for _, r := range []struct {
		name   string
		body   string
		stdout string      // of a success
		said   *spec.Error // or what it said
		reason string      // or why there is no answer
	}{
		{name: "nothing and success", body: `:`},
		{name: "an object and success", body: `echo '{"a":1}'`, stdout: "{\"a\":1}\n"},
		{name: "garbage and success is handed on: only the caller knows what was due", body: `echo ok`, stdout: "ok\n"},
		{name: "an error object", body: `echo '{"cniVersion":"1.1.0","code":7,"msg":"bad key","details":"psk"}'; exit 1`,
			said: &spec.Error{CNIVersion: "1.1.0", Code: 7, Msg: "bad key", Details: "psk"}},
		{name: "an error object with another exit status", body: `echo '{"code":11,"msg":"later"}'; exit 42`, said: &spec.Error{Code: 11, Msg: "later"}},
		{name: "an error of several lines becomes one", body: `printf '{"code":101,"msg":"a\\nb\\u001b[1m","details":" c\\td "}'; exit 1`,
			said: &spec.Error{Code: 101, Msg: "a b�[1m", Details: "c d"}},
		{name: "an exit status alone", body: `exit 3`, reason: "exit status 3 without an error object"},
		{name: "an exit status and garbage", body: `echo oops; exit 1`, reason: "exit status 1 without an error object"},
		{name: "an exit status and another object", body: `echo '{"cniVersion":"1.1.0"}'; exit 1`, reason: "exit status 1 without an error object"},
		{name: "an error object of code 0", body: `echo '{"code":0,"msg":"x"}'; exit 1`, reason: "exit status 1 without an error object"},
		{name: "two error objects", body: `echo '{"code":7,"msg":"x"}{"code":8,"msg":"y"}'; exit 1`, reason: "exit status 1 without an error object"},
		{name: "an error object on stderr", body: `echo '{"code":7,"msg":"x"}' >&2; exit 1`, reason: "exit status 1 without an error object"},
		{name: "an error object and success", body: `echo '{"cniVersion":"1.1.0","code":7,"msg":"bad key"}'`,
			said: &spec.Error{CNIVersion: "1.1.0", Code: 7, Msg: "bad key"}},
		{name: "code 0 and success is no error object", body: `echo '{"code":0}'`, stdout: "{\"code\":0}\n"},
		{name: "code is a string and success", body: `echo '{"code":"7"}'`,
			reason: `error object: key code: a JSON string does not fit: printed "{\"code\":\"7\"}"`},
		{name: "code is a string and an exit status", body: `echo '{"code":"7","msg":"no"}'; exit 1`,
			reason: `exit status 1 without an error object: error object: key code: a JSON string does not fit: printed "{\"code\":\"7\",\"msg\":\"no\"}"`},
		{name: "code is negative", body: `echo '{"code":-7,"msg":"no"}'`, reason: `error object: key code: a JSON number -7 does not fit: printed`},
		{name: "msg is a list", body: `echo '{"code":7,"msg":["no"]}'`, reason: `error object: key msg: a JSON array does not fit: printed`},
		{name: "text before an error object and success", body: `echo 'debug: {x} hello'; echo '{"code":7,"msg":"no"}'`,
			reason: `error object "debug: {x} hello\n{\"code\":7,\"msg\":\"no\"}": allowed: a JSON object and nothing else`},
		{name: "text before an error object and an exit status", body: `echo debug; echo '{"code":7,"msg":"no"}'; exit 1`,
			reason: `exit status 1 without an error object: error object "debug\n{\"code\":7,\"msg\":\"no\"}": allowed`},
		{name: "text after an error object and success", body: `echo '{"code":7,"msg":"no"}'; echo bye`,
			reason: `error object "{\"code\":7,\"msg\":\"no\"}\nbye": allowed`},
		{name: "an exit status and a line is quoted", body: `printf 'o\033[1mops\nbye\n'; exit 1`,
			reason: `exit status 1 without an error object: printed "o\x1b[1mops\nbye"`},
		{name: "an exit status and much text is cut", body: `yes | head -c 100000; exit 1`,
			reason: `exit status 1 without an error object: printed "y\ny\ny\ny\ny\ny\ny\ny\ny\ny\ny\ny\ny\ny\ny\ny\ny\ny\ny\ny\ny\ny\ny\ny\ny\ny\ny\ny\ny\ny\ny\ny\n" (the first 64 of 99999 bytes)`},
		{name: "death by a signal", body: `kill -KILL $$`, reason: "signal: killed"},
		{name: "death by a signal after an answer", body: `echo '{"a":1}'; kill -TERM $$`, reason: "signal: terminated"},
		{name: "death by a signal after an error object", body: `echo '{"code":7,"msg":"x"}'; kill -SEGV $$`, reason: "signal: segmentation fault"},
	} {
		t.Run(r.name, func(t *testing.T) {
			g := newGround(t)
			stdout, err := g.run(r.body)
			var said *spec.Error
			switch {
			case r.reason != "":
				g.noAnswer(err, r.reason)
			case r.said != nil:
				if !errors.As(err, &said) || *said != *r.said || stdout != nil {
					t.Errorf("got %q, %#v", stdout, err)
				}
			case err != nil || string(stdout) != r.stdout:
				t.Errorf("got %q, %v", stdout, err)
			}
		})
	}
}

func TestWhatCannotBeStartedGivesNoAnswer(t *testing.T) {
	g := newGround(t)
	for name, path := range map[string]string{
		"no such file":               g.path("missing"),
		"an empty file":              g.write(g.path("empty"), ""),
		"text without a shebang":     g.write(g.path("text"), "hello\n"),
		"an interpreter that is not": g.write(g.path("lost"), "#!/no/such/interpreter\n"),
		"half an ELF header":         g.write(g.path("half"), "\x7fELF\x02\x01"),
		"a directory":                g.dir,
	} {
		_, err := g.inventory().Run(context.Background(), Call{Executable: path, Deadline: settleTime})
		if silent := g.noAnswer(err, "start "+path+": "); strings.Count(silent.Reason, path) != 1 {
			t.Errorf("%s: %q names the file twice", name, silent.Reason)
		}
	}
}

func TestStdoutIsBounded(t *testing.T) {
	for _, r := range []struct{ name, body string }{
		{"an endless line", `exec cat /dev/zero`},
		{"endless lines", `exec yes`},
		{"a gigabyte", `exec head -c 1G /dev/zero`},
		{"a gigabyte, and it ignores a broken pipe", `trap '' PIPE; head -c 1G /dev/zero; head -c 1G /dev/zero; sleep 1000`},
		{"one byte too many and success", fmt.Sprintf(`head -c %d /dev/zero`, stdoutLimit+1)},
	} {
		t.Run(r.name, func(t *testing.T) {
			g := newGround(t)
			begin := time.Now()
			_, err := g.run(r.body)
			g.noAnswer(err, "more than 1048576 bytes on stdout")
			if time.Since(begin) > settleTime {
				t.Errorf("took %v", time.Since(begin))
			}
		})
	}
	t.Run("what fits is whole", func(t *testing.T) {
		g := newGround(t)
		stdout, err := g.run(fmt.Sprintf(`head -c %d /dev/zero`, stdoutLimit))
		if err != nil || len(stdout) != stdoutLimit {
			t.Errorf("%d bytes, %v", len(stdout), err)
		}
	})
}

func TestStderrIsRelayedLineByLine(t *testing.T) {
	g := newGround(t)
	call := g.call(`printf 'one\n\n  two\r\nthr\033ee\tx\nlast without end' >&2`)
	var lines []string
	call.Stderr = func(line string) { lines = append(lines, line) }
	_, err := g.inventory().Run(context.Background(), call)
	g.must(err)
	if want := []string{"one", "two", "thr�ee x", "last without end"}; !slices.Equal(lines, want) {
		t.Errorf("got %q", lines)
	}
}

func TestEndlessStderrIsBoundedAndItsEndIsInTheError(t *testing.T) {
	for _, r := range []struct{ name, body, last string }{
		{"endless lines", `yes noise | head -c 3000000 >&2; echo the last word >&2; exit 1`, "the last word"},
		{"an endless line", `head -c 3000000 /dev/zero | tr '\0' x >&2; echo >&2; echo the last word >&2; exit 1`, "the last word"},
	} {
		t.Run(r.name, func(t *testing.T) {
			g := newGround(t)
			call := g.call(r.body)
			relayed := 0
			call.Stderr = func(line string) { relayed += len(line) }
			_, err := g.inventory().Run(context.Background(), call)
			silent := g.noAnswer(err, "exit status 1")
			if relayed > stderrLimit+lineLimit {
				t.Errorf("%d bytes were relayed", relayed)
			}
			if len(silent.Stderr) > lastLines || silent.Stderr[len(silent.Stderr)-1] != r.last {
				t.Errorf("last words %q", silent.Stderr)
			}
		})
	}
}

func TestTheErrorOfADeadlineSaysTheDeadlineAndTheLastWords(t *testing.T) {
	g := newGround(t)
	call := g.call(`for i in 1 2 3 4 5 6 7; do echo line $i >&2; done; sleep 1000`)
	call.Deadline = 300 * time.Millisecond
	_, err := g.inventory().Run(context.Background(), call)
	g.noAnswer(err, "deadline of 300ms")
	if want := "deadline of 300ms: stderr: line 3 | line 4 | line 5 | line 6 | line 7"; err.Error() != want {
		t.Errorf("got  %s\nwant %s", err, want)
	}
}

func TestAVerbThatUsesAProcessorGetsFiveTimesItsDeadline(t *testing.T) {
	g := newGround(t)
	call := g.call(`while :; do :; done`)
	call.Deadline = 300 * time.Millisecond
	began := time.Now()
	_, err := g.inventory().Run(context.Background(), call)
	g.noAnswer(err, "deadline of 300ms")
	if took := time.Since(began); took < 4*call.Deadline {
		t.Errorf("it was ended after %v", took)
	}
}

func TestABlockedVerbIsReportedAndOneThatWorksIsNot(t *testing.T) {
	for _, row := range []struct {
		name, body string
		blocked    bool
	}{
		{"a verb that waits", `sleep 30`, true},
		{"a verb whose child waits", `sh -c 'sleep 30; :'`, true},
		{"a verb that works", `end=$(($(date +%s) + 6)); while [ $(date +%s) -lt $end ]; do :; done`, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			g := newGround(t)
			call := g.call(row.body)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			blocked := make(chan struct{})
			call.Blocked = func() { close(blocked); cancel() }
			call.Deadline = time.Minute
			_, _ = g.inventory().Run(ctx, call)
			select {
			case <-blocked:
				if !row.blocked {
					t.Error("reported as blocked")
				}
			default:
				if row.blocked {
					t.Error("not reported")
				}
			}
		})
	}
}

// The ways in which a process tries to outlive its verb. Each writes its process id to a file; $dir is the ground's.
var escapes = []struct{ name, body string }{
	{"a child", `(echo $(exec sh -c 'echo $PPID') >$dir/pid; sleep 1000) &`},
	{"a child that ignores signals", `sh -c 'trap "" TERM HUP INT; echo $$ >'$dir'/pid; while :; do sleep 1000; done' &`},
	{"a child that holds no pipe", `sh -c 'echo $$ >'$dir'/pid; exec sleep 1000' </dev/null >/dev/null 2>&1 &`},
	{"a child in a group of its own", `set -m; sh -c 'echo $$ >'$dir'/pid; exec sleep 1000' & set +m`},
	{"a child in a session of its own", `setsid sh -c 'echo $$ >'$dir'/pid; exec sleep 1000' &`},
	{"an orphan in a session of its own, after a double fork", `setsid sh -c 'sh -c "echo \$\$ >'$dir'/pid; exec sleep 1000" & exit' &`},
	{"an orphan without the environment", `setsid env -i sh -c '/bin/sh -c "echo \$\$ >'$dir'/pid; exec /bin/sleep 1000" & exit' &`},
	{"an orphan without environment and pipes", `setsid env -i sh -c '/bin/sh -c "echo \$\$ >'$dir'/pid; exec /bin/sleep 1000" & exit' </dev/null >/dev/null 2>&1 &`},
	{"an orphan that goes on forking", `setsid sh -c 'sh -c "echo \$\$ >'$dir'/pid; while :; do sleep 0.01; done" & exit' &`},
}

// A shell that becomes the supervisor leaves it its jobs: log-forwarder & exec svc-supervisor run.
func TestAChildThatWasThereFirstIsLeftAlone(t *testing.T) {
	g := newGround(t)
	forwarder := exec.Command("sleep", "1000")
	forwarder.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // else it is spared for its session
	g.must(forwarder.Start())
	defer func() {
		g.must(forwarder.Process.Kill())
		_ = forwarder.Wait()
	}()
	v := g.inventory()
	for _, escape := range escapes {
		call := g.call("dir=" + g.dir + "\n" + escape.body + "\nwhile ! test -s $dir/pid; do sleep 0.01; done; echo '{}'")
		if _, err := v.Run(context.Background(), call); err != nil {
			t.Error(err)
		}
		if pid := g.pid("pid"); alive(pid) {
			t.Errorf("%s lives", escape.name)
		}
		g.must(os.Remove(g.path("pid")))
	}
	if !alive(forwarder.Process.Pid) {
		t.Error("it was killed")
	}
}

// Packages of the supervisor run programs of the host, getent for example, while verbs run.
func TestProgramsThatTheSupervisorItselfRunsAreLeftAlone(t *testing.T) {
	g := newGround(t)
	v := g.inventory()
	for _, escape := range escapes {
		t.Run(escape.name, func(t *testing.T) {
			running, ended := exec.Command("sleep", "1000"), exec.Command("true")
			running.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			g.must(errors.Join(running.Start(), ended.Start()))
			g.eventually("one of them has ended", func() bool { return !alive(ended.Process.Pid) })
			call := g.call("dir=" + g.dir + "\n" + escape.body + "\nwhile ! test -s $dir/pid; do sleep 0.01; done; echo '{}'")
			if _, err := v.Run(context.Background(), call); err != nil {
				t.Error(err)
			}
			if alive(g.pid("pid")) {
				t.Error("what the verb left lives")
			}
			g.must(os.Remove(g.path("pid")))
			if !alive(running.Process.Pid) {
				t.Error("the one that runs was killed")
			}
			if err := ended.Wait(); err != nil {
				t.Errorf("the exit status of the other was taken away: %v", err)
			}
			_ = running.Process.Kill()
			_ = running.Wait()
		})
	}
}

// What keeps a process in the kernel cannot be had in a test: that its end is not seen stands for it.
func TestAProcessThatDoesNotDieHoldsNobody(t *testing.T) {
	g := newGround(t)
	v := g.inventory()
	released := make(chan struct{})
	v.children.ended = func(pid int) error {
		<-released
		return waitUnreaped(pid)
	}
	call := g.call("echo $$ >pid; exec sleep 60")
	call.Deadline = 300 * time.Millisecond
	begin := time.Now()
	_, err := v.Run(context.Background(), call)
	g.noAnswer(err, "deadline of 300ms, and process ")
	if took := time.Since(begin); took > dyingTime+5*time.Second {
		t.Errorf("it took %v", took)
	}
	close(released)
	g.eventually("it is collected", func() bool { return len(childrenOfThis()) == 0 })
}

func TestNothingOutlivesAVerbThatSucceeds(t *testing.T) {
	for _, escape := range escapes {
		t.Run(escape.name, func(t *testing.T) {
			g := newGround(t)
			begin := time.Now()
			stdout, err := g.run("dir=" + g.dir + "\n" + escape.body + "\nwhile ! test -s $dir/pid; do sleep 0.01; done; echo '{}'")
			if err != nil || string(stdout) != "{}\n" {
				t.Errorf("%q, %v", stdout, err)
			}
			if alive(g.pid("pid")) {
				t.Error("it lives")
			}
			if time.Since(begin) > settleTime/2 {
				t.Errorf("it was waited for: %v", time.Since(begin))
			}
		})
	}
}

func TestNothingOutlivesAVerbThatIsEnded(t *testing.T) {
	for _, escape := range escapes {
		t.Run(escape.name, func(t *testing.T) {
			g := newGround(t)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			v := g.inventory()
			call := g.call("dir=" + g.dir + "\necho $$ >$dir/main\n" + escape.body + "\nsleep 1000")
			ended := make(chan error, 1)
			go func() {
				_, err := v.Run(ctx, call)
				ended <- err
			}()
			main, pid := g.pid("main"), g.pid("pid")
			cancel()
			g.noAnswer(<-ended, "context canceled")
			if alive(main) || alive(pid) {
				t.Error("it lives")
			}
		})
	}
}

func TestVerbsThatRunTogetherLeaveEachOthersChildrenAlone(t *testing.T) {
	g := newGround(t)
	v := g.inventory()
	// The long verb has a child, and an orphan that carries its environment, as a helper may have that daemonises.
	long := g.call("echo $$ >" + g.path("main") + "; sh -c 'echo $$ >" + g.path("child") + "; exec sleep 1000' & " +
		"setsid sh -c 'sh -c \"echo \\$\\$ >" + g.path("orphan") + "; exec sleep 1000\" & exit' & " +
		"while ! test -e " + g.path("go") + "; do sleep 0.01; done; echo '{}'")
	long.ContainerID = "long"
	ended := make(chan error, 1)
	go func() {
		_, err := v.Run(context.Background(), long)
		ended <- err
	}()
	pids := []int{g.pid("main"), g.pid("child"), g.pid("orphan")}

	script := g.write(g.path("short"), "#!/bin/sh\nsleep 1000 & setsid sleep 1000 & exec sleep 0.0$CNI_CONTAINERID\n")
	var running sync.WaitGroup
	for i := range 10 {
		running.Go(func() {
			short := Call{Executable: script, Verb: spec.Add, ContainerID: fmt.Sprint(i), Deadline: settleTime}
			if i%2 == 0 {
				short.Deadline = 10 * time.Millisecond
			}
			_, err := v.Run(context.Background(), short)
			var silent *NoAnswer
			if err != nil && !errors.As(err, &silent) {
				t.Error(err)
			}
		})
	}
	running.Wait()
	for _, pid := range pids {
		if !alive(pid) {
			t.Errorf("one of the long verb's processes %v is dead: %d", pids, pid)
		}
	}
	g.touch("go")
	g.must(<-ended)
	for _, pid := range pids {
		if alive(pid) {
			t.Errorf("one of the long verb's processes %v outlived it: %d", pids, pid)
		}
	}
}

func TestAnOrphanThatCannotBeToldApartDiesWhenNoOtherVerbRuns(t *testing.T) {
	g := newGround(t)
	v := g.inventory()
	long := g.call("echo $$ >" + g.path("main") + "; while ! test -e " + g.path("go") + "; do sleep 0.01; done")
	long.ContainerID = "long"
	ended := make(chan error, 1)
	go func() {
		_, err := v.Run(context.Background(), long)
		ended <- err
	}()
	g.pid("main")
	short := g.write(g.path("short"), "#!/bin/sh\nsetsid env -i sh -c 'echo $$ >"+g.path("orphan")+"; exec /bin/sleep 1000' & "+
		"while ! test -s "+g.path("orphan")+"; do sleep 0.01; done\n")
	begin := time.Now()
	_, err := v.Run(context.Background(), Call{Executable: short, Verb: spec.Add, ContainerID: "short", Deadline: time.Minute})
	g.must(err)
	if took := time.Since(begin); took > drainTime+settleTime {
		t.Errorf("it holds the pipes, and was waited for: %v", took)
	}
	orphan := g.pid("orphan")
	if !alive(orphan) {
		t.Error("it might have been the long verb's, and was killed")
	}
	g.touch("go")
	g.must(<-ended)
	if alive(orphan) {
		t.Error("it outlived every verb")
	}
}

func TestManyVerbsRunAtOnce(t *testing.T) {
	g := newGround(t)
	v := g.inventory()
	script := g.write(g.path("script"), "#!/bin/sh\nsleep 1000 &\nread line\necho \"$CNI_CONTAINERID $line\"\n")
	var running sync.WaitGroup
	for i := range 30 {
		running.Go(func() {
			id := fmt.Sprint("container-", i)
			stdout, err := v.Run(context.Background(), Call{
				Executable: script, Verb: spec.Add, ContainerID: id, Stdin: []byte(id + "\n"), Deadline: settleTime,
			})
			if want := id + " " + id + "\n"; err != nil || string(stdout) != want {
				t.Errorf("got %q, want %q, %v", stdout, want, err)
			}
		})
	}
	running.Wait()
}

func TestAnExecutableDiesWithTheSupervisor(t *testing.T) {
	g := newGround(t)
	script := g.write(g.path("script"), "#!/bin/sh\necho $$ >"+g.path("pid")+"\nexec sleep 1000\n")
	supervisor := exec.Command(os.Args[0])
	supervisor.Env = append(os.Environ(), roleVariable+"="+script)
	g.must(supervisor.Start())
	pid := g.pid("pid")
	g.must(supervisor.Process.Kill())
	_ = supervisor.Wait()
	g.eventually("the end of the verb", func() bool { return !alive(pid) })
	_, _ = syscall.Wait4(pid, nil, 0, nil) // it became this process's child
}

func TestOneLineIsOnePrintableLine(t *testing.T) {
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
