package libreswan

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/launch"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

// Daemon is the daemon of one container, running or not: a unit of systemd, and what belongs to it.
type Daemon struct {
	Tools     Tools
	Bus       *unit.Bus
	Owner     spec.Owner
	Dir       string // the container's state directory, absolute
	Isolation Isolation
}

// Unit returns the name of the daemon's unit.
func (d *Daemon) Unit() string { return d.Owner.Name.Unit() }

// Files returns the daemon's files and directories.
func (d *Daemon) Files() Files { return Files(d.Dir) }

// Control returns the control socket of the daemon.
func (d *Daemon) Control() Control {
	return Control{program: d.Tools.Whack, socket: d.Files().socket(), isolation: d.Isolation}
}

// Journal returns the daemon's log.
func (d *Daemon) Journal() Journal { return Journal{bus: d.Bus, unit: d.Unit()} }

// Loader returns the loader for the conns of the daemon.
func (d *Daemon) Loader() *Loader {
	return &Loader{
		files: d.Files(), isolation: d.Isolation, addconn: d.Tools.Addconn, control: d.Control(), journal: d.Journal(),
	}
}

// KeyDatabase returns the key database of the daemon, whether it exists or not.
func (d *Daemon) KeyDatabase() *KeyDatabase {
	return &KeyDatabase{files: d.Files(), user: d.Isolation.User, tools: d.Tools, flushRoots: d.Control().flushRoots}
}

// Start starts the daemon's unit and returns when the daemon is ready. conns is the approximate number of conns. owned
// means that a user namespace of the container's user ID owns the network namespace.
func (d *Daemon) Start(ctx context.Context, owned bool, conns int) error {
	if n := len(d.Files().Run()); n > 97 {
		// With a longer directory path, the path of the control socket would be truncated silently.
		return fmt.Errorf("start pluto: the path of its directory has %d bytes; it must have at most 97", n)
	}
	began := time.Now()
	err := d.Bus.Start(ctx, d.transientUnit(owned, conns))
	var failed *unit.StartError
	if errors.As(err, &failed) {
		logCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
		defer cancel()
		if text := d.Journal().StartErrors(logCtx, began); text != "" {
			return fmt.Errorf("%w: %s", err, text)
		}
	}
	return err
}

// Stop stops the daemon. pluto sends DELETE to its peers and removes its policies. It is no error if no daemon runs.
func (d *Daemon) Stop(ctx context.Context) error {
	return d.Bus.Stop(ctx, d.Unit())
}

// transientUnit returns the unit of the daemon. Its only command enters the mount view and the network namespace and
// executes pluto (see package launch).
//
// None of systemd's options that hide paths or create namespaces is set, not even NetworkNamespacePath=: at every
// start, each of them takes time in proportion to the number of mounts on the host (see docs/design.md). The launcher
// needs the capabilities that the daemon does not have, and drops them.
func (d *Daemon) transientUnit(owned bool, conns int) unit.Transient {
	name := string(d.Owner.Name)
	programs := launch.Programs{
		NSEnter: d.Tools.NSEnter, Setpriv: d.Tools.Setpriv, Pluto: d.Tools.Pluto, Addconn: d.Tools.Addconn,
	}
	return unit.Transient{
		Name:        d.Unit(),
		Owner:       d.Owner,
		Description: "IPSEC service container " + name,
		Slice:       spec.ServiceType("IPSEC").Slice(),
		Type:        unit.Notify,
		ExecStart: launch.Arguments(programs, d.Isolation.View, d.Isolation.Namespace, d.Dir, d.Isolation.User,
			owned),
		Restart:      "on-failure",
		RestartSec:   time.Second,
		WatchdogSec:  60 * time.Second,
		TimeoutStart: 15 * time.Second,
		TimeoutStop:  stopTimeout(conns),
		LogExtraFields: []string{
			"SVC_CONTAINER=" + name, "SVC_CONTAINER_ID=" + string(d.Owner.ContainerID), "SVC_TYPE=IPSEC",
		},
		CapabilityBoundingSet: []int{unix.CAP_NET_ADMIN, unix.CAP_NET_BIND_SERVICE,
			unix.CAP_SYS_ADMIN, unix.CAP_SYS_CHROOT, unix.CAP_SYS_PTRACE, unix.CAP_DAC_OVERRIDE,
			unix.CAP_SETUID, unix.CAP_SETGID, unix.CAP_SETPCAP},
		NoNewPrivileges: true,
		Properties:      properties(string(d.Owner.Name), conns),
	}
}

