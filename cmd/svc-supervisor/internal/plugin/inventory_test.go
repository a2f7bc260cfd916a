package plugin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/internal/busyclock"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

func TestHighestVersionIsSelected(t *testing.T) {
	for _, r := range []struct {
		name     string
		versions []string
		want     string
	}{
		{"numbers are compared as numbers", []string{"1.9.0", "1.10.0"}, "1.10.0"},
		{"a release comes after its candidate", []string{"1.9.0", "1.10.0", "1.10.0-rc1"}, "1.10.0"},
		{"a candidate comes after an older release", []string{"1.9.0", "1.10.0-rc1"}, "1.10.0-rc1"},
		{"another major version comes after all", []string{"2.0.0", "1.99.99"}, "2.0.0"},
		{"the only version is selected", []string{"0.0.1"}, "0.0.1"},
	} {
		t.Run(r.name, func(t *testing.T) {
			f := newFixture(t)
			for i, version := range r.versions {
				f.executable(fmt.Sprint("svc-", i), version)
			}
			v := f.inventory()
			v.Scan(t.Context(), time.Hour)
			if e, ok := v.Select("T"); !ok || e.Version.String() != r.want {
				t.Errorf("%v, %v", e.Version, ok)
			}
			if executables, refusals := v.List(); len(executables) != len(r.versions) || len(refusals) != 0 {
				t.Errorf("%v, %v", executables, refusals)
			}
		})
	}
}

func TestFirstOfEqualVersionsIsSelected(t *testing.T) {
	f := newFixture(t)
	a := f.write(f.path("a/svc"), serviceScript("T", "1.0.0+one", ":"))
	b := f.write(f.path("b/svc"), serviceScript("T", "1.0.0+two", ":"))
	for first, dirs := range map[string][]string{a: {f.path("a"), f.path("b")}, b: {f.path("b"), f.path("a")}} {
		v := f.inventory(dirs...)
		v.Scan(t.Context(), time.Hour)
		if e, ok := v.Select("T"); !ok || e.Path != first {
			t.Errorf("path %v: %s", dirs, e.Path)
		}
	}
}

func TestSelectIsPerType(t *testing.T) {
	f := newFixture(t)
	f.write(f.path("a"), serviceScript("A", "1.0.0", ":"))
	f.write(f.path("b"), serviceScript("B", "9.0.0", ":"))
	v := f.inventory()
	v.Scan(t.Context(), time.Hour)
	a, _ := v.Select("A")
	b, _ := v.Select("B")
	if _, ok := v.Select("C"); ok || a.Path != f.path("a") || b.Path != f.path("b") {
		t.Errorf("%s, %s, %v", a.Path, b.Path, ok)
	}
}

