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

// Start starts the daemon's unit, for about so many connections, and returns when the daemon is ready. owned means that the
// network namespace is owned by a user namespace of the container's user id.
func (d *Daemon) Start(ctx context.Context, owned bool, conns int) error {
	if n := len(d.Run()); n > 97 {
		// Longer names silently shorten the path of the control socket.
		return fmt.Errorf("start pluto: the path of its folder has %d bytes, allowed: 97", n)
	}
	began := time.Now()
	err := d.Bus.Start(ctx, d.transient(owned, conns))
	var failed *unit.StartError
	if errors.As(err, &failed) {
		aside, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
		defer cancel()
		if words := d.LastWords(aside, began); words != "" {
			return fmt.Errorf("%w: %s", err, words)
		}
	}
	return err
}

// Stop stops the daemon for good: it informs its peers and removes its policies. No daemon is success.
func (d *Daemon) Stop(ctx context.Context) error {
	return d.Bus.Stop(ctx, d.Unit())
}

// transient is the unit. Its one command enters the view and the namespace and becomes pluto (see package launch).
//
// None of systemd's options that hide paths or make namespaces is set, NetworkNamespacePath= included: each would cost time
// in proportion to the mounts of the host at every start (see docs/design.md). The capabilities beside the daemon's own
// are the launcher's, which gives them up.
func (d *Daemon) transient(owned bool, conns int) unit.Transient {
	name := string(d.Owner.Name)
	programs := launch.Programs{NSEnter: d.Tools.NSEnter, Setpriv: d.Tools.Setpriv, Pluto: d.Tools.Pluto, Addconn: d.Tools.Addconn}
	return unit.Transient{
		Name:           d.Unit(),
		Owner:          d.Owner,
		Description:    "IPSEC service container " + name,
		Slice:          spec.ServiceType("IPSEC").Slice(),
		Type:           unit.Notify,
		ExecStart:      launch.Arguments(programs, d.Place.View, d.Place.Namespace, d.Dir, d.Place.User, owned),
		Restart:        "on-failure",
		RestartSec:     time.Second,
		WatchdogSec:    60 * time.Second,
		TimeoutStart:   15 * time.Second,
		TimeoutStop:    stopTime(conns),
		LogExtraFields: []string{"SVC_CONTAINER=" + name, "SVC_CONTAINER_ID=" + string(d.Owner.ContainerID), "SVC_TYPE=IPSEC"},
		CapabilityBoundingSet: []int{unix.CAP_NET_ADMIN, unix.CAP_NET_BIND_SERVICE,
			unix.CAP_SYS_ADMIN, unix.CAP_SYS_CHROOT, unix.CAP_SYS_PTRACE, unix.CAP_DAC_OVERRIDE, unix.CAP_SETUID, unix.CAP_SETGID, unix.CAP_SETPCAP},
		NoNewPrivileges: true,
		Properties:      properties(string(d.Owner.Name), conns),
	}
}

// stopTime is how long the daemon gets to end: it informs each peer.
func stopTime(conns int) time.Duration {
	return min(5*time.Second+time.Duration(conns)*20*time.Millisecond, 15*time.Second)
}

// denied are the system calls that neither the launcher nor the daemon needs: groups of systemd's, and calls that make what outlives the
// daemon (System V IPC, message queues, keys), look into other processes, or make names below run/ other than files and sockets.
var denied = []string{
	"@mount", "@reboot", "@swap", "@raw-io", "@debug", "@module", "@obsolete", "@cpu-emulation", "@clock", "@keyring",
	"shmget", "msgget", "semget", "mq_open", "process_vm_readv", "process_vm_writev", "io_uring_setup", "userfaultfd", "bpf", "unshare",
	"mkdir:EEXIST", "mkdirat:EEXIST", // pluto makes its run directory and accepts that it exists
	"symlink", "symlinkat", "link", "linkat", "mknod", "mknodat",
}

// list is a list that systemd either allows or, with allow false, denies.
type list struct {
	Allow bool
	Names []string
}

func properties(name string, conns int) []unit.Property {
	properties := []unit.Property{
		{Name: "SyslogIdentifier", Value: name},
		{Name: "KillMode", Value: "mixed"},
		{Name: "LimitCORE", Value: uint64(0)}, // a core has the keys in it
		{Name: "UMask", Value: uint32(0o077)},
		{Name: "TasksMax", Value: uint64(64)},
		{Name: "MemoryHigh", Value: uint64(512 << 20)},
		// What the daemon writes below run/ is memory of the host's /run, and counts here.
		{Name: "MemoryMax", Value: uint64(768 << 20)},
		{Name: "LimitFSIZE", Value: uint64(1 << 20)},
		{Name: "SyslogLevelPrefix", Value: false}, // the daemon must not choose the level of its lines: emergencies go to every terminal
		{Name: "SystemCallArchitectures", Value: []string{"native"}},
		// The launcher enters these kinds of namespaces. Its seccomp filter denies making new ones (launch.restrictCalls).
		{Name: "RestrictNamespaces", Value: uint64(unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWNS)},
		{Name: "RestrictAddressFamilies", Value: list{true, []string{"AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK"}}},
		// A short list of what is denied costs less than 1 ms a start, @system-service 4 ms.
		{Name: "SystemCallFilter", Value: list{false, denied}},
		{Name: "LogRateLimitIntervalUSec", Value: uint64(30 * time.Second / time.Microsecond)},
		// Reasons are read from the log. The daemon logs up to ten lines for a connection that it loads, and may be started
		// several times in the interval.
		{Name: "LogRateLimitBurst", Value: uint32(1000 + 40*conns)},
	}
	// IgnoreOnIsolate: systemctl isolate is about the host's own services.
	for _, yes := range []string{"IgnoreOnIsolate", "LockPersonality", "MemoryDenyWriteExecute", "RestrictRealtime", "RestrictSUIDSGID"} {
		properties = append(properties, unit.Property{Name: yes, Value: true})
	}
	return properties
}
