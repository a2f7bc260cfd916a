package native

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// ErrAbsent is the error of Reader.Get for a key that has no object. It must not be returned if this is uncertain.
var ErrAbsent = errors.New("no such object")

// Reader reads one kind of NSDB.
type Reader interface {
	// Get returns the object of a key. The error is ErrAbsent, or one line with the reason why the object cannot be
	// read. A second call for the same key checks again whether the object has changed.
	Get(ctx context.Context, key Key) (*Document, error)

	// Bindings lists the last parts of the keys of a host's port bindings. They may be invalid ids.
	Bindings(ctx context.Context, host spec.HostID) ([]string, error)
}

// Fault is a reason why an object cannot be used.
type Fault struct {
	Key  Key
	Text string // one line
}

func (f Fault) String() string { return string(f.Key) + ": " + f.Text }

// Assemble returns the desired state of a host: its Host object, its bindings with the containers and configurations to
// which they refer, and the settings in effect. It reads no other objects. It also returns the faults of these objects.
// The set marks the bindings that they affect.
func Assemble(ctx context.Context, reader Reader, host spec.HostID) (spec.Desired, []Fault) {
	return NewAssembler(reader, host).Assemble(ctx, nil)
}

// Assembler assembles the desired state of a host repeatedly. It keeps the resolved bindings and resolves only those
// again of which an object has changed, so that one change among many bindings costs little.
type Assembler struct {
	reader       Reader
	host         spec.HostID
	cached       map[string]*cachedBinding       // by port, as Reader.Bindings lists it; without plain ports
	plainPorts   map[string]bool                 // the ports whose object was PlainPort; false: it must be read again
	recheckPlain bool                            // each plain port may have changed
	users        map[Key]map[*cachedBinding]bool // by key, the bindings resolved from its object
	rebuilt      []string                        // the ports whose bindings the last call resolved again or removed
}

// cachedBinding is a resolved binding and the objects from which it was resolved.
type cachedBinding struct {
	resolved resolvedBinding
	reads    []readResult
	stale    bool // one of the objects may have changed, so they must be compared
}

// readResult is the result of Reader.Get for a key.
type readResult struct {
	key      Key
	document *Document
	err      error
}

// NewAssembler returns an empty Assembler for a host.
func NewAssembler(reader Reader, host spec.HostID) *Assembler {
	return &Assembler{
		reader:     reader,
		host:       host,
		cached:     map[string]*cachedBinding{},
		plainPorts: map[string]bool{},
		users:      map[Key]map[*cachedBinding]bool{},
	}
}

// Assemble does the same as the function Assemble. changed has the keys whose objects may have changed since the last
// call. If changed is nil, every object may have changed.
func (m *Assembler) Assemble(ctx context.Context, changed map[Key]bool) (spec.Desired, []Fault) {
	m.markStale(changed)
	m.rebuilt = nil
	a := assembly{ctx: ctx, reader: m.reader, host: m.host, assembler: m}
	desired, err := a.assemble()
	if err != nil {
		a.addFault(err)
		desired = spec.Desired{Unread: err.String(), Host: spec.Host{ID: m.host}}
	}
	desired.Settings = a.settings()
	return desired, a.faults
}

type assembly struct {
	ctx       context.Context
	reader    Reader
	host      spec.HostID
	assembler *Assembler
	reads     []readResult // the objects of the binding that is being resolved
	faults    []Fault
	reported  map[Fault]bool
}

func (a *assembly) addFault(fault *Fault) {
	if a.reported[*fault] {
		return
	}
	if a.reported == nil {
		a.reported = map[Fault]bool{}
	}
	a.reported[*fault] = true
	a.faults = append(a.faults, *fault)
}

// get reads an object for the binding that is being resolved.
func (a *assembly) get(key Key) (*Document, error) {
	document, err := a.reader.Get(a.ctx, key)
	a.reads = append(a.reads, readResult{key, document, err})
	return document, err
}

// assemble returns the set without the settings. It returns a Fault if the host cannot be read.
func (a *assembly) assemble() (spec.Desired, *Fault) {
	key := HostKey(a.host)
	document, err := a.reader.Get(a.ctx, key)
	if errors.Is(err, ErrAbsent) {
		return spec.Desired{}, &Fault{key, "no Host object: nothing is known of this host, and all stays as it is"}
	}
	if err != nil {
		return spec.Desired{}, &Fault{key, err.Error()}
	}
	host, faults := document.Host(a.host)
	if all := faults.All(); len(all) > 0 {
		return spec.Desired{}, &Fault{key, all[0].Error()}
	}
	ports, err := a.reader.Bindings(a.ctx, a.host)
	if err != nil {
		return spec.Desired{}, &Fault{BindingsKey(a.host), err.Error()}
	}
	if !slices.IsSorted(ports) {
		ports = slices.Sorted(slices.Values(ports))
	}
	ports = slices.Compact(ports)
	desired := spec.Desired{Host: host, Bindings: make([]spec.Binding, 0, len(a.assembler.cached))}
	for _, port := range ports {
		if a.assembler.plainPorts[port] && (!a.assembler.recheckPlain || a.isPlain(port)) {
			continue
		}
		cached := a.assembler.cached[port]
		if cached == nil || cached.stale && !a.unchanged(cached) {
			before := cached
			cached = a.build(port)
			a.assembler.replace(port, before, cached)
		}
		if cached.isPlain() {
			continue
		}
		cached.stale = false
		if cached.resolved.fault != nil {
			a.addFault(cached.resolved.fault)
		}
		if cached.resolved.bound {
			desired.Bindings = append(desired.Bindings, cached.resolved.binding)
		}
	}
	a.assembler.recheckPlain = false
	a.assembler.dropUnlisted(ports)
	if len(desired.Bindings) == 0 {
		desired.Bindings = nil
	}
	return desired, nil
}

