// Package broken marks the errors of CHECK that prove that a container differs from what ADD made. Any other error means that CHECK
// could not determine the state of the container (no process, no file descriptor, a missing tool, a time limit), and nothing
// may be taken down for it.
package broken

import (
	"errors"
	"fmt"
)

type difference struct{ error }

func (d difference) Unwrap() error { return d.error }

// Errorf is fmt.Errorf for an observed difference.
func Errorf(format string, values ...any) error { return difference{fmt.Errorf(format, values...)} }

// Is reports whether an error is, or wraps, an observed difference.
func Is(err error) bool { return errors.As(err, new(difference)) }
