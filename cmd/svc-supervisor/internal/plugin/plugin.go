// Package plugin finds the service executables on the plugin path, and runs a verb of an executable once.
//
// Every verb ends: at its deadline the executable, its process group, and descendants that left the group are killed.
// Its output is bounded. The result is the answer of the executable, or a *NoAnswer if there is none that can be
// parsed. Whether a verb is due, retried or undone is decided by package reconcile.
package plugin
