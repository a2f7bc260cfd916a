package libreswan

import (
	"testing"
	"time"
)

// The limit must work with the way in which os/exec copies output, so a real program writes it.
func TestOutputOfAProgramIsLimited(t *testing.T) {
	output, err := run(t.Context(), time.Minute, "/usr/bin/head", "--bytes=9000000", "/dev/zero")
	if err != nil || len(output) != outputLimit {
		t.Errorf("got %d bytes, %v, want %d", len(output), err, outputLimit)
	}
}
