package spec

import "fmt"

// Code is the code of an error object on an executable's stdout (CNI 1.1, "Error", and docs/executables.md).
type Code uint

// The codes that this project sets or compares with.
const (
	CodeUnsupportedField Code = 2
	CodeUnknownContainer Code = 3
	CodeEnvironment      Code = 4 // also: another container id has the name
	CodeIO               Code = 5
	CodeDecode           Code = 6
	CodeConfiguration    Code = 7
	CodeAgain            Code = 11  // try again later
	CodeNotAvailable     Code = 50  // STATUS: the host cannot serve the type
	CodeNotInPlace       Code = 100 // ADD on a running container: the change needs DEL and ADD
	CodeOwn              Code = 101 // 101 to 199 are defined by each executable
	CodeInternal         Code = 999 // used by CNI's libraries for errors that have no code
)

// Error is CNI's error object.
type Error struct {
	CNIVersion string `json:"cniVersion,omitempty"`
	Code       Code   `json:"code"`
	Msg        string `json:"msg"`
	Details    string `json:"details,omitempty"`
}

// Error returns the message, the details if there are any, and the code.
func (e *Error) Error() string {
	if e.Details == "" {
		return fmt.Sprintf("%s (code %d)", e.Msg, e.Code)
	}
	return fmt.Sprintf("%s: %s (code %d)", e.Msg, e.Details, e.Code)
}

// IsFinal reports whether an ADD that failed with this code will fail in the same way when it is retried, so that ERROR
// may be published after the first failure. This holds for a bad configuration, for CodeNotInPlace and for the
// executable's own codes.
func (c Code) IsFinal() bool {
	return c == CodeConfiguration || c >= CodeNotInPlace && c < 200
}
