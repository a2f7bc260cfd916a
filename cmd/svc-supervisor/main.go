// Command svc-supervisor runs the service containers that the NSDB binds to this host, and publishes their status.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"
)

// version and revision are set by the Makefile. The revision has the commit and its day; it is "" if they are unknown.
var (
	version  = "0.2.0"
	revision = ""
)

func main() {
	ctx, stop := untilSignal(context.Background())
	defer stop()
	if err := newApp().RunContext(ctx, os.Args); err != nil {
		// errors.Join separates errors by line breaks. Each error gets a line with the prefix.
		for line := range strings.Lines(err.Error()) {
			fmt.Fprintf(os.Stderr, "svc-supervisor: %s\n", strings.TrimSuffix(line, "\n"))
		}
		os.Exit(exitStatus(err))
	}
}

// exitStatus returns the exit status that an error carries (cli.ExitCoder), and 1 for any other error.
func exitStatus(err error) int {
	var coder cli.ExitCoder
	if errors.As(err, &coder) {
		return coder.ExitCode()
	}
	return 1
}

// untilSignal returns a context that is cancelled by the first SIGTERM or SIGINT. A second signal has its default
// action and ends the process at once.
func untilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// versionText returns the version and, if it is known, the commit.
func versionText() string {
	if revision == "" {
		return version
	}
	return fmt.Sprintf("%s (%s)", version, revision)
}

func newApp() *cli.App {
	app := &cli.App{
		Name:            "svc-supervisor",
		Usage:           "run the service containers that the NSDB binds to this host",
		Version:         versionText(),
		HideHelpCommand: true,
		ExitErrHandler:  func(*cli.Context, error) {}, // main prints the error, once
		Action:          noCommand,
		Before:          warnOfVariables,
		OnUsageError:    usageError(""),

		EnableBashCompletion: true,
		Commands: []*cli.Command{
			runCommand(),
			psCommand(),
			statusCommand(),
			doctorCommand(),
			logsCommand(),
			waitCommand(),
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
