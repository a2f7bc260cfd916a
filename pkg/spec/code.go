package spec

import "fmt"

// Code is the code of an error object on an executable's stdout (CNI 1.1, "Error", and docs/executables.md).
type Code uint

// The codes that somebody branches on.
const (
	CodeUnsupportedField Code = 2
	CodeUnknownContainer Code = 3
	CodeEnvironment      Code = 4 // also: the name is held by another container id
	CodeIO               Code = 5
	CodeDecode           Code = 6
	CodeConfiguration    Code = 7
	CodeAgain            Code = 11 // try again later
	CodeNotAvailable     Code = 50 // STATUS: the host cannot serve the type
	CodeNotInPlace       Code = 100
	CodeOwn              Code = 101 // 101 to 199 are an executable's own
	CodeInternal         Code = 999 // CNI's, for errors that have no code
)

// Error is CNI's error object.
type Error struct {
	CNIVersion string `json:"cniVersion,omitempty"`
	Code       Code   `json:"code"`
	Msg        string `json:"msg"`
	Details    string `json:"details,omitempty"`
}

// Error prints message, details and code in one line.
func (e *Error) Error() string {
	if e.Details == "" {
		return fmt.Sprintf("%s (code %d)", e.Msg, e.Code)
	}
	return fmt.Sprintf("%s: %s (code %d)", e.Msg, e.Details, e.Code)
}

// Verdict says whether an ADD that fails with this code will fail the same way again, so that the failure may be
// published at once: a bad configuration, or the executable's own word.
func (c Code) Verdict() bool {
	return c == CodeConfiguration || c >= CodeNotInPlace && c < 200
}
