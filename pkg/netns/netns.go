// Package netns makes, observes and removes named network namespaces with an owner tag, and observes and removes veths
// of the host with an owner tag.
//
// A namespace is ours if it has the supervisor's owner tag for its name (spec.Owner.Ours). It gets the tag before it
// gets the name, so a crash at any point leaves no untagged namespace: at most a plain file, which is replaced later. A
// namespace or link without our tag belongs to another program. The package reports it, and never changes or removes
// it.
//
// The tag is stored in two places. Every namespace has it as the link alias of its lo, where `ip -n NAME link` shows
// it. If the namespace is owned by a user namespace of a container, programs in it can change that alias or rename lo.
// For such a namespace the kernel returns the owner's user id, which those programs cannot change, and the registry of
// user ids has the tag (Dir.WithUsers). The alias decides if the registry does not know the user id, and if the
// namespace is owned by the user namespace of this program.
//
// If something cannot be read, the result is an error and never Absent. An interrupted netlink dump is repeated a few
// times, and a netlink socket that does not answer times out. No call leaves a thread of the program in another
// namespace.
//
// Within a namespace, the package accesses lo only. It does not know which containers are desired.
package netns

import (
	"errors"
	"log/slog"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Directory is the directory of named namespaces that `ip netns` and units with NetworkNamespacePath= use.
var Directory = Dir{directory: directory{path: "/run/netns"}}

// Dir is a directory of named namespaces.
type Dir struct {
	directory directory
	users     Users
}

// WithLog returns a copy of d that logs warnings to log.
func (d Dir) WithLog(log *slog.Logger) Dir {
	d.directory.log = log
	return d
}

// Users looks up a user id in the registry. It returns the owner tag of the container that has the id, and false if no
// container has it.
type Users func(id uint32) (spec.Owner, bool, error)

// WithUsers returns a copy of d that uses a registry of user ids. If the registry returns an error, the state of the
// namespace is Unknown. Without a registry no user id belongs to a container.
func (d Dir) WithUsers(users Users) Dir {
	d.users = users
	return d
}

// Path returns the path of the namespace of that name, whether or not it exists.
func (d Dir) Path(name spec.Name) string {
	return d.directory.file(name)
}

// State is the state of a name: whether a namespace or link has it, and whether that is ours.
type State int

// The zero State is Unknown, so that a state that was not read is never mistaken for Absent.
const (
	Unknown State = iota // could not be read
	Absent               // there is nothing with this name
	Stale                // a plain file instead of a namespace: left by a crash, or a program is about to mount on it
	Foreign              // it has no owner tag, or not our tag for this name
	Ours                 // it has our owner tag for this name
)

// String returns the state in lower case.
func (s State) String() string {
	return [...]string{"unknown", "absent", "stale", "foreign", "ours"}[s]
}

// The errors that callers distinguish.
var (
	ErrExists  = errors.New("a namespace of that name exists")
	ErrForeign = errors.New("it does not carry our owner tag")
)

// Namespace is the observed state of a name. Owner is the owner tag that was read, even if the namespace is Foreign
// (made by `svc-supervisor exec`, for example), and zero if there is no tag. Err is the reason why the state is
// Unknown.
type Namespace struct {
	Name  spec.Name
	State State
	Owner spec.Owner
	Err   error
}

// classify returns the state and the owner of a namespace or link with this name and this alias.
func classify(name spec.Name, alias string) (State, spec.Owner) {
	owner, _ := spec.ParseOwner(alias) // if the alias is not an owner tag, owner is zero, which is not ours
	return stateFor(name, owner), owner
}

// stateFor returns the state of a namespace or link with this name and this owner tag.
func stateFor(name spec.Name, owner spec.Owner) State {
	if owner.Ours(name) {
		return Ours
	}
	return Foreign
}
