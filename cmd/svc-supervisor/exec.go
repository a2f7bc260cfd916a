package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/plugin"
	"github.com/svc-supervisor/svc-supervisor/pkg/netns"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/statedir"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch"
)

// readTimeout is how long exec and doctor wait for the NSDB.
const readTimeout = 10 * time.Second

func execCommand() *cli.Command {
	return &cli.Command{
		Name:      "exec",
		Usage:     "run ADD, CHECK or DEL for one container by hand; the supervisor leaves such containers alone",
		ArgsUsage: "ADD|CHECK|DEL NAME",
		Description: "The configuration comes from the NSDB's binding with the interface name NAME, or from a file " +
			"that holds a network configuration. It is written to a file that only root can read, and the equivalent " +
			"shell command is printed before it runs. CHECK of a container that the supervisor runs uses its record " +
			"and " +
			"changes nothing.",
		Flags: []cli.Flag{
			nsdbFlag, hostIDFlag, stateDirFlag, runDirFlag, pluginPathFlag,
			&cli.StringFlag{Name: "file", Aliases: []string{"f"}, Usage: "read the network configuration from `FILE`"},
			duration("verb-timeout", "`TIME` that the verb may take", 30*time.Second),
		},
		Action: func(c *cli.Context) error {
			err := execVerb(c)
			if err != nil {
				return fmt.Errorf("exec: %w", err)
			}
			return nil
		},
	}
}

// manualRun is one run of the exec command.
type manualRun struct {
	verb           spec.Verb
	name           spec.Name
	conf           *spec.Conf
	recorded       bool   // the supervisor has a record of the container
	madeBy         string // if recorded: the path of the executable in the record
	state          *manualState
	namespaces     netns.Dir
	inventory      *plugin.Inventory
	deadline       time.Duration
	stdout, stderr io.Writer
}

func execVerb(c *cli.Context) error {
	namespaces := newHostNamespaces(slog.New(slog.DiscardHandler)).Dir
	m := &manualRun{
		deadline: c.Duration("verb-timeout"), namespaces: namespaces, stdout: c.App.Writer, stderr: c.App.ErrWriter,
	}
	if c.Args().Len() != 2 {
		return &spec.Fault{
			Key: "arguments", Value: strings.Join(c.Args().Slice(), " "), Allowed: "ADD, CHECK or DEL, and a name",
		}
	}
	switch m.verb = spec.Verb(c.Args().Get(0)); m.verb {
	case spec.Add, spec.Check, spec.Del:
	default:
		return &spec.Fault{Key: "verb", Value: string(m.verb), Allowed: "ADD, CHECK or DEL"}
	}
	var err error
	if m.name, err = spec.ParseName("name", c.Args().Get(1)); err != nil {
		return err
	}
	if m.state, err = openManualState(c.String(runDirFlag.Name), m.name); err != nil {
		return err
	}
	if m.inventory, err = scan(c); err != nil {
		return err
	}
	if err := m.findConf(c); err != nil {
		return err
	}
	executable, ok := m.inventory.ForRecorded(m.conf.Container.ServiceType, m.madeBy)
	if !ok {
		return fmt.Errorf("no executable serves type %s; see svc-supervisor plugins", m.conf.Container.ServiceType)
	}
	m.conf.Type = plugin.CNIType(executable.Path)
	return m.run(c.Context, executable, c.String(pluginPathFlag.Name))
}

// findConf sets the network configuration. For a container with a record of the supervisor it is the recorded one, and
// only CHECK is allowed. Otherwise it comes from --file, then (for CHECK and DEL) from an earlier exec ADD, then from
// the NSDB.
func (m *manualRun) findConf(c *cli.Context) error {
	entries, err := statedir.ReadAll(c.String(stateDirFlag.Name))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.Name != m.name || entry.Record != nil && entry.Record.Phase == statedir.Deleted {
			continue
		}
		if m.verb == spec.Check && entry.Record == nil {
			return fmt.Errorf("%s %s: %w", m.verb, m.name, entry.Err)
		}
		if m.verb != spec.Check || entry.Record.Conf == nil {
			return fmt.Errorf("%s is the supervisor's container: unbind it in the NSDB to have it removed", m.name)
		}
		m.recorded, m.madeBy = true, entry.Record.Executable.Path
		conf := *entry.Record.Conf
		conf.PrevResult = entry.Record.Result
		m.conf = &conf
		return nil
	}
	switch {
	case c.String("file") != "":
		m.conf, err = confFromFile(c.String("file"), m.name)
	case m.verb != spec.Add:
		if m.conf, err = m.state.conf(); errors.Is(err, os.ErrNotExist) {
			m.conf, err = m.fromNSDB(c)
		}
	default:
		m.conf, err = m.fromNSDB(c)
	}
	if err != nil {
		return err
	}
	m.conf.Name = spec.NetworkByHand
	if m.conf.PrevResult == nil && m.verb != spec.Add {
		m.conf.PrevResult = m.state.result()
	}
	return nil
}

