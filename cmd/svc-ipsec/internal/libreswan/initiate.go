package libreswan

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/svc-supervisor/svc-supervisor/internal/patience"
)

// The limits of Initiate. Many programs that start together make each one slower.
const (
	initiateLimit  = 3 * time.Second // for one conn
	initiateBudget = 6 * time.Second // for all: the remaining conns are not initiated
	atOnce         = 8
)

// Initiate starts conns, which addconn does only for those that it loads at the daemon's start. It does not wait for their
// tunnels: a whack that reaches its limit counts as success, because pluto has received the request. (With an IKE SA in place
// whack waits for the peer's answer even with --asynchronous, and a peer that is gone gives none.)
func (d *Daemon) Initiate(ctx context.Context, conns ...string) error {
	clock := patience.Start()
	for chunk := range slices.Chunk(conns, atOnce) {
		if clock.Elapsed() > initiateBudget {
			return nil
		}
		faults := make([]error, len(chunk))
		var asked sync.WaitGroup
		for i, conn := range chunk {
			asked.Go(func() { faults[i] = d.initiate(ctx, conn) })
		}
		asked.Wait()
		if err := errors.Join(faults...); err != nil {
			return err
		}
	}
	return nil
}

func (d *Daemon) initiate(ctx context.Context, conn string) error {
	limited, cancel := patience.WithTimeout(ctx, initiateLimit)
	defer cancel()
	_, err := d.whack(limited, "--name", conn, "--asynchronous", "--initiate")
	switch {
	case err == nil || answered(err): // it answers with the state of a negotiation
	case ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded):
	default:
		return fmt.Errorf("initiate conn %s: %w", conn, err)
	}
	return nil
}

// Terminate takes down the tunnels of conns, and leaves the conns.
func (d *Daemon) Terminate(ctx context.Context, conns ...string) error {
	for _, conn := range conns {
		if _, err := d.whack(ctx, "--name", conn, "--terminate"); err != nil && !answered(err) {
			return fmt.Errorf("terminate conn %s: %w", conn, err)
		}
	}
	return nil
}
