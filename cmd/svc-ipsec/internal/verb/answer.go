package verb

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"unicode"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/network"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/state"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// The executable's own codes.
const (
	codeNameTaken = spec.CodeOwn     // 101: the host has an interface of the name that is not ours
	codeNoBridge  = spec.CodeOwn + 1 // 102: port.bridge is not there
	codeOutdated  = spec.CodeOwn + 2 // 103: the daemon is of another Libreswan than the installed tools
	codeBroken    = spec.CodeOwn + 3 // 104: CHECK found a difference between the container and what ADD promised
)

// coded is an error whose code is decided where it is known.
type coded struct {
	code spec.Code
	err  error
}

func (c *coded) Error() string { return c.err.Error() }
func (c *coded) Unwrap() error { return c.err }

func fail(code spec.Code, format string, values ...any) error {
	return &coded{code, fmt.Errorf(format, values...)}
}

// code says which code an error is answered with.
func code(err error) uint {
	var own *coded
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
	case errors.Is(err, network.ErrTaken):
		return uint(codeNameTaken)
	case errors.Is(err, network.ErrNoBridge):
		return uint(codeNoBridge)
	default:
		return types.ErrInternal
	}
}

// Answering makes a verb answer with a code in every case, a panic included: skel would exit with 2 and a trace, and the
// runtime see code 0.
func (e *Executable) Answering(name spec.Verb, run func(*skel.CmdArgs) error) func(*skel.CmdArgs) error {
	return func(args *skel.CmdArgs) (err error) {
		defer func() {
			if cause := recover(); cause != nil {
				// The value may repeat an input, the trace holds none.
				e.Log.Error("panic", slog.String("verb", string(name)), slog.String("type", fmt.Sprintf("%T", cause)), slog.String("trace", string(debug.Stack())))
				err = types.NewError(types.ErrInternal, string(name)+": panic, the trace is in the log", "")
			}
		}()
		if err := run(args); err != nil {
			return types.NewError(code(err), oneLine(err.Error()), "")
		}
		return nil
	}
}

// messageLimit is how long a message may be. Ours are shorter; those of libraries repeat what they were given.
const messageLimit = 2000

// oneLine makes one printable line of a message.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.Join(strings.Fields(s), " "))
	if len(s) > messageLimit {
		s = strings.ToValidUTF8(s[:messageLimit], "") + "…"
	}
	return s
}
