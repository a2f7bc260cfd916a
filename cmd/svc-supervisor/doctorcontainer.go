package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/plugin"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/reconcile"
	"github.com/svc-supervisor/svc-supervisor/pkg/netns"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/statedir"
)

// examineContainer checks the container with this name, port id or container id.
func (d *doctor) examineContainer(argument string) {
	name, found := d.findContainer(argument)
	d.subject = argument
	if !found {
		d.fail("binding", "write a binding of this host, or look on the host whose binding it is",
			"no binding, record or container of this host has this name, port id or container id")
		return
	}
	if name == "" { // examine has reported the fault of the binding
		return
	}
	d.subject = string(name)
	d.checkBinding(name)
	d.checkDecision(name)
	record := d.checkRecord(name)
	if record == nil || record.Phase != statedir.Added && record.Phase != statedir.Changing {
		return
	}
	d.checkNamespace(name)
	d.checkLink(record)
	for _, u := range record.Units() {
		d.checkUnit(u)
	}
	d.runCheck(record)
}

// findContainer returns the name of the container that has the argument as its name, port id or container id. The name
// is "" for a port whose binding cannot be read.
func (d *doctor) findContainer(argument string) (spec.Name, bool) {
	is := func(name spec.Name, port spec.PortID, id spec.ContainerID) bool {
		return name != "" && slices.Contains([]string{string(name), string(port), string(id)}, argument)
	}
	if d.desired != nil {
		for _, b := range d.desired.Bindings {
			if is(b.Container.InterfaceName, b.PortID, b.Container.ContainerID) {
				return b.Container.InterfaceName, true
			}
		}
	}
	for _, entry := range d.records {
		if r := entry.Record; r != nil && is(entry.Name, r.Container.PortID, r.Container.ContainerID) ||
			is(entry.Name, "", "") {
			return entry.Name, true
		}
	}
	if d.desired != nil && d.unreadBinding(spec.PortID(argument)) != nil {
		return "", true
	}
	if d.view != nil {
		for _, row := range d.view.Containers {
			if is(row.Name, row.PortID, row.ContainerID) {
				return row.Name, true
			}
		}
	}
	return "", false
}

// unreadBinding returns the binding of a port if it cannot be read, so that its name is unknown.
func (d *doctor) unreadBinding(port spec.PortID) *spec.Binding {
	i := slices.IndexFunc(d.desired.Bindings, func(b spec.Binding) bool {
		return b.PortID == port && b.Reading == spec.Unread
	})
	if i < 0 {
		return nil
	}
	return &d.desired.Bindings[i]
}

func (d *doctor) checkBinding(name spec.Name) {
	const check = "binding"
	if d.desired == nil {
		d.unknown(check, "see NSDB above", "the desired state of this host is unknown")
		return
	}
	bound := false
	for _, b := range d.desired.Bindings {
		if b.Container.InterfaceName != name {
			continue
		}
		bound = true
		if b.Reading != spec.Complete {
			d.fail(check, "correct the object", "port %s: %s", b.PortID, b.Fault)
			continue
		}
		d.ok(check, "port %s, container %s of type %s", b.PortID, b.Container.ContainerID, b.Container.ServiceType)
		if b.Note != "" {
			d.fail(check, "correct the object", "%s", b.Note)
		}
	}
	for _, entry := range d.records {
		if bound || entry.Name != name || entry.Record == nil {
			continue
		}
		if b := d.unreadBinding(entry.Record.Container.PortID); b != nil {
			bound = true
			d.fail(check, "correct the object; the container is kept as it is until then",
				"port %s: %s", b.PortID, b.Fault)
		}
	}
	if !bound {
		d.fail(check, "write a binding, if the container is to run; otherwise it is removed",
			"no binding of this host has the interface name %s", name)
	}
}

