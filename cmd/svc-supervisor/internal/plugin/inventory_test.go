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

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

func TestTheHighestVersionIsSelected(t *testing.T) {
	for _, r := range []struct {
		name     string
		versions []string
		want     string
	}{
		{"numbers are compared as numbers", []string{"1.9.0", "1.10.0"}, "1.10.0"},
		{"a release comes after its candidate", []string{"1.9.0", "1.10.0", "1.10.0-rc1"}, "1.10.0"},
		{"a candidate comes after an older release", []string{"1.9.0", "1.10.0-rc1"}, "1.10.0-rc1"},
		{"another major version comes after all", []string{"2.0.0", "1.99.99"}, "2.0.0"},
		{"one alone is selected", []string{"0.0.1"}, "0.0.1"},
	} {
		t.Run(r.name, func(t *testing.T) {
			g := newGround(t)
			for i, version := range r.versions {
				g.executable(fmt.Sprint("svc-", i), version)
			}
			v := g.inventory()
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

func TestOfEqualVersionsTheFirstOnThePathIsSelected(t *testing.T) {
	g := newGround(t)
	a := g.write(g.path("a/svc"), serves("T", "1.0.0+one", ":"))
	b := g.write(g.path("b/svc"), serves("T", "1.0.0+two", ":"))
	for first, dirs := range map[string][]string{a: {g.path("a"), g.path("b")}, b: {g.path("b"), g.path("a")}} {
		v := g.inventory(dirs...)
		v.Scan(t.Context(), time.Hour)
		if e, ok := v.Select("T"); !ok || e.Path != first {
			t.Errorf("path %v: %s", dirs, e.Path)
		}
	}
}

func TestEachTypeHasItsOwnExecutables(t *testing.T) {
	g := newGround(t)
	g.write(g.path("a"), serves("A", "1.0.0", ":"))
	g.write(g.path("b"), serves("B", "9.0.0", ":"))
	v := g.inventory()
	v.Scan(t.Context(), time.Hour)
	a, _ := v.Select("A")
	b, _ := v.Select("B")
	if _, ok := v.Select("C"); ok || a.Path != g.path("a") || b.Path != g.path("b") {
		t.Errorf("%s, %s, %v", a.Path, b.Path, ok)
	}
}

func TestAFileThatCannotBeTrustedOrUnderstoodIsRefused(t *testing.T) {
	good := serves("T", "1.0.0", ":")
	says := func(answer string) string { return "#!/bin/sh\necho '" + answer + "'\n" }
	for _, r := range []struct {
		name   string
		reason string
		make   func(g *ground, path string)
	}{
		{"not executable", "not executable", func(g *ground, path string) { g.must(os.Chmod(g.write(path, good), 0o644)) }},
		{"writable by all", "writable by others than root (mode 0757", func(g *ground, path string) { g.must(os.Chmod(g.write(path, good), 0o757)) }},
		{"writable by a group", "writable by others than root (mode 0775", func(g *ground, path string) {
			g.must(errors.Join(os.Chown(g.write(path, good), 0, 1), os.Chmod(path, 0o775)))
		}},
		{"of another owner", "writable by others than root (mode 0755, owner 1,", func(g *ground, path string) { g.must(os.Chown(g.write(path, good), 1, 0)) }},
		{"in a directory that is writable by all", "its directory", func(g *ground, path string) {
			g.write(path, good)
			g.must(os.Chmod(filepath.Dir(path), 0o777))
		}},
		{"in a directory that is writable by all, with the sticky bit", "its directory", func(g *ground, path string) {
			g.write(path, good)
			g.must(os.Chmod(filepath.Dir(path), 0o777|os.ModeSticky))
		}},
		{"in a directory of another owner", "its directory", func(g *ground, path string) {
			g.write(path, good)
			g.must(os.Chown(filepath.Dir(path), 1, 0))
		}},
		{"a link to a file in a writable directory", "its directory", func(g *ground, path string) {
			g.write(g.path("elsewhere/svc"), good)
			g.must(errors.Join(os.Chmod(g.path("elsewhere"), 0o777), os.Symlink(g.path("elsewhere/svc"), path)))
		}},
		{"a link in a writable directory", "its directory", func(g *ground, path string) {
			g.write(g.path("elsewhere/svc"), good)
			g.must(errors.Join(os.Symlink(g.path("elsewhere/svc"), path), os.Chmod(filepath.Dir(path), 0o777)))
		}},
		{"below a directory that is writable by all", "its directory", func(g *ground, path string) {
			g.write(path, good)
			g.must(os.Chmod(g.dir, 0o777))
		}},
		{"below a directory with the sticky bit, like /tmp", "its directory", func(g *ground, path string) {
			g.write(path, good)
			g.must(os.Chmod(g.dir, 0o777|os.ModeSticky))
		}},
		{"below a directory of another owner", "its directory", func(g *ground, path string) {
			g.write(path, good)
			g.must(os.Chown(g.dir, 1, 0))
		}},
		{"below a directory that another group can write", "its directory", func(g *ground, path string) {
			g.write(path, good)
			g.must(errors.Join(os.Chown(g.dir, 0, 1), os.Chmod(g.dir, 0o775)))
		}},
		{"below a directory that an access control list lets others write", "its directory", func(g *ground, path string) {
			g.write(path, good)
			g.must(os.Chmod(g.dir, 0o775))
			g.must(unix.Setxattr(g.dir, "system.posix_acl_access", aclOfAnotherUser, 0))
		}},
		{"a link to a file below a directory that is writable by all", "its directory", func(g *ground, path string) {
			g.write(g.path("elsewhere/deeper/svc"), good)
			g.must(errors.Join(os.Chmod(g.path("elsewhere"), 0o777), os.Symlink(g.path("elsewhere/deeper/svc"), path)))
		}},
		{"a link through a directory that is writable by all", "its directory", func(g *ground, path string) {
			g.write(g.path("good/svc"), good)
			g.must(errors.Join(os.Mkdir(g.path("open"), 0o755), os.Chmod(g.path("open"), 0o777),
				os.Symlink(g.path("good"), g.path("open/link")), os.Symlink(g.path("open/link/svc"), path)))
		}},
		{"a link of another owner", "the link", func(g *ground, path string) {
			g.write(g.path("elsewhere/svc"), good)
			g.must(errors.Join(os.Symlink(g.path("elsewhere/svc"), path), os.Lchown(path, 1, 0)))
		}},
		{"a link to a writable file", "writable by others", func(g *ground, path string) {
			g.must(errors.Join(os.Chmod(g.write(g.path("elsewhere/svc"), good), 0o757), os.Symlink(g.path("elsewhere/svc"), path)))
		}},
		{"a link to nothing", "a link to nothing", func(g *ground, path string) { g.must(os.Symlink(g.path("missing"), path)) }},
		{"a link to itself", "a link to nothing", func(g *ground, path string) { g.must(os.Symlink(path, path)) }},
		{"a FIFO", "not a regular file", func(g *ground, path string) { g.must(syscall.Mkfifo(path, 0o755)) }},
		{"a socket", "not a regular file", func(g *ground, path string) {
			fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
			g.must(errors.Join(err, syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}), syscall.Close(fd)))
		}},
		{"empty", "VERSION: start", func(g *ground, path string) { g.write(path, "") }},
		{"text", "VERSION: start", func(g *ground, path string) { g.write(path, "hello\n") }},
		{"silent", "VERSION: answer to VERSION", func(g *ground, path string) { g.write(path, "#!/bin/sh\n") }},
		{"speaking garbage", "VERSION: answer to VERSION", func(g *ground, path string) { g.write(path, says("svc 1.0.0")) }},
		{"failing", "VERSION: exit status 3 without an error object: stderr: no library", func(g *ground, path string) {
			g.write(path, "#!/bin/sh\necho no library >&2\nexit 3\n")
		}},
		{"hanging", "VERSION: deadline of 200ms", func(g *ground, path string) { g.write(path, "#!/bin/sh\nsleep 1000\n") }},
		{"endless", "VERSION: more than 1048576 bytes", func(g *ground, path string) { g.write(path, "#!/bin/sh\nexec yes\n") }},
		{"an ordinary CNI plugin", "VERSION: serviceType", func(g *ground, path string) {
			g.write(path, says(`{"cniVersion":"1.1.0","supportedVersions":["1.1.0"]}`))
		}},
		{"of another contract", "VERSION: contractVersion", func(g *ground, path string) {
			g.write(path, says(strings.Replace(versionAnswer("T", "1.0.0"), `"contractVersion":1`, `"contractVersion":2`, 1)))
		}},
		{"of a hostile type", "VERSION: serviceType", func(g *ground, path string) { g.write(path, says(versionAnswer("../T", "1.0.0"))) }},
		{"of a version that is none", "VERSION: serviceVersion", func(g *ground, path string) { g.write(path, says(versionAnswer("T", "latest"))) }},
	} {
		t.Run(r.name, func(t *testing.T) {
			g := newGround(t)
			path := g.path("plugins/svc")
			g.must(os.MkdirAll(filepath.Dir(path), 0o755))
			r.make(g, path)
			var lines atomic.Int64
			v := g.inventory(g.path("plugins"))
			v.log = slog.New(counting{lines: &lines})
			if r.name == "hanging" {
				v.deadline = 200 * time.Millisecond
			}
			for first := true; ; first = false {
				changed := v.Scan(t.Context(), 0)
				executables, refusals := v.List()
				if len(executables) != 0 || len(refusals) != 1 {
					t.Fatalf("%v, %v", executables, refusals)
				}
				if got := refusals[0]; got.Found != path || !strings.HasPrefix(got.Reason, r.reason) || strings.Contains(got.Reason, "\n") {
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
				t.Error("it is selected")
			}
		})
	}
}

// aclOfAnotherUser is an access control list, as the kernel stores it, of mode 0775 with the entry user:1:rwx.
var aclOfAnotherUser = []byte("\x02\x00\x00\x00" +
	"\x01\x00\x07\x00\xff\xff\xff\xff" + "\x02\x00\x07\x00\x01\x00\x00\x00" + "\x04\x00\x05\x00\xff\xff\xff\xff" +
	"\x10\x00\x07\x00\xff\xff\xff\xff" + "\x20\x00\x05\x00\xff\xff\xff\xff")

// TestAnExecutableIsNotRunAfterItsPathWasOpened changes an ancestor of an executable between the scan and a verb.
func TestAnExecutableIsNotRunAfterItsPathWasOpened(t *testing.T) {
	g := newGround(t)
	path := g.write(g.path("deep/plugins/svc"), serves("T", "1.0.0", ":"))
	v := g.inventory(g.path("deep/plugins"))
	v.Scan(t.Context(), time.Hour)
	if _, ok := v.Select("T"); !ok {
		t.Fatal("it is not selected")
	}
	g.must(os.Chmod(g.path("deep"), 0o777))
	g.write(path, "#!/bin/sh\ntouch "+g.path("ran")+"\n")
	_, err := v.Run(t.Context(), Call{Executable: path, Verb: spec.Add, ContainerID: "c", Deadline: settleTime})
	g.noAnswer(err, "start "+path+": refused: its directory "+g.path("deep")+" is writable by others than root")
	if _, err := os.Stat(g.path("ran")); err == nil {
		t.Error("it ran")
	}
	if !v.Scan(t.Context(), time.Hour) {
		t.Error("the next scan found no change")
	}
	if _, ok := v.Select("T"); ok {
		t.Error("it is still selected")
	}
}

func TestWhatRootAloneCanWriteIsUsed(t *testing.T) {
	g := newGround(t)
	g.must(os.Chmod(g.write(g.path("plugins/svc"), serves("T", "1.0.0", ":")), 0o775)) // root's group is root's
	g.must(os.Chmod(g.path("plugins"), 0o700))
	g.must(os.Symlink("plugins", g.path("current")))
	v := g.inventory(g.path("current"), g.path("plugins"))
	v.Scan(t.Context(), time.Hour)
	if _, refusals := v.List(); len(refusals) != 0 {
		t.Error(refusals)
	}
}

func TestWhatIsNotMeantToBeRunIsNotEvenRefused(t *testing.T) {
	g := newGround(t)
	for _, name := range []string{".hidden", "svc~", "svc.tmp", ".svc.swp", "svc.swp", "svc.dpkg-new", "svc.dpkg-old", "svc.rpmnew", "svc.rpmsave"} {
		g.executable(name, "9.0.0")
	}
	g.executable("directory/svc", "9.0.0")
	v := g.inventory(g.dir, g.path("missing"), g.path("svc~"))
	if v.Scanned() || !v.Scan(t.Context(), time.Hour) || !v.Scanned() {
		t.Error("the first scan is no news")
	}
	if v.Scan(t.Context(), time.Hour) {
		t.Error("the second one is news")
	}
	if executables, refusals := v.List(); len(executables)+len(refusals) != 0 {
		t.Errorf("%v, %v", executables, refusals)
	}
}

func TestALinkIsFollowedToTheFileThatServes(t *testing.T) {
	g := newGround(t)
	file := g.write(g.path("versions/svc-1.4.0"), serves("T", "1.4.0", ":"))
	g.must(os.MkdirAll(g.path("plugins"), 0o755))
	g.must(os.Symlink(file, g.path("plugins/svc")))
	v := g.inventory(g.path("plugins"))
	v.Scan(t.Context(), time.Hour)
	if e, ok := v.Select("T"); !ok || e.Path != file || e.Found != g.path("plugins/svc") || CNIType(e.Path) != "svc-1.4.0" {
		t.Errorf("%+v", e)
	}
}

func TestAFileIsAskedOncePerChange(t *testing.T) {
	g := newGround(t)
	content := strings.Replace(serves("T", "1.0.0", ":"), "#!/bin/sh", "#!/bin/sh\necho $CNI_COMMAND >>"+g.path(".asked"), 1)
	path := g.write(g.path("svc"), content)
	asked := func() string {
		b, _ := os.ReadFile(g.path(".asked"))
		return strings.Join(strings.Fields(string(b)), " ")
	}
	v := g.inventory()
	for range 3 {
		v.Scan(t.Context(), 0)
	}
	if got := asked(); got != "VERSION STATUS" {
		t.Errorf("it was asked %s", got)
	}
	g.must(os.Chmod(path, 0o700))
	if !v.Scan(t.Context(), 0) || asked() != "VERSION STATUS VERSION STATUS" {
		t.Errorf("after a change it was asked %s", asked())
	}
	g.must(os.Chmod(g.dir, 0o777))
	if !v.Scan(t.Context(), 0) {
		t.Error("its directory became writable, and nothing changed")
	}
	if _, ok := v.Select("T"); ok {
		t.Error("its directory is writable by all")
	}
	g.must(os.Chmod(g.dir, 0o755))
	if !v.Scan(t.Context(), 0) {
		t.Error("its directory was mended, and nothing changed")
	}
	if _, ok := v.Select("T"); !ok {
		t.Error("its directory was mended")
	}
}

func TestABusyFileIsAskedAgainThoughNothingOfItChanges(t *testing.T) {
	g := newGround(t)
	path := g.executable("svc", "1.0.0")
	writer, err := os.OpenFile(path, os.O_WRONLY, 0)
	g.must(err)
	v := g.inventory()
	v.Scan(t.Context(), time.Millisecond)
	if _, refusals := v.List(); len(refusals) != 1 || !strings.Contains(refusals[0].Reason, "text file busy") {
		t.Fatalf("%v", refusals)
	}
	g.must(writer.Close())
	g.eventually("an answer", func() bool {
		v.Scan(t.Context(), time.Millisecond)
		_, ok := v.Select("T")
		return ok
	})
}

func TestAScanThatIsCutShortTellsNothing(t *testing.T) {
	g := newGround(t)
	g.executable("svc", "1.0.0")
	v := g.inventory()
	v.Scan(t.Context(), time.Hour)
	g.executable("svc", "2.0.0")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if v.Scan(ctx, time.Hour) {
		t.Error("a change was told")
	}
	if e, ok := v.Select("T"); !ok || e.Version.String() != "1.0.0" {
		t.Errorf("%v", e.Version)
	}
	v.Scan(t.Context(), time.Hour)
	if e, ok := v.Select("T"); !ok || e.Version.String() != "2.0.0" {
		t.Errorf("%v", e.Version)
	}
}

func TestWhichExecutableServesARecordedContainer(t *testing.T) {
	g := newGround(t)
	write := func(name, serviceType, version string, reconfigures bool) string {
		content := serves(serviceType, version, ":")
		if !reconfigures {
			content = strings.Replace(content, `"reconfigure":true`, `"reconfigure":false`, 1)
		}
		return g.write(g.path(name), content)
	}
	v15 := write("v15", "T", "1.5.0", true)
	v19 := write("v19", "T", "1.9.0", true)
	write("v110", "T", "1.10.0", false)
	v20 := write("v20", "T", "2.0.0", true)
	v30 := write("v30", "T", "3.0.0", false)
	other := write("other", "OTHER", "1.99.0", true)
	v := g.inventory()
	v.Scan(t.Context(), time.Hour)

	for _, r := range []struct{ name, path, want string }{
		{"CHECK and DEL go to the file that made it", v15, v15},
		{"also if that is the highest", v30, v30},
		{"if the file is gone, to the highest", g.path("gone"), v30},
		{"if the file serves another type now, to the highest", other, v30},
		{"if the record does not tell, to the highest", "", v30},
	} {
		t.Run(r.name, func(t *testing.T) {
			if e, ok := v.ForRecorded("T", r.path); !ok || e.Path != r.want {
				t.Errorf("%s, %v", e.Path, ok)
			}
		})
	}
	for _, r := range []struct{ name, version, want string }{
		{"ADD again goes to the highest of its major version that can reconfigure", "1.5.0", v19},
		{"also if the version itself is gone", "1.0.0", v19},
		{"also down, if only a lower one can", "1.10.0", v19},
		{"another major version is another world", "2.0.0", v20},
		{"no version of the major can: DEL and ADD", "3.0.0", ""},
		{"no version of the major is there: DEL and ADD", "4.0.0", ""},
		{"a version that is none: DEL and ADD", "latest", ""},
	} {
		t.Run(r.name, func(t *testing.T) {
			if e, ok := v.ForChange("T", r.version); ok != (r.want != "") || e.Path != r.want {
				t.Errorf("%s, %v", e.Path, ok)
			}
		})
	}
	t.Run("no executable for the type at all: held", func(t *testing.T) {
		_, recorded := v.ForRecorded("NONE", v15)
		_, change := v.ForChange("NONE", "1.5.0")
		if _, selected := v.Select("NONE"); recorded || change || selected {
			t.Error("one serves it")
		}
	})
}

func TestEventsThatLeadToCHECK(t *testing.T) {
	for _, r := range []struct {
		name, checkOn string
		want          spec.Events
		logged        string
	}{
		{"none is asked for", ``, spec.Events{}, ""},
		{"an empty list", `,"checkOn":[]`, spec.Events{}, ""},
		{"XFRM events", `,"checkOn":["xfrm"]`, spec.Events{XFRM: true}, ""},
		{"network events", `,"checkOn":["network"]`, spec.Events{Network: true}, ""},
		{"both", `,"checkOn":["network","xfrm"]`, spec.Events{XFRM: true, Network: true}, ""},
		{"XFRM events beside unknown ones", `,"checkOn":["route","xfrm","link"]`, spec.Events{XFRM: true}, "events=\"[route link]\""},
		{"unknown events alone", `,"checkOn":["route"]`, spec.Events{}, "events=[route]"},
	} {
		t.Run(r.name, func(t *testing.T) {
			g := newGround(t)
			g.write(g.path("svc"), strings.Replace(serves("T", "1.0.0", ":"), `"reconfigure":true`, `"reconfigure":true`+r.checkOn, 1))
			v := g.inventory()
			var log bytes.Buffer
			v.log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
			for range 3 {
				v.Scan(t.Context(), time.Hour)
			}
			if e, ok := v.Select("T"); !ok || e.CheckOn != r.want {
				t.Errorf("%+v, %v", e, ok)
			}
			const message = "unknown events in checkOn ignored"
			if r.logged == "" && strings.Contains(log.String(), message) ||
				r.logged != "" && (strings.Count(log.String(), message) != 1 || !strings.Contains(log.String(), r.logged)) {
				t.Errorf("logged %s", log.String())
			}
		})
	}
}

func TestStatusIsAskedAgainWhileItFails(t *testing.T) {
	g := newGround(t)
	path := g.path("svc")
	g.write(path, serves("T", "1.0.0", `echo STATUS >>`+g.path(".asked")+`; test -e `+g.path(".ready")+
		` || { echo '{"cniVersion":"1.1.0","code":50,"msg":"no ipsec installed"}'; exit 1; }`))
	v := g.inventory()
	v.Scan(t.Context(), time.Hour)
	e, ok := v.Select("T")
	if !ok || e.Unready != "no ipsec installed (code 50)" {
		t.Fatalf("%+v, %v", e, ok)
	}
	if v.Scan(t.Context(), time.Hour) || asked(g) != 1 {
		t.Errorf("asked %d times within the interval", asked(g))
	}
	if v.Scan(t.Context(), 0) || asked(g) != 2 {
		t.Errorf("asked %d times, or the same answer was a change", asked(g))
	}
	g.touch(".ready")
	if !v.Scan(t.Context(), 0) {
		t.Error("no change was told")
	}
	if e, ok := v.Select("T"); !ok || e.Unready != "" {
		t.Errorf("%+v, %v", e, ok)
	}
	if v.Scan(t.Context(), 0) || asked(g) != 3 {
		t.Errorf("asked %d times, also after it was ready", asked(g))
	}
}

func asked(g *ground) int {
	content, _ := os.ReadFile(g.path(".asked"))
	return strings.Count(string(content), "\n")
}

func TestAnExecutableThatDoesNotAnswerStatusIsNotReady(t *testing.T) {
	for reason, body := range map[string]string{
		"STATUS: deadline of 1s":                          "sleep 1000",
		"STATUS: exit status 9 without an error object":   "exit 9",
		"STATUS: signal: killed":                          "kill -KILL $$",
		"STATUS: exit status 1 without an error object: ": "echo a >&2; echo b >&2; exit 1",
	} {
		g := newGround(t)
		g.write(g.path("svc"), serves("T", "1.0.0", body))
		v := g.inventory()
		v.deadline = settleTime
		if strings.Contains(reason, "deadline") {
			v.deadline = time.Second
		}
		v.Scan(t.Context(), time.Hour)
		if e, ok := v.Select("T"); !ok || !strings.HasPrefix(e.Unready, reason) || strings.Contains(e.Unready, "\n") {
			t.Errorf("want %q, got %q", reason, e.Unready)
		}
	}
}

func TestANewExecutableIsNotSelectedBeforeItsStatusIsKnown(t *testing.T) {
	g := newGround(t)
	old := g.executable("old", "1.0.0")
	v := g.inventory()
	v.Scan(t.Context(), time.Hour)
	g.write(g.path("new"), serves("T", "2.0.0", "echo STATUS >"+g.path(".asked")+"; while ! test -e "+g.path(".go")+"; do sleep 0.01; done; exit 1"))
	scanned := make(chan bool, 1)
	go func() { scanned <- v.Scan(t.Context(), time.Hour) }()
	g.eventually("the question", func() bool { return asked(g) == 1 })
	if e, _ := v.Select("T"); e.Path != old {
		t.Errorf("%s %s is selected, and nobody knows whether it can serve", e.Path, e.Version)
	}
	g.touch(".go")
	if !<-scanned {
		t.Error("no change was told")
	}
	if e, _ := v.Select("T"); e.Version.String() != "2.0.0" || e.Unready == "" {
		t.Errorf("%+v", e)
	}
}

// following runs Follow until the test ends.
func (g *ground) following(v *Inventory, rescan, statusInterval time.Duration) *atomic.Int64 {
	var changes atomic.Int64
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		v.Follow(ctx, rescan, func() time.Duration { return statusInterval }, func() { changes.Add(1) })
	}()
	g.Cleanup(func() {
		cancel()
		select {
		case <-ended:
		case <-time.After(settleTime):
			g.Error("Follow did not end with its context")
		}
	})
	return &changes
}

func (g *ground) selected(v *Inventory, version string) {
	g.Helper()
	g.eventually("selection of "+version, func() bool {
		e, ok := v.Select("T")
		return ok && e.Version.String() == version || !ok && version == ""
	})
}

func TestExecutablesComeAndGoWhileTheSupervisorRuns(t *testing.T) {
	for _, r := range []struct {
		name   string
		rescan time.Duration
	}{
		{"by the hints of the file system", time.Hour},
		{"by looking again", 10 * time.Millisecond},
	} {
		t.Run(r.name, func(t *testing.T) {
			g := newGround(t)
			v := g.inventory()
			changes := g.following(v, r.rescan, 10*time.Millisecond)
			g.executable("a", "1.0.0")
			g.selected(v, "1.0.0")
			if changes.Load() == 0 {
				t.Error("no change was told")
			}
			g.executable("b", "2.0.0")
			g.selected(v, "2.0.0")
			g.must(os.Remove(g.path("b")))
			g.selected(v, "1.0.0")
			g.write(g.path(".a.new"), serves("T", "1.1.0", ":"))
			g.must(os.Rename(g.path(".a.new"), g.path("a")))
			g.selected(v, "1.1.0")
			g.must(os.Chmod(g.path("a"), 0o644))
			g.selected(v, "")
			g.must(os.Chmod(g.path("a"), 0o755))
			g.selected(v, "1.1.0")
		})
	}
}

func TestAFileThatIsCopiedSlowlyIsFoundWhenItIsWhole(t *testing.T) {
	g := newGround(t)
	v := g.inventory()
	g.following(v, 10*time.Millisecond, time.Hour)
	whole := serves("T", "1.0.0", ":")
	g.write(g.path("svc"), whole[:len(whole)/3])
	g.eventually("the refusal of a third of it", func() bool { _, refusals := v.List(); return len(refusals) == 1 })
	g.write(g.path("svc"), whole)
	g.selected(v, "1.0.0")
}

func TestADirectoryMayAppearLater(t *testing.T) {
	g := newGround(t)
	v := g.inventory(g.path("later"))
	g.following(v, 10*time.Millisecond, time.Hour)
	g.executable("later/svc", "1.0.0")
	g.selected(v, "1.0.0")
	g.must(os.RemoveAll(g.path("later")))
	g.selected(v, "")
	g.executable("later/svc", "2.0.0")
	g.selected(v, "2.0.0")
}

func TestALinkMayBeTurned(t *testing.T) {
	g := newGround(t)
	g.executable("versions/svc-1.0.0", "1.0.0")
	g.executable("versions/svc-2.0.0", "2.0.0")
	g.must(errors.Join(os.Mkdir(g.path("plugins"), 0o755), os.Symlink("../versions/svc-1.0.0", g.path("plugins/svc"))))
	v := g.inventory(g.path("plugins"))
	g.following(v, time.Hour, time.Hour)
	g.selected(v, "1.0.0")
	g.must(os.Symlink("../versions/svc-2.0.0", g.path("plugins/.svc")))
	g.must(os.Rename(g.path("plugins/.svc"), g.path("plugins/svc")))
	g.selected(v, "2.0.0")
}

func TestOneThatHangsKeepsNoOtherFromBeingFound(t *testing.T) {
	g := newGround(t)
	for i := range 8 {
		g.write(g.path(fmt.Sprint("hangs-", i)), "#!/bin/sh\nsleep 1000\n")
	}
	g.executable("svc", "1.0.0")
	v := g.inventory()
	v.deadline = 3 * time.Second
	begin := time.Now()
	v.Scan(t.Context(), time.Hour)
	if took := time.Since(begin); took > 8*v.deadline {
		t.Errorf("took %v: one after the other", took)
	}
	executables, refusals := v.List()
	if len(executables) != 1 || len(refusals) != 8 {
		t.Errorf("%v, %v", executables, refusals)
	}
	if !slices.IsSortedFunc(refusals, func(a, b Refusal) int { return strings.Compare(a.Found, b.Found) }) {
		t.Error("the refused are in no order")
	}
}
