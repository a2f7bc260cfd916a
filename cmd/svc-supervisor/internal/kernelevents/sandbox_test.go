package kernelevents

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

const (
	deadline = 20 * time.Second // for a report that is expected
	quiet    = 5 * pause        // how long a test waits to show that there is no further report
)

// requireSandbox skips a test, which makes namespaces, outside of the sandbox.
func requireSandbox(t *testing.T) {
	t.Helper()
	if os.Getenv("SVC_TEST_GROUND") != "1" {
		t.Skip("needs the sandbox: make unit")
	}
}

func run(t *testing.T, command ...string) string {
	t.Helper()
	out, err := exec.Command(command[0], command[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(command, " "), err, out)
	}
	return string(out)
}

// namespace makes a network namespace, which is removed at the end of the test.
func namespace(t *testing.T, name string) (path string) {
	t.Helper()
	run(t, "ip", "netns", "add", name)
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "delete", name).Run() })
	return "/run/netns/" + name
}

// addPolicies adds IPsec policies in a namespace, the given number of times.
func addPolicies(t *testing.T, name string, times int) {
	t.Helper()
	var batch strings.Builder
	for i := range times {
		fmt.Fprintf(&batch, "xfrm policy add src 10.%d.%d.0/24 dst 10.200.0.0/24 dir out action block\n", i/256, i%256)
	}
	ip := exec.Command("ip", "-n", name, "-batch", "-")
	ip.Stdin = strings.NewReader(batch.String())
	if out, err := ip.CombinedOutput(); err != nil {
		t.Fatalf("ip: %v: %s", err, out)
	}
}

// reports counts the reports of one namespace.
type reports struct{ count atomic.Int64 }

func (r *reports) add() { r.count.Add(1) }

func (r *reports) awaitMore(t *testing.T, than int64) {
	t.Helper()
	eventually(t, fmt.Sprintf("more than %d reports", than), func() bool { return r.count.Load() > than })
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", deadline, what)
		}
	}
}

func follower(t *testing.T) *Subscriber {
	f := new(Subscriber)
	t.Cleanup(f.Close)
	return f
}

func follow(t *testing.T, f *Subscriber, name spec.Name, path string) *reports {
	t.Helper()
	return followEvents(t, f, name, path, spec.Events{XFRM: true})
}

func followEvents(t *testing.T, f *Subscriber, name spec.Name, path string, events spec.Events) *reports {
	t.Helper()
	r := new(reports)
	if _, err := f.Subscribe(name, path, events, r.add); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestChangeIsReportedForItsNamespaceOnly(t *testing.T) {
	requireSandbox(t)
	f := follower(t)
	changed := follow(t, f, "ke-a", namespace(t, "ke-a"))
	other := follow(t, f, "ke-b", namespace(t, "ke-b"))
	addPolicies(t, "ke-a", 1)
	changed.awaitMore(t, 0)
	time.Sleep(quiet)
	if changed.count.Load() != 1 || other.count.Load() != 0 {
		t.Errorf("%d reports, and %d of the other", changed.count.Load(), other.count.Load())
	}
	run(t, "ip", "-n", "ke-a", "xfrm", "policy", "flush")
	changed.awaitMore(t, 1)
}

func TestChangesOfSAsAreReported(t *testing.T) {
	requireSandbox(t)
	path := namespace(t, "ke-sa")
	state := func(verb string, rest ...string) ([]byte, error) {
		args := []string{
			"-n", "ke-sa", "xfrm", "state", verb, "src", "10.0.0.1", "dst", "10.0.0.2", "proto", "esp", "spi", "0x1234",
		}
		return exec.Command("ip", append(args, rest...)...).CombinedOutput()
	}
	algorithm := []string{
		"mode", "tunnel", "aead", "rfc4106(gcm(aes))", "0x0102030405060708090a0b0c0d0e0f1011121314", "128",
	}
	if out, err := state("add", algorithm...); err != nil {
		t.Skipf("this kernel has no ESP: %s", out)
	}
	if out, err := state("delete"); err != nil {
		t.Fatalf("%s", out)
	}
	r := follow(t, follower(t), "ke-sa", path)
	rows := []struct {
		sentence string
		limits   []string
	}{
		{"a new SA", nil},
		{"an SA that reaches its hard limit", []string{"limit", "time-hard", "1"}},
	}
	for _, row := range rows {
		before := r.count.Load()
		if out, err := state("add", append(slices.Clone(algorithm), row.limits...)...); err != nil {
			t.Fatalf("%s: %s", row.sentence, out)
		}
		r.awaitMore(t, before)
		before = r.count.Load()
		if row.limits == nil {
			if out, err := state("delete"); err != nil {
				t.Fatalf("%s: %s", row.sentence, out)
			}
		}
		r.awaitMore(t, before) // the deletion or expiry
		time.Sleep(quiet)
	}
}

func TestStreamOfChangesIsReportedAtABoundedRate(t *testing.T) {
	requireSandbox(t)
	r := follow(t, follower(t), "ke-a", namespace(t, "ke-a"))
	begin := time.Now()
	addPolicies(t, "ke-a", 3000) // more than fit into the buffer of the socket
	took := time.Since(begin)
	r.awaitMore(t, 0)
	time.Sleep(quiet)
	if most := int64((took+quiet)/pause) + 2; r.count.Load() > most {
		t.Errorf("%d reports in %v", r.count.Load(), took)
	}
	before := r.count.Load()
	run(t, "ip", "-n", "ke-a", "xfrm", "policy", "flush")
	r.awaitMore(t, before)
}

func TestForgottenNamespaceIsNotKeptAlive(t *testing.T) {
	requireSandbox(t)
	f := follower(t)
	path := namespace(t, "ke-a")
	run(t, "ip", "-n", "ke-a", "link", "add", "svc0", "type", "veth",
		"peer", "name", "ke-veth", "netns", fmt.Sprint(os.Getpid()))
	vethGone := func() bool {
		_, err := os.Stat("/sys/class/net/ke-veth")
		return os.IsNotExist(err)
	}
	r := follow(t, f, "ke-a", path)
	addPolicies(t, "ke-a", 1)
	r.awaitMore(t, 0)
	run(t, "ip", "netns", "delete", "ke-a")
	time.Sleep(quiet)
	if vethGone() {
		t.Fatal("the socket does not keep the namespace alive, so this test proves nothing")
	}
	f.Unsubscribe("ke-a")
	if left := sockets(t); left != 0 {
		t.Errorf("%d sockets are left", left)
	}
	eventually(t, "the veth is removed with the namespace", vethGone)
}

// sockets counts the sockets of this process. The tests open no other sockets than the follower's.
func sockets(t *testing.T) (count int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		target, _ := os.Readlink(filepath.Join("/proc/self/fd", entry.Name()))
		if strings.HasPrefix(target, "socket:") {
			count++
		}
	}
	return count
}

