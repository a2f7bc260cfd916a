package unit

import (
	"testing"
	"time"
)

// TestFirstCallIsAnswered checks that systemd processes a small first message (see flushHandshake).
func TestFirstCallIsAnswered(t *testing.T) {
	_, ctx := sandbox(t)
	start := time.Now()
	for range 200 {
		bus := Open()
		must(t, bus.Stop(ctx, "svc-u-nothing.service"))
		bus.Close()
	}
	t.Logf("connect, one call: %s", time.Since(start)/200)
}
