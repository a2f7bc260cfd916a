package netns

import (
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// netlinkTimeout is how long a netlink socket waits for the answer of the kernel.
	netlinkTimeout = 5 * time.Second
	// netlinkTries bounds the number of attempts, because a dump may be interrupted each time if links change all the
	// time.
	netlinkTries = 10
)

// withNetlink calls do with a netlink handle for the network namespace of the calling thread. It calls do again if the
// answer was incomplete: because of a change during a dump (NLM_F_DUMP_INTR), or because of a signal. Go's scheduler
// sends signals to its own threads, and the kernel does not restart a receive call that has a timeout (signal(7)). So
// do must be safe to repeat, even if the request of the interrupted call took effect.
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
