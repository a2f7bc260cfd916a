// svc-ipsec is a CNI plugin that runs IPsec site connections (Libreswan) in a network namespace. svc-supervisor drives it
// for service containers of type IPSEC; any other CNI runtime can. Without CNI_COMMAND it says what it is.
package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/container"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/lookup"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/push"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/verb"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

// serviceVersion is set by the linker: -X main.serviceVersion=1.4.0.
var serviceVersion = "0.1.0"

func main() {
	if len(os.Args) > 3 && os.Args[1] == "push" { // by the daemon's script: no verb
		if err := push.Changed(os.Args[2], os.Args[3:]); err != nil {
			logger().Debug("not told", slog.Any("error", err))
			os.Exit(1)
		}
		return
	}
	if err := run(); err != nil {
		_ = json.NewEncoder(os.Stdout).Encode(spec.Error{CNIVersion: spec.CNIVersion, Code: spec.Code(err.Code), Msg: err.Msg, Details: err.Details})
		os.Exit(1)
	}
}

func run() *types.Error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	bus := unit.Open()
	defer bus.Close()
	self, err := os.Executable()
	if err != nil {
		return types.NewError(types.ErrInternal, err.Error(), "")
	}
	executable := &verb.Executable{Bus: bus, Root: container.Root, Self: self, Out: os.Stdout, Log: logger(), LookUp: lookup.Host,
		KeyDirectory: lookup.KeyDirectoryFile, Context: ctx}
	return skel.PluginMainFuncsWithError(skel.CNIFuncs{
		Add:    executable.Answering(spec.Add, executable.Add),
		Check:  executable.Answering(spec.Check, executable.Check),
		Del:    executable.Answering(spec.Del, executable.Del),
		GC:     executable.Answering(spec.GC, executable.GC),
		Status: executable.Answering(spec.Status, executable.Status),
	}, verb.Version(serviceVersion), "CNI svc-ipsec plugin v"+serviceVersion)
}

// logger writes one line an event to stderr; who relays the lines puts the time to them.
func logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
}
