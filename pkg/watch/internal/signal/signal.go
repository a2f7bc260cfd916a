// Package signal wakes a goroutine.
package signal

// Signal is a channel that holds at most one pending value. Values that are sent while one is pending are dropped: the
// receiver has to look at the current state anyway.
type Signal chan struct{}

// New returns a Signal without a pending value.
func New() Signal { return make(Signal, 1) }

// Send makes a value pending. It never blocks.
func (s Signal) Send() {
	select {
	case s <- struct{}{}:
	default:
	}
}
