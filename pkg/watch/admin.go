package watch

import (
	"context"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Admin is what a person asks of an NSDB by a command: read and write settings, a host's weight and limit, and carry
// objects from one NSDB to another. The supervisor itself calls none of it. Every kind of NSDB has it, and none needs Run
// for it. An error names the NSDB's endpoint or file and the key; it never repeats a configuration.
type Admin interface {
	// Setting returns what stands under a canonical key in this very scope, the default's not looked at for a host's. One
	// that does not stand there is an error for which errors.Is(err, fs.ErrNotExist) holds.
	Setting(ctx context.Context, scope spec.SettingScope, key string) (value string, err error)

	// SetSetting writes one setting and leaves the others of the scope as they are, those it does not know included. Key
	// and value are checked first: a fault is a *spec.Fault and nothing is written.
	SetSetting(ctx context.Context, scope spec.SettingScope, key, value string) error

	// SetHost writes one field of a host that is in the NSDB, spec.HostWeight or spec.HostLimit, and keeps the others. A host that is
	// not there is an error for which errors.Is(err, fs.ErrNotExist) holds: it is never made.
	SetHost(ctx context.Context, host spec.HostID, field string, n int) error

	// Export reads the whole NSDB, of every host, without status, as native objects sorted by key. If something cannot be read, or
	// refers to what cannot be read, the other objects are returned together with a *native.Incomplete. The values carry secrets.
	Export(ctx context.Context) ([]spec.Object, error)

	// Import creates or replaces those objects and removes nothing else. All are checked before the first is written. A
	// failure on the way leaves those written that came before; importing the same again is harmless.
	Import(ctx context.Context, objects []spec.Object) error
}
