// Package unit starts, stops and watches transient units of systemd over D-Bus, for the supervisor and for
// executables.
//
// Start, Stop and Restart wait for the result of the systemd job. If a start fails, the error has how the program
// ended (Exit), as systemd reported it before it removed the unit, and nothing of the unit is left. Every call
// returns in bounded time. If systemd does not answer, the call returns an error and never reports the unit as gone.
// The first call connects to systemd. When systemd drops the connection, the next call connects again: daemon-reexec
// closes the private socket, while the units continue to run.
//
// A process of root uses systemd's private socket. An executable then needs no D-Bus daemon, and systemd sends
// signals without Subscribe. Other users, and root if the private socket does not exist, use the system bus, where
// every user can read.
//
// The package does not decide which units to start, or when a unit must be given up. It does not check the owner of a
// unit; it only returns it.
package unit

import "errors"

// ErrExists means that a unit with this name is running, starting or stopping.
var ErrExists = errors.New("a unit of that name exists")

// Unit is the state of a unit in systemd's list. The zero Unit is a unit that systemd does not know.
type Unit struct {
	Name        string
	LoadState   string // loaded, not-found, masked, bad-setting, error
	ActiveState string // active, reloading, inactive, failed, activating, deactivating
	SubState    string // running, auto-restart, dead, …
	JobQueued   bool   // a start, stop or restart job is waiting or running
}

// Running reports whether the unit is active and no job is about to change that.
func (u Unit) Running() bool { return u.ActiveState == "active" && !u.JobQueued }

// FailedForGood reports whether systemd gave the unit up: it has failed, and no job that would start it again is
// queued.
func (u Unit) FailedForGood() bool { return u.ActiveState == "failed" && !u.JobQueued }

// Gone reports whether nothing of the unit runs and no job is queued. The unit ended without a failure, was stopped,
// or is not known to systemd.
func (u Unit) Gone() bool {
	return (u.ActiveState == "inactive" || u.ActiveState == "") && !u.JobQueued
}

// Transitional reports whether the unit is starting, stopping or waiting for a job, so that its state shows neither
// success nor failure.
func (u Unit) Transitional() bool { return !u.Running() && !u.FailedForGood() && !u.Gone() }

// State describes the unit's state with systemd's terms, for example "active (running)".
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