// stopTimeout returns how long the daemon may take to stop. It sends DELETE to each peer.
func stopTimeout(conns int) time.Duration {
	return min(5*time.Second+time.Duration(conns)*20*time.Millisecond, 15*time.Second)
}

// deniedCalls are system calls that neither the launcher nor the daemon needs. They are groups of systemd, and calls
// that create objects which outlive the daemon (System V IPC, message queues, keys), access other processes, or create
// anything but files and sockets below run/.
var deniedCalls = []string{
	"@mount", "@reboot", "@swap", "@raw-io", "@debug", "@module", "@obsolete", "@cpu-emulation", "@clock", "@keyring",
	"shmget", "msgget", "semget", "mq_open", "process_vm_readv", "process_vm_writev",
	"io_uring_setup", "userfaultfd", "bpf", "unshare",
	"mkdir:EEXIST", "mkdirat:EEXIST", // pluto calls mkdir for its run directory and accepts EEXIST
	"symlink", "symlinkat", "link", "linkat", "mknod", "mknodat",
}

// filterList is a list in the form of systemd's D-Bus properties: an allow list, or a deny list if Allow is false.
type filterList struct {
	Allow bool
	Names []string
}

func properties(name string, conns int) []unit.Property {
	properties := []unit.Property{
		{Name: "SyslogIdentifier", Value: name},
		{Name: "KillMode", Value: "mixed"},
		{Name: "LimitCORE", Value: uint64(0)}, // a core dump contains the keys
		{Name: "UMask", Value: uint32(0o077)},
		{Name: "TasksMax", Value: uint64(64)},
		{Name: "MemoryHigh", Value: uint64(512 << 20)},
		// Files that the daemon writes below run/ are in the host's /run, which is memory, and count here.
		{Name: "MemoryMax", Value: uint64(768 << 20)},
		{Name: "LimitFSIZE", Value: uint64(1 << 20)},
		// The daemon must not choose the priority of its log lines: emergencies are shown on every terminal.
		{Name: "SyslogLevelPrefix", Value: false},
		{Name: "SystemCallArchitectures", Value: []string{"native"}},
		// The launcher enters these kinds of namespaces. Its seccomp filter denies creating new ones
		// (launch.restrictCalls).
		{Name: "RestrictNamespaces", Value: uint64(unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWNS)},
		{
			Name: "RestrictAddressFamilies", Value: filterList{
				true, []string{"AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK"},
			},
		},
		// A short deny list costs less than 1 ms per start, @system-service 4 ms.
		{Name: "SystemCallFilter", Value: filterList{false, deniedCalls}},
		{Name: "LogRateLimitIntervalUSec", Value: uint64(30 * time.Second / time.Microsecond)},
		// The reasons of failures are read from the log. The daemon logs up to ten lines for each connection that it
		// loads, and may be started several times within the interval.
		{Name: "LogRateLimitBurst", Value: uint32(1000 + 40*conns)},
	}
	// IgnoreOnIsolate: systemctl isolate is meant for the host's own services.
	for _, name := range []string{
		"IgnoreOnIsolate", "LockPersonality", "MemoryDenyWriteExecute", "RestrictRealtime", "RestrictSUIDSGID",
	} {
		properties = append(properties, unit.Property{Name: name, Value: true})
	}
	return properties
}
