package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/statedir"
)

// executable writes a service executable of type ECHO that prints its version at CHECK.
func executable(t *testing.T, path, version string) {
	t.Helper()
	script := fmt.Sprintf(`#!/bin/sh
case $CNI_COMMAND in
VERSION) echo '{"cniVersion": "1.1.0", "supportedVersions": ["1.1.0"], "serviceType": "ECHO", `+
		`"serviceVersion": "%[1]s", "contractVersion": 1}' ;;
CHECK) echo %[1]s ;;
esac
`, version)
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestExecCHECKOfARecordedContainer(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: an executable of another owner is refused")
	}
	// The supervisor refuses executables below /tmp, because every user can write there.
	dir, err := os.MkdirTemp("/srv", "svc-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(os.Mkdir(path("bin"), 0o755), os.Mkdir(path("records"), 0o700)); err != nil {
		t.Fatal(err)
	}
	executable(t, path("bin/svc-echo-1"), "1.0.0")
	executable(t, path("bin/svc-echo-2"), "2.0.0")
	records, err := statedir.Open(path("records"))
	if err != nil {
		t.Fatal(err)
	}
	c := spec.Container{
		PortID: "p", HostID: "h", InterfaceName: "vpn", ContainerID: "c",
		ServiceType: "ECHO", GroupID: "g", ConfigurationID: "k",
	}
	err = records.Write(&statedir.Record{
		Phase: statedir.Added, BootID: "b", Container: c,
		Executable: statedir.Executable{Path: path("bin/svc-echo-1"), Version: "1.0.0"},
		Conf:       &spec.Conf{CNIVersion: spec.CNIVersion, Name: spec.Network, Container: &c},
		Result:     []byte(`{"cniVersion":"1.1.0"}`),
	})
	damaged := os.WriteFile(path("records/containers/bad.ECHO"), []byte("{"), 0o600)
	if err := errors.Join(err, damaged, records.Close()); err != nil {
		t.Fatal(err)
	}
	exec := func(verb, name string) (string, error) {
		stdout, _, err := svcSupervisor("exec", "--run-dir", path("run"), "--state-dir", path("records"),
			"--plugin-path", path("bin"), verb, name)
		return stdout, err
	}
	if stdout, err := exec("CHECK", "vpn"); stdout != "1.0.0\n" || err != nil {
		t.Errorf("CHECK with the recorded executable: %q %v", stdout, err)
	}
	if err := os.Remove(path("bin/svc-echo-1")); err != nil {
		t.Fatal(err)
	}
	if stdout, err := exec("CHECK", "vpn"); stdout != "2.0.0\n" || err != nil {
		t.Errorf("CHECK without the recorded executable: %q %v", stdout, err)
	}
	if _, err := exec("CHECK", "bad"); !errors.Is(err, statedir.ErrDamaged) ||
		!strings.HasPrefix(err.Error(), "exec: CHECK bad: record bad.ECHO: damaged record: ") {
		t.Errorf("a damaged record: %v", err)
	}
	if _, err := exec("DEL", "bad"); err == nil || !strings.Contains(err.Error(), "bad is the supervisor's container") {
		t.Errorf("DEL of a container with a damaged record: %v", err)
	}
}

func TestOutputOfIpIsOneLineOfTheError(t *testing.T) {
	dir := t.TempDir()
	script := []byte("#!/bin/sh\nprintf 'one\\ntwo\\tthree\\n\\n'\nexit 2\n")
	if err := os.WriteFile(filepath.Join(dir, "ip"), script, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	err := ipNetns(context.Background(), "add", "vpn")
	if want := "ip netns add vpn: exit status 2: one two three"; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}
