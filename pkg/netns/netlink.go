package netns

import (
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// netlinkTimeout is how long a netlink socket waits for the kernel's answer: one that does not answer is an error.
	netlinkTimeout = 5 * time.Second
	// netlinkTries bounds how often a request is made again: under steady change a dump may be interrupted each time.
	netlinkTries = 10
)

// withNetlink calls do with a netlink handle of the calling thread's namespace, again while the answer was cut short: by
// a change during a dump (NLM_F_DUMP_INTR), or by a signal, since the kernel never restarts a receive that has a time-out
// (signal(7)), and Go's scheduler sends itself signals. So do must bear being called again after it took effect.
func withNetlink(do func(*netlink.Handle) error) error {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("netlink socket: %w", err)
	}
	defer handle.Close()
	if err := handle.SetSocketTimeout(netlinkTimeout); err != nil {
		return fmt.Errorf("netlink socket: time-out: %w", err)
	}
	for range netlinkTries {
		err = do(handle)
		if !errors.Is(err, netlink.ErrDumpInterrupted) && !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if errors.Is(err, unix.EAGAIN) {
		return fmt.Errorf("netlink: no answer in %s", netlinkTimeout)
	}
	return err
}
