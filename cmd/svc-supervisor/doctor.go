package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/api"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/plugin"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/reconcile"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/statedir"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

func doctorCommand() *cli.Command {
	return &cli.Command{
		Name:         "doctor",
		Usage:        "check this host or one container step by step; each finding names the next step",
		ArgsUsage:    "[NAME | PORT-ID | CONTAINER-ID]",
		BashComplete: completeNames,
		Description: "It changes nothing, and works also if the supervisor is stopped or hangs. The exit status is 0" +
			" if everything is in order, 2 if a check fails, and 3 if a check could not be made.",
		Flags: []cli.Flag{outputFlag, nsdbFlag, hostIDFlag, stateDirFlag, runDirFlag, pluginPathFlag, typesFlag},
		Action: func(c *cli.Context) error {
			encode, err := outputEncoder(c)
			if err != nil {
				return err
			}
			if c.NArg() > 1 {
				return &spec.Fault{Key: "doctor", Value: c.Args().Get(1), Allowed: "at most one argument"}
			}
			if err := useServiceSettings(c, serviceEnvironment); err != nil {
				return fmt.Errorf("doctor: %w", err)
			}
			d := &doctor{c: c, bus: unit.Open()}
			defer d.bus.Close()
			d.examine(c.Args().First())
			if encode != nil {
				err = encode(c.App.Writer, d.list)
			} else {
				err = d.print(c.App.Writer)
			}
			return errors.Join(err, d.exit())
		},
	}
}

// finding is the result of one check.
type finding struct {
	Subject string `json:"subject"` // host, or the name of a container
	Check   string `json:"check"`
	Result  string `json:"result"` // ok, fail or unknown
	Detail  string `json:"detail"`
	Next    string `json:"next,omitempty"` // what to do if the result is not ok
}

// The values of finding.Result.
const (
	findingOK      = "ok"
	findingFail    = "fail"
	findingUnknown = "unknown"
)

// findingList is a list of findings.
type findingList struct {
	subject string // of the findings that are added
	list    []finding
}

// doctor examines a host. Values that a check could not read are nil, and later checks skip what depends on them.
type doctor struct {
	findingList
	c   *cli.Context
	bus *unit.Bus

	view    *api.Containers // what the supervisor shows
	plugins *api.Plugins
	desired *spec.Desired
	records []statedir.Entry
	scanned *plugin.Inventory
}

func (f *findingList) add(result, check, next, format string, values ...any) {
	f.list = append(f.list, finding{
		Subject: f.subject, Check: check, Result: result,
		Detail: oneCell(fmt.Sprintf(format, values...)), Next: oneCell(next),
	})
}

func (f *findingList) ok(check, format string, values ...any) {
	f.add(findingOK, check, "", format, values...)
}

func (f *findingList) fail(check, next, format string, values ...any) {
	f.add(findingFail, check, next, format, values...)
}

func (f *findingList) unknown(check, next, format string, values ...any) {
	f.add(findingUnknown, check, next, format, values...)
}

// examine checks the host, and then the container with this name, port id or container id. If it is "", each container
// gets one finding.
func (d *doctor) examine(container string) {
	d.subject = "host"
	d.checkSupervisor()
	d.checkRecords()
	d.checkNSDB()
	d.checkSystemd()
	d.checkPlugins()
	if container != "" {
		d.examineContainer(container)
		return
	}
	if d.view == nil {
		d.view = new(api.Containers)
		d.view.Containers, _ = withoutSupervisor(d.c.Context, d.c.String(stateDirFlag.Name), "")
	}
	for _, row := range d.view.Containers {
		d.summarize(row)
	}
}

// exit returns the error with the exit status that the findings ask for, or nil.
func (f *findingList) exit() error {
	has := func(result string) bool {
		return slices.ContainsFunc(f.list, func(one finding) bool { return one.Result == result })
	}
	switch {
	case has(findingFail):
		return cli.Exit("doctor: not everything is in order", exitDegraded)
	case has(findingUnknown):
		return cli.Exit("doctor: not every check could be made", exitUnknown)
	}
	return nil
}

// print prints the findings for people: a heading for each subject, and a line for each finding.
func (f *findingList) print(w io.Writer) error {
	var text strings.Builder
	subject := ""
	for _, one := range f.list {
		if one.Subject != subject {
			subject = one.Subject
			fmt.Fprintf(&text, "%s\n", oneCell(subject))
		}
		result := one.Result
		if result != findingOK {
			result = strings.ToUpper(result)
		}
		fmt.Fprintf(&text, "  %-8s%-12s %s\n", result, one.Check, one.Detail)
		if one.Next != "" {
			fmt.Fprintf(&text, "          next:        %s\n", one.Next)
		}
	}
	_, err := io.WriteString(w, text.String())
	return err
}

