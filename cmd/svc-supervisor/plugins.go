package main

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/api"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/plugin"
)

func pluginsCommand() *cli.Command {
	return &cli.Command{
		Name:  "plugins",
		Usage: "list the service executables: which is selected for each type, which are refused and why",
		Flags: []cli.Flag{outputFlag, runDirFlag, stateDirFlag, pluginPathFlag},
		Action: func(c *cli.Context) error {
			encode, err := outputEncoder(c)
			if err := errors.Join(err, noArguments(c)); err != nil {
				return err
			}
			view := new(api.Plugins)
			socket := filepath.Join(c.String(runDirFlag.Name), "api.sock")
			err = api.Get(c.Context, socket, "plugins", view)
			if reason := whyNoAnswer(err, socket, c.String(stateDirFlag.Name)); reason != "" {
				fmt.Fprintf(c.App.ErrWriter, "%s: reading the plugin path instead\n", reason)
				view = new(api.Plugins)
				var inventory *plugin.Inventory
				if inventory, err = scan(c); err == nil {
					*view = api.PluginsOf(inventory)
				}
			}
			if err != nil {
				return fmt.Errorf("plugins: %w", err)
			}
			if encode != nil {
				return encode(c.App.Writer, view)
			}
			return printPlugins(c, view)
		},
	}
}

// scan runs VERSION and STATUS of the files on the plugin path, without the supervisor. It returns an error if a
// directory of the path cannot be read.
func scan(c *cli.Context) (*plugin.Inventory, error) {
	dirs, err := pluginPath(c)
	if err != nil {
		return nil, err
	}
	inventory, err := plugin.NewInventory(dirs, versionDeadline, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	inventory.Scan(c.Context, versionDeadline)
	if unread := inventory.Unread(); unread != "" {
		return nil, errors.New(unread)
	}
	return inventory, nil
}

func printPlugins(c *cli.Context, view *api.Plugins) error {
	table := tabwriter.NewWriter(c.App.Writer, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "PATH\tTYPE\tVERSION\tUSE\tREASON")
	for _, e := range view.Executables {
		use := "-"
		switch {
		case e.Selected && e.Unready != "":
			use = "not ready"
		case e.Selected:
			use = "selected"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", e.Path, e.Type, e.Version, use, oneCell(e.Unready))
	}
	for _, r := range view.Refused {
		fmt.Fprintf(table, "%s\t-\t-\trefused\t%s\n", oneCell(r.Path), oneCell(r.Reason))
	}
	return table.Flush()
}