func TestReplacedNamespaceIsFollowed(t *testing.T) {
	requireSandbox(t)
	f := follower(t)
	path := namespace(t, "ke-a")
	first := follow(t, f, "ke-a", path)
	again := follow(t, f, "ke-a", path)
	addPolicies(t, "ke-a", 1)
	first.awaitMore(t, 0)
	run(t, "ip", "netns", "delete", "ke-a")
	run(t, "ip", "netns", "add", "ke-a")
	second := follow(t, f, "ke-a", path)
	addPolicies(t, "ke-a", 1)
	second.awaitMore(t, 0)
	if again.count.Load() != 0 {
		t.Error("the second subscription to the same namespace got a report")
	}
	if count := sockets(t); count != 1 {
		t.Errorf("%d sockets", count)
	}
}

func TestNamespaceOfAnotherUserNamespaceIsFollowed(t *testing.T) {
	requireSandbox(t)
	inside := exec.Command("unshare", "--user", "--map-root-user", "--net", "sleep", "infinity")
	if err := inside.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = inside.Process.Kill(); _ = inside.Wait() })
	path := fmt.Sprintf("/proc/%d/ns/net", inside.Process.Pid)
	own, _ := os.Readlink("/proc/self/ns/net")
	eventually(t, "the new namespace exists", func() bool {
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", inside.Process.Pid))
		theirs, err := os.Readlink(path)
		return err == nil && theirs != own && string(comm) == "sleep\n"
	})
	r := follow(t, follower(t), "ke-user", path)
	run(t, "nsenter", "--user", "--net", "--preserve-credentials", "-t", fmt.Sprint(inside.Process.Pid),
		"ip", "xfrm", "policy", "add", "src", "10.1.0.0/24", "dst", "10.2.0.0/24", "dir", "out", "action", "block")
	r.awaitMore(t, 0)
}

func TestPathThatIsNotANetworkNamespaceIsAnError(t *testing.T) {
	requireSandbox(t)
	plain := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	f := follower(t)
	for _, path := range []string{plain, fifo, "/proc/self/ns/mnt", "/run/netns/missing"} {
		if _, err := f.Subscribe("ke-a", path, spec.Events{XFRM: true, Network: true}, func() {}); err == nil {
			t.Errorf("%s is followed", path)
		}
	}
	if count := sockets(t); count != 0 {
		t.Errorf("%d sockets", count) // no container is followed, so there is no socket for the host's links either
	}
}

