package reconcile

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// notReadYet is why everything is unknown until the NSDB first answers.
const notReadYet = "the NSDB was not read yet"

// claims sorts the bindings of a desired set by what they claim: a name, a container id. It decides nothing that needs a
// record; claim does.
type claims struct {
	unread      string                               // why the whole host is unread
	anyUnread   bool                                 // some binding is
	byName      map[spec.Name][]*spec.Binding        // by port id
	byContainer map[spec.ContainerID][]*spec.Binding // by port id
	unreadPorts map[spec.PortID]string               // why
	refused     []*spec.Binding                      // no valid name: they reach no worker
	duplicates  map[spec.PortID]string               // notes of bindings whose addresses another one has
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
	slices.SortFunc(bindings, func(a, b *spec.Binding) int { return strings.Compare(string(a.PortID), string(b.PortID)) })
	for i, b := range bindings {
		alone := bindings[i : i+1 : i+1] // part of the shared array: most lists have one binding
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

// notes are what is shown of a binding while its container runs.
func (c *claims) notes(b *spec.Binding) (notes []string) {
	for _, note := range []string{b.Note, c.duplicates[b.PortID]} {
		if note != "" {
			notes = append(notes, note)
		}
	}
	return notes
}

// joined returns both lists as one.
func joined(list, more []*spec.Binding) []*spec.Binding {
	if list == nil {
		return more
	}
	return append(list, more...)
}

// changedNames lists the names whose bindings differ between two sets, and those that share a container id with one that
// does. nil means that any name may be concerned.
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

// holder is what the record of a name says it holds. One of phase `deleted` holds it for its own binding alone: while a
// container is healed nobody takes its name, port or id, and nobody waits for it once it is not wanted.
type holder struct {
	port      spec.PortID
	container spec.ContainerID
	deleted   bool
}

// holders is the index of what records hold. It is there so that the cost of a look at one name does not grow with the number
// of names.
type holders struct {
	byName      map[spec.Name]holder
	byContainer map[spec.ContainerID]map[spec.Name]bool
	byPort      map[spec.PortID]map[spec.Name]bool
}

func newHolders() *holders {
	return &holders{map[spec.Name]holder{}, map[spec.ContainerID]map[spec.Name]bool{}, map[spec.PortID]map[spec.Name]bool{}}
}

// set replaces what a name holds.
func (h *holders) set(name spec.Name, is holder) {
	h.remove(name)
	h.byName[name] = is
	addTo(h.byContainer, is.container, name)
	addTo(h.byPort, is.port, name)
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

// claim is what one name's worker goes by.
type claim struct {
	binding *spec.Binding // nil: not wanted
	unread  string        // why it is not known whether the name is wanted, or what for
	refused string        // why the configuration cannot be read; everything else is known
	taken   string        // who has its port or container id
}

// claim finds the binding that has the name. Of two bindings for one name the one that has the record keeps it, else the
// lowest port id wins; likewise of two names for one container id.
func (c *claims) claim(name spec.Name, holders *holders) claim {
	if c.unread != "" {
		return claim{unread: c.unread}
	}
	own, recorded := holders.byName[name]
	if reason, unread := c.unreadPorts[own.port]; recorded && unread {
		return claim{unread: reason}
	}
	winner := c.winner(name, holders)
	if winner == nil {
		return claim{}
	}
	is := claim{binding: winner, taken: c.takenFrom(winner, holders)}
	switch {
	case winner.Reading == spec.Whole:
	case winner.Misconfigured:
		is.refused = winner.Fault
	default:
		return claim{binding: winner, unread: winner.Fault}
	}
	return is
}

// winner returns the binding that has the name; nil if none asks for it.
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

// takenFrom says who else has the port or the container id of a binding, or "". Of several it is always the same: the one with
// the lowest name, or port.
func (c *claims) takenFrom(b *spec.Binding, holders *holders) string {
	name := b.Container.InterfaceName
	taken, first := "", spec.Name("")
	for _, others := range []map[spec.Name]bool{holders.byContainer[b.Container.ContainerID], holders.byPort[b.PortID]} {
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
		if rival.PortID < b.PortID && rival.Container.InterfaceName != name {
			return fmt.Sprintf("container id %s is wanted by %s of port %s", b.Container.ContainerID,
				rival.Container.InterfaceName, rival.PortID)
		}
	}
	return ""
}

// wants says whether a binding still asks for what the record of its name holds.
func (c *claims) wants(name spec.Name, h holder) bool {
	return slices.ContainsFunc(c.byName[name], func(b *spec.Binding) bool {
		return b.PortID == h.port && b.Container.ContainerID == h.container
	})
}

// stray is a binding that no worker stands for: it lost its name to another binding, or has none that is valid.
type rejection struct {
	binding *spec.Binding
	reason  string
}

// rejected lists them, given who wins each name.
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
			continue // the name's own binding may be the one that is unread
		}
		winner := c.winner(name, holders)
		for _, b := range bindings {
			if b != winner {
				list = append(list, rejection{b, fmt.Sprintf("name %s is taken by port %s", name, winner.PortID)})
			}
		}
	}
	slices.SortFunc(list, func(a, b rejection) int { return strings.Compare(string(a.binding.PortID), string(b.binding.PortID)) })
	return list
}
