package main

import (
	"errors"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// unknownFlag is the prefix of the error that package flag returns for an unknown flag. The error has no type of its
// own.
const unknownFlag = "flag provided but not defined: -"

// onUsageError makes every command report an error in its flags in one line. By default package cli prints the whole
// help on stdout.
func onUsageError(parent string, commands []*cli.Command) {
	for _, c := range commands {
		path := strings.TrimSpace(parent + " " + c.Name)
		c.OnUsageError = usageError(path)
		onUsageError(path, c.Subcommands)
	}
}

// usageError returns a function that formats an error in the flags of the command with the given path. For an unknown
// flag the error lists the flags that the command has.
func usageError(path string) cli.OnUsageErrorFunc {
	return func(c *cli.Context, err error, _ bool) error {
		name, unknown := strings.CutPrefix(err.Error(), unknownFlag)
		if !unknown {
			return errors.New(strings.TrimPrefix(path+": "+oneCell(err.Error()), ": "))
		}
		var allowed []string
		for _, f := range c.Command.Flags {
			allowed = append(allowed, dashed(f.Names()[0]))
		}
		return &spec.Fault{
			Key: strings.TrimSpace(path + " flag"), Value: dashed(name), Allowed: strings.Join(allowed, ", "),
		}
	}
}

func dashed(flag string) string {
	if len(flag) == 1 {
		return "-" + flag
	}
	return "--" + flag
}

// help prints the same as `svc-supervisor COMMAND --help`. There is no cli.Command for `help`, because package cli
// would then remove the option --help.
func help(c *cli.Context, command []string) error {
	return c.App.RunContext(c.Context, slices.Concat([]string{c.App.Name}, command, []string{"--help"}))
}

// noCommand is the action for a command line without a known command. It prints the help if no command is given, and
// returns an error for an unknown one.
func noCommand(c *cli.Context) error {
	if !c.Args().Present() {
		return cli.ShowAppHelp(c)
	}
	if c.Args().First() == "help" {
		return help(c, c.Args().Tail())
	}
	var allowed []string
	for _, command := range c.App.Commands {
		allowed = append(allowed, command.Name)
	}
	return &spec.Fault{Key: "command", Value: c.Args().First(), Allowed: strings.Join(allowed, ", ")}
}
