package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/pkg/watch/etcdtest"
)

// pluginPathWith makes a plugin path with an executable of type IPSEC, and returns its directory. VERSION prints offers
// as additional keys. VALIDATE reports one fault in a configuration that contains the text peerCidr. The directory is
// below /srv, because the supervisor refuses executables below a directory of another user.
func pluginPathWith(t *testing.T, offers string) (dir string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("requires root: an executable below a directory of another user is refused")
	}
	dir, err := os.MkdirTemp("/srv", "svc-validate-test-")
	if err != nil {
		t.Skip("requires a writable /srv: ", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	script := `#!/bin/sh
conf=$(cat)
case $CNI_COMMAND in
VERSION) echo '{"cniVersion":"1.1.0","supportedVersions":["1.1.0"],"serviceType":"IPSEC","serviceVersion":"1.0.0",` +
		`"contractVersion":1` + offers + `}' ;;
STATUS) ;;
VALIDATE)
	case $conf in
	*'"peerCidr"'*) echo '{"cniVersion":"1.1.0","faults":[{"key":"connections[0]: unknown key",` +
		`"wrong":"\"peerCidr\"","allowed":"id, peerCidrs"}]}' ;;
	*hangs*) exit 3 ;;
	*) echo '{"cniVersion":"1.1.0","faults":[]}' ;;
	esac ;;
*) exit 9 ;;
esac
`
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "svc-ipsec"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestValidateRunsTheExecutables(t *testing.T) {
	path := pluginPathWith(t, `,"validate":true`)
	dir, url := nsdbDir(t)
	if err := os.Chmod(filepath.Join(dir, "configurations/k.yaml"), 0o600); err != nil {
		t.Fatal(err)
	}
	expectFault := func(target, where string) {
		t.Helper()
		stdout, stderr, err := svcSupervisor("validate", "--plugin-path", path, target)
		want := where + `: connections[0]: unknown key "peerCidr": allowed: id, peerCidrs` + "\n"
		if stdout != want || stderr != "" || err == nil ||
			!strings.HasPrefix(err.Error(), "validate "+target+": 1 faults") {
			t.Errorf("%s: %q %q %v", target, stdout, stderr, err)
		}
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "configurations/k.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "groups"), 0o755); err != nil {
		t.Fatal(err)
	}
	group := []byte("{id: g, policy: weighted, hostIds: [h]}")
	if err := os.WriteFile(filepath.Join(dir, "groups/g.yaml"), group, 0o644); err != nil {
		t.Fatal(err)
	}
	if stdout, stderr, err := svcSupervisor("validate", "--plugin-path", path, dir); stdout+stderr != "" || err != nil {
		t.Errorf("a valid configuration: %q %q %v", stdout, stderr, err)
	}
	write("{id: k, connections: [{peerCidr: x}]}")
	expectFault(dir, "configurations/k.yaml")
	expectFault(url, "configurations/k.yaml")

	// If VALIDATE fails, the configuration does not count as valid.
	write("{id: k, text: hangs}")
	stdout, _, err := svcSupervisor("validate", "--plugin-path", path, dir)
	if err == nil || !strings.Contains(stdout, "configurations/k.yaml: was not checked: VALIDATE of ") {
		t.Errorf("%q %v", stdout, err)
	}

	// An executable of an earlier release does not offer VALIDATE.
	write("{id: k, connections: [{peerCidr: x}]}")
	stdout, stderr, err := svcSupervisor("validate", "--plugin-path", pluginPathWith(t, ""), dir)
	if stdout != "" || err != nil ||
		!strings.Contains(stderr, "does not offer VALIDATE: configurations of type IPSEC are not checked") {
		t.Errorf("%q %q %v", stdout, stderr, err)
	}

	// The same objects in etcd.
	cluster := etcdtest.Start(t, 1)
	target := cluster.URL("/svc")
	exported := filepath.Join(t.TempDir(), "objects")
	for _, args := range [][]string{
		{"nsdb", "export", "--nsdb", url, exported}, {"nsdb", "import", "--nsdb", target, exported},
	} {
		if _, _, err := svcSupervisor(args...); err != nil {
			t.Fatal(args, err)
		}
	}
	expectFault(target, "configurations/k")
	if _, err := cluster.Client().Put(t.Context(), "/svc/containers/d", `{"id":"d","servicetype":"X"}`); err != nil {
		t.Fatal(err)
	}
	stdout, _, err = svcSupervisor("validate", "--plugin-path", path, target)
	if err == nil || !strings.Contains(stdout, `containers/d: unknown key "servicetype": allowed: `) {
		t.Errorf("%q %v", stdout, err)
	}
}
