package unit

import (
	"testing"
	"time"
)

// TestTheFirstCallIsAnswered: a small first message must not lie unread behind the handshake.
func TestTheFirstCallIsAnswered(t *testing.T) {
	_, ctx := ground(t)
	start := time.Now()
	for range 200 {
		bus := Open()
		must(t, bus.Stop(ctx, "svc-u-nothing.service"))
		bus.Close()
	}
	t.Logf("connect, one call: %s", time.Since(start)/200)
}