const readJournal = "journalctl -u svc-supervisor.service -n 20 shows the reason"

func (d *doctor) checkSupervisor() {
	const check = "supervisor"
	view := new(api.Containers)
	socket := filepath.Join(d.c.String(runDirFlag.Name), "api.sock")
	err := api.Get(d.c.Context, socket, "containers", view)
	reason := whyNoAnswer(err, socket, d.c.String(stateDirFlag.Name))
	switch {
	case err == nil:
		d.ok(check, "answers on %s", socket)
		d.view = view
		plugins := new(api.Plugins)
		if api.Get(d.c.Context, socket, "plugins", plugins) == nil {
			d.plugins = plugins
		}
	case reason == api.ErrNotRunning.Error():
		d.fail(check, "systemctl start svc-supervisor.service; if it does not stay up, "+readJournal, "%s", reason)
	case errors.Is(err, api.ErrNoAnswer):
		d.fail(check, "the watchdog of systemd ends it within a minute, and systemd starts it again; report this with"+
			" the journal of svc-supervisor.service", "%s", reason)
	case reason != "":
		d.fail(check, "systemctl restart svc-supervisor.service, if the socket stays missing; the containers keep"+
			" running", "%s", reason)
	default:
		d.unknown(check, "run this command as root; "+readJournal+" otherwise", "%v", err)
	}
}

func (d *doctor) checkNSDB() {
	host, err := hostID(d.c)
	if err != nil {
		d.fail("host id", "write the id that the NSDB has for this host to "+hostIDFile, "%v", err)
		return
	}
	d.ok("host id", "%s", host)
	desired, err := readDesired(d.c, host)
	if err != nil {
		d.fail("NSDB", "check SVC_NSDB in "+serviceEnvironment+" (a setting in a drop-in of the service is not read"+
			" here: give --nsdb), and whether its servers answer; the containers keep running without changes until"+
			" then", "%s: %v", redacted(d.c.String(nsdbFlag.Name)), err)
		return
	}
	if desired.Unread != "" {
		d.fail("NSDB", "write the object of this host (docs/nsdb.md), or correct the host id; the containers keep"+
			" running without changes until then", "%s", desired.Unread)
		return
	}
	d.desired = desired
	unreadable := 0
	for _, b := range desired.Bindings {
		if b.Reading != spec.Complete {
			unreadable++
			if b.Container.InterfaceName == "" {
				d.fail("binding", "correct the object", "port %s: %s", b.PortID, b.Fault)
			}
		}
	}
	d.ok("NSDB", "%s: %d bindings of this host, %d of them cannot be used",
		redacted(d.c.String(nsdbFlag.Name)), len(desired.Bindings), unreadable)
	d.checkCapacity(desired)
}

// redacted returns the URL of an NSDB without a password. A URL with a password is refused, but may be given.
func redacted(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return "the URL of the NSDB"
	}
	return u.Redacted()
}

// checkCapacity checks that the host accepts a new container.
func (d *doctor) checkCapacity(desired *spec.Desired) {
	recorded := len(d.records)
	switch host := desired.Host; {
	case host.Weight == 0:
		d.fail("capacity", "svc-supervisor host set container-weight 1, with the --nsdb and --host-id of the service,"+
			" if the host is to accept new containers",
			"the containerWeight of the host is 0: it accepts no new container")
	case host.Limit >= 0 && recorded >= host.Limit:
		d.fail("capacity", "raise the containerLimit of the host, or remove a binding",
			"%d containers, and the containerLimit of the host is %d: it accepts no new container",
			recorded, host.Limit)
	default:
		d.ok("capacity", "%d containers, weight %d, limit %d (-1: none)", recorded, host.Weight, host.Limit)
	}
}

func (d *doctor) checkRecords() {
	const check = "records"
	dir := d.c.String(stateDirFlag.Name)
	entries, err := statedir.ReadAll(dir)
	if err != nil {
		d.unknown(check, "repair the state directory, or run this command as root", "%v", err)
		return
	}
	d.records = entries
	faults := 0
	for _, entry := range entries {
		if entry.Err != nil {
			faults++
			d.fail(check, "a damaged record is replaced by the next reconfigure; a record of a newer version needs the"+
				" newer svc-supervisor", "%s: %v", entry.Name, entry.Err)
		}
	}
	if faults == 0 {
		d.ok(check, "%d in %s", len(entries), dir)
	}
}

