package watch

import (
	"context"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Admin has the operations of the administration commands: reading and writing settings, setting a host's weight and
// limit, and copying objects from one NSDB to another. The supervisor itself calls none of them. Every kind of NSDB
// implements Admin, and no method needs Run. An error names the endpoint or file of the NSDB and the key. It never
// contains any part of a configuration.
type Admin interface {
	// Setting returns the value of a canonical key in exactly this scope: for the scope of a host, it does not fall
	// back to the default scope. If the key is not set in the scope, errors.Is(err, fs.ErrNotExist) holds.
	Setting(ctx context.Context, scope spec.SettingScope, key string) (value string, err error)

	// SetSetting writes one setting and keeps the other settings of the scope, including keys that it does not know. It
	// checks key and value first. If one is invalid, it returns a *spec.Fault and writes nothing.
	SetSetting(ctx context.Context, scope spec.SettingScope, key, value string) error

	// SetHost writes one field of a host, spec.HostWeight or spec.HostLimit, and keeps the other fields. It never
	// creates a host: if the NSDB has no object for the host, errors.Is(err, fs.ErrNotExist) holds.
	SetHost(ctx context.Context, host spec.HostID, field string, n int) error

	// Export returns the objects of all hosts, without statuses, as native objects sorted by key. If some objects
	// cannot be read, or refer to objects that cannot be read, it returns the other objects together with a
	// *native.Incomplete. The values contain secrets.
	Export(ctx context.Context) ([]spec.Object, error)

	// Import creates or replaces the objects and removes no other object. It checks all objects before it writes the
	// first one. If a write fails, the objects that were written before it stay; Import may be repeated with the same
	// objects. The kind zk refuses every import and writes nothing.
	Import(ctx context.Context, objects []spec.Object) error
}
