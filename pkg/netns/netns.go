// Package netns keeps named network namespaces that carry an owner tag, and the veths of the host that carry one.
//
// A namespace is ours when it has the supervisor's owner tag for its name (spec.Owner.Ours). It gets the tag before it gets
// the name, so a crash at any point leaves nothing untagged: at most a plain file, which has no namespace behind it and is
// replaced. Whatever lacks the tag is another's: it is reported, never changed or removed.
//
// There are two places for the tag. Every namespace has it as the link alias of its lo, where `ip -n NAME link` shows it.
// The programs in a namespace that is owned by a user namespace of a container can change that alias, or rename lo. For such
// a namespace the kernel returns the owner's user id, which the programs cannot change, and the registry of user ids has the
// tag (Dir.WithUsers). The alias counts where the registry does not know the user id, and where the namespace is owned by the
// user namespace of this program.
//
// What cannot be read is an error, never absent: a netlink dump that was interrupted is read again a few times, a socket
// that does not answer times out. No call leaves a thread of the program in another namespace.
//
// The package neither looks into a namespace beyond its lo nor makes anything in it; it does not know which containers
// are wanted.
package netns

import (
	"errors"
	"log/slog"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Directory is where `ip netns` and systemd's NetworkNamespacePath= users keep named namespaces.
var Directory = Dir{path: "/run/netns"}

// Dir is a directory of named namespaces.
type Dir struct {
	path  string
	users Users
	log   *slog.Logger // nil: none
}

// WithLog returns the directory with a logger for warnings.
func (d Dir) WithLog(log *slog.Logger) Dir {
	d.log = log
	return d
}

// Users returns the owner tag of the container that has a user id, and whether one has it.
type Users func(id uint32) (spec.Owner, bool, error)

// WithUsers returns the directory with a registry of user ids. An error of the registry makes the state of a namespace
// Unknown. Without a registry no user id belongs to a container.
func (d Dir) WithUsers(users Users) Dir {
	d.users = users
	return d
}

// Path is where the namespace of that name is, whether or not there is one.
func (d Dir) Path(name spec.Name) string {
	return d.path + "/" + string(name)
}

// State is the ownership of a name.
type State int

// The zero State is Unknown, so that what was not read is never taken for absent.
const (
	Unknown State = iota // could not be read
	Absent               // nothing has the name
	Stale                // a plain file where a namespace should be: left by a crash, or a program is about to mount on it
	Foreign              // another's: no tag, or not ours for this name
	Ours                 // carries our tag for this name
)

// String is the word of the state.
func (s State) String() string {
	return [...]string{"unknown", "absent", "stale", "foreign", "ours"}[s]
}

// The states of the world that callers branch on.
var (
	ErrExists  = errors.New("a namespace of that name exists")
	ErrForeign = errors.New("it does not carry our owner tag")
)

// Namespace is what stands under a name. Owner is the tag that was read, a foreign one too (made by hand, say); it is
// zero without a tag. Err says why the state is Unknown.
type Namespace struct {
	Name  spec.Name
	State State
	Owner spec.Owner
	Err   error
}

// judge says whose something is that carries this alias under this name.
func judge(name spec.Name, alias string) (State, spec.Owner) {
	owner, _ := spec.ParseOwner(alias) // else the zero owner, which is not ours
	return stateFor(name, owner), owner
}

// stateFor says whose something is that has this owner tag under this name.
func stateFor(name spec.Name, owner spec.Owner) State {
	if owner.Ours(name) {
		return Ours
	}
	return Foreign
}
