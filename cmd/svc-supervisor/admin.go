package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch"
)

// adminTimeout is how long a command waits for the NSDB. It covers the election of a leader in the NSDB's cluster.
const adminTimeout = 30 * time.Second

func configCommand() *cli.Command {
	flags := []cli.Flag{
		nsdbFlag, hostIDFlag,
		&cli.StringFlag{Name: "template", Usage: "the settings of all hosts: `NAME` is default"},
		&cli.StringFlag{Name: "host", Usage: "the settings of the host `ID` (default: this host's)"},
	}
	return &cli.Command{
		Name:            "config",
		Usage:           "read and write the settings that the supervisors follow while they run",
		HideHelpCommand: true,
		Action:          noSubcommand("get, set"),
		Subcommands: []*cli.Command{
			{
				Name: "get", Usage: "print a setting", ArgsUsage: "KEY", Flags: flags,
				Action: func(c *cli.Context) error { return wrap("config get", getSetting(c)) },
			},
			{
				Name: "set", Usage: "write a setting", ArgsUsage: "KEY VALUE", Flags: flags,
				Action: func(c *cli.Context) error { return wrap("config set", setSetting(c)) },
			},
		},
	}
}

func hostCommand() *cli.Command {
	return &cli.Command{
		Name:            "host",
		Usage:           "write fields of a host in the NSDB",
		HideHelpCommand: true,
		Action:          noSubcommand("set"),
		Subcommands: []*cli.Command{{
			Name:      "set",
			Usage:     "write the weight (0: no new containers) or the limit (-1: none) of this host's containers",
			ArgsUsage: spec.HostWeight + "|" + spec.HostLimit + " N", Flags: []cli.Flag{nsdbFlag, hostIDFlag},
			Action: func(c *cli.Context) error { return wrap("host set", setHost(c)) },
		}},
	}
}

func getSetting(c *cli.Context) error {
	if c.Args().Len() != 1 {
		return &spec.Fault{Key: "arguments", Value: fmt.Sprint(c.Args().Slice()), Allowed: "a key"}
	}
	key := c.Args().First()
	if err := spec.CheckSettingKey(key); err != nil {
		return err
	}
	scope, err := settingScope(c)
	if err != nil {
		return err
	}
	return administer(c, func(ctx context.Context, nsdb watch.Admin) error {
		value, err := nsdb.Setting(ctx, scope, key)
		if err == nil {
			fmt.Fprintln(c.App.Writer, value)
		}
		return err
	})
}

func setSetting(c *cli.Context) error {
	if c.Args().Len() != 2 {
		return &spec.Fault{Key: "arguments", Value: fmt.Sprint(c.Args().Slice()), Allowed: "a key and a value"}
	}
	key := c.Args().First()
	value, err := spec.ParseSetting(key, c.Args().Get(1))
	if err != nil {
		return err
	}
	scope, err := settingScope(c)
	if err != nil {
		return err
	}
	nameDefaultNSDB(c)
	return administer(c, func(ctx context.Context, nsdb watch.Admin) error {
		return nsdb.SetSetting(ctx, scope, key, value)
	})
}

// settingScope returns the template of --template or the host of --host, and this host if neither option is given.
func settingScope(c *cli.Context) (spec.SettingScope, error) {
	template, host := c.String("template"), c.String("host")
	switch {
	case c.IsSet("template") && c.IsSet("host"):
		return "", errors.New("--template and --host: allowed: one of them")
	case c.IsSet("template"):
		if template != string(spec.SettingDefault) {
			return "", &spec.Fault{Key: "--template", Value: template, Allowed: string(spec.SettingDefault)}
		}
		return spec.SettingDefault, nil
	case c.IsSet("host"):
		id, err := spec.ParseID[spec.HostID]("--host", host)
		return scopeOf(id, err)
	default:
		return scopeOf(hostID(c))
	}
}

// scopeOf returns the scope of one host. It refuses the host id `default`, whose settings would be those of all hosts.
func scopeOf(id spec.HostID, err error) (spec.SettingScope, error) {
	if err == nil && id == spec.HostID(spec.SettingDefault) {
		err = &spec.Fault{
			Key: "host", Value: string(id), Allowed: "another id; the settings of all hosts are --template default",
		}
	}
	return spec.SettingScope(id), err
}

func setHost(c *cli.Context) error {
	if c.Args().Len() != 2 {
		return &spec.Fault{
			Key: "arguments", Value: fmt.Sprint(c.Args().Slice()),
			Allowed: spec.HostWeight + " or " + spec.HostLimit + ", and a number",
		}
	}
	field := c.Args().First()
	n, err := strconv.Atoi(c.Args().Get(1))
	if err != nil {
		return &spec.Fault{Key: field, Value: c.Args().Get(1), Allowed: "a whole number"}
	}
	if err := spec.CheckHostField(field, n); err != nil {
		return err
	}
	host, err := hostID(c)
	if err != nil {
		return err
	}
	nameDefaultNSDB(c)
	return administer(c, func(ctx context.Context, nsdb watch.Admin) error { return nsdb.SetHost(ctx, host, field, n) })
}

// administer opens the NSDB, calls work, and closes the NSDB. It needs no host id, because each command names the
// objects that it reads or writes.
func administer(c *cli.Context, work func(context.Context, watch.Admin) error) error {
	nsdb, err := watch.OpenAdmin(c.String(nsdbFlag.Name), slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.Context, adminTimeout)
	defer cancel()
	return errors.Join(work(ctx, nsdb), nsdb.Close())
}

// nameDefaultNSDB prints the URL of the NSDB if neither --nsdb nor SVC_NSDB is set. The supervisor may have been
// started with another NSDB, and the user would otherwise not notice that the command wrote to the default one.
func nameDefaultNSDB(c *cli.Context) {
	if !c.IsSet(nsdbFlag.Name) {
		fmt.Fprintf(c.App.ErrWriter, "svc-supervisor: NSDB: %s (the default)\n", c.String(nsdbFlag.Name))
	}
}

// wrap prefixes an error with the name of its command.
func wrap(command string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	return nil
}

// noSubcommand is the action of a command that was called without a valid subcommand. It prints the help for `help`,
// and returns an error otherwise.
func noSubcommand(allowed string) cli.ActionFunc {
	return func(c *cli.Context) error {
		if c.Args().First() == "help" {
			return cli.ShowSubcommandHelp(c)
		}
		return &spec.Fault{Key: c.Command.Name + " command", Value: c.Args().First(), Allowed: allowed}
	}
}
