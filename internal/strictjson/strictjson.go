// Package strictjson decodes JSON that this project writes, or somebody who follows its documentation: a key that the
// target does not have is an error, so that a misspelt one does not go unnoticed.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
)

// UnknownKeyError is the error for an object with a key that the target does not have.
type UnknownKeyError struct{ Key string }

func (e *UnknownKeyError) Error() string { return unknownKey + strconv.Quote(e.Key) }

// unknownKey begins the text of encoding/json's error for an unknown key, which has no type.
const unknownKey = "json: unknown field "

// Unmarshal is json.Unmarshal, except that an unknown key is an *UnknownKeyError. Like json.Unmarshal it ignores the
// case of keys, takes the last of two equal keys, and refuses anything behind the value.
func Unmarshal(text []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		if quoted, ok := strings.CutPrefix(err.Error(), unknownKey); ok {
			if key, unquoteErr := strconv.Unquote(quoted); unquoteErr == nil {
				return &UnknownKeyError{key}
			}
		}
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one JSON value")
	}
	return nil
}
