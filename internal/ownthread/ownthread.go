// Package ownthread runs a function on an OS thread of its own, for system calls that change the calling thread alone: its
// namespaces, its user id, its file system context.
package ownthread

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// Do calls f on a thread that no other goroutine uses and that ends with the call, and returns its error. Programs that f
// starts inherit what it changed. It is never the main thread: that cannot end, and /proc/self shows its namespaces.
func Do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			defer runtime.UnlockOSThread()
			done <- Do(f) // this goroutine keeps the main thread meanwhile
			return
		}
		done <- f() // the thread ends with this goroutine, because it is not unlocked
	}()
	return <-done
}
