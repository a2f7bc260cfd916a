package procids

import (
	"os"
	"os/exec"
	"slices"
	"testing"
)

func TestProcessIsListedUntilItIsReaped(t *testing.T) {
	command := exec.Command("sleep", "1000")
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	listed := func(id int) bool {
		ids, err := All()
		if err != nil {
			t.Fatal(err)
		}
		return slices.Contains(ids, id)
	}
	if !listed(command.Process.Pid) || !listed(os.Getpid()) {
		t.Error("a running process is not listed")
	}
	_ = command.Process.Kill()
	_ = command.Wait()
	if listed(command.Process.Pid) {
		t.Error("a process that has ended is listed")
	}
}
