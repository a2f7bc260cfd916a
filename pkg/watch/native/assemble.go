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

// ErrAbsent is a Reader's answer for a key that certainly has no object.
var ErrAbsent = errors.New("no such object")

// Reader reads one kind of NSDB.
type Reader interface {
	// Get returns the object of a key. The error is ErrAbsent, or says in one line why the object cannot be read. A second
	// Get of the same key looks again.
	Get(ctx context.Context, key Key) (*Document, error)

	// Bindings lists the last parts of the keys of a host's port bindings, unchecked.
	Bindings(ctx context.Context, host spec.HostID) ([]string, error)
}

// Fault is one thing that keeps an object from its use, in one line.
type Fault struct {
	Key  Key
	Text string
}

func (f Fault) String() string { return string(f.Key) + ": " + f.Text }

// Assemble puts together what the NSDB wants of a host: the host's object, its bindings, and the containers and
// configurations they name; and the settings in effect. Nothing else is read. It returns the faults found on the way; what they mean for a container
// stands in the set itself.
func Assemble(ctx context.Context, reader Reader, host spec.HostID) (spec.Desired, []Fault) {
	return NewAssembler(reader, host).Assemble(ctx, nil)
}

// Assembler is Assemble with a memory: it works out anew only the bindings of which an object has changed, so that one change among
// many bindings costs little.
type Assembler struct {
	reader  Reader
	host    spec.HostID
	known   map[string]*known       // by port, as Reader.Bindings lists it; without plain ports
	plain   map[string]bool         // the ports whose object was PlainPort
	recheck bool                    // each of these may have changed
	users   map[Key]map[*known]bool // what was made of an object
	remade  []string                // the ports whose bindings the last call made anew or forgot
}

// known is what was made of a binding, and of which objects.
type known struct {
	following following
	objects   []object
	suspect   bool // an object may have changed: compare
}

// object is what a Reader answered for a key.
type object struct {
	key      Key
	document *Document
	err      error
}

// NewAssembler makes one for a host.
func NewAssembler(reader Reader, host spec.HostID) *Assembler {
	return &Assembler{reader: reader, host: host, known: map[string]*known{}, plain: map[string]bool{}, users: map[Key]map[*known]bool{}}
}

// Assemble does what the function does. changed are the keys whose objects may have changed since the last call; nil: any may.
func (m *Assembler) Assemble(ctx context.Context, changed map[Key]bool) (spec.Desired, []Fault) {
	m.suspect(changed)
	m.remade = nil
	a := assembly{ctx: ctx, reader: m.reader, host: m.host, memory: m}
	desired, err := a.assemble()
	if err != nil {
		a.note(err)
		desired = spec.Desired{Unread: err.String(), Host: spec.Host{ID: m.host}}
	}
	desired.Settings = a.settings()
	return desired, a.faults
}

type assembly struct {
	ctx     context.Context
	reader  Reader
	host    spec.HostID
	memory  *Assembler
	objects []object // that were read for the binding that is followed
	faults  []Fault
	noted   map[Fault]bool
}

func (a *assembly) note(fault *Fault) {
	if a.noted[*fault] {
		return
	}
	if a.noted == nil {
		a.noted = map[Fault]bool{}
	}
	a.noted[*fault] = true
	a.faults = append(a.faults, *fault)
}

// get reads an object for the binding that is followed.
func (a *assembly) get(key Key) (*Document, error) {
	document, err := a.reader.Get(a.ctx, key)
	a.objects = append(a.objects, object{key, document, err})
	return document, err
}

// assemble fails where nothing is known of the host.
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
	desired := spec.Desired{Host: host, Bindings: make([]spec.Binding, 0, len(a.memory.known))}
	for _, port := range ports {
		if a.memory.plain[port] && (!a.memory.recheck || a.isPlain(port)) {
			continue
		}
		k := a.memory.known[port]
		if k == nil || k.suspect && !a.unchanged(k) {
			was := k
			k = a.read(port)
			a.memory.replace(port, was, k)
		}
		if k.isPlain() {
			continue
		}
		k.suspect = false
		if k.following.fault != nil {
			a.note(k.following.fault)
		}
		if k.following.bound {
			desired.Bindings = append(desired.Bindings, k.following.binding)
		}
	}
	a.memory.recheck = false
	a.memory.forget(ports)
	if len(desired.Bindings) == 0 {
		desired.Bindings = nil
	}
	return desired, nil
}