func TestUntrustedOrInvalidFileIsRefused(t *testing.T) {
	good := serviceScript("T", "1.0.0", ":")
	prints := func(answer string) string { return "#!/bin/sh\necho '" + answer + "'\n" }
	for _, r := range []struct {
		name   string
		reason string
		make   func(f *fixture, path string)
	}{
		{
			"not executable", "not executable", func(f *fixture, path string) {
				f.must(os.Chmod(f.write(path, good), 0o644))
			},
		},
		{"writable by all", "writable by others than root (mode 0757", func(f *fixture, path string) {
			f.must(os.Chmod(f.write(path, good), 0o757))
		}},
		{"writable by a group", "writable by others than root (mode 0775", func(f *fixture, path string) {
			f.must(errors.Join(os.Chown(f.write(path, good), 0, 1), os.Chmod(path, 0o775)))
		}},
		{"of another owner", "writable by others than root (mode 0755, owner 1,", func(f *fixture, path string) {
			f.must(os.Chown(f.write(path, good), 1, 0))
		}},
		{"in a directory that is writable by all", "its directory", func(f *fixture, path string) {
			f.write(path, good)
			f.must(os.Chmod(filepath.Dir(path), 0o777))
		}},
		{"in a directory that is writable by all, with the sticky bit", "its directory", func(f *fixture, path string) {
			f.write(path, good)
			f.must(os.Chmod(filepath.Dir(path), 0o777|os.ModeSticky))
		}},
		{"in a directory of another owner", "its directory", func(f *fixture, path string) {
			f.write(path, good)
			f.must(os.Chown(filepath.Dir(path), 1, 0))
		}},
		{"a link to a file in a writable directory", "its directory", func(f *fixture, path string) {
			f.write(f.path("elsewhere/svc"), good)
			f.must(errors.Join(os.Chmod(f.path("elsewhere"), 0o777), os.Symlink(f.path("elsewhere/svc"), path)))
		}},
		{"a link in a writable directory", "its directory", func(f *fixture, path string) {
			f.write(f.path("elsewhere/svc"), good)
			f.must(errors.Join(os.Symlink(f.path("elsewhere/svc"), path), os.Chmod(filepath.Dir(path), 0o777)))
		}},
		{"below a directory that is writable by all", "its directory", func(f *fixture, path string) {
			f.write(path, good)
			f.must(os.Chmod(f.dir, 0o777))
		}},
		{"below a directory with the sticky bit, like /tmp", "its directory", func(f *fixture, path string) {
			f.write(path, good)
			f.must(os.Chmod(f.dir, 0o777|os.ModeSticky))
		}},
		{"below a directory of another owner", "its directory", func(f *fixture, path string) {
			f.write(path, good)
			f.must(os.Chown(f.dir, 1, 0))
		}},
		{"below a directory that another group can write", "its directory", func(f *fixture, path string) {
			f.write(path, good)
			f.must(errors.Join(os.Chown(f.dir, 0, 1), os.Chmod(f.dir, 0o775)))
		}},
		{"below a directory that an access control list lets others write", "its directory",
			func(f *fixture, path string) {
				f.write(path, good)
				f.must(os.Chmod(f.dir, 0o775))
				f.must(unix.Setxattr(f.dir, "system.posix_acl_access", aclOfAnotherUser, 0))
			}},
		{"a link to a file below a directory that is writable by all", "its directory", func(f *fixture, path string) {
			f.write(f.path("elsewhere/deeper/svc"), good)
			f.must(errors.Join(os.Chmod(f.path("elsewhere"), 0o777), os.Symlink(f.path("elsewhere/deeper/svc"), path)))
		}},
		{"a link through a directory that is writable by all", "its directory", func(f *fixture, path string) {
			f.write(f.path("good/svc"), good)
			f.must(errors.Join(os.Mkdir(f.path("open"), 0o755), os.Chmod(f.path("open"), 0o777),
				os.Symlink(f.path("good"), f.path("open/link")), os.Symlink(f.path("open/link/svc"), path)))
		}},
		{"a link of another owner", "the link", func(f *fixture, path string) {
			f.write(f.path("elsewhere/svc"), good)
			f.must(errors.Join(os.Symlink(f.path("elsewhere/svc"), path), os.Lchown(path, 1, 0)))
		}},
		{"a link to a writable file", "writable by others", func(f *fixture, path string) {
			f.must(os.Chmod(f.write(f.path("elsewhere/svc"), good), 0o757))
			f.must(os.Symlink(f.path("elsewhere/svc"), path))
		}},
		{
			"a dangling link", "dangling link", func(f *fixture, path string) {
				f.must(os.Symlink(f.path("missing"), path))
			},
		},
		{"a link to itself", "too many levels of symbolic links", func(f *fixture, path string) {
			f.must(os.Symlink(path, path))
		}},
		{"a FIFO", "not a regular file", func(f *fixture, path string) { f.must(syscall.Mkfifo(path, 0o755)) }},
		{"a socket", "not a regular file", func(f *fixture, path string) {
			fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
			f.must(errors.Join(err, syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}), syscall.Close(fd)))
		}},
		{"empty", "VERSION: start", func(f *fixture, path string) { f.write(path, "") }},
		{"text", "VERSION: start", func(f *fixture, path string) { f.write(path, "hello\n") }},
		{"without output", "VERSION: answer to VERSION",
			func(f *fixture, path string) { f.write(path, "#!/bin/sh\n") }},
		{"printing text", "VERSION: answer to VERSION", func(f *fixture, path string) {
			f.write(path, prints("svc 1.0.0"))
		}},
		{"failing", "VERSION: exit status 3 without an error object: stderr: no library",
			func(f *fixture, path string) {
				f.write(path, "#!/bin/sh\necho no library >&2\nexit 3\n")
			}},
		{"hanging", "VERSION: deadline of 200ms", func(f *fixture, path string) {
			f.write(path, "#!/bin/sh\nsleep 1000\n")
		}},
		{"endless output", "VERSION: more than 1048576 bytes", func(f *fixture, path string) {
			f.write(path, "#!/bin/sh\nexec yes\n")
		}},
		{"an ordinary CNI plugin", "VERSION: serviceType", func(f *fixture, path string) {
			f.write(path, prints(`{"cniVersion":"1.1.0","supportedVersions":["1.1.0"]}`))
		}},
		{"of another contract", "VERSION: contractVersion", func(f *fixture, path string) {
			answer := strings.Replace(versionAnswer("T", "1.0.0"), `"contractVersion":1`, `"contractVersion":2`, 1)
			f.write(path, prints(answer))
		}},
		{"of an invalid type", "VERSION: serviceType", func(f *fixture, path string) {
			f.write(path, prints(versionAnswer("../T", "1.0.0")))
		}},
		{"of an invalid version", "VERSION: serviceVersion", func(f *fixture, path string) {
			f.write(path, prints(versionAnswer("T", "latest")))
		}},
	} {
		t.Run(r.name, func(t *testing.T) {
			f := newFixture(t)
			path := f.path("plugins/svc")
			f.must(os.MkdirAll(filepath.Dir(path), 0o755))
			r.make(f, path)
			var lines atomic.Int64
			v := f.inventory(f.path("plugins"))
			v.log = slog.New(lineCounter{lines: &lines})
			v.prober.log = v.log
			if r.name == "hanging" {
				v.prober.deadline = 200 * time.Millisecond
			}
			for first := true; ; first = false {
				changed := v.Scan(t.Context(), 0)
				executables, refusals := v.List()
				if len(executables) != 0 || len(refusals) != 1 {
					t.Fatalf("%v, %v", executables, refusals)
				}
				got := refusals[0]
				if got.Found != path || !strings.HasPrefix(got.Reason, r.reason) || strings.Contains(got.Reason, "\n") {
					t.Errorf("%s: %s", got.Found, got.Reason)
				}
				if changed != first || lines.Load() != 1 {
					t.Errorf("changed %v, %d lines were logged", changed, lines.Load())
				}
				if !first {
					break
				}
			}
			if _, ok := v.Select("T"); ok {
				t.Error("the refused file is selected")
			}
		})
	}
}

