package model

import (
	"bytes"
	"slices"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

// Assembler assembles successive snapshots of the same host. It reuses each binding of the previous snapshot whose
// nodes have not changed, so that the cost of a change does not grow with the number of other bindings. It is not
// safe for concurrent use.
type Assembler struct {
	tree Tree
	host UUID

	bindings   map[UUID]*resolution // results from the last snapshot, by port
	hostData   []byte               // the Host object from which parsedHost was parsed
	parsedHost host
}

// NewAssembler returns an Assembler for a host.
func NewAssembler(tree Tree, host UUID) *Assembler {
	return &Assembler{tree: tree, host: host, bindings: map[UUID]*resolution{}}
}

// Assemble returns the same result as the function Assemble.
func (a *Assembler) Assemble(snapshot Snapshot) Result {
	s := &resultBuilder{seen: map[string]bool{}}
	own := &resolution{snapshot: snapshot}
	settings := a.effectiveSettings(own)
	ports := a.readHost(own, &s.Desired)
	s.Desired.Settings = settings
	s.add(own)
	bindings := make(map[UUID]*resolution, len(ports))
	for _, id := range ports {
		f := a.bindings[id]
		if f == nil || !f.isCurrent(snapshot) {
			f = &resolution{snapshot: snapshot, tree: a.tree, host: a.host}
			f.resolvePort(id)
			f.snapshot = nil
		}
		bindings[id] = f
		s.add(f)
		if f.bound {
			s.Desired.Bindings = append(s.Desired.Bindings, f.binding)
		}
	}
	if s.Desired.Unread == "" {
		a.bindings = bindings
	}
	s.Final = len(s.Missing) == 0
	return s.Result
}

// readHost reads the Host object and returns the ids of its ports, sorted and without duplicates.
func (a *Assembler) readHost(f *resolution, desired *spec.Desired) []UUID {
	desired.Host.ID = spec.HostID(a.host)
	path := a.tree.Object(Host, a.host)
	data, state := f.get(path)
	var fault native.Fault
	switch state {
	case Present:
		if a.hostData == nil || !bytes.Equal(a.hostData, data) {
			h, err := readHost(data, a.host)
			if err != nil {
				a.hostData = nil
				fault = native.Fault{Key: native.Key(path), Text: err.Error()}
				break
			}
			slices.Sort(h.ports)
			h.ports = slices.Compact(h.ports)
			a.hostData, a.parsedHost = data, h
		}
		desired.Host = a.parsedHost.Host
		return a.parsedHost.ports
	case Absent:
		const text = "no Host object: nothing is known of this host, and all stays as it is"
		fault = native.Fault{Key: native.Key(path), Text: text}
	case Unreadable:
		fault = native.Fault{Key: native.Key(path), Text: string(data)}
	default:
		return nil
	}
	f.faults = append(f.faults, fault)
	desired.Unread = fault.String()
	return nil
}

// resultBuilder collects the parts of a Result.
type resultBuilder struct {
	Result
	seen map[string]bool
}

func (s *resultBuilder) add(f *resolution) {
	for _, visit := range f.visits {
		if s.seen[visit.path] {
			continue
		}
		s.seen[visit.path] = true
		s.Paths = append(s.Paths, visit.path)
		if visit.state == NotFetched {
			s.Missing = append(s.Missing, visit.path)
		}
	}
	for _, fault := range f.faults {
		if !slices.Contains(s.Faults, fault) {
			s.Faults = append(s.Faults, fault)
		}
	}
}

// resolution reads nodes of a snapshot and records every visited node and every fault. resolvePort follows the
// references of one port and fills in the binding.
type resolution struct {
	snapshot Snapshot
	tree     Tree
	host     UUID

	visits  []visit
	faults  []native.Fault
	partial bool // for an export: leave unreadable objects out of the configuration and keep the rest
	bound   bool // the port asks this host for a container, or cannot be read
	binding spec.Binding
}

type visit struct {
	path  string
	data  []byte
	state State
}

// isCurrent reports whether another snapshot has the same visited nodes, so that the result is still valid.
func (f *resolution) isCurrent(snapshot Snapshot) bool {
	for _, visit := range f.visits {
		data, state := snapshot.Get(visit.path)
		if state == NotFetched || state != visit.state || !bytes.Equal(data, visit.data) {
			return false
		}
	}
	return true
}

func (f *resolution) get(path string) ([]byte, State) {
	data, state := f.snapshot.Get(path)
	f.visits = append(f.visits, visit{path, data, state})
	return data, state
}

func (f *resolution) addFault(path, text string) {
	f.faults = append(f.faults, native.Fault{Key: native.Key(path), Text: text})
}

// addNote records a fault that makes the executable run less than the objects ask for, and shows it in the binding's
// note.
func (f *resolution) addNote(path, text string) {
	f.addFault(path, text)
	f.binding.Note = f.faults[len(f.faults)-1].String()
}

// setReading records a fault because of which the binding is not complete. The first such fault determines the
// binding's Reading and Fault. All of them are added to the faults.
func (f *resolution) setReading(reading spec.Reading, path, text string) {
	f.addFault(path, text)
	if f.partial {
		return
	}
	if f.binding.Reading == spec.Complete {
		f.binding.Reading, f.binding.Fault = reading, f.faults[len(f.faults)-1].String()
	}
}

// noSuchObject is the start of the fault text for an object that does not exist.
const noSuchObject = "no such object, and "

// readObject reads an object to which the node at the path by refers. If ok is false, the object cannot be used: fault
// has the reason, also for an object that does not exist, and is empty if the object is NotFetched.
func readObject[T any](
	f *resolution, class Class, id UUID, by string, read func([]byte, UUID) (T, error),
) (value T, ok bool, fault string) {
	path := f.tree.Object(class, id)
	data, state := f.get(path)
	switch state {
	case Present:
		var err error
		if value, err = read(data, id); err != nil {
			return value, false, err.Error()
		}
		return value, true, ""
	case Absent:
		return value, false, noSuchObject + by + " names it"
	case Unreadable:
		return value, false, string(data)
	default:
		return value, false, ""
	}
}

// resolvePort follows the references of one port of the host. A port that does not ask for a container on this host
// does not become a binding.
func (f *resolution) resolvePort(id UUID) {
	path := f.tree.Object(Port, id)
	p, ok, fault := readObject(f, Port, id, f.tree.Object(Host, f.host), readPort)
	f.binding.PortID = spec.PortID(id)
	switch {
	case fault != "":
		f.bound = true
		f.setReading(spec.Unread, path, fault)
		return
	case !ok || !p.bound(f.host):
		return
	}
	f.bound = true
	f.binding.Container = spec.Container{
		PortID: spec.PortID(id), HostID: spec.HostID(f.host), ContainerID: spec.ContainerID(p.container),
	}
	name, nameErr := spec.ParseName("interface_name", p.name)
	f.binding.Container.InterfaceName = name
	to, err := p.connect()
	if err != nil {
		f.setReading(spec.Unknown, path, err.Error())
		return
	}
	err = nameErr
	if checkErr := to.Check(); checkErr != nil && err == nil {
		err = checkErr
	}
	if err != nil {
		f.setReading(spec.Refused, path, err.Error())
		return
	}
	f.binding.Port = to
	f.resolveContainer(path, p)
}

func (f *resolution) resolveContainer(by string, p port) {
	path := f.tree.Object(ServiceContainer, p.container)
	c, ok, fault := readObject(f, ServiceContainer, p.container, by, readContainer)
	if !ok {
		if fault != "" {
			f.setReading(spec.Unknown, path, fault)
		}
		return
	}
	f.binding.Container.GroupID = spec.GroupID(c.group)
	f.binding.Container.ConfigurationID = spec.ConfigurationID(c.configuration)
	if missing := c.missing(); len(missing) > 0 {
		text := "not set: " + strings.Join(missing, ", ") + ": allowed: all three of type, group and configuration"
		f.setReading(spec.Unknown, path, text)
		return
	}
	serviceType, err := spec.ParseServiceType("service_type", c.serviceType)
	if err != nil {
		f.setReading(spec.Refused, path, err.Error())
		return
	}
	f.binding.Container.ServiceType = serviceType
	if c.port != "" && spec.PortID(c.port) != f.binding.PortID {
		fault := &spec.Fault{
			Key: "port_id", Value: string(c.port),
			Allowed: string(f.binding.PortID) + ", the port that names the container, or none",
		}
		f.setReading(spec.Unknown, path, fault.Error())
		return
	}
	f.resolveConfiguration(path, c)
}

// resolveConfiguration builds the configuration that the executable of the service type reads. Only the service type
// determines the class of the object to which a configuration id refers; a ServiceContainer does not contain it. For
// a type other than IPSEC the class is not known here, and the configuration contains the id alone.
func (f *resolution) resolveConfiguration(by string, c container) {
	if c.serviceType == ipsecType {
		f.resolveRouter(by, c.configuration)
		// A configuration is misconfigured only if its objects exist and cannot be used.
		f.binding.ConfigurationUnreadable = f.binding.Reading == spec.Unknown &&
			!strings.Contains(f.binding.Fault, ": "+noSuchObject)
		return
	}
	f.binding.Configuration = marshal(struct {
		ID UUID `json:"id"`
	}{c.configuration})
}
