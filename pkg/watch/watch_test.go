package watch_test

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch"
)

func TestOpenAcceptsURLsOfEachKind(t *testing.T) {
	for _, url := range []string{
		"file:///etc/svc-supervisor/nsdb",
		"file:///etc/svc-supervisor/nsdb/",
		"file:/etc/svc-supervisor/nsdb",
		"file:///nsdb%20with%20blanks?rescan=2s",
		"file:///nsdb?status=/srv/status&rescan=1m30s",
		"etcd://h1:2379,h2:2379/svc?ttl=30s",
		"etcds://user@h1/svc?passwordFile=/run/p&ca=/run/ca&cert=/run/c&key=/run/k",
		"zk://h1:2181,h2:2181/midonet?container=leave",
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

func TestOpenErrorIsOneLineWithTheAllowedForm(t *testing.T) {
	rows := []struct {
		name, url, want string
	}{
		{"an empty URL", "", `scheme "": allowed: file`},
		{"a bare path", "/etc/nsdb", `scheme "": allowed: file`},
		{"another kind", "http://h1:2181/midonet", `scheme "http": allowed: file, etcd, etcds, zk`},
		{"an invalid URL", "file://%zz", "allowed: file:///directory"},
		{
			"an option with a wrong separator", "file:///nsdb&rescan=2s",
			"allowed: /nsdb?rescan=2s: ? begins the options",
		},
		{"the same with etcd", "etcd://h/svc&ttl=3", "allowed: /svc?"},
		{"the same with zk", "zk://h/midonet&rescan=2s", "root "},
		{"two slashes", "file://etc/nsdb", "three slashes"},
		{"a relative path", "file:nsdb", "three slashes"},
		{"no path", "file://", `directory "": allowed: an absolute path`},
		{"a user", "file://root:hunter2@/etc/nsdb", "three slashes"},
		{"a password for etcd", "etcd://root:hunter2@h1:2379/svc", "no password in the URL"},
		{"a password for ZooKeeper", "zk://root:hunter2@h1:2181/midonet", "no user"},
		{
			"a password in an invalid URL", "etcd://root:hunter2@h1:%zz/svc",
			"the URL cannot be read: allowed: file:///directory",
		},
		{"an option of another kind", "etcd://h1/svc?rescan=2s", `option "rescan": allowed: ca, cert`},
		{"a fragment", "file:///etc/nsdb#x", "three slashes"},
		{"a NUL in the path", "file:///etc/ns%00db", "allowed: an absolute path of printable characters"},
		{"a line break in the path", "file:///etc/ns%0adb", "allowed: an absolute path of printable characters"},
		{"an unknown option", "file:///etc/nsdb?scan=2s", `option "scan": allowed: rescan, status`},
		{"an option twice", "file:///etc/nsdb?rescan=2s&rescan=3s", `rescan "2s 3s": allowed: one value`},
		{"a rescan without a unit", "file:///etc/nsdb?rescan=2", `rescan "2": allowed: a duration from 100ms to 1h`},
		{"a rescan that is too short", "file:///etc/nsdb?rescan=1ms", "allowed: a duration from 100ms to 1h"},
		{"a rescan that is negative", "file:///etc/nsdb?rescan=-2s", "allowed: a duration from 100ms to 1h"},
		{"a relative status directory", "file:///etc/nsdb?status=run", `status "run": allowed: an absolute path`},
		{
			"a status directory that is the object directory", "file:///etc/nsdb?status=/etc/./nsdb/",
			"another directory than that of the objects",
		},
		{"options that cannot be parsed", "file:///etc/nsdb?a;b", "options"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			_, err := watch.Open(row.url, "h", slog.New(slog.DiscardHandler))
			if err == nil {
				t.Fatal("the URL was accepted")
			}
			text := err.Error()
			if !strings.HasPrefix(text, "open NSDB") || !strings.Contains(text, row.want) ||
				strings.Contains(text, "\n") {
				t.Errorf("got  %q\nwant %q in one line", err, row.want)
			}
			if strings.Contains(text, "hunter2") {
				t.Errorf("the error contains the password: %q", err)
			}
		})
	}
}

func TestOpenAdminNeedsNoHost(t *testing.T) {
	nsdb, err := watch.OpenAdmin("file:///etc/nsdb", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := nsdb.Close(); err != nil {
		t.Error(err)
	}
}

func TestOpenRefusesInvalidHostIDs(t *testing.T) {
	for _, host := range []spec.HostID{"", "../x", "a/b", "a\nb"} {
		if _, err := watch.Open("file:///etc/nsdb", host, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%q was accepted", host)
		}
	}
}
