// Package verb implements the verbs of CNI (ADD, CHECK, DEL, GC, STATUS, VERSION) with the other internal packages.
//
// It keeps the contract of docs/executables.md: an ADD that fails removes what it made, ADD for a running container changes only
// what differs, CHECK changes nothing, DEL is idempotent and removes only what has the owner tag, every error has a code. Apart
// from the systemd unit, no process outlives a verb.
//
// Every verb holds the container's lock from its first read to its last change.
package verb

import (
	"context"
	"io"
	"log/slog"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/libreswan"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/lookup"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/state"
	"github.com/svc-supervisor/svc-supervisor/internal/patience"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
	"github.com/svc-supervisor/svc-supervisor/pkg/userid"
)

// ServiceType is what this executable serves.
const ServiceType spec.ServiceType = "IPSEC"

// The budgets, by the clock of package patience. The supervisor's deadline is 30 s by default and follows the same clock: with
// these an answer comes before it, undoing included.
const (
	verbBudget = 20 * time.Second
	undoBudget = 9 * time.Second
	lockLimit  = 5 * time.Second
	gcBudget   = 4500 * time.Millisecond
)

// Executable is svc-ipsec on this host.
type Executable struct {
	Bus  *unit.Bus
	Root string // where the containers' folders are
	Self string // this executable's own file, which also starts the daemons (package launch)
	// Users keeps the user ids of containers.
	Users Users
	Out   io.Writer
	Log   *slog.Logger
	// LookUp finds the addresses of peers that have names.
	LookUp lookup.Resolver
	// KeyDirectory is the file that names the directory of key files: lookup.KeyDirectoryFile.
	KeyDirectory string
	// Context ends when this process is asked to; a verb then takes back what it began.
	Context context.Context
}

// Users are the user ids of this host's containers.
type Users interface {
	// Allocate returns the id of a container, always the same for one network and name.
	Allocate(context.Context, spec.Owner) (uint32, error)
	// Adopt registers an id that a container has already. It is an error if another container has it.
	Adopt(context.Context, spec.Owner, uint32) error
	// Release gives the id of a container back, unless stillUsed reports that something of the container exists.
	Release(ctx context.Context, owner spec.Owner, stillUsed func(id uint32) (bool, error)) error
	// List returns all registrations, also together with an error about some of them.
	List() ([]userid.Registration, error)
}

// daemon is the daemon of a container.
func (e *Executable) daemon(tools libreswan.Tools, owner spec.Owner, folder string, s *state.State) *libreswan.Daemon {
	return &libreswan.Daemon{Tools: tools, Bus: e.Bus, Owner: owner, Folder: folder, Place: place(s)}
}

// place is where the daemon that was started last runs.
func place(s *state.State) libreswan.Place {
	if s.View == "" {
		return libreswan.Place{}
	}
	return libreswan.Place{User: s.UserID, View: s.View, Namespace: s.Attachment.Namespace}
}

func (e *Executable) budget(limit time.Duration) (context.Context, context.CancelFunc) {
	return patience.WithTimeout(e.Context, limit)
}

// aside is a budget for cleaning up, which starts when the verb's own may be spent.
func (e *Executable) aside() (context.Context, context.CancelFunc) {
	return patience.WithTimeout(context.WithoutCancel(e.Context), undoBudget)
}