// TestChangesOfTheNetworkAreReported makes each change that CHECK must find soon. Meanwhile a second container does not
// change, and must get no report.
func TestChangesOfTheNetworkAreReported(t *testing.T) {
	requireSandbox(t)
	f := follower(t)
	path, other := namespace(t, "ke-net"), namespace(t, "ke-other")
	run(t, "ip", "-n", "ke-net", "link", "add", "svc0", "type", "veth",
		"peer", "name", "ke-net", "netns", fmt.Sprint(os.Getpid()))
	run(t, "ip", "link", "add", "ke-bridge", "type", "bridge")
	t.Cleanup(func() { _ = exec.Command("ip", "link", "delete", "ke-bridge").Run() })
	run(t, "ip", "link", "set", "ke-net", "master", "ke-bridge", "up")
	run(t, "ip", "-n", "ke-net", "link", "set", "svc0", "up")
	run(t, "ip", "-n", "ke-net", "link", "set", "lo", "up")
	run(t, "ip", "-n", "ke-net", "address", "add", "10.9.0.1/24", "dev", "svc0")
	run(t, "ip", "-n", "ke-net", "route", "add", "10.10.0.0/24", "via", "10.9.0.2")
	run(t, "ip", "netns", "exec", "ke-net", "nft", "add table inet svc")
	run(t, "ip", "netns", "exec", "ke-net", "sysctl", "-q", "-w",
		"net.ipv4.conf.svc0.forwarding=1", "net.ipv4.conf.svc0.rp_filter=0")
	time.Sleep(3 * time.Second) // until the kernel has assigned the link-local address
	all := spec.Events{XFRM: true, Network: true}
	r, unchanged := followEvents(t, f, "ke-net", path, all), followEvents(t, f, "ke-other", other, all)
	time.Sleep(quiet)
	if r.count.Load() != 0 {
		t.Errorf("%d reports without a change", r.count.Load())
	}
	sysctl := func(setting string) []string {
		return []string{"ip", "netns", "exec", "ke-net", "sysctl", "-q", "-w", setting}
	}
	rows := []struct {
		sentence string
		command  []string
	}{
		{"forwarding is switched off", sysctl("net.ipv4.conf.svc0.forwarding=0")},
		{"rp_filter is switched on", sysctl("net.ipv4.conf.svc0.rp_filter=1")},
		{"a table of nftables is deleted", []string{"ip", "netns", "exec", "ke-net", "nft", "delete table inet svc"}},
		{"a policy is added", []string{
			"ip", "-n", "ke-net", "xfrm", "policy", "add", "src", "10.1.0.0/24", "dst", "10.2.0.0/24", "dir", "out",
		}},
		{"a routing rule is added", []string{"ip", "-n", "ke-net", "rule", "add", "from", "10.9.9.9", "lookup", "100"}},
		{"a route is deleted", []string{"ip", "-n", "ke-net", "route", "delete", "10.10.0.0/24"}},
		{"an address is deleted", []string{"ip", "-n", "ke-net", "address", "delete", "10.9.0.1/24", "dev", "svc0"}},
		{"the host's end leaves its bridge", []string{"ip", "link", "set", "ke-net", "nomaster"}},
		{"the host's end is set down", []string{"ip", "link", "set", "ke-net", "down"}},
		{"the interface is set down", []string{"ip", "-n", "ke-net", "link", "set", "svc0", "down"}},
		{"the veth is deleted", []string{"ip", "link", "delete", "ke-net"}},
	}
	for _, row := range rows {
		before := r.count.Load()
		run(t, row.command...)
		for end := time.Now().Add(deadline); r.count.Load() == before; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Errorf("not reported: %s", row.sentence)
				break
			}
		}
		time.Sleep(quiet) // further events of the same change
	}
	if unchanged.count.Load() != 0 {
		t.Errorf("%d reports of the container that did not change", unchanged.count.Load())
	}
	f.Unsubscribe("ke-net")
	f.Unsubscribe("ke-other")
	f.Close()
	if left := sockets(t); left != 0 {
		t.Errorf("%d sockets are left", left)
	}
}

func TestManyNamespacesNeedNoThreads(t *testing.T) {
	requireSandbox(t)
	const many = 500
	threads := func() int {
		entries, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	before := threads()
	f := follower(t)
	var all []ns.NetNS
	for i := range many {
		namespace, err := ns.TempNetNS()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, namespace)
		name, path := spec.Name(fmt.Sprint("ke-", i)), fmt.Sprintf("/proc/self/fd/%d", namespace.Fd())
		if _, err := f.Subscribe(name, path, spec.Events{XFRM: true, Network: true}, func() {}); err != nil {
			t.Fatal(err)
		}
	}
	if now := threads(); now > before+50 {
		t.Errorf("%d threads before, %d now", before, now)
	}
	f.Close()
	for _, namespace := range all {
		if err := namespace.Close(); err != nil {
			t.Error(err)
		}
	}
	if count := sockets(t); count != 0 {
		t.Errorf("%d sockets", count)
	}
}
