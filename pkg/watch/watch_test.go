package watch_test

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch"
)

func TestOpenTakesFileURLs(t *testing.T) {
	for _, url := range []string{
		"file:///etc/svc-supervisor/nsdb",
		"file:///etc/svc-supervisor/nsdb/",
		"file:/etc/svc-supervisor/nsdb",
		"file:///nsdb%20with%20blanks?rescan=2s",
		"file:///nsdb?status=/srv/status&rescan=1m30s",
	} {
		nsdb, err := watch.Open(url, "h", slog.New(slog.DiscardHandler))
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		if err := nsdb.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestOpenRefusesInOneLineThatSaysWhatIsAllowed(t *testing.T) {
	rows := []struct {
		name, url, want string
	}{
		{"nothing", "", `scheme "": allowed: file`},
		{"a bare path", "/etc/nsdb", `scheme "": allowed: file`},
		{"another kind", "zk://h1:2181/midonet", `scheme "zk": allowed: file`},
		{"what is no URL", "file://%zz", "allowed: file:///directory"},
		{"two slashes", "file://etc/nsdb", "three slashes"},
		{"a relative path", "file:nsdb", "three slashes"},
		{"no path", "file://", `directory "": allowed: an absolute path`},
		{"a user", "file://root:hunter2@/etc/nsdb", "three slashes"},
		{"a fragment", "file:///etc/nsdb#x", "three slashes"},
		{"a NUL in the path", "file:///etc/ns%00db", "allowed: an absolute path of printable characters"},
		{"a newline in the path", "file:///etc/ns%0adb", "allowed: an absolute path of printable characters"},
		{"an unknown option", "file:///etc/nsdb?scan=2s", `option "scan": allowed: rescan, status`},
		{"an option twice", "file:///etc/nsdb?rescan=2s&rescan=3s", `rescan "2s 3s": allowed: one value`},
		{"a rescan that is no duration", "file:///etc/nsdb?rescan=2", `rescan "2": allowed: a duration from 100ms to 1h`},
		{"a rescan that is too short", "file:///etc/nsdb?rescan=1ms", "allowed: a duration from 100ms to 1h"},
		{"a rescan that is negative", "file:///etc/nsdb?rescan=-2s", "allowed: a duration from 100ms to 1h"},
		{"a relative status directory", "file:///etc/nsdb?status=run", `status "run": allowed: an absolute path`},
		{"the status directory among the objects", "file:///etc/nsdb?status=/etc/./nsdb/", "another directory than that of the objects"},
		{"options that cannot be read", "file:///etc/nsdb?a;b", "options"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			_, err := watch.Open(row.url, "h", slog.New(slog.DiscardHandler))
			if err == nil {
				t.Fatal("it was accepted")
			}
			if !strings.HasPrefix(err.Error(), "open NSDB") || !strings.Contains(err.Error(), row.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got  %q\nwant %q in one line", err, row.want)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("it repeats a password: %q", err)
			}
		})
	}
}

func TestOpenRefusesAHostileHostID(t *testing.T) {
	for _, host := range []spec.HostID{"", "../x", "a/b", "a\nb"} {
		if _, err := watch.Open("file:///etc/nsdb", host, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%q was accepted", host)
		}
	}
}
