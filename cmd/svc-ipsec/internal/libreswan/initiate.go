package libreswan

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/svc-supervisor/svc-supervisor/internal/busyclock"
)

// Limits of Initiate. Many programs that start at the same time slow each other down.
const (
	initiateLimit    = 3 * time.Second // for one conn
	initiateBudget   = 6 * time.Second // for all conns; after that the remaining conns are not initiated
	initiateParallel = 8
)

// Initiate initiates conns. It is needed for all conns except those that addconn loads at the start of the daemon. It
// does not wait for their tunnels: a whack that reaches its time limit counts as success, because pluto has received
// the request. (If an IKE SA is established, whack waits for the peer's answer even with --asynchronous, and an absent
// peer does not answer.)
func (c Control) Initiate(ctx context.Context, conns ...string) error {
	clock := busyclock.Start()
	for chunk := range slices.Chunk(conns, initiateParallel) {
		if clock.Elapsed() > initiateBudget {
			return nil
		}
		faults := make([]error, len(chunk))
		var asked sync.WaitGroup
		for i, conn := range chunk {
			asked.Go(func() { faults[i] = c.initiate(ctx, conn) })
		}
		asked.Wait()
		if err := errors.Join(faults...); err != nil {
			return err
		}
	}
	return nil
}

func (c Control) initiate(ctx context.Context, conn string) error {
	limited, cancel := busyclock.WithTimeout(ctx, initiateLimit)
	defer cancel()
	_, err := c.whack(limited, "--name", conn, "--asynchronous", "--initiate")
	switch {
	case err == nil || plutoAnswered(err): // pluto reports the state of the negotiation as an error code
	case ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded):
	default:
		return fmt.Errorf("initiate conn %s: %w", conn, err)
	}
	return nil
}

// Terminate deletes the SAs of conns. The conns stay loaded.
func (c Control) Terminate(ctx context.Context, conns ...string) error {
	for _, conn := range conns {
		if _, err := c.whack(ctx, "--name", conn, "--terminate"); err != nil && !plutoAnswered(err) {
			return fmt.Errorf("terminate conn %s: %w", conn, err)
		}
	}
	return nil
}
