package reconcile

import (
	"fmt"
	"maps"
	"reflect"
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
}

func sortClaims(desired *spec.Desired) *claims {
	c := &claims{
		unread:      desired.Unread,
		byName:      map[spec.Name][]*spec.Binding{},
		byContainer: map[spec.ContainerID][]*spec.Binding{},
		unreadPorts: map[spec.PortID]string{},
	}
	bindings := make([]*spec.Binding, 0, len(desired.Bindings))
	for i := range desired.Bindings {
		bindings = append(bindings, &desired.Bindings[i])
	}
	slices.SortFunc(bindings, func(a, b *spec.Binding) int { return strings.Compare(string(a.PortID), string(b.PortID)) })
	for _, b := range bindings {
		switch name := b.Container.InterfaceName; {
		case b.Reading == spec.Unread:
			c.anyUnread = true
			c.unreadPorts[b.PortID] = b.Fault
		case name == "":
			c.refused = append(c.refused, b)
		default:
			c.byName[name] = append(c.byName[name], b)
			c.byContainer[b.Container.ContainerID] = append(c.byContainer[b.Container.ContainerID], b)
		}
	}
	return c
}

// changedNames lists the names whose bindings differ between two sets, and those that share a container id with one that
// does. nil means that any name may be concerned.
func changedNames(was, is *claims) []spec.Name {
	if was == nil || was.unread != is.unread || was.anyUnread != is.anyUnread ||
		!maps.Equal(was.unreadPorts, is.unreadPorts) {
		return nil
	}
	names := map[spec.Name]bool{}
	differ := func(a, b *claims) {
		for name, bindings := range a.byName {
			if slices.EqualFunc(bindings, b.byName[name], func(x, y *spec.Binding) bool { return reflect.DeepEqual(x, y) }) {
				continue
			}
			names[name] = true
			for _, binding := range bindings {
				for _, rival := range a.byContainer[binding.Container.ContainerID] {
					names[rival.Container.InterfaceName] = true
				}
			}
		}
	}
	differ(was, is)
	differ(is, was)
	return slices.AppendSeq(make([]spec.Name, 0, len(names)), maps.Keys(names))
}

// holder is what the record of a name says it holds. One of phase `deleted` holds it for its own binding alone: while a
// container is healed nobody takes its name, port or id, and nobody waits for it once it is not wanted.
type holder struct {
	port      spec.PortID
	container spec.ContainerID
	deleted   bool
}

// claim is what one name's worker goes by.
type claim struct {
	binding *spec.Binding // nil: not wanted
	unread  string        // why it is not known whether the name is wanted, or what for
	taken   string        // who has its port or container id
}

// claim finds the binding that has the name. Of two bindings for one name the one that has the record keeps it, else the
// lowest port id wins; likewise of two names for one container id.
func (c *claims) claim(name spec.Name, holders map[spec.Name]holder) claim {
	if c.unread != "" {
		return claim{unread: c.unread}
	}
	own, recorded := holders[name]
	if reason, unread := c.unreadPorts[own.port]; recorded && unread {
		return claim{unread: reason}
	}
	bindings := c.byName[name]
	if len(bindings) == 0 {
		return claim{}
	}
	winner := bindings[0]
	for _, b := range bindings {
		if recorded && b.PortID == own.port {
			winner = b
		}
	}
	if winner.Reading != spec.Whole {
		return claim{binding: winner, unread: winner.Fault}
	}
	return claim{binding: winner, taken: c.takenFrom(winner, holders)}
}

// takenFrom says who else has the port or the container id of a binding, or "". Of several it is always the same: the one with
// the lowest name, or port.
func (c *claims) takenFrom(b *spec.Binding, holders map[spec.Name]holder) string {
	name := b.Container.InterfaceName
	taken, first := "", spec.Name("")
	for other, h := range holders {
		switch {
		case other == name || taken != "" && first < other || h.deleted && !c.wants(other, h):
		case h.container == b.Container.ContainerID:
			taken, first = fmt.Sprintf("container id %s is held by %s", h.container, other), other
		case h.port == b.PortID:
			taken, first = fmt.Sprintf("port %s is held by %s", h.port, other), other
		}
	}
	if taken != "" {
		return taken
	}
	if holders[name].container == b.Container.ContainerID {
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
type stray struct {
	binding *spec.Binding
	reason  string
}

// strays lists them, given who wins each name.
func (c *claims) strays(holders map[spec.Name]holder) []stray {
	var list []stray
	for _, b := range c.refused {
		list = append(list, stray{b, b.Fault})
	}
	for name, bindings := range c.byName {
		winner := c.claim(name, holders).binding
		if winner == nil {
			continue
		}
		for _, b := range bindings {
			if b != winner {
				list = append(list, stray{b, fmt.Sprintf("name %s is taken by port %s", name, winner.PortID)})
			}
		}
	}
	slices.SortFunc(list, func(a, b stray) int { return strings.Compare(string(a.binding.PortID), string(b.binding.PortID)) })
	return list
}
