package verb

import (
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/libreswan"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/state"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// ControlUsage describes the arguments of Control.
const ControlUsage = "svc-ipsec ctl NAME [status | trafficstatus | showstates | … | --WHACK-OPTION …]"

// Control runs Libreswan's whack for the daemon of one container, as an operator would with `ipsec status`, and with
// the privileges of that daemon. Its arguments are the container's name and the options of ipsec-whack(8). The first
// option may be written without dashes; the default is --status. Control returns the exit status of whack. It takes no
// lock, so it also works while a verb hangs.
func (e *Executable) Control(args []string) (status int, err error) {
	if len(args) == 0 {
		return 0, errors.New("usage: " + ControlUsage)
	}
	name, err := spec.ParseName("NAME", args[0])
	if err != nil {
		return 0, err
	}
	s, err := state.Read(e.Root, name)
	if err == nil && s == nil {
		err = fs.ErrNotExist
	}
	if errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("%s: no such IPSEC container on this host", name)
	}
	if err != nil {
		return 0, err
	}
	tools, _ := libreswan.FindTools()
	if tools.Whack == "" {
		return 0, errors.New("missing on this host: whack (Libreswan)")
	}
	err = e.daemon(tools, s.Attachment.Owner(name), e.Root+"/"+string(name), s).Control().Run(whackOptions(args[1:]))
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return exit.ExitCode(), nil
	}
	return 0, err
}

func whackOptions(args []string) []string {
	if len(args) == 0 {
		return []string{"--status"}
	}
	if !strings.HasPrefix(args[0], "-") {
		return append([]string{"--" + args[0]}, args[1:]...)
	}
	return args
}