// markStale marks the bindings that must be compared with their objects. They stay marked until the comparison, which
// is later if the host cannot be read now.
func (m *Assembler) markStale(changed map[Key]bool) {
	if changed == nil {
		m.recheckPlain = true
		for _, c := range m.cached {
			c.stale = true
		}
	}
	prefix := string(BindingsKey(m.host)) + "/"
	for key := range changed {
		if port, ok := strings.CutPrefix(string(key), prefix); ok && m.plainPorts[port] {
			m.plainPorts[port] = false
		}
		for c := range m.users[key] {
			c.stale = true
		}
	}
}

// Remade lists the ports whose bindings the last call of Assemble resolved again or removed.
func (m *Assembler) Remade() []string { return m.rebuilt }

// Objects lists the keys of the objects from which the binding of a port was resolved: the binding itself and the
// objects to which it refers, including missing ones.
func (m *Assembler) Objects(port string) (keys []Key) {
	if m.plainPorts[port] {
		return []Key{BindingKey(m.host, spec.PortID(port))}
	}
	if c := m.cached[port]; c != nil {
		for _, o := range c.reads {
			keys = append(keys, o.key)
		}
	}
	return keys
}

// replace replaces the cached binding of a port. before is nil for a new binding, after is nil for a removed one.
func (m *Assembler) replace(port string, before, after *cachedBinding) {
	m.rebuilt = append(m.rebuilt, port)
	if before != nil {
		for _, o := range before.reads {
			delete(m.users[o.key], before)
			if len(m.users[o.key]) == 0 {
				delete(m.users, o.key)
			}
		}
		delete(m.cached, port)
	}
	delete(m.plainPorts, port)
	if after != nil && after.isPlain() {
		m.plainPorts[port] = true
		return
	}
	if after != nil {
		for _, o := range after.reads {
			if m.users[o.key] == nil {
				m.users[o.key] = map[*cachedBinding]bool{}
			}
			m.users[o.key][after] = true
		}
		m.cached[port] = after
	}
}

// dropUnlisted removes the cached bindings of ports that are not listed any more. ports must be sorted.
func (m *Assembler) dropUnlisted(ports []string) {
	if len(m.cached)+len(m.plainPorts) == len(ports) {
		return
	}
	for port := range m.plainPorts {
		if _, listed := slices.BinarySearch(ports, port); !listed {
			m.replace(port, nil, nil)
		}
	}
	for port, c := range m.cached {
		if _, listed := slices.BinarySearch(ports, port); !listed {
			m.replace(port, c, nil)
		}
	}
}

// isPlain reports whether a port that was plain at the last read still is.
func (a *assembly) isPlain(port string) bool {
	document, err := a.reader.Get(a.ctx, BindingKey(a.host, spec.PortID(port)))
	if err == nil && document == PlainPort {
		return true
	}
	delete(a.assembler.plainPorts, port)
	return false
}

// isPlain reports whether the binding is a plain port, for which the Reader returned PlainPort.
func (c *cachedBinding) isPlain() bool {
	return len(c.reads) == 1 && c.reads[0].document == PlainPort && c.reads[0].err == nil
}

// unchanged reports whether the objects of a binding are still those from which it was resolved.
func (a *assembly) unchanged(cached *cachedBinding) bool {
	for _, o := range cached.reads {
		document, err := a.reader.Get(a.ctx, o.key)
		if document != o.document || (err == nil) != (o.err == nil) || err != nil && err.Error() != o.err.Error() {
			return false
		}
	}
	return true
}

// build reads the objects of a binding and resolves it.
func (a *assembly) build(port string) *cachedBinding {
	id, err := spec.ParseID[spec.PortID]("port id", port)
	if err != nil { // a container with such an id cannot exist, so it is only reported
		return &cachedBinding{resolved: resolvedBinding{fault: &Fault{BindingsKey(a.host), err.Error()}}}
	}
	resolved := a.resolveBinding(id)
	return &cachedBinding{resolved: resolved, reads: a.reads}
}