// aclOfAnotherUser is an access control list in the format of the kernel: mode 0775 with the entry user:1:rwx.
var aclOfAnotherUser = []byte("\x02\x00\x00\x00" +
	"\x01\x00\x07\x00\xff\xff\xff\xff" + "\x02\x00\x07\x00\x01\x00\x00\x00" + "\x04\x00\x05\x00\xff\xff\xff\xff" +
	"\x10\x00\x07\x00\xff\xff\xff\xff" + "\x20\x00\x05\x00\xff\xff\xff\xff")

// TestExecutableIsNotRunAfterItsPathBecameWritable makes an ancestor directory of an executable writable between the
// scan and a verb.
func TestExecutableIsNotRunAfterItsPathBecameWritable(t *testing.T) {
	f := newFixture(t)
	path := f.write(f.path("deep/plugins/svc"), serviceScript("T", "1.0.0", ":"))
	v := f.inventory(f.path("deep/plugins"))
	v.Scan(t.Context(), time.Hour)
	if _, ok := v.Select("T"); !ok {
		t.Fatal("the executable is not selected")
	}
	f.must(os.Chmod(f.path("deep"), 0o777))
	f.write(path, "#!/bin/sh\ntouch "+f.path("ran")+"\n")
	_, err := v.Run(t.Context(), Call{Executable: path, Verb: spec.Add, ContainerID: "c", Deadline: waitTime})
	f.noAnswer(err, "start "+path+": refused: its directory "+f.path("deep")+" is writable by others than root")
	if _, err := os.Stat(f.path("ran")); err == nil {
		t.Error("the executable ran")
	}
	if !v.Scan(t.Context(), time.Hour) {
		t.Error("the next scan found no change")
	}
	if _, ok := v.Select("T"); ok {
		t.Error("the executable is still selected")
	}
}