// confFromFile reads a network configuration in the form that executables get on stdin. It returns an error if the
// configuration is for another name.
func confFromFile(path string, name spec.Name) (*spec.Conf, error) {
	content, err := readInput(path)
	if err != nil {
		return nil, err
	}
	conf := new(spec.Conf)
	if err := json.Unmarshal(content, conf); err != nil {
		return nil, fmt.Errorf("%s: %s: allowed: a network configuration as in docs/executables.md",
			path, jsonFault(content, err))
	}
	if conf.Container == nil {
		return nil, fmt.Errorf("%s: no `container`; allowed: a network configuration as in docs/executables.md", path)
	}
	if conf.Container.InterfaceName != name {
		return nil, &spec.Fault{
			Key: path + ": container.interfaceName", Value: string(conf.Container.InterfaceName), Allowed: string(name),
		}
	}
	if err := conf.Container.Check(); err != nil {
		return nil, fmt.Errorf("%s: container: %w", path, err)
	}
	conf.CNIVersion = spec.CNIVersion
	return conf, nil
}

// readDesired reads the desired state of a host once.
func readDesired(c *cli.Context, host spec.HostID) (*spec.Desired, error) {
	nsdb, err := watch.Open(c.String(nsdbFlag.Name), host, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	defer nsdb.Close()
	ctx, cancel := context.WithTimeout(c.Context, readTimeout)
	defer cancel()
	var desired *spec.Desired
	err = nsdb.Run(ctx, func(d spec.Desired) {
		if desired == nil {
			desired = &d
		}
		cancel()
	})
	switch {
	case desired == nil && err == nil:
		return nil, fmt.Errorf("the NSDB did not answer in %v", readTimeout)
	case desired == nil:
		return nil, err
	}
	return desired, nil
}

// fromNSDB returns the configuration of the binding with the name of m.
func (m *manualRun) fromNSDB(c *cli.Context) (*spec.Conf, error) {
	host, err := hostID(c)
	if err != nil {
		return nil, err
	}
	desired, err := readDesired(c, host)
	if err != nil {
		return nil, err
	}
	if desired.Unread != "" {
		return nil, errors.New(desired.Unread)
	}
	for _, b := range desired.Bindings {
		if b.Container.InterfaceName != m.name {
			continue
		}
		if b.Reading != spec.Complete {
			return nil, fmt.Errorf("binding of port %s: %s", b.PortID, b.Fault)
		}
		return b.Conf(spec.NetworkByHand, ""), nil
	}
	return nil, fmt.Errorf("no binding of host %s has the interface name %s", host, m.name)
}

// run writes the configuration to a file, prints the equivalent shell command, and runs the verb.
func (m *manualRun) run(ctx context.Context, e plugin.Executable, path string) error {
	if err := m.state.writeConf(m.conf); err != nil {
		return err
	}
	if m.recorded {
		defer m.state.remove()
	} else if m.verb == spec.Add {
		if err := m.makeNamespace(ctx); err != nil {
			return err
		}
	}
	c := m.conf.Container
	namespace := m.namespaces.Path(m.name)
	fmt.Fprintf(m.stderr, "CNI_COMMAND=%s CNI_CONTAINERID=%s CNI_NETNS=%s CNI_IFNAME=%s CNI_PATH=%s %s <%s\n",
		m.verb, c.ContainerID, namespace, spec.InterfaceInside,
		shellWord(path), shellWord(e.Path), shellWord(m.state.confPath()))
	stdin, err := json.Marshal(m.conf)
	if err != nil {
		return err
	}
	stdout, err := m.inventory.Run(ctx, plugin.Call{
		Executable: e.Path, Verb: m.verb, ContainerID: string(c.ContainerID), Namespace: namespace, Stdin: stdin,
		Deadline: m.deadline, Stderr: func(line string) { fmt.Fprintln(m.stderr, line) },
	})
	if err != nil {
		return fmt.Errorf("%s %s: %w", m.verb, m.name, err)
	}
	if m.verb == spec.Add {
		if _, err := spec.ParseResult(stdout, m.name); err != nil {
			return fmt.Errorf("ADD %s: %w; run svc-supervisor exec DEL %[1]s to remove what ADD made", m.name, err)
		}
	}
	if _, err := m.stdout.Write(stdout); err != nil || m.recorded {
		return err
	}
	switch m.verb {
	case spec.Add:
		return m.state.writeResult(stdout)
	case spec.Del:
		if err := m.removeNamespace(ctx); err != nil {
			return err
		}
		return m.state.remove()
	}
	return nil
}

// shellWord quotes an argument for the shell, so that the printed command can be pasted into one.
func shellWord(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:=-") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