// suspect notes which bindings must be compared with their objects, now or, if the host cannot be read now, later.
func (m *Assembler) suspect(changed map[Key]bool) {
	if changed == nil {
		m.recheck = true
		for _, k := range m.known {
			k.suspect = true
		}
	}
	folder := string(BindingsKey(m.host)) + "/"
	for key := range changed {
		if port, ok := strings.CutPrefix(string(key), folder); ok {
			delete(m.plain, port)
		}
		for k := range m.users[key] {
			k.suspect = true
		}
	}
}

// Remade lists the ports whose bindings the last call of Assemble made anew or forgot.
func (m *Assembler) Remade() []string { return m.remade }

// Objects lists the keys from whose objects the binding of a port was made, its own included. Those that are missing are among
// them.
func (m *Assembler) Objects(port string) (keys []Key) {
	if m.plain[port] {
		return []Key{BindingKey(m.host, spec.PortID(port))}
	}
	if k := m.known[port]; k != nil {
		for _, o := range k.objects {
			keys = append(keys, o.key)
		}
	}
	return keys
}

// replace notes what was made of a binding. was is nil for a new one, is for one that is gone.
func (m *Assembler) replace(port string, was, is *known) {
	m.remade = append(m.remade, port)
	if was != nil {
		for _, o := range was.objects {
			delete(m.users[o.key], was)
			if len(m.users[o.key]) == 0 {
				delete(m.users, o.key)
			}
		}
		delete(m.known, port)
	}
	delete(m.plain, port)
	if is != nil && is.isPlain() {
		m.plain[port] = true
		return
	}
	if is != nil {
		for _, o := range is.objects {
			if m.users[o.key] == nil {
				m.users[o.key] = map[*known]bool{}
			}
			m.users[o.key][is] = true
		}
		m.known[port] = is
	}
}

// forget drops what is known of ports that are not listed any more. ports is sorted.
func (m *Assembler) forget(ports []string) {
	if len(m.known)+len(m.plain) == len(ports) {
		return
	}
	for port := range m.plain {
		if _, listed := slices.BinarySearch(ports, port); !listed {
			m.replace(port, nil, nil)
		}
	}
	for port, k := range m.known {
		if _, listed := slices.BinarySearch(ports, port); !listed {
			m.replace(port, k, nil)
		}
	}
}

// isPlain reports whether a binding that was a plain port still is one.
func (a *assembly) isPlain(port string) bool {
	document, err := a.reader.Get(a.ctx, BindingKey(a.host, spec.PortID(port)))
	if err == nil && document == PlainPort {
		return true
	}
	delete(a.memory.plain, port)
	return false
}

// isPlain reports whether a binding was made of PlainPort alone.
func (k *known) isPlain() bool {
	return len(k.objects) == 1 && k.objects[0].document == PlainPort && k.objects[0].err == nil
}

// unchanged says whether the objects of a binding are those from which it was made.
func (a *assembly) unchanged(k *known) bool {
	for _, o := range k.objects {
		document, err := a.reader.Get(a.ctx, o.key)
		if document != o.document || (err == nil) != (o.err == nil) || err != nil && err.Error() != o.err.Error() {
			return false
		}
	}
	return true
}

// read makes a binding of the objects that are there now.
func (a *assembly) read(port string) *known {
	id, err := spec.ParseID[spec.PortID]("port id", port)
	if err != nil { // nothing of ours can stand for such an id: it can only be told
		return &known{following: following{fault: &Fault{BindingsKey(a.host), err.Error()}}}
	}
	found := a.binding(id)
	return &known{following: found, objects: a.objects}
}

// looks is how often a binding is followed while what it refers to is missing and the references keep changing.
const looks = 3

