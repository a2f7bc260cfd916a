// Package watch is the ear and the voice towards one NSDB: it hears what this host is wanted to run, and says what became
// of it.
//
// What it hears is always the complete set (spec.Desired), with what could not be read marked so; an event is only a hint
// to look again. It promises that unreadable is never handed over as absent, and that nothing of other hosts is read. It
// takes no decision, keeps no record and touches nothing but its own status objects.
//
// Each kind of NSDB has a folder; native has the objects that the file and etcd kinds share.
package watch

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/file"
)

// NSDB is one network state database as one host sees it.
type NSDB interface {
	// Run reads and follows what the NSDB wants of the host, until ctx ends; it then returns nil. changed gets the first set
	// once it was read, and every later one that differs from the one before. The calls come one after the other from
	// Run's goroutine: changed returns soon, and keeps the set without writing to it. Run is called once.
	Run(ctx context.Context, changed func(spec.Desired)) error

	// PublishHost and PublishContainer write a status where it differs from what stands there.
	PublishHost(ctx context.Context, status spec.HostStatus) error
	PublishContainer(ctx context.Context, id spec.ContainerID, status spec.ContainerStatus) error

	// RemoveContainer removes a container's status of this host; one that is not there is removed.
	RemoveContainer(ctx context.Context, id spec.ContainerID) error

	// Published lists the containers that have a status of this host, sorted.
	Published(ctx context.Context) ([]spec.ContainerID, error)

	Close() error
}

// Open opens the NSDB that a URL names, for one host. It reads nothing yet: a directory that is missing is what Run tells.
func Open(rawURL string, host spec.HostID, log *slog.Logger) (NSDB, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, fmt.Errorf("open NSDB %s: allowed: %s", spec.Quote(rawURL), file.Form)
	}
	if _, err := spec.ParseID[spec.HostID]("host id", string(host)); err != nil {
		return nil, fmt.Errorf("open NSDB: %w", err)
	}
	switch u.Scheme {
	case "file":
		location, err := file.ParseURL(u)
		if err != nil {
			return nil, fmt.Errorf("open NSDB: %w", err)
		}
		return file.Open(location, host, log), nil
	default:
		return nil, fmt.Errorf("open NSDB: %w", &spec.Fault{Key: "scheme", Value: u.Scheme, Allowed: "file, as in " + file.Form})
	}
}
