package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Default values of the options.
const (
	defaultNSDB       = "file:///etc/svc-supervisor/nsdb"
	defaultStateDir   = "/var/lib/svc-supervisor"
	defaultRunDir     = "/run/svc-supervisor"
	defaultPluginPath = "/usr/libexec/svc-supervisor:/opt/svc/bin"
	hostIDFile        = "/etc/svc-supervisor/host-id"
)

// midonetHostIDs are the files in which a MidoNet agent stores the host id, as Java properties. The first one is newer.
var midonetHostIDs = []string{"/etc/midonet_host_id.properties", "/etc/midolman/host_uuid.properties"}

var (
	nsdbFlag = &cli.StringFlag{
		Name: "nsdb", Value: defaultNSDB, EnvVars: []string{"SVC_NSDB"}, Usage: "`URL` of the NSDB",
	}
	hostIDFlag = &cli.StringFlag{
		Name: "host-id", EnvVars: []string{"SVC_HOST_ID"},
		Usage: "`ID` of this host in the NSDB (default: from " + hostIDFile + ")",
	}
	stateDirFlag = &cli.StringFlag{
		Name: "state-dir", Value: defaultStateDir, EnvVars: []string{"SVC_STATE_DIR"}, Usage: "`DIR` of the records",
	}
	runDirFlag = &cli.StringFlag{
		Name: "run-dir", Value: defaultRunDir, EnvVars: []string{"SVC_RUN_DIR"}, Usage: "`DIR` of the sockets",
	}
	pluginPathFlag = &cli.StringFlag{
		Name: "plugin-path", Value: defaultPluginPath, EnvVars: []string{"SVC_PLUGIN_PATH"},
		Usage: "`DIRS` with the service executables, separated by colons",
	}
	logLevelFlag = &cli.StringFlag{
		Name: "log-level", Value: "info", EnvVars: []string{"SVC_LOG_LEVEL"},
		Usage: "`LEVEL` of all loggers, or <logger>=<level>; a list separated by commas" +
			" (loggers: containers, containers.<type>)",
	}
	typesFlag = &cli.StringFlag{
		Name: "types", EnvVars: []string{"SVC_TYPES"},
		Usage: "serve only these service `TYPES`, a list separated by commas (default: all);" +
			" another service serves the others",
	}
	outputFlag = &cli.StringFlag{
		Name: "output", Aliases: []string{"o"}, Value: "table", Usage: "`FORMAT`: table, json or yaml",
	}
)

// duration returns a flag for a duration that must be above 0, with its variable SVC_….
func duration(name, usage string, value time.Duration) *cli.DurationFlag {
	return &cli.DurationFlag{
		Name: name, Value: value, Usage: usage,
		EnvVars: []string{"SVC_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))},
		Action: func(_ *cli.Context, d time.Duration) error {
			if d <= 0 {
				return &spec.Fault{Key: "--" + name, Value: d.String(), Allowed: "a time above 0, like 30s"}
			}
			return nil
		},
	}
}

// pluginPath returns the directories of the plugin path. All must be absolute, because a verb runs in another working
// directory.
func pluginPath(c *cli.Context) ([]string, error) {
	var dirs []string
	for _, dir := range strings.Split(c.String(pluginPathFlag.Name), ":") {
		if !filepath.IsAbs(dir) {
			return nil, &spec.Fault{Key: "--plugin-path", Value: dir, Allowed: "absolute paths, separated by colons"}
		}
		dirs = append(dirs, filepath.Clean(dir))
	}
	return dirs, nil
}

// serviceTypes parses --types. Empty elements of the list are skipped.
func serviceTypes(c *cli.Context) (types []spec.ServiceType, err error) {
	for text := range strings.SplitSeq(c.String("types"), ",") {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		t, err := spec.ParseServiceType("--types", text)
		if err != nil {
			return nil, err
		}
		types = append(types, t)
	}
	return types, nil
}

// nameArgument returns the only argument of a command, which is the name of a container.
func nameArgument(c *cli.Context) (spec.Name, error) {
	if option := c.Args().Get(1); strings.HasPrefix(option, "-") {
		return "", &spec.Fault{Key: c.Command.Name, Value: option, Allowed: "options before the name"}
	}
	if c.NArg() != 1 {
		return "", &spec.Fault{
			Key: c.Command.Name, Value: fmt.Sprint(c.NArg(), " arguments"), Allowed: "one: the name of a container",
		}
	}
	return spec.ParseName(c.Command.Name, c.Args().First())
}

// noArguments returns an error if there are arguments, which the command would otherwise ignore.
func noArguments(c *cli.Context) error {
	if c.Args().Present() {
		return &spec.Fault{Key: c.Command.Name + " argument", Value: c.Args().First(), Allowed: "none"}
	}
	return nil
}

// hostID returns the id of this host. It returns an error if none is configured, and never generates one: if two hosts
// had one id, or one host had two, containers would move between hosts.
func hostID(c *cli.Context) (spec.HostID, error) {
	return findHostID(c.String(hostIDFlag.Name), hostIDFile, midonetHostIDs)
}

// findHostID returns given if it is not empty. Otherwise it reads the id from file, and if that does not exist, from
// the first of MidoNet's files that exists. A file that exists but has no valid id is an error.
func findHostID(given, file string, midonet []string) (spec.HostID, error) {
	if given != "" {
		return spec.ParseID[spec.HostID]("--host-id", given)
	}
	content, err := os.ReadFile(file)
	if err == nil {
		return spec.ParseID[spec.HostID](file, strings.TrimSpace(string(content)))
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("host id: %w", err)
	}
	for _, path := range midonet {
		content, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("host id: %w", err)
		}
		for line := range strings.Lines(string(content)) {
			key, value, _ := strings.Cut(line, "=")
			if strings.TrimSpace(key) == "host_uuid" {
				return spec.ParseID[spec.HostID](path+": host_uuid", strings.TrimSpace(value))
			}
		}
		return "", fmt.Errorf("host id: %s has no host_uuid", path)
	}
	return "", fmt.Errorf("no host id: give --host-id, or write it to %s; a MidoNet host has it in %s",
		file, strings.Join(midonet, " or "))
}