func TestFilesThatOnlyRootCanWriteAreUsed(t *testing.T) {
	f := newFixture(t)
	// The file is writable by the group root, which is allowed.
	f.must(os.Chmod(f.write(f.path("plugins/svc"), serviceScript("T", "1.0.0", ":")), 0o775))
	f.must(os.Chmod(f.path("plugins"), 0o700))
	f.must(os.Symlink("plugins", f.path("current")))
	v := f.inventory(f.path("current"), f.path("plugins"))
	v.Scan(t.Context(), time.Hour)
	if _, refusals := v.List(); len(refusals) != 0 {
		t.Error(refusals)
	}
}

func TestTemporaryFilesAreIgnored(t *testing.T) {
	f := newFixture(t)
	for _, name := range []string{
		".hidden", "svc~", "svc.tmp", ".svc.swp", "svc.swp", "svc.dpkg-new", "svc.dpkg-old", "svc.rpmnew",
		"svc.rpmsave",
	} {
		f.executable(name, "9.0.0")
	}
	f.executable("directory/svc", "9.0.0")
	v := f.inventory(f.dir, f.path("missing"), f.path("svc~"))
	if v.Scanned() || !v.Scan(t.Context(), time.Hour) || !v.Scanned() {
		t.Error("the first scan reports no change")
	}
	if v.Scan(t.Context(), time.Hour) {
		t.Error("the second scan reports a change")
	}
	if executables, refusals := v.List(); len(executables)+len(refusals) != 0 {
		t.Errorf("%v, %v", executables, refusals)
	}
}

func TestLinkIsResolved(t *testing.T) {
	f := newFixture(t)
	file := f.write(f.path("versions/svc-1.4.0"), serviceScript("T", "1.4.0", ":"))
	f.must(os.MkdirAll(f.path("plugins"), 0o755))
	f.must(os.Symlink(file, f.path("plugins/svc")))
	v := f.inventory(f.path("plugins"))
	v.Scan(t.Context(), time.Hour)
	if e, ok := v.Select("T"); !ok ||
		e.Path != file || e.Found != f.path("plugins/svc") || CNIType(e.Path) != "svc-1.4.0" {
		t.Errorf("%+v", e)
	}
}

func TestFileIsProbedOncePerChange(t *testing.T) {
	f := newFixture(t)
	script := "#!/bin/sh\necho $CNI_COMMAND >>" + f.path(".verbs")
	path := f.write(f.path("svc"), strings.Replace(serviceScript("T", "1.0.0", ":"), "#!/bin/sh", script, 1))
	verbs := func() string {
		b, _ := os.ReadFile(f.path(".verbs"))
		return strings.Join(strings.Fields(string(b)), " ")
	}
	v := f.inventory()
	for range 3 {
		v.Scan(t.Context(), 0)
	}
	if got := verbs(); got != "VERSION STATUS" {
		t.Errorf("after three scans: %s", got)
	}
	f.must(os.Chmod(path, 0o700))
	if !v.Scan(t.Context(), 0) || verbs() != "VERSION STATUS VERSION STATUS" {
		t.Errorf("after a change: %s", verbs())
	}
	f.must(os.Chmod(f.dir, 0o777))
	if !v.Scan(t.Context(), 0) {
		t.Error("the directory became writable by all, but the scan reports no change")
	}
	if _, ok := v.Select("T"); ok {
		t.Error("an executable in a directory that is writable by all is selected")
	}
	f.must(os.Chmod(f.dir, 0o755))
	if !v.Scan(t.Context(), 0) {
		t.Error("the mode of the directory was restored, but the scan reports no change")
	}
	if _, ok := v.Select("T"); !ok {
		t.Error("the executable is not selected after the mode of the directory was restored")
	}
}

