// Package watch connects this host to one NSDB: it reads the host's desired state and writes the host's statuses.
//
// The desired state is always passed on as the complete set (spec.Desired), in which bindings that could not be read
// are marked. An event of the NSDB only causes another read. The package guarantees that an object that cannot be read
// is never reported as absent, and that objects of other hosts are not read. While it follows the desired state, it
// makes no decisions about containers, stores nothing on this host, and writes nothing but the statuses of this host.
//
// Each kind of NSDB has its own package: file, etcd and zoom. Package native defines the objects that file and etcd
// share.
package watch

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"

	"github.com/svc-supervisor/svc-supervisor/internal/publish"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/etcd"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/file"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom"
)

// NSDB is one network state database, opened for one host.
type NSDB interface {
	// Run reads and follows the desired state of the host until ctx ends; it then returns nil. It calls changed with
	// the first set that it has read, and with each later set that differs from the one before. The calls come one
	// after the other from the goroutine of Run, so changed must return soon. It may keep the set, but must not modify
	// it. Run must be called only once.
	Run(ctx context.Context, changed func(spec.Desired)) error

	// Store writes and lists the statuses of this host. It keeps none of them; package publish does.
	publish.Store

	Close() error
}

// Open opens the NSDB of a URL for one host. It does not access the NSDB yet: Run reports, for example, a missing
// directory.
func Open(rawURL string, host spec.HostID, log *slog.Logger) (NSDB, error) {
	if _, err := spec.ParseID[spec.HostID]("host id", string(host)); err != nil {
		return nil, fmt.Errorf("open NSDB: %w", err)
	}
	return open(rawURL, host, log)
}

// AdminNSDB is an NSDB that was opened for an administration command.
type AdminNSDB interface {
	Admin
	Close() error
}

// OpenAdmin opens the NSDB of a URL for an administration command, which does not act for a host.
func OpenAdmin(rawURL string, log *slog.Logger) (AdminNSDB, error) {
	return open(rawURL, commandHost, log)
}

// commandHost is the host id that an NSDB gets when a command opens it. Commands neither call Run nor publish statuses.
const commandHost spec.HostID = "svc-supervisor.command"

// backend is implemented by each kind of NSDB.
type backend interface {
	NSDB
	Admin
}

func open(rawURL string, host spec.HostID, log *slog.Logger) (backend, error) {
	u, err := url.Parse(rawURL)
	if err != nil { // not included in the error: its text contains the URL, which may contain a password
		return nil, fmt.Errorf("open NSDB: the URL cannot be read: allowed: %s", urlForms)
	}
	var nsdb backend
	switch u.Scheme {
	case "file":
		nsdb, err = parseAndOpen(u, host, log, file.ParseURL, file.Open)
	case "etcd", "etcds":
		nsdb, err = parseAndOpen(u, host, log, etcd.ParseURL, etcd.Open)
	case "zk":
		nsdb, err = parseAndOpen(u, host, log, zoom.ParseURL, zoom.Open)
	default:
		err = &spec.Fault{Key: "scheme", Value: u.Scheme, Allowed: "file, etcd, etcds, zk, as in " + urlForms}
	}
	if err != nil {
		return nil, fmt.Errorf("open NSDB: %w", err)
	}
	return nsdb, nil
}

// urlForms lists the forms of URLs that Open accepts.
const urlForms = file.Form + " or " + etcd.Form + " or " + zoom.Form

// parseAndOpen parses a URL and opens its NSDB. It is generic because each kind of NSDB has its own location type.
func parseAndOpen[L any, N backend](
	u *url.URL, host spec.HostID, log *slog.Logger,
	parse func(*url.URL) (L, error), open func(L, spec.HostID, *slog.Logger) N,
) (backend, error) {
	location, err := parse(u)
	if err != nil {
		return nil, err
	}
	return open(location, host, log), nil
}
