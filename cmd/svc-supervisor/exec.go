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

// readTimeout is how long exec waits for the NSDB.
const readTimeout = 10 * time.Second

func execCommand() *cli.Command {
	return &cli.Command{
		Name:      "exec",
		Usage:     "run ADD, CHECK or DEL for one container by hand; the supervisor leaves such containers alone",
		ArgsUsage: "ADD|CHECK|DEL NAME",
		Description: "The configuration comes from the NSDB's binding with the interface name NAME, or from a file that holds" +
			" a network configuration. It is written to a file that only root can read, and the equivalent shell command is" +
			" printed before it runs. CHECK of a container that the supervisor runs uses its record and changes nothing.",
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

// byHand is one run of exec.
type byHand struct {
	verb       spec.Verb
	name       spec.Name
	conf       *spec.Conf
	recorded   bool   // the container is the supervisor's
	madeBy     string // then the executable that its record names
	folder     *handFolder
	namespaces netns.Dir
	inventory  *plugin.Inventory
	deadline   time.Duration
	out, say   io.Writer
}

func execVerb(c *cli.Context) error {
	namespaces := newHostNamespaces(slog.New(slog.DiscardHandler)).Dir
	h := &byHand{deadline: c.Duration("verb-timeout"), namespaces: namespaces, out: c.App.Writer, say: c.App.ErrWriter}
	if c.Args().Len() != 2 {
		return &spec.Fault{Key: "arguments", Value: strings.Join(c.Args().Slice(), " "), Allowed: "ADD, CHECK or DEL, and a name"}
	}
	switch h.verb = spec.Verb(c.Args().Get(0)); h.verb {
	case spec.Add, spec.Check, spec.Del:
	default:
		return &spec.Fault{Key: "verb", Value: string(h.verb), Allowed: "ADD, CHECK or DEL"}
	}
	var err error
	if h.name, err = spec.ParseName("name", c.Args().Get(1)); err != nil {
		return err
	}
	if h.folder, err = openHandFolder(c.String(runDirFlag.Name), h.name); err != nil {
		return err
	}
	if h.inventory, err = scan(c); err != nil {
		return err
	}
	if err := h.findConf(c); err != nil {
		return err
	}
	executable, ok := h.inventory.ForRecorded(h.conf.Container.ServiceType, h.madeBy)
	if !ok {
		return fmt.Errorf("no executable serves type %s; see svc-supervisor plugins", h.conf.Container.ServiceType)
	}
	h.conf.Type = plugin.CNIType(executable.Path)
	return h.run(c.Context, executable, c.String(pluginPathFlag.Name))
}

// findConf finds the configuration: the record's for a container that the supervisor runs, else the file's, else what an
// earlier ADD by hand used, else the NSDB's.
func (h *byHand) findConf(c *cli.Context) error {
	entries, err := statedir.ReadAll(c.String(stateDirFlag.Name))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.Name != h.name || entry.Record != nil && entry.Record.Phase == statedir.Deleted {
			continue
		}
		if h.verb == spec.Check && entry.Record == nil {
			return fmt.Errorf("%s %s: %w", h.verb, h.name, entry.Err)
		}
		if h.verb != spec.Check || entry.Record.Conf == nil {
			return fmt.Errorf("%s is the supervisor's container: unbind it in the NSDB to have it removed", h.name)
		}
		h.recorded, h.madeBy = true, entry.Record.Executable.Path
		conf := *entry.Record.Conf
		conf.PrevResult = entry.Record.Result
		h.conf = &conf
		return nil
	}
	switch {
	case c.String("file") != "":
		h.conf, err = confFromFile(c.String("file"), h.name)
	case h.verb != spec.Add:
		if h.conf, err = h.folder.conf(); errors.Is(err, os.ErrNotExist) {
			h.conf, err = h.fromNSDB(c)
		}
	default:
		h.conf, err = h.fromNSDB(c)
	}
	if err != nil {
		return err
	}
	h.conf.Name = spec.NetworkByHand
	if h.conf.PrevResult == nil && h.verb != spec.Add {
		h.conf.PrevResult = h.folder.result()
	}
	return nil
}

// confFromFile reads a network configuration as executables get it on stdin.
func confFromFile(path string, name spec.Name) (*spec.Conf, error) {
	content, err := readInput(path)
	if err != nil {
		return nil, err
	}
	conf := new(spec.Conf)
	if err := json.Unmarshal(content, conf); err != nil {
		return nil, fmt.Errorf("%s: %s: allowed: a network configuration as in docs/executables.md", path, jsonFault(content, err))
	}
	if conf.Container == nil {
		return nil, fmt.Errorf("%s: no `container`; allowed: a network configuration as in docs/executables.md", path)
	}
	if conf.Container.InterfaceName != name {
		return nil, &spec.Fault{Key: path + ": container.interfaceName", Value: string(conf.Container.InterfaceName), Allowed: string(name)}
	}
	if err := conf.Container.Check(); err != nil {
		return nil, fmt.Errorf("%s: container: %w", path, err)
	}
	conf.CNIVersion = spec.CNIVersion
	return conf, nil
}

// fromNSDB reads the desired set once and takes the binding of that name.
func (h *byHand) fromNSDB(c *cli.Context) (*spec.Conf, error) {
	host, err := hostID(c)
	if err != nil {
		return nil, err
	}
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
	case desired.Unread != "":
		return nil, errors.New(desired.Unread)
	}
	for _, b := range desired.Bindings {
		if b.Container.InterfaceName != h.name {
			continue
		}
		if b.Reading != spec.Whole {
			return nil, fmt.Errorf("binding of port %s: %s", b.PortID, b.Fault)
		}
		return b.Conf(spec.NetworkByHand, ""), nil
	}
	return nil, fmt.Errorf("no binding of host %s has the interface name %s", host, h.name)
}

