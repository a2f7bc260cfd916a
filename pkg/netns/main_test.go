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
	// insideEnvironment says that the tests have a mount and a network namespace of their own.
	insideEnvironment = "SVC_TEST_INSIDE"
	// crashEnvironment makes the test binary the program that is killed while it makes namespaces of that name.
	crashEnvironment = "SVC_TEST_CRASH"
)

// home is the network namespace that the tests began in.
var home string

// TestMain runs the tests in namespaces of their own, so that they may unmount /run/netns and list everything while
// others use the same ground.
func TestMain(m *testing.M) {
	if name := os.Getenv(crashEnvironment); name != "" {
		makeForEver(name)
	}
	if os.Getenv("SVC_TEST_GROUND") == "1" && os.Getenv(insideEnvironment) == "" {
		os.Exit(runInside())
	}
	home, _ = os.Readlink("/proc/self/ns/net")
	os.Exit(m.Run())
}

func runInside() int {
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	// What the machine has mounted there would stay in the list of mounts, below the new /run and out of reach.
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

func makeForEver(name string) {
	fmt.Println("ready")
	for {
		if err := errors.Join(Directory.Remove(spec.Name(name)), Directory.Make(owner(name), 0)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}
