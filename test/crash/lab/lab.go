// Package lab sets up a host for tests that cause failures: a supervisor with the real binaries, an NSDB of files, and
// executables of two service types. It also observes everything that a container can leave on the host. The crash
// harness and the soak test use it.
//
// The observed state comes from ip, systemctl, nft, whack, /proc and files, never from the supervisor. The package ends
// only processes that it has started. It runs in a sandbox only, because it uses the names and paths of an installed
// supervisor.
package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The paths of the lab. Records, statuses and the directories of svc-ipsec have the same paths as in an installation.
const (
	Dir         = "/run/lab"
	NSDB        = Dir + "/nsdb"
	Plugins     = Dir + "/plugins"
	Breakpoints = Dir + "/breakpoints" // see ipsecScript
	Verbs       = Dir + "/verbs"       // one line for each verb that was started
	Log         = Dir + "/supervisor.log"
	HostID      = "h1"
	records     = "/var/lib/svc-supervisor/containers"
	statuses    = "/run/svc-supervisor/status"
	ipsecDir    = "/run/svc-ipsec"
	template    = ".nss-template" // the empty key database that svc-ipsec copies
	// kernelFile is the prefix of the files in which svc-ipsec notes what the kernel does not support.
	kernelFile  = ".kernel-"
	views       = ".view" // the directory of the mount views of svc-ipsec's daemons
	registryDir = "/run/svc-user-ids"
)

// Lab is the host with its supervisor.
type Lab struct {
	binaries string
	cmd      *exec.Cmd
	exited   chan struct{}
}

// Open sets up the host: bridges, an NSDB without bindings, and the executables. binaries is the directory with the
// programs that `make build` has made. Open does not start the supervisor.
func Open(binaries string) (*Lab, error) {
	if kind, _ := os.ReadFile("/run/systemd/container"); strings.TrimSpace(string(kind)) != "other" {
		return nil, fmt.Errorf("this test changes the host on which it runs: run it in test/ground/sandbox")
	}
	for _, directory := range []string{"hosts", "bindings/" + HostID, "containers", "groups", "configurations"} {
		if err := os.MkdirAll(filepath.Join(NSDB, directory), 0o755); err != nil {
			return nil, err
		}
	}
	for _, directory := range []string{Plugins, Breakpoints} {
		if err := os.MkdirAll(directory, 0o755); err != nil {
			return nil, err
		}
	}
	for _, bridge := range []string{bridgeA, bridgeB} {
		if _, err := Run("ip", "link", "add", bridge, "type", "bridge"); err != nil {
			return nil, err
		}
		if _, err := Run("ip", "link", "set", bridge, "up"); err != nil {
			return nil, err
		}
	}
	if err := replaceNSEnter(); err != nil {
		return nil, err
	}
	l := &Lab{binaries: binaries}
	ipsec := strings.ReplaceAll(ipsecScript, "@SVC_IPSEC@", filepath.Join(binaries, "svc-ipsec"))
	for name, script := range map[string]string{"svc-ipsec": ipsec, "svc-lazy": lazyScript} {
		if err := os.WriteFile(filepath.Join(Plugins, name), []byte(script), 0o755); err != nil {
			return nil, err
		}
	}
	return l, put("hosts/"+HostID, object{"id": HostID, "name": "lab", "containerWeight": 1, "containerLimit": -1})
}

// replaceNSEnter replaces nsenter by nsenterScript. The sandbox has a copy of /usr, so the host is not affected.
func replaceNSEnter() error {
	path, err := exec.LookPath("nsenter")
	if err != nil {
		return err
	}
	moved := path + ".program"
	if err := os.Rename(path, moved); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(strings.ReplaceAll(nsenterScript, "@NSENTER@", moved)), 0o755)
}

// Start starts the supervisor. Its log is appended to Log.
func (l *Lab) Start() error {
	log, err := os.OpenFile(Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(l.binaries, "svc-supervisor"), "run", "--nsdb", "file://"+NSDB, "--host-id",
		HostID, "--plugin-path", Plugins, "--log-level", "debug", "--check-interval", checkInterval(), "--grace", "5s")
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
	l.cmd, l.exited = cmd, exited
	return nil
}

// checkInterval returns the value of SVC_CHECK_INTERVAL, or an hour, so that by default no CHECK runs during a test.
func checkInterval() string {
	if interval := os.Getenv("SVC_CHECK_INTERVAL"); interval != "" {
		return interval
	}
	return "1h"
}

// RemoveShared removes what all containers of svc-ipsec share: the template of the key database and the mount view.
// Running daemons keep their mount namespace.
func RemoveShared() error {
	if err := os.RemoveAll(filepath.Join(ipsecDir, template)); err != nil {
		return err
	}
	directory := filepath.Join(ipsecDir, views)
	names, err := list(directory)
	if err != nil {
		return err
	}
	for _, path := range append(pathsIn(directory, names), directory) {
		err := unix.Unmount(path, unix.MNT_DETACH)
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("unmount %s: %w", path, err)
		}
	}
	return os.RemoveAll(directory)
}

func pathsIn(directory string, names []string) []string {
	var paths []string
	for _, name := range names {
		paths = append(paths, filepath.Join(directory, name))
	}
	return paths
}

// PID returns the process id of the supervisor.
func (l *Lab) PID() int { return l.cmd.Process.Pid }

// Kill sends SIGKILL to the supervisor and waits until it has ended.
func (l *Lab) Kill() error {
	if err := l.cmd.Process.Kill(); err != nil && l.Alive() {
		return err
	}
	return l.Ended(10 * time.Second)
}

// Alive reports whether the supervisor runs.
func (l *Lab) Alive() bool {
	select {
	case <-l.exited:
		return false
	default:
		return true
	}
}

// Ended waits until the supervisor has ended, at most for limit.
func (l *Lab) Ended(limit time.Duration) error {
	select {
	case <-l.exited:
		return nil
	case <-time.After(limit):
		return fmt.Errorf("the supervisor has not ended within %v", limit)
	}
}

// Terminate sends SIGINT to the supervisor and waits until it has ended.
func (l *Lab) Terminate() error {
	if err := l.cmd.Process.Signal(os.Interrupt); err != nil && l.Alive() {
		return err
	}
	return l.Ended(30 * time.Second)
}

// Run runs a program, at most for 30 s, and returns its stdout. The error contains its stderr.
func Run(program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	output, err := exec.CommandContext(ctx, program, args...).Output()
	if err != nil {
		stderr := ""
		if exit, ok := err.(*exec.ExitError); ok {
			stderr = strings.TrimSpace(string(exit.Stderr))
		}
		return string(output), fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, stderr)
	}
	return string(output), nil
}

// Within calls condition repeatedly until it returns nil, at most for limit. It returns the last error of condition.
func Within(limit time.Duration, condition func() error) error {
	for deadline := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		err := condition()
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}
