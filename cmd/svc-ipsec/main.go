// svc-ipsec is a CNI plugin that runs IPsec site connections with Libreswan in a network namespace. svc-supervisor
// calls it for service containers of type IPSEC, and other CNI runtimes can call it too. Without CNI_COMMAND it prints
// its name and version.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/cni"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/launch"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/lookup"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/state"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/verb"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
	"github.com/svc-supervisor/svc-supervisor/pkg/userid"
)

// serviceVersion is set by the linker: -X main.serviceVersion=1.4.0.
var serviceVersion = "0.2.0"

func main() {
	if served, err := launch.Serve(os.Args[1:]); served {
		if err != nil {
			fmt.Fprintln(os.Stderr, "svc-ipsec:", err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) > 1 && os.Args[1] == "push" {
		// Daemons that release 0.1.0 started run this command when a tunnel changes. There is nothing to do, because
		// the supervisor now gets these changes from the kernel.
		return
	}
	if len(os.Args) > 1 && os.Args[1] == "ctl" {
		status, err := executable(context.Background()).Control(os.Args[2:])
		if err != nil {
			fmt.Fprintln(os.Stderr, "svc-ipsec:", err)
			status = 1
		}
		os.Exit(status)
	}
	if len(os.Args) > 1 && os.Args[1] != "--version" {
		fmt.Fprintf(os.Stderr, "svc-ipsec: command %q: allowed: ctl, --version, or none with CNI_COMMAND\n", os.Args[1])
		os.Exit(1)
	}
	if err := run(); err != nil {
		_ = json.NewEncoder(os.Stdout).Encode(spec.Error{
			CNIVersion: spec.CNIVersion, Code: spec.Code(err.Code), Msg: err.Msg, Details: err.Details,
		})
		os.Exit(1)
	}
}

func run() *types.Error {
	if spec.Verb(os.Getenv("CNI_COMMAND")) == spec.Validate { // skel does not support this verb
		return cni.ServeValidate(logger(), os.Stdin, executable(context.Background()).Validate)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	bus := unit.Open()
	defer bus.Close()
	self, err := os.Executable()
	if err != nil {
		return types.NewError(types.ErrInternal, err.Error(), "")
	}
	executable := executable(ctx)
	executable.Bus, executable.Self = bus, self
	return skel.PluginMainFuncsWithError(skel.CNIFuncs{
		Add:    cni.WithErrorCodes(executable.Log, spec.Add, executable.Add),
		Check:  cni.WithErrorCodes(executable.Log, spec.Check, executable.Check),
		Del:    cni.WithErrorCodes(executable.Log, spec.Del, executable.Del),
		GC:     cni.WithErrorCodes(executable.Log, spec.GC, executable.GC),
		Status: cni.WithErrorCodes(executable.Log, spec.Status, executable.Status),
	}, cni.Version(serviceVersion), "CNI svc-ipsec plugin v"+serviceVersion)
}

// executable returns the plugin for this host, without a connection to systemd.
func executable(ctx context.Context) *verb.Executable {
	log := logger()
	return &verb.Executable{
		Root: state.Root, Out: os.Stdout, Log: log, LookUp: lookup.Host,
		KeyDirectory: lookup.KeyDirectoryFile, Context: ctx, Users: userid.Host(log),
	}
}

// logger returns a logger that writes one line for each event to stderr. The lines have no time, because the program
// that reads them adds it.
func logger() *slog.Logger {
	withoutTime := func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{ReplaceAttr: withoutTime}))
}
