// Package lab is a host to do harm to: a supervisor with its real binaries, an NSDB of files, executables of two types,
// and a look at everything that a container can leave anywhere. The crash harness and the soak test work in it.
//
// It promises that what it calls the world was read from the world (ip, systemctl, nft, whack, /proc, files), never from
// the supervisor's word, and that it ends no process but those that it started. It runs in a sandbox alone: what it
// starts, it starts under the names that a host's own supervisor has.
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

// Where everything is. State, statuses and svc-ipsec's folders are where an installation has them.
const (
	Dir      = "/run/lab"
	NSDB     = Dir + "/nsdb"
	Plugins  = Dir + "/plugins"
	Doors    = Dir + "/doors" // see door.sh
	Verbs    = Dir + "/verbs" // one line a verb that began
	Log      = Dir + "/supervisor.log"
	HostID   = "h1"
	records  = "/var/lib/svc-supervisor/containers"
	statuses = "/run/svc-supervisor/status"
	folders  = "/run/svc-ipsec"
	template = ".nss-template" // svc-ipsec's empty key database
	// kernelAnswer begins the names of files that hold what the kernel lacks.
	kernelAnswer = ".kernel-"
	views        = ".view" // the mount view of its daemons
	users        = "/run/svc-user-ids"
)

// Lab is one host.
type Lab struct {
	binaries string
	cmd      *exec.Cmd
	exited   chan struct{}
}

// Open makes the host: bridges, an NSDB without bindings, the executables. binaries is where make build put them.
func Open(binaries string) (*Lab, error) {
	if kind, _ := os.ReadFile("/run/systemd/container"); strings.TrimSpace(string(kind)) != "other" {
		return nil, fmt.Errorf("this harms the host that it runs on: run it in test/ground/sandbox")
	}
	for _, folder := range []string{"hosts", "bindings/" + HostID, "containers", "groups", "configurations"} {
		if err := os.MkdirAll(filepath.Join(NSDB, folder), 0o755); err != nil {
			return nil, err
		}
	}
	for _, folder := range []string{Plugins, Doors} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
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
	door := strings.ReplaceAll(doorScript, "@SVC_IPSEC@", filepath.Join(binaries, "svc-ipsec"))
	for name, script := range map[string]string{"svc-ipsec": door, "svc-lazy": lazyScript} {
		if err := os.WriteFile(filepath.Join(Plugins, name), []byte(script), 0o755); err != nil {
			return nil, err
		}
	}
	return l, put("hosts/"+HostID, object{"id": HostID, "name": "lab", "containerWeight": 1, "containerLimit": -1})
}

// replaceNSEnter puts nsenterScript in the place of nsenter. The sandbox's /usr is a copy.
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
	cmd := exec.Command(filepath.Join(l.binaries, "svc-supervisor"), "run", "--nsdb", "file://"+NSDB, "--host-id", HostID,
		"--plugin-path", Plugins, "--log-level", "debug", "--check-interval", checkInterval(), "--grace", "5s")
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

// checkInterval keeps CHECK out of the way of what is cut, unless the environment asks for it.
func checkInterval() string {
	if interval := os.Getenv("SVC_CHECK_INTERVAL"); interval != "" {
		return interval
	}
	return "1h"
}

// Forget removes what all containers of svc-ipsec share: the template of the key database and the mount view, which the
// daemons that run keep.
func Forget() error {
	if err := os.RemoveAll(filepath.Join(folders, template)); err != nil {
		return err
	}
	directory := filepath.Join(folders, views)
	names, err := list(directory)
	if err != nil {
		return err
	}
	for _, path := range append(pathsIn(directory, names), directory) {
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
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

// PID is the supervisor's.
func (l *Lab) PID() int { return l.cmd.Process.Pid }

// Kill ends the supervisor by SIGKILL and waits for its end.
func (l *Lab) Kill() error {
	if err := l.cmd.Process.Kill(); err != nil && l.Alive() {
		return err
	}
	return l.Ended(10 * time.Second)
}

// Alive says whether the supervisor runs.
func (l *Lab) Alive() bool {
	select {
	case <-l.exited:
		return false
	default:
		return true
	}
}

// Ended waits for the end of the supervisor.
func (l *Lab) Ended(limit time.Duration) error {
	select {
	case <-l.exited:
		return nil
	case <-time.After(limit):
		return fmt.Errorf("the supervisor has not ended within %v", limit)
	}
}

// Terminate ends the supervisor as systemd would.
func (l *Lab) Terminate() error {
	if err := l.cmd.Process.Signal(os.Interrupt); err != nil && l.Alive() {
		return err
	}
	return l.Ended(30 * time.Second)
}

// Run runs a program to its end, which comes within half a minute, and returns what it printed.
func Run(program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	output, err := exec.CommandContext(ctx, program, args...).Output()
	if err != nil {
		words := ""
		if exit, ok := err.(*exec.ExitError); ok {
			words = strings.TrimSpace(string(exit.Stderr))
		}
		return string(output), fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, words)
	}
	return string(output), nil
}

// Within asks until what is asked for is so; the error is the last answer.
func Within(limit time.Duration, ask func() error) error {
	for deadline := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		err := ask()
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}
