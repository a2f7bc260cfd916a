package spec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// DecodeOutput decodes the JSON object that a plugin printed to stdout. The error starts with what, names the fault and
// quotes the first bytes of the output. The error text is always one line.
func DecodeOutput(what string, output []byte, into any) error {
	output = bytes.TrimSpace(output)
	if len(output) == 0 {
		return fmt.Errorf("%s: nothing was printed: allowed: a JSON object", what)
	}
	err := json.Unmarshal(output, into)
	var wrong *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case !json.Valid(output):
		return &Fault{what, string(output), "a JSON object and nothing else"}
	case errors.As(err, &wrong) && wrong.Field == "":
		return &Fault{what, string(output), "a JSON object"}
	case wrong != nil:
		return fmt.Errorf("%s: key %s: a JSON %s does not fit: printed %s",
			what, plain(wrong.Field), wrong.Value, Quote(string(output)))
	default:
		return fmt.Errorf("%s: %s: printed %s", what, plain(err.Error()), Quote(string(output)))
	}
}

// ParseHealth parses the output of CHECK. It returns nil without an error for empty output and for JSON without a
// health code, which CNI allows.
func ParseHealth(stdout []byte) (*Health, error) {
	if len(bytes.TrimSpace(stdout)) == 0 {
		return nil, nil
	}
	health := new(Health)
	if err := DecodeOutput("health", stdout, health); err != nil {
		return nil, err
	}
	if health.Code == "" {
		return nil, nil
	}
	if err := health.Check(); err != nil {
		return nil, fmt.Errorf("health: %w", err)
	}
	return health, nil
}

// objectTries bounds the number of opening braces at which ErrorIn tries to decode an object. The output of a plugin
// can consist of 1 MiB of braces.
const objectTries = 100

// ErrorIn looks for CNI's error object in the output of a verb, independent of the exit status. It returns nil and no
// error if the output contains no error object. It returns an error if the output contains an error object that cannot
// be trusted, because there is other text around it or a value has the wrong type.
func ErrorIn(verb Verb, output []byte) (_ *Error, err error) {
	if !hasErrorObject(verb, output) {
		return nil, nil
	}
	object := new(Error)
	if err := DecodeOutput("error object", output, object); err != nil {
		return nil, err
	}
	return object, nil
}

// hasErrorObject reports whether the first JSON object in the output looks like an error object: it has a code other
// than null and 0 that is not the code of a health object.
func hasErrorObject(verb Verb, output []byte) bool {
	for range objectTries {
		start := bytes.IndexByte(output, '{')
		if start < 0 {
			return false
		}
		output = output[start:]
		var object struct {
			Code any             `json:"code"`
			Msg  json.RawMessage `json:"msg"`
		}
		if json.NewDecoder(bytes.NewReader(output)).Decode(&object) != nil {
			output = output[1:]
			continue
		}
		switch code := object.Code.(type) {
		case nil:
			return false
		case float64:
			return code != 0
		case string:
			_, notNumber := strconv.ParseFloat(code, 64)
			// CHECK prints a health object, whose code is a string such as RUNNING, and which has no msg.
			return verb != Check || notNumber == nil || object.Msg != nil
		default:
			return true
		}
	}
	return false
}