// checkDecision checks what the supervisor does with the container, and what it waits for.
func (d *doctor) checkDecision(name spec.Name) {
	const check = "supervisor"
	if d.view == nil {
		d.unknown(check, "see supervisor above", "it does not answer")
		return
	}
	row := rowOf(d.view, name)
	if row == nil {
		d.unknown(check, "run this command again", "it does not know the container yet")
		return
	}
	reason := withNumbers(row.Reason, d.view.Host)
	switch {
	case row.Status == reconcile.RowRunning && reason == "":
		d.ok(check, "%s, restarts: %d", row.Status, row.Restarts)
	case row.Status == reconcile.RowStarting, row.Status == reconcile.RowStopping:
		d.unknown(check, "run this command again", "%s: %s", row.Status, orDash(reason))
	default:
		d.fail(check, "the table of reasons in docs/operations.md says what to do; svc-supervisor logs "+string(name)+
			" shows the lines of the plugin", "%s: %s", row.Status, orDash(reason))
	}
}

func (d *doctor) checkRecord(name spec.Name) *statedir.Record {
	const check = "record"
	record, err := recordIn(d.records, name)
	switch {
	case err != nil:
		d.fail(check, "see records above", "%v", err)
	case record == nil:
		d.fail(check, "see supervisor above", "no record: the container has not been created yet")
	default:
		d.checkPhase(record)
	}
	return record
}

func (d *doctor) checkPhase(record *statedir.Record) {
	const check = "record"
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	switch {
	case record.Phase != statedir.Added:
		d.fail(check, "see supervisor above", "phase %s", record.Phase)
	case err == nil && record.BootID != strings.TrimSpace(string(boot)):
		d.fail(check, "the supervisor creates the container again: see supervisor above",
			"written before the last boot")
	default:
		d.ok(check, "phase %s, made by %s %s", record.Phase, record.Executable.Path, record.Executable.Version)
	}
}

const repaired = "a running supervisor removes and adds the container again within a minute; if not, see supervisor" +
	" above"

func (d *doctor) checkNamespace(name spec.Name) {
	const check = "namespace"
	namespace, err := newHostNamespaces(slog.New(slog.DiscardHandler)).Observe(name)
	path := netns.Directory.Path(name)
	switch {
	case err != nil:
		d.unknown(check, "run this command as root", "%v", err)
	case namespace.State == netns.Ours:
		d.ok(check, "%s", path)
	case namespace.State == netns.Unknown:
		d.unknown(check, "run this command as root", "%s: %v", path, namespace.Err)
	default:
		d.fail(check, repaired, "%s is %v", path, namespace.State)
	}
}

// checkLink checks the host's end of the veth, if the plugin made one, and whether packets pass in both directions.
func (d *doctor) checkLink(record *statedir.Record) {
	const check = "interface"
	name := record.Container.InterfaceName
	link, err := netns.ObserveLink(name)
	switch {
	case err == nil && link.State == netns.Absent && !madeInterface(record):
		return
	case err != nil:
		d.unknown(check, "run this command as root", "%v", err)
		return
	case link.State != netns.Ours:
		d.fail(check, repaired, "%s is %v", name, link.State)
		return
	}
	d.ok(check, "%s: %d packets to the container, %d from it", name, link.Sent, link.Received)
	if link.Received > 0 && link.Sent == 0 {
		d.fail(check, fmt.Sprintf("check the bridge of the port and the router behind it: tcpdump -n -i %s", name),
			"the container sends packets, and receives none")
	}
}

// madeInterface reports whether the result of ADD has an interface on the host with the name of the container.
func madeInterface(record *statedir.Record) bool {
	var result struct {
		Interfaces []struct{ Name, Sandbox string }
	}
	_ = json.Unmarshal(record.Result, &result) // a record was checked when it was read
	return slices.ContainsFunc(result.Interfaces, func(i struct{ Name, Sandbox string }) bool {
		return i.Name == string(record.Container.InterfaceName) && i.Sandbox == ""
	})
}

