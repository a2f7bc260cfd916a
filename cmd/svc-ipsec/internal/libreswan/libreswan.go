// Package libreswan runs the Libreswan daemon of one container as a transient unit of systemd, with a user ID, a
// network namespace and a mount view that are not those of the host. It queries and changes the daemon through its
// control socket.
//
// Every program that a verb runs has a time limit, a fixed environment and limited output. Only Control, which runs
// whack for an operator, has no limits. The only shell script is Libreswan's `ipsec initnss`. Exit codes are not
// sufficient (addconn returns 0 for a conn that it did not load), so the loaded conns are read back from the daemon. An
// unchanged conn is never added again, because that would delete its tunnel.
//
// Private keys are imported into the key database from files that only root can read, never by command line.
//
// The package does not compose configuration text (package render does) and does not handle addresses and routes.
package libreswan

import (
	"fmt"

	"github.com/svc-supervisor/svc-supervisor/internal/oneline"
)

func wrapf(err error, operation string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", operation, err)
}

// oneLine limits a message of Libreswan's programs, of which several can be in one error.
func oneLine(s string) string { return oneline.Of(s, 300) }
