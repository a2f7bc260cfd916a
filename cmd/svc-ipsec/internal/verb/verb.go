// Package verb implements the verbs ADD, CHECK, DEL, GC, STATUS and VALIDATE and the command ctl, with the help of the
// other internal packages. Package cni implements VERSION.
//
// It implements the contract of docs/executables.md: an ADD that fails removes what it created, ADD for a running
// container changes only what differs, CHECK changes nothing but its own record of traffic, DEL is idempotent and
// removes only what has the owner tag, and every error has a code. Apart from the systemd unit, no process outlives a
// verb.
//
// ADD, CHECK, DEL and GC hold the lock of a container from their first read to their last change of it.
package verb

import (
	"context"
	"io"
	"log/slog"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/libreswan"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/lookup"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/state"
	"github.com/svc-supervisor/svc-supervisor/internal/busyclock"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
	"github.com/svc-supervisor/svc-supervisor/pkg/userid"
)

// Time limits, by the clock of package busyclock. The supervisor's deadline is 30 s by default and follows the same
// clock. With these limits a verb answers before that deadline, even if it has to undo its changes.
const (
	verbLimit    = 20 * time.Second
	cleanupLimit = 9 * time.Second
	lockLimit    = 5 * time.Second
	gcLimit      = 4500 * time.Millisecond
)

// Executable implements the verbs on this host.
type Executable struct {
	Bus  *unit.Bus
	Root string // the directory with the containers' directories
	Self string // the file of this executable, which also starts the daemons (package launch)
	// Users is the registry of the containers' user IDs.
	Users Users
	Out   io.Writer
	Log   *slog.Logger
	// LookUp resolves the names of peers.
	LookUp lookup.Resolver
	// KeyDirectory is the path of the file that names the directory of key files: lookup.KeyDirectoryFile.
	KeyDirectory string
	// Context is canceled when this process is asked to end. A verb then undoes what it has changed.
	Context context.Context
}

// Users is the registry of user IDs on this host.
type Users interface {
	// Allocate returns the ID of a container. It is always the same for the same network and name.
	Allocate(context.Context, spec.Owner) (uint32, error)
	// Adopt registers an ID that a container already has. It returns an error if another container has it.
	Adopt(context.Context, spec.Owner, uint32) error
	// Release releases the ID of a container, unless stillUsed reports that a part of the container exists.
	Release(ctx context.Context, owner spec.Owner, stillUsed func(id uint32) (bool, error)) error
	// List returns all registrations. If some cannot be read, it returns the others and an error.
	List() ([]userid.Registration, error)
}

// daemon returns the daemon of a container.
func (e *Executable) daemon(tools libreswan.Tools, owner spec.Owner, dir string, s *state.State) *libreswan.Daemon {
	return &libreswan.Daemon{Tools: tools, Bus: e.Bus, Owner: owner, Dir: dir, Isolation: isolation(s)}
}

// budget returns a context for a verb, by the clock of package busyclock.
func (e *Executable) budget(limit time.Duration) (context.Context, context.CancelFunc) {
	return busyclock.WithTimeout(e.Context, limit)
}

// cleanupBudget returns a context for undoing changes. Its time limit is independent of that of the verb, which may
// have expired.
func (e *Executable) cleanupBudget() (context.Context, context.CancelFunc) {
	return busyclock.WithTimeout(context.WithoutCancel(e.Context), cleanupLimit)
}