func (d *doctor) checkSystemd() {
	if _, err := d.bus.List(d.c.Context, "svc-*.service"); err != nil {
		d.fail("systemd", "systemctl status; without systemd no container changes, and all keep running", "%v", err)
		return
	}
	d.ok("systemd", "answers")
}

// inventory scans the plugin path at the first call.
func (d *doctor) inventory() (*plugin.Inventory, error) {
	if d.scanned != nil {
		return d.scanned, nil
	}
	scanned, err := scan(d.c)
	d.scanned = scanned
	return scanned, err
}

// checkPlugins checks that each type that a binding asks for has a plugin that is ready.
func (d *doctor) checkPlugins() {
	const check = "plugins"
	if d.plugins == nil {
		inventory, err := d.inventory()
		if err != nil {
			d.unknown(check, "correct SVC_PLUGIN_PATH in "+serviceEnvironment, "%v", err)
			return
		}
		plugins := api.PluginsOf(inventory)
		d.plugins = &plugins
	}
	listed, err := serviceTypes(d.c)
	if err != nil {
		d.fail(check, "correct SVC_TYPES in "+serviceEnvironment, "%v", err)
		return
	}
	types := map[spec.ServiceType]bool{} // of the bindings
	if d.desired != nil {
		for _, b := range d.desired.Bindings {
			t := b.Container.ServiceType
			if t != "" && (len(listed) == 0 || slices.Contains(listed, t)) {
				types[t] = true
			}
		}
	}
	for _, e := range d.plugins.Executables {
		if e.Selected && e.Unready == "" {
			d.ok(check, "%s serves type %s, version %s", e.Path, e.Type, e.Version)
		}
		if e.Selected && e.Unready != "" {
			d.fail(check, "install what is missing; STATUS runs again every 30 s", "%s: STATUS: %s", e.Path, e.Unready)
		}
		delete(types, spec.ServiceType(e.Type))
	}
	for _, t := range slices.Sorted(maps.Keys(types)) {
		text := fmt.Sprintf("no plugin serves type %s", t)
		for _, r := range d.plugins.Refused {
			text += fmt.Sprintf("; %s is refused: %s", r.Path, r.Reason)
		}
		d.fail(check, "install its plugin in "+d.c.String(pluginPathFlag.Name), "%s", text)
	}
}

// summarize adds one finding about a container.
func (d *doctor) summarize(row reconcile.Row) {
	d.subject = "containers"
	up, all := row.Up()
	connections := "connections not known yet"
	if row.Health != nil {
		connections = fmt.Sprintf("%d of %d connections up", up, all)
	}
	next := fmt.Sprintf("svc-supervisor doctor %s", row.Name)
	name := string(row.Name)
	if name == "" {
		name, next = "port "+string(row.PortID), "correct the object"
	}
	reason := joined(withNumbers(reason(row), d.view.Host), note(row))
	switch {
	case row.Status == reconcile.RowStarting, row.Status == reconcile.RowStopping:
		d.unknown(name, "run this command again", "%s: %s", row.Status, orDash(reason))
	case row.Status != reconcile.RowRunning:
		d.fail(name, next, "%s: %s", row.Status, orDash(reason))
	case row.Reason != "" || note(row) != "" || row.Health != nil && count(row.Health.Connections, isDown) > 0:
		d.fail(name, next, "%s, %s: %s", row.Status, connections, reason)
	default:
		d.ok(name, "%s, %s", row.Status, connections)
	}
}

// joined joins the texts that are not empty.
func joined(texts ...string) string {
	return strings.Join(slices.DeleteFunc(texts, func(text string) bool { return text == "" }), "; ")
}

// serviceEnvironment is the file with the settings of the service (EnvironmentFile= of svc-supervisor.service).
const serviceEnvironment = "/etc/svc-supervisor/environment"

// useServiceSettings sets the options that the command line and the environment leave open to the values that the
// service has. A shell does not have the variables of the service.
func useServiceSettings(c *cli.Context, path string) error {
	content, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	values := map[string]string{}
	for line := range strings.Lines(string(content)) {
		line = strings.TrimSpace(line)
		name, value, found := strings.Cut(line, "=")
		if found && !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, ";") {
			values[strings.TrimSpace(name)] = strings.Trim(strings.TrimSpace(value), `"'`)
		}
	}
	for _, f := range c.Command.Flags {
		flag, ok := f.(*cli.StringFlag)
		if !ok || c.IsSet(flag.Name) {
			continue
		}
		for _, variable := range flag.EnvVars {
			if value, found := values[variable]; found {
				if err := c.Set(flag.Name, value); err != nil {
					return fmt.Errorf("%s: %s: %w", path, variable, err)
				}
			}
		}
	}
	return nil
}
