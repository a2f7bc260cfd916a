package verb

import (
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/cni"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/libreswan"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Status returns an error if ADD cannot work on this host. It is cheap, because some runtimes call it every 5 seconds.
func (e *Executable) Status(*skel.CmdArgs) error {
	ctx, cancel := e.budget(3 * time.Second)
	defer cancel()
	_, missing := libreswan.FindTools()
	missing = append(missing, missingPrivileges()...)
	if _, err := e.Bus.List(ctx, "svc-ipsec.slice"); err != nil {
		missing = append(missing, "systemd ("+err.Error()+")")
	}
	if err := unix.Access(filepath.Dir(e.Root), unix.W_OK); err != nil {
		missing = append(missing, "a writable "+filepath.Dir(e.Root))
	}
	if len(missing) > 0 {
		return cni.Fail(spec.CodeNotAvailable, "missing on this host: %s", strings.Join(missing, ", "))
	}
	return nil
}

// requiredCapabilities are the capabilities that ADD needs. svc-supervisor.service has them.
var requiredCapabilities = map[int]string{
	unix.CAP_CHOWN: "CAP_CHOWN", unix.CAP_DAC_OVERRIDE: "CAP_DAC_OVERRIDE",
	unix.CAP_FOWNER: "CAP_FOWNER", unix.CAP_KILL: "CAP_KILL",
	unix.CAP_NET_ADMIN: "CAP_NET_ADMIN", unix.CAP_SETGID: "CAP_SETGID", unix.CAP_SETUID: "CAP_SETUID",
	unix.CAP_SYS_ADMIN: "CAP_SYS_ADMIN", unix.CAP_SYS_CHROOT: "CAP_SYS_CHROOT", unix.CAP_SYS_PTRACE: "CAP_SYS_PTRACE",
}

// missingPrivileges lists the privileges that ADD needs and this process does not have. Without this check ADD would
// fail halfway, for example with an edited copy of svc-supervisor.service.
func missingPrivileges() []string {
	var missing []string
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return []string{"capabilities (" + err.Error() + ")"}
	}
	for capability, name := range requiredCapabilities {
		if sets[capability/32].Effective&(1<<(capability%32)) == 0 {
			missing = append(missing, name)
		}
	}
	slices.Sort(missing)
	// systemd enters the mount view and the network namespace by path, so it has to be in the same mount namespace.
	var ours, systemd unix.Stat_t
	if unix.Stat("/proc/self/ns/mnt", &ours) == nil && unix.Stat("/proc/1/ns/mnt", &systemd) == nil &&
		ours.Ino != systemd.Ino {
		missing = append(missing, "the mount namespace of systemd (see the comments in svc-supervisor.service)")
	}
	return missing
}
