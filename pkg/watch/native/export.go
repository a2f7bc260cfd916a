package native

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Incomplete is the error of an export that left out objects. The objects returned with it are valid.
type Incomplete struct {
	Faults []Fault // what was left out and why; at least one
}

// Error returns the first fault and the number of further faults.
func (i *Incomplete) Error() string {
	text := i.Faults[0].String()
	if more := len(i.Faults) - 1; more > 0 {
		text += fmt.Sprintf(" (and %d more)", more)
	}
	return text
}

// IncompleteUnless returns an *Incomplete with the faults, or nil if there are none.
func IncompleteUnless(faults []Fault) error {
	if len(faults) == 0 {
		return nil
	}
	return &Incomplete{faults}
}

// Exportable returns the objects that an import accepts, sorted by key, and the faults of the others. It leaves out
// objects with faults, and objects that refer to a key in leftOut or to an object that it leaves out. leftOut is nil
// for objects that were converted from another model. For these, Exportable also requires what validate checks: each
// reference leads to an object, each name and each container is bound only once, and each bound container is complete.
func Exportable(objects []spec.Object, leftOut map[Key]bool) ([]spec.Object, []Fault) {
	e := &exportable{documents: map[Key]*Document{}, leftOut: leftOut}
	for _, object := range objects {
		e.add(Key(object.Key), object.Value)
	}
	for e.prune() {
	}
	if leftOut == nil {
		e.pruneBindings()
	}
	var exported []spec.Object
	for _, key := range e.keys() {
		exported = append(exported, spec.Object{Key: string(key), Value: e.documents[key].JSON})
	}
	return exported, e.faults
}

// exportable has the objects that are not left out yet.
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

// add adds an object, or leaves it out if it has faults itself.
func (e *exportable) add(key Key, value json.RawMessage) {
	check, err := ParseKey(string(key))
	if err != nil {
		e.leaveOut(key, err.Error())
		return
	}
	document, err := Parse(value, JSON)
	if err != nil {
		e.leaveOut(key, err.Error())
		return
	}
	if faults := check(document).All(); len(faults) > 0 {
		for _, fault := range faults {
			e.leaveOut(key, fault.Error())
		}
		return
	}
	e.documents[key] = document
}

// leaveOut removes an object and adds the fault.
func (e *exportable) leaveOut(key Key, text string) {
	e.faults = append(e.faults, Fault{key, text})
	delete(e.documents, key)
	if e.leftOut != nil {
		e.leftOut[key] = true
	}
}

func (e *exportable) isMissing(key Key) bool {
	if e.leftOut != nil {
		return e.leftOut[key]
	}
	return e.documents[key] == nil
}

// prune leaves out the objects that refer to an object that is left out. It reports whether there were any.
func (e *exportable) prune() (changed bool) {
	for _, key := range e.keys() {
		if strings.HasPrefix(string(key), Groups+"/") {
			changed = e.pruneGroup(key) || changed
			continue
		}
		for _, r := range references(key, e.documents[key]) {
			if e.isMissing(r.to) {
				e.leaveOut(key, fmt.Sprintf("%s names %s, which is not exported", r.member, r.to))
				changed = true
				break
			}
		}
	}
	return changed
}

// pruneGroup removes hosts that are left out from a group, and keeps the group.
func (e *exportable) pruneGroup(key Key) bool {
	group, _ := e.documents[key].Group(spec.GroupID(lastPart(key)))
	hosts := []spec.HostID{}
	for _, host := range group.HostIDs {
		if e.isMissing(HostKey(host)) {
			text := fmt.Sprintf("hostIds names %s, which is not exported: the host is left out of the group",
				HostKey(host))
			e.faults = append(e.faults, Fault{key, text})
			continue
		}
		hosts = append(hosts, host)
	}
	if len(hosts) == len(group.HostIDs) {
		return false
	}
	list, err := json.Marshal(hosts)
	if err != nil {
		panic(err) // cannot happen: marshaling a list of strings does not fail
	}
	document, err := Parse(e.documents[key].With("hostIds", list), JSON)
	if err != nil {
		e.leaveOut(key, err.Error()) // cannot happen: the document has become shorter
		return true
	}
	e.documents[key] = document
	return true
}

// reference is a reference from one object to another, which it needs.
type reference struct {
	member string
	to     Key
}

// references returns the references of an object. The object is exported only if all these other objects are exported.
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

// pruneBindings leaves out bindings of containers that are incomplete or name another port. Of two bindings for one
// name of a host, or for one container, it leaves out the second, where bindings of containers come before plain ports.
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
				text = e.mismatch(b, port)
			}
			switch {
			case text != "":
			case b.InterfaceName != "" && names[name] != "":
				text = fmt.Sprintf("interfaceName %s is also that of %s", spec.Quote(string(b.InterfaceName)),
					names[name])
			case bound && containers[b.ContainerID] != "":
				id := spec.Quote(string(b.ContainerID))
				text = fmt.Sprintf("containerId %s is also that of %s", id, containers[b.ContainerID])
			}
			if text != "" {
				e.leaveOut(key, text)
				continue
			}
			names[name], containers[b.ContainerID] = key, key
		}
	}
}

// mismatch returns why a binding and its container do not match, or "" if they do.
func (e *exportable) mismatch(b Binding, port spec.PortID) string {
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
