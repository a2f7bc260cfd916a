// Package launch starts the daemon of a container with reduced privileges.
//
// The unit of the container runs it at each start of the daemon, as root, in the mount view and in the network
// namespace of the container:
//
//	nsenter --mount=VIEW --net=NAMESPACE -- LAUNCHER launch DIRECTORY USER PROGRAM…
//
// It removes the SAs and policies that a killed daemon left in the kernel, and then replaces itself by pluto with
// execve, so that pluto is the main process of the unit.
//
// pluto keeps CAP_NET_ADMIN and CAP_NET_BIND_SERVICE. If a user namespace of the container's user id owns the network
// namespace, the capabilities are valid only there. Otherwise they are valid in the initial user namespace. The kernel
// does not permit a process with several threads to enter a user namespace, and a Go program has several. So nsenter
// enters it, and setpriv drops the capabilities. Both programs are part of util-linux.
package launch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/mountview"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/network"
	"github.com/svc-supervisor/svc-supervisor/internal/busyclock"
	"github.com/svc-supervisor/svc-supervisor/pkg/netns"
)

// The subcommands of svc-ipsec that this package serves.
const (
	Command     = "launch"
	loadCommand = "launch-load"
)

// Files and directories below the directory of a container.
const (
	settingsFile    = "etc/pluto.conf" // only the settings of the daemon
	connectionsFile = "etc/ipsec.conf" // the same settings, and all connections
	connectionGlob  = "conns/*.conf"
	runDirectory    = "run"
	controlSocket   = "run/pluto.ctl"
)

// loadedByPluto is the maximum number of connections that pluto loads by itself. For this it runs addconn as its child.
// Libreswan 5.2 reads the output of that addconn from a pipe, in the thread that also answers the requests of addconn.
// When the pipe is full (64 KiB, reached with some hundred connections), both wait for each other forever. If there are
// more than loadedByPluto connections, the launcher starts an addconn that is not a child of pluto.
const loadedByPluto = 32

// loadTimeout limits the time until pluto's control socket exists and addconn has ended.
const loadTimeout = 60 * time.Second

// capabilities are the capabilities that pluto keeps, in the syntax of setpriv(1).
const capabilities = "-all,+net_admin,+net_bind_service"

// Programs are the absolute paths of the programs for one start. They are the same on the host and in the mount view.
type Programs struct {
	NSEnter, Setpriv string // util-linux
	Pluto, Addconn   string // Libreswan
}

// Arguments returns the command with which a unit starts the daemon of the container in directory. owned means that a
// user namespace of user owns the network namespace.
func Arguments(p Programs, view, namespace, directory string, user uint32, owned bool) []string {
	s := start{Programs: p, directory: directory, user: user, owned: owned}
	enter := []string{p.NSEnter, "--mount=" + view, "--net=" + namespace, "--", mountview.Launcher}
	return append(enter, s.arguments(Command)...)
}

// Values of the argument that names the owner of the network namespace.
const (
	ownedByUser = "user-namespace"
	ownedByHost = "no-user-namespace"
)

// arguments returns the command line for Serve.
func (s *start) arguments(command string) []string {
	owner := ownedByHost
	if s.owned {
		owner = ownedByUser
	}
	return []string{
		command, s.directory, strconv.FormatUint(uint64(s.user), 10), owner,
		s.NSEnter, s.Setpriv, s.Pluto, s.Addconn,
	}
}

// Serve runs the subcommand in args if it belongs to this package. Otherwise served is false. The subcommand launch
// returns only if it fails, because it executes pluto.
func Serve(args []string) (served bool, err error) {
	if len(args) == 0 || args[0] != Command && args[0] != loadCommand {
		return false, nil
	}
	s, err := parse(args)
	if err != nil {
		return true, fmt.Errorf("%s: %w", args[0], err)
	}
	if args[0] == loadCommand {
		return true, s.load()
	}
	return true, s.run()
}

func parse(args []string) (*start, error) {
	if len(args) != 8 || args[3] != ownedByUser && args[3] != ownedByHost {
		return nil, fmt.Errorf("want DIRECTORY USER %s|%s NSENTER SETPRIV PLUTO ADDCONN", ownedByUser, ownedByHost)
	}
	user, err := strconv.ParseUint(args[2], 10, 32)
	if err != nil || user == 0 {
		return nil, fmt.Errorf("user id %q: must be a number from 1 to %d", args[2], ^uint32(0))
	}
	return &start{
		directory: args[1], user: uint32(user), owned: args[3] == ownedByUser,
		Programs: Programs{NSEnter: args[4], Setpriv: args[5], Pluto: args[6], Addconn: args[7]},
	}, nil
}

// start holds the parameters for one start of a daemon.
type start struct {
	Programs
	directory string
	user      uint32
	owned     bool // a user namespace of user owns the network namespace
}

