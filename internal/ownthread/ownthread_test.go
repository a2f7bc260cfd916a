package ownthread

import (
	"errors"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func TestDoNeverUsesTheMainThread(t *testing.T) {
	var calls sync.WaitGroup
	for range 200 {
		calls.Go(func() {
			if err := Do(func() error {
				if unix.Gettid() == unix.Getpid() {
					return errors.New("f runs on the main thread")
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
}

func TestChangesOfTheThreadDoNotAffectOtherThreads(t *testing.T) {
	want, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if err := Do(func() error {
			if err := unix.Unshare(unix.CLONE_FS); err != nil {
				return err
			}
			return unix.Chdir("/")
		}); err != nil {
			t.Skipf("requires unshare: %v", err)
		}
		var got [unix.PathMax]byte
		n, err := unix.Getcwd(got[:])
		if err != nil || string(got[:n-1]) != want {
			t.Fatalf("the working directory of another thread changed to %s, %v", got[:n-1], err)
		}
	}
}

func TestDoReturnsTheError(t *testing.T) {
	want := errors.New("x")
	if got := Do(func() error { return want }); got != want {
		t.Errorf("got %v", got)
	}
}
