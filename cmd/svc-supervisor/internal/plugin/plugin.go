// Package plugin finds the service executables on the plugin path and runs one verb of one of them, once.
//
// It promises that a verb ends: at its deadline the executable, its process group and what left the group are killed, and
// its output is bounded. It promises that the answer is what the executable said, or a *NoAnswer. It decides nothing:
// whether a verb is due, retried or undone is reconcile's.
package plugin
