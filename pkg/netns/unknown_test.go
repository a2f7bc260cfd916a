package netns

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// The test runs itself again as a user who may not enter a namespace.
func TestAnUnreadableNamespaceIsUnknown(t *testing.T) {
	needsSandbox(t)
	if os.Geteuid() != 0 {
		list, err := Directory.List()
		if err != nil || len(list) != 1 || list[0].State != Unknown || list[0].Err == nil {
			t.Errorf("list %v, %v", list, err)
		}
		got, err := Directory.Observe("ns-unknown")
		if err == nil || got.State != Unknown || !strings.HasPrefix(err.Error(), "observe namespace ns-unknown: ") {
			t.Errorf("%v, %v", got, err)
		}
		if err := Directory.Remove("ns-unknown"); err == nil {
			t.Error("Remove succeeded without privileges")
		}
		return
	}
	name := Directory.make(t, "ns-unknown")
	again := exec.Command("/proc/self/exe", "-test.run=^TestAnUnreadableNamespaceIsUnknown$", "-test.v")
	again.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := again.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("%v: %s", err, out)
	}
	Directory.state(t, name, Ours)
}
