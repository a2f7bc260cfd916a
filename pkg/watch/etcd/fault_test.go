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

// unread runs an NSDB until it hands over a set, and returns what it says.
func unread(t *testing.T, address string) string {
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
		t.Fatal("nothing was handed over")
	}
	if first.Unread != "" && (strings.ContainsAny(first.Unread, "\n") || len(first.Unread) > 700) {
		t.Errorf("not one line: %s", first.Unread)
	}
	t.Log(first.Unread)
	return first.Unread
}

func says(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q does not say %q", text, part)
		}
	}
}

func TestNobodyListensThere(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	says(t, unread(t, "etcd://"+address+"/svc"), "etcd "+address+": read /svc/bindings/h/", "connection refused", "check the endpoints")
	says(t, unread(t, "etcd://nowhere.invalid/svc"), "nowhere.invalid", "check the endpoints")
	n := open(t, "etcd://"+address+"/svc", slog.DiscardHandler)
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	err = n.PublishContainer(ctx, "c", running)
	if err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("got %v", err)
	}
}

func TestTheWrongCertificatesAreTold(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1, etcdtest.ClientCert())
	host := c.Endpoints()[0]
	if _, err := c.Client().Put(t.Context(), "/svc/hosts/h", `{"id":"h"}`); err != nil {
		t.Fatal(err)
	}
	if got := unread(t, c.URL("svc")); got != "" {
		t.Errorf("with all that is needed: %s", got)
	}
	says(t, unread(t, "etcd://"+host+"/svc"), "whether it speaks TLS (then etcds://)")
	says(t, unread(t, "etcds://"+host+"/svc"), "certificate signed by unknown authority", "ca, cert and key")
	says(t, unread(t, "etcds://"+host+"/svc?ca="+c.CA()), "ca, cert and key") // etcd's own word on it may be lost with the connection
	says(t, unread(t, "etcds://"+host+"/svc?ca=/nowhere/ca.pem"), "ca /nowhere/ca.pem: no such file")
	says(t, unread(t, "etcds://"+host+"/svc?ca="+secret(t, "x")), "allowed: a file with certificates in PEM")
	readable := secret(t, "x")
	if err := os.Chmod(readable, 0o644); err != nil {
		t.Fatal(err)
	}
	says(t, unread(t, "etcds://"+host+"/svc?ca="+c.CA()+"&cert="+c.CA()+"&key="+readable), "key ", "others may not read")
	plain := commonPlain(t)
	says(t, unread(t, "etcds://"+plain+"/svc?ca="+c.CA()), "handshake failed", "speaks TLS")
}

// commonPlain is the address of a server that speaks no TLS.
func commonPlain(t *testing.T) string {
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
	if got := unread(t, c.URL("svc")); got != "" {
		t.Errorf("with all that is needed: %s", got)
	}
	says(t, unread(t, "etcd://"+host+"/svc"), "a user is asked for")
	file := secret(t, "another-word")
	wrong := unread(t, "etcd://svc@"+host+"/svc?passwordFile="+file)
	says(t, wrong, `user "svc" or the password in `+file+" is refused")
	if strings.Contains(wrong, "another-word") {
		t.Error("it tells the password")
	}
	says(t, unread(t, c.URL("elsewhere")), `permission denied for user "svc"`, "/elsewhere/")
	says(t, unread(t, "etcd://svc@"+host+"/svc?passwordFile=/nowhere"), "passwordFile /nowhere: no such file")
	// The kernel's log, which a read waits for, and a pipe that nobody writes.
	says(t, unread(t, "etcd://svc@"+host+"/svc?passwordFile=/proc/kmsg"), "a file that holds the password")
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	says(t, unread(t, "etcd://svc@"+host+"/svc?passwordFile="+pipe), "a regular file that others may not read")
	says(t, unread(t, "etcds://"+host+"/svc?ca=/proc/kmsg"), "a file with certificates in PEM")
	says(t, unread(t, "etcds://"+host+"/svc?ca="+pipe), "a regular file, and this is p")
	says(t, unread(t, "etcd://svc@"+host+"/svc?passwordFile="+secret(t, "\n")), "a file that holds the password")
	if err := os.Chmod(file, 0o604); err != nil {
		t.Fatal(err)
	}
	says(t, unread(t, "etcd://svc@"+host+"/svc?passwordFile="+file), "others may not read")
}

func TestAPasswordThatIsCorrectedInItsFileIsUsed(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1, etcdtest.TLS(), etcdtest.Argument("--auth-token-ttl=2"))
	c.Auth("svc", "right", "/")
	file := secret(t, "wrong")
	g := groundIn(t, c, func(root string) string {
		return "etcds://svc@" + c.Endpoints()[0] + "/" + root + "?ttl=3s&passwordFile=" + file + "&ca=" + c.CA()
	})
	g.start()
	g.until("the refusal", func(d spec.Desired) bool { return strings.Contains(d.Unread, "is refused") })
	g.check(os.WriteFile(file, []byte("right\n"), 0o600))
	g.until("the host", whole)
	g.speaks()
	for range 20 { // a token that is not used expires meanwhile; ours is used here, the one of the NSDB is not
		g.put("elsewhere", "{}")
		time.Sleep(200 * time.Millisecond)
	}
	g.put("bindings/h/q", binding("q", "vpn-q", "e"))
	g.put("containers/e", container("e"))
	g.until("what a new watch tells", func(d spec.Desired) bool { b := find(d, "q"); return b != nil && b.Reading == spec.Whole })
	g.settle()
	g.speaks()
	g.same(1)
	if g.logged("WARN NSDB cannot be followed") > 1 {
		t.Errorf("log %q", g.log)
	}
}
