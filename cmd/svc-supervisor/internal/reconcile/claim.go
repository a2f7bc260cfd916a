package reconcile

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/observe"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// notReadYet is the reason why everything is unknown until the NSDB has been read for the first time.
const notReadYet = "the NSDB was not read yet"

// claims indexes the bindings of the desired state by name and by container id. Which of several bindings gets a name
// also depends on the records: see the method claim.
type claims struct {
	unread      string                               // why the whole host could not be read
	anyUnread   bool                                 // at least one binding could not be read
	byName      map[spec.Name][]*spec.Binding        // sorted by port id
	byContainer map[spec.ContainerID][]*spec.Binding // sorted by port id
	unreadPorts map[spec.PortID]string               // the reason for each binding that could not be read
	refused     []*spec.Binding                      // bindings without a valid name, which no worker handles
	duplicates  map[spec.PortID]string               // notes of bindings that share addresses with another one
}

func sortClaims(desired *spec.Desired) *claims {
	c := &claims{
		unread:      desired.Unread,
		byName:      make(map[spec.Name][]*spec.Binding, len(desired.Bindings)),
		byContainer: make(map[spec.ContainerID][]*spec.Binding, len(desired.Bindings)),
		unreadPorts: map[spec.PortID]string{},
	}
	bindings := make([]*spec.Binding, 0, len(desired.Bindings))
	for i := range desired.Bindings {
		bindings = append(bindings, &desired.Bindings[i])
	}
	slices.SortFunc(bindings, func(a, b *spec.Binding) int {
		return strings.Compare(string(a.PortID), string(b.PortID))
	})
	for i, b := range bindings {
		// A slice of the shared array avoids an allocation, since most lists have one binding.
		alone := bindings[i : i+1 : i+1]
		switch name := b.Container.InterfaceName; {
		case b.Reading == spec.Unread:
			c.anyUnread = true
			c.unreadPorts[b.PortID] = b.Fault
		case name == "":
			c.refused = append(c.refused, b)
		default:
			c.byName[name] = joined(c.byName[name], alone)
			c.byContainer[b.Container.ContainerID] = joined(c.byContainer[b.Container.ContainerID], alone)
		}
	}
	return c
}

// allRead reports whether the host and every binding could be read.
func (c *claims) allRead() bool { return c != nil && c.unread == "" && !c.anyUnread }

// notes returns the messages that are shown for a binding while its container runs.
func (c *claims) notes(b *spec.Binding) (notes []string) {
	for _, note := range []string{b.Note, c.duplicates[b.PortID]} {
		if note != "" {
			notes = append(notes, note)
		}
	}
	return notes
}

// joined returns the concatenation of both lists.
func joined(list, more []*spec.Binding) []*spec.Binding {
	if list == nil {
		return more
	}
	return append(list, more...)
}

// changedNames returns the names whose bindings differ between two desired states, and the names that share
// a container id with one of these. It returns nil if every name may be affected.
func changedNames(was, is *claims) []spec.Name {
	if was == nil || was.unread != is.unread || was.anyUnread != is.anyUnread ||
		!maps.Equal(was.unreadPorts, is.unreadPorts) {
		return nil
	}
	names := map[spec.Name]bool{}
	same := func(a, b *spec.Binding) bool {
		return a.Equal(b) && was.duplicates[a.PortID] == is.duplicates[b.PortID]
	}
	for name, bindings := range was.byName {
		if !slices.EqualFunc(bindings, is.byName[name], same) {
			names[name] = true
		}
	}
	for name := range is.byName {
		if was.byName[name] == nil {
			names[name] = true
		}
	}
	for _, name := range slices.AppendSeq(make([]spec.Name, 0, len(names)), maps.Keys(names)) {
		for _, c := range []*claims{was, is} {
			for _, binding := range c.byName[name] {
				for _, rival := range c.byContainer[binding.Container.ContainerID] {
					names[rival.Container.InterfaceName] = true
				}
			}
		}
	}
	return slices.AppendSeq(make([]spec.Name, 0, len(names)), maps.Keys(names))
}

// holder is the port and container id of a name's record. If the record has phase `deleted`, they are reserved only
// while the name's own binding asks for both, so that no other name gets them while the container is repaired.
type holder struct {
	port      spec.PortID
	container spec.ContainerID
	deleted   bool
}

// holders indexes what the records hold, so that the cost of observing one name does not grow with the number of names.
type holders struct {
	byName      map[spec.Name]holder
	byContainer map[spec.ContainerID]map[spec.Name]bool
	byPort      map[spec.PortID]map[spec.Name]bool
}

func newHolders() *holders {
	return &holders{
		byName:      map[spec.Name]holder{},
		byContainer: map[spec.ContainerID]map[spec.Name]bool{},
		byPort:      map[spec.PortID]map[spec.Name]bool{},
	}
}

