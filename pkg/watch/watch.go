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
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/etcd"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/file"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom"
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

	// RemoveHost removes this host's status, after which a scheduler takes no host for running; one that is not there is removed.
	RemoveHost(ctx context.Context) error

	// RemoveContainer removes a container's status of this host; one that is not there is removed.
	RemoveContainer(ctx context.Context, id spec.ContainerID) error

	// Published lists the containers that have a status of this host, sorted.
	Published(ctx context.Context) ([]spec.ContainerID, error)

	Close() error
}

// Open opens the NSDB that a URL names, for one host. It reads nothing yet: a directory that is missing is what Run tells.
func Open(rawURL string, host spec.HostID, log *slog.Logger) (NSDB, error) {
	if _, err := spec.ParseID[spec.HostID]("host id", string(host)); err != nil {
		return nil, fmt.Errorf("open NSDB: %w", err)
	}
	return open(rawURL, host, log)
}

// AdminNSDB is an NSDB as a command opens it.
type AdminNSDB interface {
	Admin
	Close() error
}

// OpenAdmin opens the NSDB that a URL names for a command, which is no host's.
func OpenAdmin(rawURL string, log *slog.Logger) (AdminNSDB, error) {
	return open(rawURL, nobody, log)
}

// nobody is the host of a command. It never runs and publishes nothing.
const nobody spec.HostID = "svc-supervisor.command"

// kind is what each kind of NSDB is.
type kind interface {
	NSDB
	Admin
}

func open(rawURL string, host spec.HostID, log *slog.Logger) (kind, error) {
	u, err := url.Parse(rawURL)
	if err != nil { // its text is not repeated: it may hold a password
		return nil, fmt.Errorf("open NSDB: the URL cannot be read: allowed: %s", forms)
	}
	var nsdb kind
	switch u.Scheme {
	case "file":
		nsdb, err = opened(u, host, log, file.ParseURL, file.Open)
	case "etcd", "etcds":
		nsdb, err = opened(u, host, log, etcd.ParseURL, etcd.Open)
	case "zk":
		nsdb, err = opened(u, host, log, zoom.ParseURL, zoom.Open)
	default:
		err = &spec.Fault{Key: "scheme", Value: u.Scheme, Allowed: "file, etcd, etcds, zk, as in " + forms}
	}
	if err != nil {
		return nil, fmt.Errorf("open NSDB: %w", err)
	}
	return nsdb, nil
}

// forms are what URLs look like.
const forms = file.Form + " or " + etcd.Form + " or " + zoom.Form

// opened parses and opens: the same for each kind, whose types differ.
func opened[L any, N kind](
	u *url.URL, host spec.HostID, log *slog.Logger, parse func(*url.URL) (L, error), open func(L, spec.HostID, *slog.Logger) N,
) (kind, error) {
	location, err := parse(u)
	if err != nil {
		return nil, err
	}
	return open(location, host, log), nil
}
