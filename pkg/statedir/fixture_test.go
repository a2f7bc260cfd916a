package statedir

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// roleVariable is the environment variable that makes the test program run as a helper process of a test.
const roleVariable = "STATEDIR_TEST_ROLE"

func TestMain(m *testing.M) {
	role, path, _ := strings.Cut(os.Getenv(roleVariable), "=")
	switch role {
	case "":
		os.Exit(m.Run())
	case "hold":
		hold(path)
	case "write":
		writeForever(path)
	case "in private mounts":
		os.Exit(m.Run())
	}
}

// hold opens the directory, prints `open` or the error, and holds the lock until its stdin is closed.
func hold(path string) {
	d, err := Open(path)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("open")
	_, _ = io.Copy(io.Discard, os.Stdin)
	_ = d.Close()
}

// writeForever writes one record repeatedly until the process is killed.
func writeForever(path string) {
	d, err := Open(path)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("open")
	for i := 0; ; i++ {
		if err := d.Write(sized(i)); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
}

// startHelper starts the test program as a helper process with this role and waits until it prints `open`.
func startHelper(t *testing.T, role string) (*exec.Cmd, io.WriteCloser) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleVariable+"="+role, "GORACE=atexit_sleep_ms=0")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	output := make([]byte, 200)
	n, _ := stdout.Read(output)
	if string(output[:n]) != "open\n" {
		t.Fatalf("%s: %s", role, output[:n])
	}
	return cmd, stdin
}

// inPrivateMounts runs the calling test again in a process with its own mount namespace. It returns true in that
// process. In the original process it waits for the result and returns false, and the test must return.
func inPrivateMounts(t *testing.T) bool {
	t.Helper()
	if os.Getenv(roleVariable) == "in private mounts" {
		return true
	}
	if os.Getuid() != 0 {
		t.Skip("needs root, to mount")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), roleVariable+"=in private mounts", "GORACE=atexit_sleep_ms=0")
	// With Unshareflags, the Go runtime makes every mount of the new namespace private.
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	output, err := cmd.CombinedOutput()
	switch {
	case os.IsPermission(err):
		t.Skipf("needs a mount namespace: %v", err)
	case err != nil:
		t.Errorf("%v: %s", err, output)
	case !strings.Contains(string(output), "--- PASS: "+t.Name()):
		t.Errorf("the test did not run in the new mount namespace: %s", output)
	}
	return false
}

// mount mounts a tmpfs that is unmounted at the end of the test.
func mount(t *testing.T, path, options string) {
	t.Helper()
	if err := unix.Mount("tmpfs", path, "tmpfs", 0, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
}

// open opens a state directory that is closed at the end of the test.
func open(t *testing.T, path string) *Dir {
	t.Helper()
	d, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// record returns a complete record.
func record(name, serviceType string, phase Phase) *Record {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	container := spec.Container{
		PortID: "port-1", HostID: "host-1", InterfaceName: spec.Name(name), ContainerID: "container-1",
		ServiceType: spec.ServiceType(serviceType), GroupID: "group-1", ConfigurationID: "configuration-1",
	}
	conf := &spec.Conf{
		CNIVersion: spec.CNIVersion, Name: spec.Network, Type: "svc-ipsec", Container: &container,
		Port:          &spec.Port{Addresses: []string{"169.254.0.1/30"}, MAC: "ca:08:1a:94:29:0e", Bridge: "br-left"},
		Configuration: json.RawMessage(`{"psk":"correct horse <battery> & staple"}`),
	}
	digest, err := conf.Digest()
	if err != nil {
		panic(err)
	}
	return &Record{
		Phase: phase, BootID: "5f0c1f2e-0000-4000-8000-000000000001", Container: container,
		Executable: Executable{Path: "/usr/libexec/svc-supervisor/svc-ipsec", Version: "1.4.0"},
		Digest:     digest, Conf: conf, AddedAt: &at,
		Result: json.RawMessage(`{"cniVersion":"1.1.0","units":["svc-` + name + `.service"]}`),
	}
}

// sized returns a record whose length depends on i. It contains that length, so that checkWhole can detect a partial
// record.
func sized(i int) *Record {
	r := record("vpn", "IPSEC", Added)
	n := 1 + i%7*9000
	r.Conf.Configuration, _ = json.Marshal(map[string]any{"n": n, "s": strings.Repeat("x", n)})
	return r
}

// checkWhole checks that the entry is a complete record that sized made.
func checkWhole(t *testing.T, e Entry) {
	t.Helper()
	if e.Err != nil {
		t.Error(e.Err)
		return
	}
	var content struct {
		N int
		S string
	}
	err := json.Unmarshal(e.Record.Conf.Configuration, &content)
	if err != nil || content.N == 0 || len(content.S) != content.N {
		t.Errorf("%d bytes of %d: %v", len(content.S), content.N, err)
	}
}

func recordPath(path, base string) string { return filepath.Join(path, "containers", base) }

func put(t *testing.T, path, base, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(path, "containers"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(recordPath(path, base), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// files returns the names of all files in the directory of the records.
func files(t *testing.T, path string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(path, "containers"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
