package etcd

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/etcdtest"
)

// firstUnread runs an NSDB until it reports its first set, and returns the reason why that set is unread.
func firstUnread(t *testing.T, address string) string {
	t.Helper()
	n := open(t, address, slog.DiscardHandler)
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	var first *spec.Desired
	if err := n.Run(ctx, func(d spec.Desired) {
		if first == nil {
			first = &d
		}
		cancel()
	}); err != nil {
		t.Error(err)
	}
	if first == nil {
		t.Fatal("no set was reported")
	}
	if first.Unread != "" && (strings.ContainsAny(first.Unread, "\n") || len(first.Unread) > 700) {
		t.Errorf("not one line: %s", first.Unread)
	}
	t.Log(first.Unread)
	return first.Unread
}

func containsAll(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q does not contain %q", text, part)
		}
	}
}

func TestUnreachableEndpointsAreReported(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	containsAll(t, firstUnread(t, "etcd://"+address+"/svc"),
		"etcd "+address+": read /svc/bindings/h/", "connection refused", "check the endpoints")
	containsAll(t, firstUnread(t, "etcd://nowhere.invalid/svc"), "nowhere.invalid", "check the endpoints")
	n := open(t, "etcd://"+address+"/svc", slog.DiscardHandler)
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	err = put(ctx, n, "c", running)
	if err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("got %v", err)
	}
}

func TestWrongCertificatesAreReported(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1, etcdtest.ClientCert())
	host := c.Endpoints()[0]
	if _, err := c.Client().Put(t.Context(), "/svc/hosts/h", `{"id":"h"}`); err != nil {
		t.Fatal(err)
	}
	if got := firstUnread(t, c.URL("svc")); got != "" {
		t.Errorf("with all that is needed: %s", got)
	}
	containsAll(t, firstUnread(t, "etcd://"+host+"/svc"), "whether it speaks TLS (then etcds://)")
	containsAll(t, firstUnread(t, "etcds://"+host+"/svc"), "certificate signed by unknown authority",
		"ca, cert and key")
	// etcd's own error message may be lost with the connection.
	containsAll(t, firstUnread(t, "etcds://"+host+"/svc?ca="+c.CA()), "ca, cert and key")
	containsAll(t, firstUnread(t, "etcds://"+host+"/svc?ca=/nowhere/ca.pem"), "ca /nowhere/ca.pem: no such file")
	containsAll(t, firstUnread(t, "etcds://"+host+"/svc?ca="+secret(t, "x")),
		"allowed: a file with certificates in PEM")
	readable := secret(t, "x")
	if err := os.Chmod(readable, 0o644); err != nil {
		t.Fatal(err)
	}
	containsAll(t, firstUnread(t, "etcds://"+host+"/svc?ca="+c.CA()+"&cert="+c.CA()+"&key="+readable),
		"key ", "others may not read")
	plainAddress := plainServer(t)
	containsAll(t, firstUnread(t, "etcds://"+plainAddress+"/svc?ca="+c.CA()), "handshake failed", "speaks TLS")
}

// plainServer returns the address of a server without TLS.
func plainServer(t *testing.T) string {
	t.Helper()
	return etcdtest.Start(t, 1).Endpoints()[0]
}

func TestUserAndPassword(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1)
	c.Auth("svc", "pass-word", "/svc/")
	host := c.Endpoints()[0]
	if _, err := c.Client().Put(t.Context(), "/svc/hosts/h", `{"id":"h"}`); err != nil {
		t.Fatal(err)
	}
	if got := firstUnread(t, c.URL("svc")); got != "" {
		t.Errorf("with all that is needed: %s", got)
	}
	containsAll(t, firstUnread(t, "etcd://"+host+"/svc"), "etcd requires a user")
	file := secret(t, "another-word")
	wrong := firstUnread(t, "etcd://svc@"+host+"/svc?passwordFile="+file)
	containsAll(t, wrong, `user "svc" or the password in `+file+" is refused")
	if strings.Contains(wrong, "another-word") {
		t.Error("the error contains the password")
	}
	containsAll(t, firstUnread(t, c.URL("elsewhere")), `permission denied for user "svc"`, "/elsewhere/")
	containsAll(t, firstUnread(t, "etcd://svc@"+host+"/svc?passwordFile=/nowhere"),
		"passwordFile /nowhere: no such file")
	// A read of the kernel log blocks, and so does an open of a pipe without a writer.
	containsAll(t, firstUnread(t, "etcd://svc@"+host+"/svc?passwordFile=/proc/kmsg"), "a file that holds the password")
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	containsAll(t, firstUnread(t, "etcd://svc@"+host+"/svc?passwordFile="+pipe),
		"a regular file that others may not read")
	containsAll(t, firstUnread(t, "etcds://"+host+"/svc?ca=/proc/kmsg"), "a file with certificates in PEM")
	containsAll(t, firstUnread(t, "etcds://"+host+"/svc?ca="+pipe), "a regular file, and this is p")
	containsAll(t, firstUnread(t, "etcd://svc@"+host+"/svc?passwordFile="+secret(t, "\n")),
		"a file that holds the password")
	if err := os.Chmod(file, 0o604); err != nil {
		t.Fatal(err)
	}
	containsAll(t, firstUnread(t, "etcd://svc@"+host+"/svc?passwordFile="+file), "others may not read")
}

func TestACorrectedPasswordFileIsRead(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1, etcdtest.TLS(), etcdtest.Argument("--auth-token-ttl=2"))
	c.Auth("svc", "right", "/")
	file := secret(t, "wrong")
	f := newFixtureIn(t, c, func(root string) string {
		return "etcds://svc@" + c.Endpoints()[0] + "/" + root + "?ttl=3s&passwordFile=" + file + "&ca=" + c.CA()
	})
	f.start()
	f.waitForSet("the refusal", func(d spec.Desired) bool { return strings.Contains(d.Unread, "is refused") })
	f.check(os.WriteFile(file, []byte("right\n"), 0o600))
	f.waitForSet("the host", whole)
	f.publishRunning()
	for range 20 { // the test's client uses its token meanwhile; the NSDB does not, so its token expires
		f.put("elsewhere", "{}")
		time.Sleep(200 * time.Millisecond)
	}
	f.put("bindings/h/q", binding("q", "vpn-q", "e"))
	f.put("containers/e", container("e"))
	f.waitForSet("the change from a new watch", func(d spec.Desired) bool {
		b := find(d, "q")
		return b != nil && b.Reading == spec.Complete
	})
	f.awaitLaterChange()
	f.publishRunning()
	f.onlyWholeSets(1)
	if f.logged("WARN NSDB cannot be followed") > 1 {
		t.Errorf("log %q", f.log)
	}
}
