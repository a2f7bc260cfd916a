package native

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Incomplete is the error of an export that left something out. The objects that are returned beside it are good.
type Incomplete struct {
	Faults []Fault // what was left out and why; at least one
}

// Error names the first fault, and how many more there are.
func (i *Incomplete) Error() string {
	text := i.Faults[0].String()
	if more := len(i.Faults) - 1; more > 0 {
		text += fmt.Sprintf(" (and %d more)", more)
	}
	return text
}

// IncompleteUnless returns an *Incomplete, or nil where there are no faults.
func IncompleteUnless(faults []Fault) error {
	if len(faults) == 0 {
		return nil
	}
	return &Incomplete{faults}
}

// Exportable returns those of some objects that an import takes, sorted by key, and the faults of the others. It leaves out an
// object that is not good itself, and an object that refers to one of the keys in leftOut, or to another one that is left out.
// leftOut is nil for objects that were made of another model: then each reference must lead to an object, a name and a container
// must be bound once, and a container that is bound must be complete, so that the objects pass validate.
func Exportable(objects []spec.Object, leftOut map[Key]bool) ([]spec.Object, []Fault) {
	e := &exportable{documents: map[Key]*Document{}, leftOut: leftOut}
	for _, object := range objects {
		e.take(Key(object.Key), object.Value)
	}
	for e.pruned() {
	}
	if leftOut == nil {
		e.pruneBindings()
	}
	var kept []spec.Object
	for _, key := range e.keys() {
		kept = append(kept, spec.Object{Key: string(key), Value: e.documents[key].JSON})
	}
	return kept, e.faults
}

// exportable is what is left of the objects.
type exportable struct {
	documents map[Key]*Document
	leftOut   map[Key]bool // nil: every key without an object
	faults    []Fault
}

func (e *exportable) keys() []Key {
	keys := make([]Key, 0, len(e.documents))
	for key := range e.documents {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// take takes an object that is good itself.
func (e *exportable) take(key Key, value json.RawMessage) {
	check, err := ParseKey(string(key))
	if err != nil {
		e.leave(key, err.Error())
		return
	}
	document, err := Parse(value, JSON)
	if err != nil {
		e.leave(key, err.Error())
		return
	}
	if faults := check(document).All(); len(faults) > 0 {
		for _, fault := range faults {
			e.leave(key, fault.Error())
		}
		return
	}
	e.documents[key] = document
}

// leave leaves an object out.
func (e *exportable) leave(key Key, text string) {
	e.faults = append(e.faults, Fault{key, text})
	delete(e.documents, key)
	if e.leftOut != nil {
		e.leftOut[key] = true
	}
}

func (e *exportable) dangles(key Key) bool {
	if e.leftOut != nil {
		return e.leftOut[key]
	}
	return e.documents[key] == nil
}

// pruned leaves out what refers to an object that is left out, and reports whether there was something.
func (e *exportable) pruned() (changed bool) {
	for _, key := range e.keys() {
		if strings.HasPrefix(string(key), Groups+"/") {
			changed = e.pruneGroup(key) || changed
			continue
		}
		for _, r := range references(key, e.documents[key]) {
			if e.dangles(r.to) {
				e.leave(key, fmt.Sprintf("%s names %s, which is not exported", r.member, r.to))
				changed = true
				break
			}
		}
	}
	return changed
}

// pruneGroup takes the hosts out of a group that are left out: the group goes on without them.
func (e *exportable) pruneGroup(key Key) bool {
	group, _ := e.documents[key].Group(spec.GroupID(lastPart(key)))
	hosts := []spec.HostID{}
	for _, host := range group.HostIDs {
		if e.dangles(HostKey(host)) {
			e.faults = append(e.faults, Fault{key, fmt.Sprintf("hostIds names %s, which is not exported: the host is left out of the group", HostKey(host))})
			continue
		}
		hosts = append(hosts, host)
	}
	if len(hosts) == len(group.HostIDs) {
		return false
	}
	list, err := json.Marshal(hosts)
	if err != nil {
		panic(err) // a list of strings
	}
	document, err := Parse(e.documents[key].With("hostIds", list), JSON)
	if err != nil {
		e.leave(key, err.Error()) // cannot be: it has become shorter
		return true
	}
	e.documents[key] = document
	return true
}

// reference is one object that another one needs.
type reference struct {
	member string
	to     Key
}

// references are the objects without which an object is not exported.
func references(key Key, document *Document) (list []reference) {
	parts := strings.Split(string(key), "/")
	id := lastPart(key)
	switch {
	case parts[0] == Bindings:
		list = append(list, reference{"hostId", HostKey(spec.HostID(parts[1]))})
		if b, _ := document.Binding(spec.HostID(parts[1]), spec.PortID(id)); b.ContainerID != "" {
			list = append(list, reference{"containerId", ContainerKey(b.ContainerID)})
		}
	case parts[0] == Containers:
		c, _ := document.Container(spec.ContainerID(id))
		if c.GroupID != "" {
			list = append(list, reference{"groupId", GroupKey(c.GroupID)})
		}
		if c.ConfigurationID != "" {
			list = append(list, reference{"configurationId", ConfigurationKey(c.ConfigurationID)})
		}
	case len(parts) == 3 && parts[0] == Config:
		list = append(list, reference{"the key", HostKey(spec.HostID(id))})
	}
	return list
}

func lastPart(key Key) string {
	return string(key[strings.LastIndexByte(string(key), '/')+1:])
}

// pruneBindings leaves out bindings of containers that are not complete or name another port, and of two bindings for one name of a
// host, or for one container, the second. Bindings of containers come before plain ports.
func (e *exportable) pruneBindings() {
	names, containers := map[string]Key{}, map[spec.ContainerID]Key{}
	for _, bound := range []bool{true, false} {
		for _, key := range e.keys() {
			parts := strings.Split(string(key), "/")
			if parts[0] != Bindings {
				continue
			}
			port := spec.PortID(lastPart(key))
			b, _ := e.documents[key].Binding(spec.HostID(parts[1]), port)
			if b.Bound != bound {
				continue
			}
			name := parts[1] + "/" + string(b.InterfaceName)
			text := ""
			if bound {
				text = e.unfit(b, port)
			}
			switch {
			case text != "":
			case b.InterfaceName != "" && names[name] != "":
				text = fmt.Sprintf("interfaceName %s is also that of %s", spec.Quote(string(b.InterfaceName)), names[name])
			case bound && containers[b.ContainerID] != "":
				text = fmt.Sprintf("containerId %s is also that of %s", spec.Quote(string(b.ContainerID)), containers[b.ContainerID])
			}
			if text != "" {
				e.leave(key, text)
				continue
			}
			names[name], containers[b.ContainerID] = key, key
		}
	}
}

// unfit returns why a binding and its container do not fit, "" if they do.
func (e *exportable) unfit(b Binding, port spec.PortID) string {
	key := ContainerKey(b.ContainerID)
	c, _ := e.documents[key].Container(b.ContainerID)
	switch {
	case len(c.Missing) > 0:
		return fmt.Sprintf("containerId names %s, which has no %s", key, strings.Join(c.Missing, ", "))
	case c.PortID != "" && c.PortID != port:
		return fmt.Sprintf("containerId names %s, whose portId is %s", key, spec.Quote(string(c.PortID)))
	}
	return ""
}