// set replaces the holder of a name.
func (h *holders) set(name spec.Name, current holder) {
	h.remove(name)
	h.byName[name] = current
	addTo(h.byContainer, current.container, name)
	addTo(h.byPort, current.port, name)
}

func (h *holders) remove(name spec.Name) {
	was, ok := h.byName[name]
	if !ok {
		return
	}
	delete(h.byName, name)
	removeFrom(h.byContainer, was.container, name)
	removeFrom(h.byPort, was.port, name)
}

func addTo[K comparable](index map[K]map[spec.Name]bool, key K, name spec.Name) {
	if index[key] == nil {
		index[key] = map[spec.Name]bool{}
	}
	index[key][name] = true
}

func removeFrom[K comparable](index map[K]map[spec.Name]bool, key K, name spec.Name) {
	delete(index[key], name)
	if len(index[key]) == 0 {
		delete(index, key)
	}
}

// claim returns the binding that gets the name. If two bindings have the same name, the one that matches the record
// gets it, and without a record the one with the lowest port id. The same holds for two names with one container id.
func (c *claims) claim(name spec.Name, holders *holders) observe.Claim {
	if c.unread != "" {
		return observe.Claim{Unread: c.unread}
	}
	own, recorded := holders.byName[name]
	if reason, unread := c.unreadPorts[own.port]; recorded && unread {
		return observe.Claim{Unread: reason}
	}
	winner := c.winner(name, holders)
	if winner == nil {
		return observe.Claim{}
	}
	is := observe.Claim{Binding: winner, Taken: c.takenFrom(winner, holders)}
	switch {
	case winner.Reading == spec.Complete:
	case winner.ConfigurationUnreadable:
		is.Refused = winner.Fault
	default:
		return observe.Claim{Binding: winner, Unread: winner.Fault}
	}
	return is
}

// winner returns the binding that gets the name, or nil if no binding has this name.
func (c *claims) winner(name spec.Name, holders *holders) *spec.Binding {
	bindings := c.byName[name]
	if len(bindings) == 0 {
		return nil
	}
	if own, recorded := holders.byName[name]; recorded {
		for _, b := range bindings {
			if b.PortID == own.port {
				return b
			}
		}
	}
	return bindings[0]
}

// takenFrom describes which other name has the port or the container id of a binding. It returns "" if none has. If
// several have, it always chooses the lowest name, or the lowest port, so that the reason does not change from call to
// call.
func (c *claims) takenFrom(b *spec.Binding, holders *holders) string {
	name := b.Container.InterfaceName
	taken, first := "", spec.Name("")
	byContainer, byPort := holders.byContainer[b.Container.ContainerID], holders.byPort[b.PortID]
	for _, others := range []map[spec.Name]bool{byContainer, byPort} {
		for other := range others {
			h := holders.byName[other]
			switch {
			case other == name || taken != "" && first <= other || h.deleted && !c.wants(other, h):
			case h.container == b.Container.ContainerID:
				taken, first = fmt.Sprintf("container id %s is held by %s", h.container, other), other
			default:
				taken, first = fmt.Sprintf("port %s is held by %s", h.port, other), other
			}
		}
	}
	if taken != "" {
		return taken
	}
	if holders.byName[name].container == b.Container.ContainerID {
		return ""
	}
	for _, rival := range c.byContainer[b.Container.ContainerID] {
		// A binding that does not get its name does not get the container id either.
		if rival.PortID < b.PortID && rival.Container.InterfaceName != name &&
			c.winner(rival.Container.InterfaceName, holders) == rival {
			return fmt.Sprintf("container id %s is wanted by %s of port %s", b.Container.ContainerID,
				rival.Container.InterfaceName, rival.PortID)
		}
	}
	return ""
}

// wants reports whether a binding of the name still asks for the port and container id of its record.
func (c *claims) wants(name spec.Name, h holder) bool {
	return slices.ContainsFunc(c.byName[name], func(b *spec.Binding) bool {
		return b.PortID == h.port && b.Container.ContainerID == h.container
	})
}

// rejection is a binding that no worker handles: another binding has its name, or its name is invalid.
type rejection struct {
	binding *spec.Binding
	reason  string
}

// rejected returns the bindings that no worker handles.
func (c *claims) rejected(holders *holders) []rejection {
	var list []rejection
	for _, b := range c.refused {
		list = append(list, rejection{b, b.Fault})
	}
	for name, bindings := range c.byName {
		if len(bindings) < 2 || c.unread != "" {
			continue
		}
		if own, recorded := holders.byName[name]; recorded && c.unreadPorts[own.port] != "" {
			continue // the unread binding may be the one that matches the record
		}
		winner := c.winner(name, holders)
		for _, b := range bindings {
			if b != winner {
				list = append(list, rejection{b, fmt.Sprintf("name %s is taken by port %s", name, winner.PortID)})
			}
		}
	}
	slices.SortFunc(list, func(a, b rejection) int {
		return strings.Compare(string(a.binding.PortID), string(b.binding.PortID))
	})
	return list
}
