// Package verb is the executable: one method for each verb of CNI, on top of the rooms that do the work.
//
// It promises what docs/executables.md asks of every executable: ADD that fails takes back what it made, ADD for a
// container that runs changes only what differs, CHECK changes nothing, DEL succeeds again and again and removes nothing
// without the owner tag, every error has a code, and no child outlives a verb but the unit, which is systemd's.
//
// Every verb holds the container's lock from its first look to its last change.
package verb

import (
	"context"
	"io"
	"log/slog"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/lookup"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/pluto"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

// ServiceType is what this executable serves.
const ServiceType spec.ServiceType = "IPSEC"

// The budgets. The supervisor's deadline is 30 s by default: with these an answer comes before it, undoing included.
const (
	verbBudget = 20 * time.Second
	undoBudget = 9 * time.Second
	patience   = 5 * time.Second // for the lock
	gcBudget   = 4500 * time.Millisecond
)

// Executable is svc-ipsec on this host.
type Executable struct {
	Bus  *unit.Bus
	Root string // where the containers' folders are
	Self string // this executable's own file
	Out  io.Writer
	Log  *slog.Logger
	// LookUp finds the addresses of peers that have names.
	LookUp lookup.Resolver
	// KeyDirectory is the file that names the directory of key files: lookup.KeyDirectoryFile.
	KeyDirectory string
	// Context ends when this process is asked to; a verb then takes back what it began.
	Context context.Context
}

func (e *Executable) daemon(tools pluto.Tools, owner spec.Owner, folder string) *pluto.Daemon {
	return &pluto.Daemon{Tools: tools, Bus: e.Bus, Owner: owner, Folder: folder, Self: e.Self}
}

func (e *Executable) budget(limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(e.Context, limit)
}

// aside is a budget for cleaning up, which starts when the verb's own may be spent.
func (e *Executable) aside() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(e.Context), undoBudget)
}