func TestBusyFileIsProbedAgainWithoutAChange(t *testing.T) {
	f := newFixture(t)
	path := f.executable("svc", "1.0.0")
	writer, err := os.OpenFile(path, os.O_WRONLY, 0)
	f.must(err)
	v := f.inventory()
	v.Scan(t.Context(), time.Millisecond)
	if _, refusals := v.List(); len(refusals) != 1 || !strings.Contains(refusals[0].Reason, "text file busy") {
		t.Fatalf("%v", refusals)
	}
	f.must(writer.Close())
	f.eventually("an answer", func() bool {
		v.Scan(t.Context(), time.Millisecond)
		_, ok := v.Select("T")
		return ok
	})
}

func TestInterruptedScanReportsNoChange(t *testing.T) {
	f := newFixture(t)
	f.executable("svc", "1.0.0")
	v := f.inventory()
	v.Scan(t.Context(), time.Hour)
	f.executable("svc", "2.0.0")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if v.Scan(ctx, time.Hour) {
		t.Error("an interrupted scan reports a change")
	}
	if e, ok := v.Select("T"); !ok || e.Version.String() != "1.0.0" {
		t.Errorf("%v", e.Version)
	}
	v.Scan(t.Context(), time.Hour)
	if e, ok := v.Select("T"); !ok || e.Version.String() != "2.0.0" {
		t.Errorf("%v", e.Version)
	}
}

func TestExecutableForARecordedContainer(t *testing.T) {
	f := newFixture(t)
	write := func(name, serviceType, version string, reconfigures bool) string {
		content := serviceScript(serviceType, version, ":")
		if !reconfigures {
			content = strings.Replace(content, `"reconfigure":true`, `"reconfigure":false`, 1)
		}
		return f.write(f.path(name), content)
	}
	v15 := write("v15", "T", "1.5.0", true)
	v19 := write("v19", "T", "1.9.0", true)
	write("v110", "T", "1.10.0", false)
	v20 := write("v20", "T", "2.0.0", true)
	v30 := write("v30", "T", "3.0.0", false)
	other := write("other", "OTHER", "1.99.0", true)
	v := f.inventory()
	v.Scan(t.Context(), time.Hour)

	for _, r := range []struct{ name, path, want string }{
		{"CHECK and DEL use the file that made the container", v15, v15},
		{"the same if that file has the highest version", v30, v30},
		{"if the file does not exist any more: the highest version", f.path("gone"), v30},
		{"if the file serves another type now: the highest version", other, v30},
		{"if the record has no path: the highest version", "", v30},
	} {
		t.Run(r.name, func(t *testing.T) {
			if e, ok := v.ForRecorded("T", r.path); !ok || e.Path != r.want {
				t.Errorf("%s, %v", e.Path, ok)
			}
		})
	}
	for _, r := range []struct{ name, version, want string }{
		{"a reconfigure uses the highest version with the same major version that supports it", "1.5.0", v19},
		{"the same if there is no executable of the recorded version", "1.0.0", v19},
		{"a lower version is used if only that supports it", "1.10.0", v19},
		{"the highest version of another major version is not used", "2.0.0", v20},
		{"none if no version with the same major version supports it", "3.0.0", ""},
		{"none if there is no version with the same major version", "4.0.0", ""},
		{"none if the recorded version is invalid", "latest", ""},
	} {
		t.Run(r.name, func(t *testing.T) {
			if e, ok := v.ForReconfigure("T", r.version); ok != (r.want != "") || e.Path != r.want {
				t.Errorf("%s, %v", e.Path, ok)
			}
		})
	}
	t.Run("no executable serves the type", func(t *testing.T) {
		_, recorded := v.ForRecorded("NONE", v15)
		_, change := v.ForReconfigure("NONE", "1.5.0")
		if _, selected := v.Select("NONE"); recorded || change || selected {
			t.Error("an executable was found")
		}
	})
}

