package netns

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

const (
	// insideEnvironment is set in the process that runs the tests in a mount and a network namespace of its own.
	insideEnvironment = "SVC_TEST_INSIDE"
	// crashEnvironment contains a name. It makes the test binary make and remove the namespace of that name until it is
	// killed.
	crashEnvironment = "SVC_TEST_CRASH"
)

// initialNamespace is the network namespace of the process when the tests start.
var initialNamespace string

// TestMain runs the tests in a mount and a network namespace of their own, so that they may unmount /run/netns and list
// everything while other tests run in the same sandbox.
func TestMain(m *testing.M) {
	if name := os.Getenv(crashEnvironment); name != "" {
		makeForever(name)
	}
	if os.Getenv("SVC_TEST_GROUND") == "1" && os.Getenv(insideEnvironment) == "" {
		os.Exit(runInside())
	}
	initialNamespace, _ = os.Readlink("/proc/self/ns/net")
	os.Exit(m.Run())
}

func runInside() int {
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	// The host's mounts on /run/netns are unmounted first. Otherwise they would stay in mountinfo, hidden by the new
	// /run.
	const script = `while umount --lazy /run/netns 2>/dev/null; do :; done
		mount -t tmpfs tmpfs /run && mount --make-shared /run && exec "$0" "$@"`
	args := append([]string{"--mount", "--net", "sh", "-c", script, self}, os.Args[1:]...)
	inside := exec.Command("unshare", args...)
	inside.Env = append(os.Environ(), insideEnvironment+"=1")
	inside.Stdin, inside.Stdout, inside.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := inside.Run(); err != nil && inside.ProcessState == nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return inside.ProcessState.ExitCode()
}

func makeForever(name string) {
	fmt.Println("ready")
	for {
		if err := errors.Join(Directory.Remove(spec.Name(name)), Directory.Make(owner(name), 0)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}
