// Package launch starts a container's daemon with the rights that it keeps.
//
// It is what the container's unit runs, at each start of the daemon, as root in the mount view and in the container's network
// namespace:
//
//	nsenter --mount=VIEW --net=NAMESPACE -- LAUNCHER launch DIRECTORY USER PROGRAM…
//
// It removes from the kernel what a daemon that was killed left in the namespace, and executes pluto in its own place, so that
// the process id stays that of the unit's main process.
//
// pluto keeps CAP_NET_ADMIN and CAP_NET_BIND_SERVICE. If a user namespace of the container's user id owns the network namespace,
// they hold there only; otherwise they hold in the initial user namespace. The kernel lets no process with several threads
// enter a user namespace, and a Go program has several. So nsenter enters it, and setpriv drops the capabilities; both are part
// of util-linux.
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
	"github.com/svc-supervisor/svc-supervisor/pkg/netns"
)

// The subcommands of svc-ipsec that this package serves.
const (
	Command     = "launch"
	loadCommand = "launch-load"
)

// The files below a container's directory that pluto and addconn read.
const (
	settingsFile    = "etc/pluto.conf" // the settings of the daemon alone
	connectionsFile = "etc/ipsec.conf" // the same settings, and all connections
	connectionGlob  = "conns/*.conf"
	runDirectory    = "run"
	controlSocket   = "run/pluto.ctl"
)

// loadedByPluto is the number of connections up to which pluto loads them itself, by its own addconn. Libreswan 5.2 reads the
// output of that addconn through a pipe, in the thread that also answers addconn: once the pipe is full (64 KiB, reached
// with some hundred connections) both wait for each other for ever. Larger numbers are loaded by an addconn that is
// not pluto's child.
const loadedByPluto = 32

// loadTimeout bounds the time in which pluto's control socket has to appear, and the run of addconn.
const loadTimeout = 60 * time.Second

// capabilities are what pluto keeps, in the form of setpriv(1).
const capabilities = "-all,+net_admin,+net_bind_service"

// Programs are the absolute paths of the programs of one start, the same on the host and in the mount view.
type Programs struct {
	NSEnter, Setpriv string // util-linux
	Pluto, Addconn   string // Libreswan
}

// Arguments returns the command with which a unit starts the daemon of the container in this directory.
// owned means that the network namespace is owned by a user namespace of that user.
func Arguments(p Programs, view, namespace, directory string, user uint32, owned bool) []string {
	s := start{Programs: p, directory: directory, user: user, owned: owned}
	return append([]string{p.NSEnter, "--mount=" + view, "--net=" + namespace, "--", mountview.Launcher}, s.arguments(Command)...)
}

// The words for the owner of the network namespace.
const (
	ownedByUser = "user-namespace"
	ownedByHost = "no-user-namespace"
)

// arguments is the command line that Serve reads.
func (s *start) arguments(command string) []string {
	owner := ownedByHost
	if s.owned {
		owner = ownedByUser
	}
	return []string{command, s.directory, strconv.FormatUint(uint64(s.user), 10), owner, s.NSEnter, s.Setpriv, s.Pluto, s.Addconn}
}

// Serve runs the subcommand if it is one of this package; served is false otherwise. The launch returns only with an error, because
// it executes pluto.
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
	return &start{directory: args[1], user: uint32(user), owned: args[3] == ownedByUser,
		Programs: Programs{NSEnter: args[4], Setpriv: args[5], Pluto: args[6], Addconn: args[7]}}, nil
}

// start is one start of a daemon.
type start struct {
	Programs
	directory string
	user      uint32
	owned     bool // the network namespace is owned by a user namespace of this user
}

// run executes pluto. It returns only with an error.
func (s *start) run() error {
	// A failure is not fatal: pluto can run with old SAs in the kernel, and CHECK reports the tunnels that do not work.
	if err := network.RemoveTunnels(); err != nil {
		fmt.Fprintln(os.Stderr, "cannot remove SAs and policies of the previous daemon:", err)
	}
	// A daemon that was killed leaves its control socket, and load must not take it for the new one.
	if err := removeContent(filepath.Join(s.directory, runDirectory)); err != nil {
		return err
	}
	// Before the first program runs that has the daemon's user id.
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
	command, err := s.drop()
	if err != nil {
		return err
	}
	command = append(command, s.Pluto, "--nofork", "--config", filepath.Join(s.directory, config),
		"--rundir", filepath.Join(s.directory, runDirectory), "--stderrlog", "--log-no-time")
	return fmt.Errorf("execute %s: %w", command[0], syscall.Exec(command[0], command, os.Environ()))
}

// drop returns the programs and arguments that give up rights and then execute what follows.
func (s *start) drop() ([]string, error) {
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
		// The namespace is another runtime's. The user id alone then protects the host's files and processes; CAP_NET_ADMIN
		// holds in the initial user namespace (see SECURITY.md).
		id := strconv.FormatUint(uint64(s.user), 10)
		return []string{s.Setpriv, "--reuid", id, "--regid", id, "--clear-groups", "--inh-caps", capabilities,
			"--ambient-caps", capabilities, "--bounding-set", capabilities, "--no-new-privs"}, nil
	}
	users, err := netns.UserNamespace(namespace)
	if err != nil {
		return nil, err
	}
	fd, err := unix.FcntlInt(users.Fd(), unix.F_DUPFD, 3) // not closed by exec
	if err != nil {
		return nil, fmt.Errorf("keep the user namespace open: %w", err)
	}
	// The descriptor stays open in pluto. It gives no right: to enter a user namespace takes CAP_SYS_ADMIN in it.
	return []string{s.NSEnter, fmt.Sprintf("--user=/proc/self/fd/%d", fd), "--",
		s.Setpriv, "--clear-groups", "--bounding-set", capabilities, "--no-new-privs"}, nil
}

// loadLater starts a process of the container's user that loads the connections once pluto answers. It is started through a shell
// that exits at once, so that it is not a child of this process, which becomes pluto.
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
	ctx, cancel := context.WithTimeout(context.Background(), loadTimeout)
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
	err := run(exec.CommandContext(ctx, s.Addconn, "--ctlsocket", socket, "--config", filepath.Join(s.directory, connectionsFile), "--autoall"))
	if err != nil {
		return fmt.Errorf("load connections: %w", err)
	}
	return nil
}

// removeContent removes what is in a directory, and leaves the directory. Links are removed, not followed.
func removeContent(directory string) error {
	entries, err := os.ReadDir(directory)
	for _, entry := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(directory, entry.Name())))
	}
	return err
}

// run runs a program whose errors go to the unit's log. Its standard output is discarded: pluto logs what addconn prints there.
func run(cmd *exec.Cmd) error {
	cmd.Dir, cmd.Env = "/", []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	cmd.Stderr = os.Stderr
	return cmd.Run()
}