// run writes the configuration, prints the command, and runs the verb.
func (h *byHand) run(ctx context.Context, e plugin.Executable, path string) error {
	if err := h.folder.writeConf(h.conf); err != nil {
		return err
	}
	if h.recorded {
		defer h.folder.remove()
	} else if h.verb == spec.Add {
		if err := h.makeNamespace(ctx); err != nil {
			return err
		}
	}
	c := h.conf.Container
	namespace := h.namespaces.Path(h.name)
	fmt.Fprintf(h.say, "CNI_COMMAND=%s CNI_CONTAINERID=%s CNI_NETNS=%s CNI_IFNAME=%s CNI_PATH=%s %s <%s\n",
		h.verb, c.ContainerID, namespace, spec.InterfaceInside, shellWord(path), shellWord(e.Path), shellWord(h.folder.confPath()))
	stdin, err := json.Marshal(h.conf)
	if err != nil {
		return err
	}
	stdout, err := h.inventory.Run(ctx, plugin.Call{
		Executable: e.Path, Verb: h.verb, ContainerID: string(c.ContainerID), Namespace: namespace, Stdin: stdin,
		Deadline: h.deadline, Stderr: func(line string) { fmt.Fprintln(h.say, line) },
	})
	if err != nil {
		return fmt.Errorf("%s %s: %w", h.verb, h.name, err)
	}
	if h.verb == spec.Add {
		if _, err := spec.ParseResult(stdout, h.name); err != nil {
			return fmt.Errorf("ADD %s: %w; remove what it made with svc-supervisor exec DEL %[1]s", h.name, err)
		}
	}
	if _, err := h.out.Write(stdout); err != nil || h.recorded {
		return err
	}
	switch h.verb {
	case spec.Add:
		return h.folder.writeResult(stdout)
	case spec.Del:
		if err := h.removeNamespace(ctx); err != nil {
			return err
		}
		return h.folder.remove()
	}
	return nil
}

// shellWord quotes a word for the shell that the printed command is pasted into.
func shellWord(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:=-") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
