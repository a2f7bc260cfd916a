// Package broken marks the errors of CHECK that are observed differences between a container and what ADD promised. Every other error
// of CHECK is one of the observer (no process, no file descriptor, a missing tool, a time limit): then the state of the
// container is not known, and nothing may be taken down for it.
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