// run executes pluto. It returns only if it fails.
func (s *start) run() error {
	// A failure is not fatal. pluto can run with old SAs in the kernel, and CHECK reports tunnels that do not work.
	if err := network.RemoveTunnels(); err != nil {
		fmt.Fprintln(os.Stderr, "cannot remove SAs and policies of the previous daemon:", err)
	}
	// A killed daemon leaves its control socket. It is removed, so that load does not use it before pluto creates the
	// new one.
	if err := removeContent(filepath.Join(s.directory, runDirectory)); err != nil {
		return err
	}
	// The filters must be installed before the first program runs with the user id of the daemon.
	if err := restrictCalls(); err != nil {
		return err
	}
	config := connectionsFile
	connections, err := filepath.Glob(filepath.Join(s.directory, connectionGlob))
	if err != nil {
		return err
	}
	if len(connections) > loadedByPluto {
		config = settingsFile
		if err := s.loadLater(); err != nil {
			return err
		}
	}
	command, err := s.dropPrivileges()
	if err != nil {
		return err
	}
	command = append(command, s.Pluto, "--nofork", "--config", filepath.Join(s.directory, config),
		"--rundir", filepath.Join(s.directory, runDirectory), "--stderrlog", "--log-no-time")
	return fmt.Errorf("execute %s: %w", command[0], syscall.Exec(command[0], command, os.Environ()))
}

// dropPrivileges returns the beginning of a command line. Its programs drop privileges, and then execute the rest of
// the command line.
func (s *start) dropPrivileges() ([]string, error) {
	namespace, err := os.Open("/proc/self/ns/net")
	if err != nil {
		return nil, err
	}
	defer namespace.Close()
	owner, own, err := netns.UserOf(namespace)
	if err != nil {
		return nil, err
	}
	switch {
	case s.owned && (own || owner != s.user):
		return nil, fmt.Errorf("the network namespace is not owned by a user namespace of user id %d", s.user)
	case !s.owned:
		// Another runtime created the namespace. Then only the user id protects the files and processes of the host,
		// and CAP_NET_ADMIN is valid in the initial user namespace (see SECURITY.md).
		id := strconv.FormatUint(uint64(s.user), 10)
		return []string{
			s.Setpriv, "--reuid", id, "--regid", id, "--clear-groups", "--inh-caps", capabilities,
			"--ambient-caps", capabilities, "--bounding-set", capabilities, "--no-new-privs",
		}, nil
	}
	users, err := netns.UserNamespace(namespace)
	if err != nil {
		return nil, err
	}
	fd, err := unix.FcntlInt(users.Fd(), unix.F_DUPFD, 3) // without FD_CLOEXEC
	if err != nil {
		return nil, fmt.Errorf("keep the user namespace open: %w", err)
	}
	// The descriptor stays open in pluto. pluto cannot enter the user namespace through it, because this requires
	// CAP_SYS_ADMIN in that namespace.
	return []string{
		s.NSEnter, fmt.Sprintf("--user=/proc/self/fd/%d", fd), "--",
		s.Setpriv, "--clear-groups", "--bounding-set", capabilities, "--no-new-privs",
	}, nil
}

// loadLater starts a process with the user id of the container that loads the connections when pluto is ready. A shell
// that exits immediately starts it, so that it is not a child of this process, which becomes pluto.
func (s *start) loadLater() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command("/bin/sh", append([]string{"-c", `"$@" &`, "sh", self}, s.arguments(loadCommand)...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: s.user, Gid: s.user}}
	if err := run(cmd); err != nil {
		return fmt.Errorf("start the program that loads the connections: %w", err)
	}
	return nil
}

// load waits for pluto's control socket and loads all connections.
func (s *start) load() error {
	ctx, cancel := busyclock.WithTimeout(context.Background(), loadTimeout)
	defer cancel()
	socket := filepath.Join(s.directory, controlSocket)
	for {
		_, err := os.Lstat(socket)
		if err == nil {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("connections not loaded: %w", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
	config := filepath.Join(s.directory, connectionsFile)
	addconn := exec.CommandContext(ctx, s.Addconn, "--ctlsocket", socket, "--config", config, "--autoall")
	if err := run(addconn); err != nil {
		return fmt.Errorf("load connections: %w", err)
	}
	return nil
}

// removeContent removes the contents of a directory, but not the directory itself. It removes symbolic links and does
// not follow them.
func removeContent(directory string) error {
	entries, err := os.ReadDir(directory)
	for _, entry := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(directory, entry.Name())))
	}
	return err
}

// run runs a program. Its standard error output goes to the log of the unit. Its standard output is discarded, because
// pluto logs the output of addconn itself.
func run(cmd *exec.Cmd) error {
	cmd.Dir, cmd.Env = "/", []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	cmd.Stderr = os.Stderr
	return cmd.Run()
}
