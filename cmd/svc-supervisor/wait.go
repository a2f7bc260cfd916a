package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/api"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/reconcile"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// errNoContainer is the error for a name that no container has.
var errNoContainer = errors.New("no container has this name; svc-supervisor ps lists them")

// waitPause is the pause between two requests to the supervisor.
const waitPause = 200 * time.Millisecond

// conditions are the values of --for. Each function returns why the condition does not hold, or "" if it does.
var conditions = map[string]func(*api.Containers, spec.Name) string{
	"running": whyNotRunning,
	"up":      whyNotUp,
	"gone":    whyNotGone,
}

func waitCommand() *cli.Command {
	return &cli.Command{
		Name:         "wait",
		Usage:        "wait until a container runs, until all its connections are up, or until it is gone",
		ArgsUsage:    "NAME",
		BashComplete: completeNames,
		Flags: []cli.Flag{
			&cli.StringFlag{
				Name: "for", Value: "running",
				Usage: "`CONDITION`: running; up: it runs and no connection is down;" +
					" gone: it is neither bound nor present",
			},
			&cli.DurationFlag{Name: "timeout", Value: time.Minute, Usage: "give up after `TIME`, with exit status 1"},
			runDirFlag,
		},
		Action: func(c *cli.Context) error {
			name, err := nameArgument(c)
			if err != nil {
				return err
			}
			whyNot, ok := conditions[c.String("for")]
			if !ok {
				return &spec.Fault{Key: "--for", Value: c.String("for"), Allowed: "running, up or gone"}
			}
			timeout := c.Duration("timeout")
			if timeout <= 0 {
				return &spec.Fault{Key: "--timeout", Value: timeout.String(), Allowed: "a time above 0, like 30s"}
			}
			socket := filepath.Join(c.String(runDirFlag.Name), "api.sock")
			err = waitFor(c.Context, timeout, func(ctx context.Context) (string, error) {
				view := new(api.Containers)
				err := api.Get(ctx, socket, "containers", view)
				switch {
				case errors.Is(err, api.ErrNotRunning), errors.Is(err, api.ErrNoAnswer):
					return err.Error(), nil // it may be restarting
				case err != nil:
					return "", err
				}
				return whyNot(view, name), nil
			})
			if err != nil {
				return fmt.Errorf("wait %s: not %s: %w", name, c.String("for"), err)
			}
			return nil
		},
	}
}

// waitFor calls whyNot until it returns "" or an error, until the timeout, or until ctx is cancelled. After the timeout
// the error has the last reason.
func waitFor(ctx context.Context, timeout time.Duration, whyNot func(context.Context) (string, error)) error {
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	last := "no supervisor has answered"
	for {
		reason, err := whyNot(limited)
		switch {
		case err == nil && reason == "":
			return nil
		case ctx.Err() != nil:
			return errors.New("interrupted")
		case err == nil:
			last = reason
		case limited.Err() == nil:
			return err
		}
		select {
		case <-limited.Done():
			if ctx.Err() == nil {
				return fmt.Errorf("after %v: %s", timeout, oneCell(last))
			}
		case <-time.After(waitPause):
		}
	}
}

// rowOf returns the row of a container, or nil if there is none. A second binding of the same name has a row too, and
// so can an old record; the container that runs takes precedence.
func rowOf(view *api.Containers, name spec.Name) (found *reconcile.Row) {
	for i, row := range view.Containers {
		if row.Name == name && (found == nil || row.Status == reconcile.RowRunning) {
			found = &view.Containers[i]
		}
	}
	return found
}

func whyNotRunning(view *api.Containers, name spec.Name) string {
	row := rowOf(view, name)
	switch {
	case row == nil:
		return errNoContainer.Error()
	case row.Status == reconcile.RowRunning:
		return ""
	case row.Reason == "":
		return "it is " + row.Status
	}
	return fmt.Sprintf("it is %s: %s", row.Status, withNumbers(row.Reason, view.Host))
}

// whyNotUp ignores connections that their configuration disables. The connections of a container that an earlier
// supervisor added are not known before the first CHECK.
func whyNotUp(view *api.Containers, name spec.Name) string {
	if why := whyNotRunning(view, name); why != "" {
		return why
	}
	row := rowOf(view, name)
	switch {
	case row.Health == nil:
		return "its connections are not known yet, or its plugin reports none"
	case slices.ContainsFunc(row.Health.Connections, isDown):
		return reason(reconcile.Row{Health: row.Health})
	}
	return ""
}

func whyNotGone(view *api.Containers, name spec.Name) string {
	if view.Host != nil && view.Host.Unread != "" {
		return "the host is unknown: " + view.Host.Unread
	}
	if row := rowOf(view, name); row != nil {
		return "it is " + row.Status
	}
	return ""
}
