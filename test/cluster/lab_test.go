// Package cluster tests the supervisor binary with real clusters of etcd and ZooKeeper servers. It checks that outages
// of the NSDB do not affect running containers, and that the supervisor works with MidoNet's scheduler. It needs the
// sandbox, the servers of test/ground/packages nsdb, and the binaries of make build.
package cluster

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/svc-supervisor/svc-supervisor/internal/busyclock"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/model"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/zoomtest"
)

const (
	containers = 50
	host       = model.UUID("11111111-1111-4111-8111-111111111111")
	supervisor = "../../build/svc-supervisor"
)

// executable is a plugin for type IPSEC whose unit does nothing. It appends each verb of a container to a file, so that
// tests can check which verbs ran.
const executable = `#!/bin/sh
set -eu
dir=$(dirname "$0")/..
conf=$(cat)
if [ "$CNI_COMMAND" = VERSION ]; then
	echo '{"cniVersion": "1.1.0", "supportedVersions": ["1.1.0"], "serviceType": "IPSEC",
		"serviceVersion": "1.0.0", "contractVersion": 1, "reconfigure": true}'
	exit
fi
[ "$CNI_COMMAND" != STATUS ] && [ "$CNI_COMMAND" != GC ] || exit 0
name=$(printf %s "$conf" | jq -r .container.interfaceName)
unit=svc-$name.service
echo "$CNI_COMMAND $name" >>"$dir/calls"
case $CNI_COMMAND in
ADD)
	if [ -e "$dir/failing" ]; then
		echo '{"cniVersion": "1.1.0", "code": 101, "msg": "requested by the test"}'
		exit 1
	fi
	systemctl is-active --quiet "$unit" || systemd-run --quiet --unit="$unit" --slice=svc-ipsec.slice \
		--property=Type=exec --property=NetworkNamespacePath="$CNI_NETNS" sleep infinity
	echo "{\"cniVersion\": \"1.1.0\", \"units\": [\"$unit\"]}"
	;;
DEL)
	systemctl stop "$unit" 2>/dev/null || true
	;;
esac
`

// lab is a host with a supervisor.
type lab struct {
	t       *testing.T
	dir     string
	process *exec.Cmd
}

func needsSandbox(t *testing.T) {
	t.Helper()
	if os.Getenv("SVC_TEST_GROUND") != "1" {
		t.Skip("needs the sandbox: make unit")
	}
}

// outageDuration returns the value of SVC_TEST_LONG, or usual if it is not set.
func outageDuration(t *testing.T, usual time.Duration) time.Duration {
	t.Helper()
	text := os.Getenv("SVC_TEST_LONG")
	if text == "" {
		return usual
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("SVC_TEST_LONG: %v", err)
	}
	return d
}

func newLab(t *testing.T) *lab {
	t.Helper()
	dir, err := os.MkdirTemp("/run", "svc-cluster.") // not in /tmp, because a unit may have a private /tmp
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	l := &lab{t: t, dir: dir}
	for _, name := range []string{"bin", "run"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "bin/svc-lab"), []byte(executable), 0o755); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *lab) command(url string, args ...string) *exec.Cmd {
	c := exec.Command(supervisor, args...)
	c.Env = append(os.Environ(), "SVC_NSDB="+url, "SVC_HOST_ID="+string(host),
		"SVC_STATE_DIR="+filepath.Join(l.dir, "state"),
		"SVC_RUN_DIR="+filepath.Join(l.dir, "run"), "SVC_PLUGIN_PATH="+filepath.Join(l.dir, "bin"),
		"SVC_CHECK_INTERVAL=1h", "SVC_STOP_CONTAINERS=1", "SVC_LOG_LEVEL=debug")
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return c
}

// start starts the supervisor. At the end of the test it stops the supervisor, which then removes its containers.
func (l *lab) start(url string) {
	l.t.Helper()
	log, err := os.Create(filepath.Join(l.dir, "log"))
	if err != nil {
		l.t.Fatal(err)
	}
	l.process = l.command(url, "run")
	l.process.Stderr = log
	if err := l.process.Start(); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() {
		_ = l.process.Process.Signal(syscall.SIGTERM)
		ended := make(chan error, 1)
		go func() { ended <- l.process.Wait() }()
		select {
		case err := <-ended:
			if err != nil {
				l.t.Errorf("supervisor: %v", err)
			}
		case <-time.After(5 * time.Minute):
			_ = l.process.Process.Kill()
			l.t.Error("the supervisor has not ended 5 minutes after SIGTERM")
		}
		_ = log.Close()
		if text, err := os.ReadFile(log.Name()); err == nil && l.t.Failed() {
			lines := strings.Split(string(text), "\n")
			l.t.Logf("log of the supervisor:\n%s", strings.Join(lines[max(0, len(lines)-60):], "\n"))
		}
	})
}

// load imports objects into the NSDB with the command of an operator.
func (l *lab) load(url string, objects []spec.Object) {
	l.t.Helper()
	text, err := json.Marshal(map[string]any{"version": 1, "objects": objects})
	if err != nil {
		l.t.Fatal(err)
	}
	path := filepath.Join(l.dir, "objects.json")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		l.t.Fatal(err)
	}
	if out, err := l.command(url, "nsdb", "import", path).CombinedOutput(); err != nil {
		l.t.Fatalf("import: %v: %s", err, out)
	}
}