// binding follows one binding, which may be gone or name no container. What is missing may be so because a referrer has
// changed meanwhile: all of it is read again until it says the same twice.
func (a *assembly) binding(port spec.PortID) following {
	found := a.follow(port)
	for range looks - 1 {
		if !found.missing {
			break
		}
		again := a.follow(port)
		if reflect.DeepEqual(again, found) {
			break
		}
		found = again
	}
	if found.fault != nil {
		found.binding.Fault = found.fault.String()
	}
	return found
}

// following is what following a binding came to.
type following struct {
	binding spec.Binding
	bound   bool
	missing bool // something it refers to is not there
	fault   *Fault
}

func (a *assembly) follow(port spec.PortID) (f following) {
	a.objects = nil
	key := BindingKey(a.host, port)
	document, err := a.get(key)
	if errors.Is(err, ErrAbsent) {
		return following{}
	}
	f.bound, f.binding.PortID = true, port
	if err != nil {
		return f.end(spec.Unread, key, err.Error())
	}
	if document == PlainPort {
		return following{}
	}
	said, faults := document.Binding(a.host, port)
	if len(faults.Form) > 0 {
		return f.end(spec.Unread, key, faults.Form[0].Error())
	}
	if !said.Bound {
		return following{}
	}
	f.binding.Port = said.Port
	f.binding.Container = spec.Container{
		PortID: port, HostID: a.host, InterfaceName: said.InterfaceName, ContainerID: said.ContainerID,
	}
	if len(faults.Value) > 0 {
		return f.end(spec.Refused, key, faults.Value[0].Error())
	}
	return a.followContainer(f)
}

func (a *assembly) followContainer(f following) following {
	id := f.binding.Container.ContainerID
	key := ContainerKey(id)
	document, err := a.get(key)
	if err != nil {
		return f.unreadable(key, err, BindingKey(a.host, f.binding.PortID))
	}
	said, faults := document.Container(id)
	if len(faults.Form) > 0 {
		return f.end(spec.Unknown, key, faults.Form[0].Error())
	}
	f.binding.Container.ServiceType = said.ServiceType
	f.binding.Container.GroupID = said.GroupID
	f.binding.Container.ConfigurationID = said.ConfigurationID
	if len(said.Missing) > 0 {
		return f.end(spec.Unknown, key, "not set: "+strings.Join(said.Missing, ", ")+": allowed: all three of type, group and configuration")
	}
	if len(faults.Value) > 0 {
		return f.end(spec.Refused, key, faults.Value[0].Error())
	}
	// Either side may be the one that is out of date, and the other binding may be the right one: nothing is done about it.
	if said.PortID != "" && said.PortID != f.binding.PortID {
		fault := &spec.Fault{Key: "portId", Value: string(said.PortID), Allowed: fmt.Sprintf("%s, the port whose binding names the container, or none", f.binding.PortID)}
		return f.end(spec.Unknown, key, fault.Error())
	}
	return a.followConfiguration(f)
}

func (a *assembly) followConfiguration(f following) following {
	id := f.binding.Container.ConfigurationID
	key := ConfigurationKey(id)
	document, err := a.get(key)
	if err != nil {
		f.binding.Misconfigured = !errors.Is(err, ErrAbsent)
		return f.unreadable(key, err, ContainerKey(f.binding.Container.ContainerID))
	}
	configuration, faults := document.Configuration(id)
	if len(faults.Form) > 0 {
		f.binding.Misconfigured = true
		return f.end(spec.Unknown, key, faults.Form[0].Error())
	}
	f.binding.Configuration = configuration
	return f
}

func (f following) end(reading spec.Reading, key Key, text string) following {
	f.binding.Reading = reading
	f.fault = &Fault{key, text}
	return f
}

// unreadable ends at an object that is missing or cannot be read; by names it.
func (f following) unreadable(key Key, err error, by Key) following {
	f.missing = errors.Is(err, ErrAbsent)
	text := err.Error()
	if f.missing {
		text += ", and " + string(by) + " names it"
	}
	return f.end(spec.Unknown, key, text)
}
