package health

import (
	"errors"
	"fmt"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// sender is the information of the kernel about the process that sent a datagram.
type sender struct {
	pid int           // in the supervisor's pid namespace; 0 if the process is not visible there
	uid uint32        // in the supervisor's user namespace
	at  time.Duration // when the datagram was sent, since boot
}

// scope is the set of containers that a sender may report for: the one of this name, or every container.
type scope struct {
	name  spec.Name
	every bool
}

func (s scope) includes(name spec.Name) bool { return s.every || s.name == name }

// decide returns the containers that a sender may report for. owner is the container that its user id belongs to, or ""
// if it belongs to none. p is the process that has the sender's pid now.
//
//   - A process in the unit of a container reports for that container only, whatever its capabilities. It must be root
//     or have the user id of that container.
//   - Outside of all units of containers, a process with the user id of a container reports for that container.
//   - Outside of svc.slice, root may report for every container: an operator, a verb, a plugin's own service. Such a
//     process can stop and replace any container anyway.
//
// A user id alone is not enough: a root daemon that has CAP_SETUID can send with any user id.
func decide(from sender, owner spec.Name, p process) (scope, error) {
	group := groupOf(p.groups)
	switch {
	case p.started > from.at:
		return scope{}, errGone // the pid now belongs to a process that started later
	case from.uid != 0 && owner == "":
		return scope{}, fmt.Errorf("user id %d belongs to no container", from.uid)
	case group.container != "" && owner != "" && group.container != owner:
		return scope{}, fmt.Errorf("the sender is in a unit of container %s and has the user id of %s",
			group.container, owner)
	case group.container != "":
		return scope{name: group.container}, nil
	case p.exiting: // control groups of version 1 show an exiting process in the root, so its unit is unknown
		return scope{}, errGone
	case owner != "":
		return scope{name: owner}, nil
	case group.inSlice:
		return scope{}, fmt.Errorf("the sender is in %s and in no unit of a container", slice)
	default:
		return scope{every: true}, nil
	}
}

// errGone means that the sender has ended and cannot be identified any more.
var errGone = errors.New("the sender ended before its control group was read")