// ps returns the output of svc-supervisor ps, or the error.
func (l *lab) ps() string {
	out, err := l.command("file:///", "ps").CombinedOutput()
	if err != nil {
		return fmt.Sprint(err)
	}
	return string(out)
}

// calls returns the verbs that ran, one per line.
func (l *lab) calls() string {
	text, _ := os.ReadFile(filepath.Join(l.dir, "calls"))
	return string(text)
}

// unitStates returns the invocation id and the state of every unit. The invocation id changes when a unit is started
// again.
func (l *lab) unitStates() string {
	out, err := exec.Command("systemctl", "show", "--property=Id,InvocationID,ActiveState",
		"svc-vpn-*.service").Output()
	if err != nil {
		l.t.Errorf("systemctl: %v", err)
	}
	units := strings.Split(strings.TrimSpace(string(out)), "\n\n")
	slices.Sort(units) // systemd lists them in any order, which changes when other units are loaded
	return strings.Join(units, "\n\n")
}

// untouched returns a function that checks that no verb has run and no unit has changed since the call of untouched.
func (l *lab) untouched() func() {
	l.t.Helper()
	calls, unitStates := l.calls(), l.unitStates()
	return func() {
		l.t.Helper()
		if now := l.calls(); now != calls {
			l.t.Errorf("verbs ran:\n%s", strings.TrimPrefix(now, calls))
		}
		if now := l.unitStates(); now != unitStates {
			l.t.Errorf("units changed, from\n%s\nto\n%s", unitStates, now)
		}
	}
}

// within waits until ok returns true, and returns the time that it took. After limit it fails the test.
func within(t *testing.T, limit time.Duration, what string, ok func() bool) time.Duration {
	t.Helper()
	clock := busyclock.Start()
	for !ok() {
		if clock.Elapsed() > limit {
			t.Fatalf("not within %s: %s", limit, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return clock.Elapsed()
}

// id returns an id in the form of a UUID, which is unique for each kind and number.
func id(kind, n int) string { return fmt.Sprintf("%08x-0000-4000-8000-%012x", n, kind) }

const (
	kindPort = iota + 1
	kindContainer
	kindRouter
	kindConnection
	kindGroup
)

func name(n int) string { return fmt.Sprintf("vpn-%08x", n) }

// seed writes objects into a ZooKeeper, as MidoNet's own tools do.
func seed(t *testing.T, conn *zk.Conn, tree model.Tree, objects []spec.Object) {
	t.Helper()
	if err := zoomtest.Seed(conn, tree, objects); err != nil {
		t.Fatalf("seed: %v", err)
	}
}

// objects returns the objects of a host to which n containers are bound.
func objects(t *testing.T, n int) []spec.Object {
	t.Helper()
	var all []spec.Object
	put := func(key string, value map[string]any) {
		text, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, spec.Object{Key: key, Value: bytes.TrimSpace(text)})
	}
	put("hosts/"+string(host), map[string]any{"id": host, "name": "lab", "containerWeight": 1, "containerLimit": -1})
	group := map[string]any{"id": id(kindGroup, 1), "policy": "leastContainers", "hostIds": []any{}}
	put("groups/"+id(kindGroup, 1), group)
	for i := range n {
		port, container, router := id(kindPort, i), id(kindContainer, i), id(kindRouter, i)
		put("bindings/"+string(host)+"/"+port, map[string]any{"portId": port, "hostId": host, "interfaceName": name(i),
			"containerId": container, "addresses": []string{"169.254.0.1/30"}, "mac": "ca:fe:00:00:00:01"})
		put("containers/"+container, map[string]any{"id": container, "serviceType": "IPSEC",
			"groupId": id(kindGroup, 1), "configurationId": router, "portId": port})
		put("configurations/"+router, map[string]any{"id": router, "externalIps": []string{"100.100.100.2"},
			"externalMac": "ca:08:1a:94:29:0e", "connections": []any{map[string]any{
				"id": id(kindConnection, i), "name": "to-peer", "adminStateUp": true, "peerAddress": "200.200.200.2",
				"peerId": "200.200.200.2", "localCidrs": []string{"10.1.0.0/24"}, "peerCidrs": []string{"10.2.0.0/24"},
				"initiator": "bi-directional", "mtu": 1500, "psk": "a key that nobody needs",
				"dpd": map[string]any{"action": "hold", "interval": 30, "timeout": 120},
				"ikePolicy": map[string]any{"ikeVersion": "v2", "encryptionAlgorithm": "aes-256",
					"authAlgorithm": "sha1", "pfs": "group14", "lifetime": 3600},
				"ipsecPolicy": map[string]any{"transformProtocol": "esp", "encapsulationMode": "tunnel",
					"encryptionAlgorithm": "aes-256", "authAlgorithm": "sha1", "pfs": "group14", "lifetime": 3600},
			}}})
	}
	return all
}
