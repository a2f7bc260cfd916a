// Package broken marks those errors of CHECK that prove a difference between the container and what ADD created. Any
// other error means that CHECK could not determine the state of the container (no process, no file descriptor, a
// missing tool, a time limit). The supervisor must not remove a container because of such an error.
package broken

import (
	"errors"
	"fmt"
)

type difference struct{ error }

func (d difference) Unwrap() error { return d.error }

// Errorf is like fmt.Errorf. It returns an error that marks an observed difference.
func Errorf(format string, values ...any) error { return difference{fmt.Errorf(format, values...)} }

// Is reports whether an error is, or wraps, an observed difference.
func Is(err error) bool { return errors.As(err, new(difference)) }
