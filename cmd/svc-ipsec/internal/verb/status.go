package verb

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/pluto"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Status says whether ADD can be served here. It is cheap: some runtimes ask every 5 seconds.
func (e *Executable) Status(*skel.CmdArgs) error {
	ctx, cancel := e.budget(3 * time.Second)
	defer cancel()
	_, missing := pluto.FindTools()
	if os.Geteuid() != 0 {
		missing = append(missing, "root")
	}
	if _, err := e.Bus.List(ctx, "svc-ipsec.slice"); err != nil {
		missing = append(missing, "systemd ("+err.Error()+")")
	}
	if err := unix.Access(filepath.Dir(e.Root), unix.W_OK); err != nil {
		missing = append(missing, "a writable "+filepath.Dir(e.Root))
	}
	if len(missing) > 0 {
		return fail(spec.CodeNotAvailable, "missing on this host: %s", strings.Join(missing, ", "))
	}
	return nil
}
