package main

import (
	"errors"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// unknownFlag is how package flag begins to tell of one: it has no type for it.
const unknownFlag = "flag provided but not defined: -"

// onUsageError has every command tell a fault of its flags in one line. Without it cli prints the whole help on stdout.
func onUsageError(parent string, commands []*cli.Command) {
	for _, c := range commands {
		path := strings.TrimSpace(parent + " " + c.Name)
		c.OnUsageError = usageError(path)
		onUsageError(path, c.Subcommands)
	}
}

// usageError names the flag that a command does not have, and those that it has; or the value that is none.
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
		return &spec.Fault{Key: strings.TrimSpace(path + " flag"), Value: dashed(name), Allowed: strings.Join(allowed, ", ")}
	}
}

func dashed(flag string) string {
	if len(flag) == 1 {
		return "-" + flag
	}
	return "--" + flag
}

// help prints what --help prints after the words of a command. It is no command of its own, because package cli then drops --help.
func help(c *cli.Context, words []string) error {
	return c.App.RunContext(c.Context, slices.Concat([]string{c.App.Name}, words, []string{"--help"}))
}

// noCommand prints the help where no command is given, and refuses what is none.
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
