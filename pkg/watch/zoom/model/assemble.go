package model

import (
	"bytes"
	"slices"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

// Assembler is Assemble with a memory: of two snapshots it works out anew only the bindings of which a node differs, so
// that a change of one costs little beside a thousand others. It is not for use by two goroutines at once.
type Assembler struct {
	tree Tree
	host UUID

	bindings map[UUID]*following // by port, what the last snapshot came to
	object   []byte              // the Host object that parsed is of
	parsed   host
}

// NewAssembler makes one for a host.
func NewAssembler(tree Tree, host UUID) *Assembler {
	return &Assembler{tree: tree, host: host, bindings: map[UUID]*following{}}
}

// Assemble does what the function does.
func (a *Assembler) Assemble(snapshot Snapshot) Result {
	s := &sum{seen: map[string]bool{}}
	own := &following{snapshot: snapshot}
	settings := a.settings(own)
	ports := a.readHost(own, &s.Desired)
	s.Desired.Settings = settings
	s.add(own)
	bindings := make(map[UUID]*following, len(ports))
	for _, id := range ports {
		f := a.bindings[id]
		if f == nil || !f.stands(snapshot) {
			f = &following{snapshot: snapshot, tree: a.tree, host: a.host}
			f.follow(id)
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

// readHost reads the host's own object and lists its ports, sorted.
func (a *Assembler) readHost(f *following, desired *spec.Desired) []UUID {
	desired.Host.ID = spec.HostID(a.host)
	path := a.tree.Object(Host, a.host)
	data, state := f.get(path)
	var fault native.Fault
	switch state {
	case Present:
		if a.object == nil || !bytes.Equal(a.object, data) {
			h, err := readHost(data, a.host)
			if err != nil {
				a.object = nil
				fault = native.Fault{Key: native.Key(path), Text: err.Error()}
				break
			}
			slices.Sort(h.ports)
			h.ports = slices.Compact(h.ports)
			a.object, a.parsed = data, h
		}
		desired.Host = a.parsed.Host
		return a.parsed.ports
	case Absent:
		fault = native.Fault{Key: native.Key(path), Text: "no Host object: nothing is known of this host, and all stays as it is"}
	case Unreadable:
		fault = native.Fault{Key: native.Key(path), Text: string(data)}
	default:
		return nil
	}
	f.faults = append(f.faults, fault)
	desired.Unread = fault.String()
	return nil
}

// sum is a Result as it is put together.
type sum struct {
	Result
	seen map[string]bool
}

func (s *sum) add(f *following) {
	for _, look := range f.looks {
		if s.seen[look.path] {
			continue
		}
		s.seen[look.path] = true
		s.Paths = append(s.Paths, look.path)
		if look.state == NotFetched {
			s.Missing = append(s.Missing, look.path)
		}
	}
	for _, fault := range f.faults {
		if !slices.Contains(s.Faults, fault) {
			s.Faults = append(s.Faults, fault)
		}
	}
}

// following is what following one port came to, and the nodes that it stands on.
type following struct {
	snapshot Snapshot
	tree     Tree
	host     UUID

	looks   []look
	faults  []native.Fault
	partial bool // of an export: what cannot be read is left out of the configuration, and the rest counts
	bound   bool
	binding spec.Binding
}

type look struct {
	path  string
	data  []byte
	state State
}

// stands says whether another snapshot comes to the same.
func (f *following) stands(snapshot Snapshot) bool {
	for _, look := range f.looks {
		data, state := snapshot.Get(look.path)
		if state == NotFetched || state != look.state || !bytes.Equal(data, look.data) {
			return false
		}
	}
	return true
}

func (f *following) get(path string) ([]byte, State) {
	data, state := f.snapshot.Get(path)
	f.looks = append(f.looks, look{path, data, state})
	return data, state
}

func (f *following) fault(path, text string) {
	f.faults = append(f.faults, native.Fault{Key: native.Key(path), Text: text})
}

// note notes a fault because of which less runs than is asked for.
func (f *following) note(path, text string) {
	f.fault(path, text)
	f.binding.Note = f.faults[len(f.faults)-1].String()
}

// end ends at what keeps the binding from being whole. Of several such faults the first explains it; all are told.
func (f *following) end(reading spec.Reading, path, text string) {
	f.fault(path, text)
	if f.partial {
		return
	}
	if f.binding.Reading == spec.Whole {
		f.binding.Reading, f.binding.Fault = reading, f.faults[len(f.faults)-1].String()
	}
}

// noSuchObject begins the fault of an object that is not there.
const noSuchObject = "no such object, and "

// object reads an object that the node by names. What is not there, though it is named, could not be read either. Of one
// that is NotFetched ok is false, and nothing else follows.
func object[T any](f *following, class Class, id UUID, by string, read func([]byte, UUID) (T, error)) (value T, ok bool, fault string) {
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

// follow follows one port of the host's. A port that asks for nothing, or no longer for this host, is no binding.
func (f *following) follow(id UUID) {
	path := f.tree.Object(Port, id)
	p, ok, fault := object(f, Port, id, f.tree.Object(Host, f.host), readPort)
	f.binding.PortID = spec.PortID(id)
	switch {
	case fault != "":
		f.bound = true
		f.end(spec.Unread, path, fault)
		return
	case !ok || !p.bound(f.host):
		return
	}
	f.bound = true
	f.binding.Container = spec.Container{PortID: spec.PortID(id), HostID: spec.HostID(f.host), ContainerID: spec.ContainerID(p.container)}
	name, nameErr := spec.ParseName("interface_name", p.name)
	f.binding.Container.InterfaceName = name
	to, err := p.connect()
	if err != nil {
		f.end(spec.Unknown, path, err.Error())
		return
	}
	err = nameErr
	if checkErr := to.Check(); checkErr != nil && err == nil {
		err = checkErr
	}
	if err != nil {
		f.end(spec.Refused, path, err.Error())
		return
	}
	f.binding.Port = to
	f.followContainer(path, p)
}

func (f *following) followContainer(by string, p port) {
	path := f.tree.Object(ServiceContainer, p.container)
	c, ok, fault := object(f, ServiceContainer, p.container, by, readContainer)
	if !ok {
		if fault != "" {
			f.end(spec.Unknown, path, fault)
		}
		return
	}
	f.binding.Container.GroupID = spec.GroupID(c.group)
	f.binding.Container.ConfigurationID = spec.ConfigurationID(c.configuration)
	if missing := c.missing(); len(missing) > 0 {
		f.end(spec.Unknown, path, "not set: "+strings.Join(missing, ", ")+": allowed: all three of type, group and configuration")
		return
	}
	serviceType, err := spec.ParseServiceType("service_type", c.serviceType)
	if err != nil {
		f.end(spec.Refused, path, err.Error())
		return
	}
	f.binding.Container.ServiceType = serviceType
	if c.port != "" && spec.PortID(c.port) != f.binding.PortID {
		fault := &spec.Fault{Key: "port_id", Value: string(c.port), Allowed: string(f.binding.PortID) + ", the port that names the container, or none"}
		f.end(spec.Unknown, path, fault.Error())
		return
	}
	f.followConfiguration(path, c)
}

// followConfiguration makes the document that the type's executable reads. What an id of a configuration names depends on
// the type, and MidoNet has it written nowhere else: for a type that is not known here the id is all there is.
func (f *following) followConfiguration(by string, c container) {
	if c.serviceType == ipsecType {
		f.followRouter(by, c.configuration)
		f.binding.Misconfigured = f.binding.Reading == spec.Unknown && !strings.Contains(f.binding.Fault, ": "+noSuchObject)
		return
	}
	f.binding.Configuration = marshal(struct {
		ID UUID `json:"id"`
	}{c.configuration})
}
