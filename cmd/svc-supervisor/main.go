// Command svc-supervisor runs the service containers that the NSDB binds to this host, and tells what became of them.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"
)

// version is set by the Makefile.
var version = "0.2.0"

func main() {
	ctx, stop := untilSignal(context.Background())
	defer stop()
	if err := newApp().RunContext(ctx, os.Args); err != nil {
		// A line each, where there are several (errors.Join).
		for line := range strings.Lines(err.Error()) {
			fmt.Fprintf(os.Stderr, "svc-supervisor: %s\n", strings.TrimSuffix(line, "\n"))
		}
		os.Exit(1)
	}
}

// untilSignal is a context that ends at SIGTERM or SIGINT. The next one ends the process at once.
func untilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

func newApp() *cli.App {
	app := &cli.App{
		Name:            "svc-supervisor",
		Usage:           "run the service containers that the NSDB binds to this host",
		Version:         version,
		HideHelpCommand: true,
		ExitErrHandler:  func(*cli.Context, error) {}, // main prints it, once
		Action:          noCommand,
		Before:          warnOfVariables,
		OnUsageError:    usageError(""),
		Commands: []*cli.Command{
			runCommand(),
			psCommand(),
			pluginsCommand(),
			restartCommand(),
			execCommand(),
			validateCommand(),
			configCommand(),
			hostCommand(),
			nsdbCommand(),
		},
	}
	onUsageError("", app.Commands)
	return app
}
