// Package unit starts, stops and watches transient units of systemd over D-Bus, for the supervisor and for executables.
//
// A job's result is waited for, and a start that fails says why the program ended (Exit), as systemd saw it before it
// cleaned up; nothing of the unit is left. Every call ends in bounded time, also when systemd does not answer: that is an
// error, never "gone". The connection is made at the first call and made again when systemd dropped it (daemon-reexec
// drops the private socket; units live on).
//
// Root speaks to systemd's private socket: an executable then needs no D-Bus daemon, and signals arrive without
// Subscribe. Others, and root where there is no such socket, use the system bus; reading works there for everyone.
//
// The package does not decide what to start or when a unit is beyond help, and it looks at a unit's owner only to say it.
package unit

import "errors"

// ErrExists says that a unit of the name runs, or is on its way up or down.
var ErrExists = errors.New("a unit of that name exists")

// Unit is what systemd says of a unit in its list. The zero Unit is one that systemd does not know.
type Unit struct {
	Name        string
	LoadState   string // loaded, not-found, masked, bad-setting, error
	ActiveState string // active, reloading, inactive, failed, activating, deactivating
	SubState    string // running, auto-restart, dead, …
	JobQueued   bool   // a start, stop or restart is waiting or at work
}

// Running says that the unit is up and nothing is about to change that.
func (u Unit) Running() bool { return u.ActiveState == "active" && !u.JobQueued }

// FailedForGood says that systemd gave the unit up: failed, and no job is queued that would start it again.
func (u Unit) FailedForGood() bool { return u.ActiveState == "failed" && !u.JobQueued }

// Gone says that nothing of the unit runs or is about to: it ended well, was stopped, or systemd does not know it.
func (u Unit) Gone() bool {
	return (u.ActiveState == "inactive" || u.ActiveState == "") && !u.JobQueued
}

// Transitional says that the unit is on its way, and so neither good nor bad.
func (u Unit) Transitional() bool { return !u.Running() && !u.FailedForGood() && !u.Gone() }

// State is the unit's state in systemd's words: "active (running)".
func (u Unit) State() string {
	state := "not loaded"
	if u.ActiveState != "" {
		state = u.ActiveState + " (" + u.SubState + ")"
	}
	if u.JobQueued {
		state += ", a job is queued"
	}
	return state
}
