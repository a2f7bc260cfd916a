// Package ownthread runs a function on an OS thread of its own. It is meant for system calls that change only the
// calling thread: its namespaces, its user id, its file system context.
package ownthread

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// Do calls f on a thread that no other goroutine uses, and returns the error of f. The thread ends when f returns.
// Programs that f starts inherit the changes of the thread. Do never uses the main thread, because that cannot end, and
// because /proc/self shows its namespaces.
func Do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			defer runtime.UnlockOSThread()
			done <- Do(f) // until it returns, this goroutine occupies the main thread
			return
		}
		done <- f() // the Go runtime ends the thread with this goroutine, because the goroutine does not unlock it
	}()
	return <-done
}