func (d *doctor) checkUnit(name string) {
	const check = "unit"
	details, err := d.bus.Show(d.c.Context, name)
	if err != nil {
		d.unknown(check, "see systemd above", "%v", err)
		return
	}
	next := fmt.Sprintf("journalctl -u %s -n 50", name)
	lastLine := func() string { return orDash(hostUnits{d.bus}.LastLine(d.c.Context, name)) }
	switch {
	case details.Running():
		text := name + " is " + details.State()
		if details.Restarts > 0 && details.ActiveFor < 10*time.Minute {
			d.fail(check, next, "%s, and was restarted %d times, the last time %v ago: %s", text, details.Restarts,
				details.ActiveFor.Round(time.Second), lastLine())
			return
		}
		d.ok(check, "%s, process %d, restarts: %d", text, details.MainPID, details.Restarts)
	case details.Gone():
		d.fail(check, repaired, "%s is gone", name)
	default:
		text := name + " is " + details.State()
		if details.Exit.Failed() {
			text += ": " + details.Exit.String()
		}
		d.fail(check, next, "%s: %s", text, lastLine())
	}
}

// runCheck runs CHECK of the plugin, which changes nothing, and reports the connections.
func (d *doctor) runCheck(record *statedir.Record) {
	const check = "CHECK"
	inventory, err := d.inventory()
	if err != nil {
		d.unknown(check, "see plugins above", "%v", err)
		return
	}
	executable, ok := inventory.ForRecorded(record.Container.ServiceType, record.Executable.Path)
	if !ok || record.Conf == nil {
		d.unknown(check, "see plugins above", "no plugin serves type %s", record.Container.ServiceType)
		return
	}
	conf := *record.Conf
	conf.PrevResult, conf.Type = record.Result, plugin.CNIType(executable.Path)
	stdin, err := json.Marshal(&conf)
	if err != nil {
		d.unknown(check, "report this to the maintainers of svc-supervisor", "%v", err)
		return
	}
	name := record.Container.InterfaceName
	stdout, err := inventory.Run(d.c.Context, plugin.Call{
		Executable: executable.Path, Type: executable.Type, Verb: spec.Check,
		ContainerID: string(record.Container.ContainerID), Namespace: netns.Directory.Path(name),
		Stdin: stdin, Deadline: checkDeadline,
	})
	var answer *spec.Error
	switch {
	case errors.As(err, &answer) && answer.Code != spec.CodeAgain && answer.Code != spec.CodeInternal:
		d.fail(check, "if CHECK fails twice, the supervisor removes and adds the container again", "%v", err)
		return
	case err != nil:
		d.unknown(check, "run this command again; svc-supervisor restart "+string(name)+
			" restarts the daemon, which interrupts its tunnels", "%v", err)
		return
	}
	health, err := spec.ParseHealth(stdout)
	if err != nil {
		d.unknown(check, "report this to the maintainers of the plugin", "%v", err)
		return
	}
	d.ok(check, "the plugin finds what it configured")
	if health != nil {
		d.reportHealth(record, health)
	}
}

// checkDeadline is the deadline of CHECK.
const checkDeadline = 30 * time.Second

func (d *doctor) reportHealth(record *statedir.Record, health *spec.Health) {
	manual := "man svc-" + strings.ToLower(string(record.Container.ServiceType))
	if health.Message != "" {
		d.fail("health", manual+" explains the message", "%s", health.Message)
	}
	if health.Again != nil && health.Again.Reason != "" {
		d.unknown("health", "run this command again", "the plugin asks for a reconfigure: %s", health.Again.Reason)
	}
	for _, c := range health.Connections {
		label := cmp.Or(c.Name, c.ID)
		switch {
		case c.Status == spec.Active:
			d.ok("connection", "%s is up; test with a ping whether packets arrive", label)
		case c.Disabled:
			d.ok("connection", "%s is administratively down", label)
		default:
			d.fail("connection", manual+" explains the reason; compare the configuration with that of the peer"+
				ofPeer(c.Peer), "%s is down: %s", label, orDash(c.Reason))
		}
	}
}

// ofPeer returns the address of a peer for a sentence, or "" if it is unknown.
func ofPeer(address string) string {
	if address == "" {
		return ""
	}
	return " " + address
}
