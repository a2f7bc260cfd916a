package cni

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/network"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/state"
	"github.com/svc-supervisor/svc-supervisor/internal/oneline"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// The error codes of svc-ipsec.
const (
	// 101: the host has an interface or a unit of the name that is not this container's.
	CodeNameTaken = spec.CodeOwn
	CodeNoBridge  = spec.CodeOwn + 1 // 102: port.bridge does not exist or is not a bridge
	CodeOutdated  = spec.CodeOwn + 2 // 103: the daemon runs another Libreswan than the installed one
	CodeBroken    = spec.CodeOwn + 3 // 104: CHECK found that the container differs from what ADD configured
)

// codedError is an error with an explicit code.
type codedError struct {
	code spec.Code
	err  error
}

func (c *codedError) Error() string { return c.err.Error() }
func (c *codedError) Unwrap() error { return c.err }

// Fail returns an error with a code. format and values are those of fmt.Errorf.
func Fail(code spec.Code, format string, values ...any) error {
	return &codedError{code, fmt.Errorf(format, values...)}
}

// HasCode reports whether an error has an explicit code.
func HasCode(err error) bool { return errors.As(err, new(*codedError)) }

// code returns the CNI error code of an error.
func code(err error) uint {
	var own *codedError
	var fault *spec.Fault
	switch {
	case errors.As(err, &own):
		return uint(own.code)
	case errors.As(err, &fault):
		return uint(spec.CodeConfiguration)
	case errors.Is(err, state.ErrBusy):
		return uint(spec.CodeAgain)
	case errors.Is(err, network.ErrHostNamespace):
		return types.ErrInvalidNetNS
	case errors.Is(err, network.ErrNameTaken):
		return uint(CodeNameTaken)
	case errors.Is(err, network.ErrNoBridge):
		return uint(CodeNoBridge)
	default:
		return types.ErrInternal
	}
}

// WithErrorCodes wraps a verb so that every error has a code, and a panic too. Without it skel would exit with status 2
// and a stack trace, and the runtime would read code 0.
func WithErrorCodes(log *slog.Logger, name spec.Verb, run func(*skel.CmdArgs) error) func(*skel.CmdArgs) error {
	return func(args *skel.CmdArgs) (err error) {
		defer func() {
			if cause := recover(); cause != nil {
				// The panic value may contain input, so only its type is logged. The stack trace contains no input.
				log.Error("panic", slog.String("verb", string(name)), slog.String("type", fmt.Sprintf("%T", cause)),
					slog.String("trace", string(debug.Stack())))
				err = types.NewError(types.ErrInternal, string(name)+": panic, the trace is in the log", "")
			}
		}()
		if err := run(args); err != nil {
			return types.NewError(code(err), oneline.Of(err.Error(), messageLimit), "")
		}
		return nil
	}
}

// messageLimit is the maximum length of an error message in bytes. Messages of svc-ipsec are shorter; those of
// libraries may repeat their input.
const messageLimit = 2000