func TestEventsOfCheckOn(t *testing.T) {
	for _, r := range []struct {
		name, checkOn string
		want          spec.Events
		logged        string
	}{
		{"no key checkOn", ``, spec.Events{}, ""},
		{"an empty list", `,"checkOn":[]`, spec.Events{}, ""},
		{"XFRM events", `,"checkOn":["xfrm"]`, spec.Events{XFRM: true}, ""},
		{"network events", `,"checkOn":["network"]`, spec.Events{Network: true}, ""},
		{"both", `,"checkOn":["network","xfrm"]`, spec.Events{XFRM: true, Network: true}, ""},
		{
			"XFRM events and unknown ones", `,"checkOn":["route","xfrm","link"]`,
			spec.Events{XFRM: true}, "events=\"[route link]\"",
		},
		{"unknown events alone", `,"checkOn":["route"]`, spec.Events{}, "events=[route]"},
	} {
		t.Run(r.name, func(t *testing.T) {
			f := newFixture(t)
			script := strings.Replace(serviceScript("T", "1.0.0", ":"), `"reconfigure":true`,
				`"reconfigure":true`+r.checkOn, 1)
			f.write(f.path("svc"), script)
			v := f.inventory()
			var log bytes.Buffer
			v.log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
			v.prober.log = v.log
			for range 3 {
				v.Scan(t.Context(), time.Hour)
			}
			if e, ok := v.Select("T"); !ok || e.CheckOn != r.want {
				t.Errorf("%+v, %v", e, ok)
			}
			const message = "unknown events in checkOn ignored"
			if r.logged == "" && strings.Contains(log.String(), message) ||
				r.logged != "" && (strings.Count(log.String(), message) != 1 ||
					!strings.Contains(log.String(), r.logged)) {
				t.Errorf("logged %s", log.String())
			}
		})
	}
}

func TestStatusIsRetriedWhileItFails(t *testing.T) {
	f := newFixture(t)
	path := f.path("svc")
	f.write(path, serviceScript("T", "1.0.0", `echo STATUS >>`+f.path(".status")+`; test -e `+f.path(".ready")+
		` || { echo '{"cniVersion":"1.1.0","code":50,"msg":"no ipsec installed"}'; exit 1; }`))
	v := f.inventory()
	v.Scan(t.Context(), time.Hour)
	e, ok := v.Select("T")
	if !ok || e.Unready != "no ipsec installed (code 50)" {
		t.Fatalf("%+v, %v", e, ok)
	}
	if v.Scan(t.Context(), time.Hour) || statusCalls(f) != 1 {
		t.Errorf("%d calls of STATUS within the interval", statusCalls(f))
	}
	if v.Scan(t.Context(), 0) || statusCalls(f) != 2 {
		t.Errorf("%d calls of STATUS, or the same answer was reported as a change", statusCalls(f))
	}
	f.touch(".ready")
	if !v.Scan(t.Context(), 0) {
		t.Error("no change was reported")
	}
	if e, ok := v.Select("T"); !ok || e.Unready != "" {
		t.Errorf("%+v, %v", e, ok)
	}
	if v.Scan(t.Context(), 0) || statusCalls(f) != 3 {
		t.Errorf("%d calls of STATUS; an executable that is ready must not be called again", statusCalls(f))
	}
}

// statusCalls counts the lines of the file .status, to which the scripts write one for each STATUS.
func statusCalls(f *fixture) int {
	content, _ := os.ReadFile(f.path(".status"))
	return strings.Count(string(content), "\n")
}