// maxResolves is how often a binding is resolved if an object is missing and the result differs each time.
const maxResolves = 3

// resolveBinding resolves one binding, which may have been removed or be a plain port. An object may be missing because
// the reference to it was changed after it was read. In that case all objects are read again until two results are
// equal.
func (a *assembly) resolveBinding(port spec.PortID) resolvedBinding {
	resolved := a.resolve(port)
	for range maxResolves - 1 {
		if !resolved.missing {
			break
		}
		again := a.resolve(port)
		if reflect.DeepEqual(again, resolved) {
			break
		}
		resolved = again
	}
	if resolved.fault != nil {
		resolved.binding.Fault = resolved.fault.String()
	}
	return resolved
}

// resolvedBinding is a binding together with the container and configuration to which it refers.
type resolvedBinding struct {
	binding spec.Binding
	bound   bool // the binding belongs to the set; false for plain ports and removed bindings
	missing bool // an object to which it refers is missing
	fault   *Fault
}

func (a *assembly) resolve(port spec.PortID) (r resolvedBinding) {
	a.reads = nil
	key := BindingKey(a.host, port)
	document, err := a.get(key)
	if errors.Is(err, ErrAbsent) {
		return resolvedBinding{}
	}
	r.bound, r.binding.PortID = true, port
	if err != nil {
		return r.withFault(spec.Unread, key, err.Error())
	}
	if document == PlainPort {
		return resolvedBinding{}
	}
	parsed, faults := document.Binding(a.host, port)
	if len(faults.Form) > 0 {
		return r.withFault(spec.Unread, key, faults.Form[0].Error())
	}
	if !parsed.Bound {
		return resolvedBinding{}
	}
	r.binding.Port = parsed.Port
	r.binding.Container = spec.Container{
		PortID: port, HostID: a.host, InterfaceName: parsed.InterfaceName, ContainerID: parsed.ContainerID,
	}
	if len(faults.Value) > 0 {
		return r.withFault(spec.Refused, key, faults.Value[0].Error())
	}
	return a.resolveContainer(r)
}

func (a *assembly) resolveContainer(r resolvedBinding) resolvedBinding {
	id := r.binding.Container.ContainerID
	key := ContainerKey(id)
	document, err := a.get(key)
	if err != nil {
		return r.withUnreadable(key, err, BindingKey(a.host, r.binding.PortID))
	}
	parsed, faults := document.Container(id)
	if len(faults.Form) > 0 {
		return r.withFault(spec.Unknown, key, faults.Form[0].Error())
	}
	r.binding.Container.ServiceType = parsed.ServiceType
	r.binding.Container.GroupID = parsed.GroupID
	r.binding.Container.ConfigurationID = parsed.ConfigurationID
	if len(parsed.Missing) > 0 {
		text := "not set: " + strings.Join(parsed.Missing, ", ") +
			": allowed: all three of type, group and configuration"
		return r.withFault(spec.Unknown, key, text)
	}
	if len(faults.Value) > 0 {
		return r.withFault(spec.Refused, key, faults.Value[0].Error())
	}
	// The container names another port. Either object may be outdated, and the binding of the other port may be the
	// right one, so the container is unknown.
	if parsed.PortID != "" && parsed.PortID != r.binding.PortID {
		fault := &spec.Fault{
			Key: "portId", Value: string(parsed.PortID),
			Allowed: fmt.Sprintf("%s, the port whose binding names the container, or none", r.binding.PortID),
		}
		return r.withFault(spec.Unknown, key, fault.Error())
	}
	return a.resolveConfiguration(r)
}

func (a *assembly) resolveConfiguration(r resolvedBinding) resolvedBinding {
	id := r.binding.Container.ConfigurationID
	key := ConfigurationKey(id)
	document, err := a.get(key)
	if err != nil {
		r.binding.ConfigurationUnreadable = !errors.Is(err, ErrAbsent)
		return r.withUnreadable(key, err, ContainerKey(r.binding.Container.ContainerID))
	}
	configuration, faults := document.Configuration(id)
	if len(faults.Form) > 0 {
		r.binding.ConfigurationUnreadable = true
		return r.withFault(spec.Unknown, key, faults.Form[0].Error())
	}
	r.binding.Configuration = configuration
	return r
}

func (r resolvedBinding) withFault(reading spec.Reading, key Key, text string) resolvedBinding {
	r.binding.Reading = reading
	r.fault = &Fault{key, text}
	return r
}

// withUnreadable returns the binding with the fault of an object that is missing or cannot be read. referrer is the key
// of the object that refers to it.
func (r resolvedBinding) withUnreadable(key Key, err error, referrer Key) resolvedBinding {
	r.missing = errors.Is(err, ErrAbsent)
	text := err.Error()
	if r.missing {
		text += ", and " + string(referrer) + " names it"
	}
	return r.withFault(spec.Unknown, key, text)
}
