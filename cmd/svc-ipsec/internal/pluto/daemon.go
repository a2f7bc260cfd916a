package pluto

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/push"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

// notifySocket is where the daemon tells systemd that it is ready.
const notifySocket = "/run/systemd/notify"

// Start starts the daemon's unit, with about so many conns, and returns when the daemon is ready.
func (d *Daemon) Start(ctx context.Context, namespace string, conns int) error {
	if n := len(d.Run()); n > 97 {
		// Longer names silently shorten the path of the control socket.
		return fmt.Errorf("start pluto: the path of its folder has %d bytes, allowed: 97", n)
	}
	began := time.Now()
	err := d.Bus.Start(ctx, d.transient(namespace, conns))
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

// Stop stops the daemon for good: it tells its peers, and takes its policies away. No daemon is success. Nobody is to hear
// of each tunnel that goes down by it.
func (d *Daemon) Stop(ctx context.Context) error {
	if err := os.RemoveAll(push.Dir(d.Folder)); err != nil {
		return fmt.Errorf("stop pluto: %w", err)
	}
	return d.Bus.Stop(ctx, d.Unit())
}

// transient is the unit. The daemon runs in the container's namespace with the two capabilities that it needs; of the
// host it sees its programs and libraries, of /etc and /run only what is its own: `nsenter -m -t PID ipsec status` works,
// and the host's ipsec.conf and secrets are out of reach.
func (d *Daemon) transient(namespace string, conns int) unit.Transient {
	name := string(d.Owner.Name)
	return unit.Transient{
		Name:        d.Unit(),
		Owner:       d.Owner,
		Description: "IPSEC service container " + name,
		Slice:       spec.ServiceType("IPSEC").Slice(),
		Type:        unit.Notify,
		ExecStart: unit.Command{d.Tools.Pluto, "--nofork", "--config", d.Settings(), "--rundir", d.Run(),
			"--stderrlog", "--log-no-time"},
		// What a daemon that was killed left in the namespace would stay for ever: 4.10 takes away only what is its own.
		// The guard's policies block and stay. What its tunnels are is told here once more, as down: where the whole control
		// group is killed, ExecStopPost can go with it (systemd 257 and cgroup.kill).
		ExecStartPre: []unit.Command{
			{"-" + push.Shell, filepath.Join(d.Folder, push.Script)},
			{"-" + d.Tools.IP, "xfrm", "policy", "deleteall", "action", "allow"},
			{"-" + d.Tools.IP, "xfrm", "state", "flush"},
		},
		ExecStartPost:        []unit.Command{{"-" + d.Tools.Addconn, "--ctlsocket", d.socket(), "--config", d.Setup(), "--autoall"}},
		ExecStopPost:         []unit.Command{{"-" + push.Shell, filepath.Join(d.Folder, push.Script)}},
		Restart:              "on-failure",
		RestartSec:           time.Second,
		WatchdogSec:          60 * time.Second,
		TimeoutStart:         15 * time.Second,
		TimeoutStop:          stopTime(conns),
		LogExtraFields:       []string{"SVC_CONTAINER=" + name, "SVC_CONTAINER_ID=" + string(d.Owner.ContainerID), "SVC_TYPE=IPSEC"},
		NetworkNamespacePath: namespace,
		TemporaryFileSystem:  []string{"/run"},
		BindReadOnlyPaths: []unit.Bind{{Source: d.Folder}, {Source: d.Etc(), Destination: "/etc"}, {Source: notifySocket},
			{Source: d.Self, Destination: push.Program, MayMiss: true}, {Source: spec.HealthFolder, MayMiss: true}},
		BindPaths:             []unit.Bind{{Source: d.Run(), Destination: "/run/pluto"}},
		CapabilityBoundingSet: []int{unix.CAP_NET_ADMIN, unix.CAP_NET_BIND_SERVICE},
		ProtectSystem:         "strict",
		ProtectHome:           "yes",
		PrivateTmp:            true,
		NoNewPrivileges:       true,
		Properties:            d.properties(),
	}
}

// stopTime is how long the daemon gets for its end: it tells each peer, and waits for a program that tells of each tunnel.
func stopTime(conns int) time.Duration {
	return min(5*time.Second+time.Duration(conns)*20*time.Millisecond, 15*time.Second)
}

func (d *Daemon) properties() []unit.Property {
	yes := []string{"ProtectKernelModules", "ProtectKernelLogs", "ProtectControlGroups", "ProtectClock", "ProtectHostname",
		"RestrictRealtime", "RestrictSUIDSGID", "LockPersonality", "PrivateDevices"}
	properties := []unit.Property{
		{Name: "SyslogIdentifier", Value: string(d.Owner.Name)},
		{Name: "KillMode", Value: "mixed"},
		{Name: "LimitCORE", Value: uint64(0)}, // a core has the keys in it
		{Name: "UMask", Value: uint32(0o077)},
		{Name: "TasksMax", Value: uint64(64)},
		{Name: "MemoryHigh", Value: uint64(512 << 20)},
		{Name: "ReadWritePaths", Value: []string{d.Run(), d.NSS()}},
		{Name: "InaccessiblePaths", Value: []string{"-/var/lib/svc-supervisor", "-/boot"}},
		{Name: "RestrictNamespaces", Value: uint64(0)}, // none
		{Name: "SystemCallArchitectures", Value: []string{"native"}},
	}
	for _, name := range yes {
		properties = append(properties, unit.Property{Name: name, Value: true})
	}
	return properties
}