func TestExecutableWithoutAnswerToStatusIsNotReady(t *testing.T) {
	for reason, body := range map[string]string{
		"STATUS: deadline of 1s":                          "sleep 1000",
		"STATUS: exit status 9 without an error object":   "exit 9",
		"STATUS: signal: killed":                          "kill -KILL $$",
		"STATUS: exit status 1 without an error object: ": "echo a >&2; echo b >&2; exit 1",
	} {
		f := newFixture(t)
		f.write(f.path("svc"), serviceScript("T", "1.0.0", body))
		v := f.inventory()
		v.prober.deadline = waitTime
		if strings.Contains(reason, "deadline") {
			v.prober.deadline = time.Second
		}
		v.Scan(t.Context(), time.Hour)
		if e, ok := v.Select("T"); !ok || !strings.HasPrefix(e.Unready, reason) || strings.Contains(e.Unready, "\n") {
			t.Errorf("want %q, got %q", reason, e.Unready)
		}
	}
}

func TestNewExecutableIsNotSelectedBeforeItsStatusIsKnown(t *testing.T) {
	f := newFixture(t)
	old := f.executable("old", "1.0.0")
	v := f.inventory()
	v.Scan(t.Context(), time.Hour)
	status := "echo STATUS >" + f.path(".status") + "; while ! test -e " + f.path(".go") +
		"; do sleep 0.01; done; exit 1"
	f.write(f.path("new"), serviceScript("T", "2.0.0", status))
	scanned := make(chan bool, 1)
	go func() { scanned <- v.Scan(t.Context(), time.Hour) }()
	f.eventually("STATUS is called", func() bool { return statusCalls(f) == 1 })
	if e, _ := v.Select("T"); e.Path != old {
		t.Errorf("%s %s is selected before the result of STATUS is known", e.Path, e.Version)
	}
	f.touch(".go")
	if !<-scanned {
		t.Error("no change was reported")
	}
	if e, _ := v.Select("T"); e.Version.String() != "2.0.0" || e.Unready == "" {
		t.Errorf("%+v", e)
	}
}

// follow runs Follow until the test ends, and returns the number of reported changes.
func (f *fixture) follow(v *Inventory, rescan, statusInterval time.Duration) *atomic.Int64 {
	var changes atomic.Int64
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		v.Follow(ctx, rescan, func() time.Duration { return statusInterval }, func() { changes.Add(1) })
	}()
	f.Cleanup(func() {
		cancel()
		select {
		case <-ended:
		case <-time.After(waitTime):
			f.Error("Follow did not return after its context was cancelled")
		}
	})
	return &changes
}

// awaitSelected waits until the version is selected, or no executable at all if version is "".
func (f *fixture) awaitSelected(v *Inventory, version string) {
	f.Helper()
	f.eventually("selection of "+version, func() bool {
		e, ok := v.Select("T")
		return ok && e.Version.String() == version || !ok && version == ""
	})
}

func TestFollowFindsAddedChangedAndRemovedFiles(t *testing.T) {
	for _, r := range []struct {
		name   string
		rescan time.Duration
	}{
		{"by events of the file system", time.Hour},
		{"by periodic scans", 10 * time.Millisecond},
	} {
		t.Run(r.name, func(t *testing.T) {
			f := newFixture(t)
			v := f.inventory()
			changes := f.follow(v, r.rescan, 10*time.Millisecond)
			f.executable("a", "1.0.0")
			f.awaitSelected(v, "1.0.0")
			if changes.Load() == 0 {
				t.Error("no change was reported")
			}
			f.executable("b", "2.0.0")
			f.awaitSelected(v, "2.0.0")
			f.must(os.Remove(f.path("b")))
			f.awaitSelected(v, "1.0.0")
			f.write(f.path(".a.new"), serviceScript("T", "1.1.0", ":"))
			f.must(os.Rename(f.path(".a.new"), f.path("a")))
			f.awaitSelected(v, "1.1.0")
			f.must(os.Chmod(f.path("a"), 0o644))
			f.awaitSelected(v, "")
			f.must(os.Chmod(f.path("a"), 0o755))
			f.awaitSelected(v, "1.1.0")
		})
	}
}

func TestSlowlyCopiedFileIsFoundWhenComplete(t *testing.T) {
	f := newFixture(t)
	v := f.inventory()
	f.follow(v, 10*time.Millisecond, time.Hour)
	complete := serviceScript("T", "1.0.0", ":")
	f.write(f.path("svc"), complete[:len(complete)/3])
	f.eventually("the incomplete file is refused", func() bool { _, refusals := v.List(); return len(refusals) == 1 })
	f.write(f.path("svc"), complete)
	f.awaitSelected(v, "1.0.0")
}

func TestDirectoryMayAppearLater(t *testing.T) {
	f := newFixture(t)
	v := f.inventory(f.path("later"))
	f.follow(v, 10*time.Millisecond, time.Hour)
	f.executable("later/svc", "1.0.0")
	f.awaitSelected(v, "1.0.0")
	f.must(os.RemoveAll(f.path("later")))
	f.awaitSelected(v, "")
	f.executable("later/svc", "2.0.0")
	f.awaitSelected(v, "2.0.0")
}

func TestReplacedLinkIsFollowed(t *testing.T) {
	f := newFixture(t)
	f.executable("versions/svc-1.0.0", "1.0.0")
	f.executable("versions/svc-2.0.0", "2.0.0")
	f.must(errors.Join(os.Mkdir(f.path("plugins"), 0o755), os.Symlink("../versions/svc-1.0.0", f.path("plugins/svc"))))
	v := f.inventory(f.path("plugins"))
	f.follow(v, time.Hour, time.Hour)
	f.awaitSelected(v, "1.0.0")
	f.must(os.Symlink("../versions/svc-2.0.0", f.path("plugins/.svc")))
	f.must(os.Rename(f.path("plugins/.svc"), f.path("plugins/svc")))
	f.awaitSelected(v, "2.0.0")
}

// TestSlowAnswerOfHighestVersionIsAwaited has a start at which a lower version answers first. A container that is added
// then must not get it.
func TestSlowAnswerOfHighestVersionIsAwaited(t *testing.T) {
	f := newFixture(t)
	f.executable("a-quick", "1.0.0")
	f.write(f.path("b-slow"), strings.Replace(serviceScript("T", "2.0.0", ":"), "\n", "\nsleep 0.3\n", 1))
	v := f.inventory()
	var selected []string
	v.onChange = func() {
		e, _ := v.Select("T")
		selected = append(selected, fmt.Sprint(e.Version))
	}
	v.Scan(t.Context(), time.Hour)
	v.onChange()
	if !slices.Equal(selected, []string{"2.0.0"}) {
		t.Errorf("selected %v", selected)
	}
}

func TestHangingFilesDoNotDelayOthers(t *testing.T) {
	f := newFixture(t)
	for i := range 8 {
		f.write(f.path(fmt.Sprint("hangs-", i)), "#!/bin/sh\nsleep 1000\n")
	}
	f.executable("svc", "1.0.0")
	v := f.inventory()
	v.prober.deadline = 3 * time.Second
	early := 0
	v.onChange = func() {
		early++
		if _, ok := v.Select("T"); !ok {
			t.Error("the file that answered cannot be selected")
		}
		if v.Scanned() {
			t.Error("the callback was called after the scan")
		}
		v.AwaitSelectable(t.Context())
	}
	clock := busyclock.Start()
	v.Scan(t.Context(), time.Hour)
	if early == 0 {
		t.Error("the file that answered could not be selected before the scan was complete")
	}
	if took := clock.Elapsed(); took > 8*v.prober.deadline {
		t.Errorf("took %v: the files were not probed concurrently", took)
	}
	executables, refusals := v.List()
	if len(executables) != 1 || len(refusals) != 8 {
		t.Errorf("%v, %v", executables, refusals)
	}
	if !slices.IsSortedFunc(refusals, func(a, b Refusal) int { return strings.Compare(a.Found, b.Found) }) {
		t.Error("the refused files are not sorted")
	}
}
