package spec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// Output decodes one JSON object that a plugin printed. The error begins with what, says what is wrong with the object, and quotes
// the beginning of the output. It is one line, whatever the plugin printed.
func Output(what string, output []byte, into any) error {
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
		return fmt.Errorf("%s: key %s: a JSON %s does not fit: printed %s", what, plain(wrong.Field), wrong.Value, Quote(string(output)))
	default:
		return fmt.Errorf("%s: %s: printed %s", what, plain(err.Error()), Quote(string(output)))
	}
}

// objectTries bounds how many braces ErrorIn looks at: output can be 1 MiB of them.
const objectTries = 100

// ErrorIn looks for CNI's error object in what a verb printed, whatever the exit status was. It returns nil if there is none. err
// is set if there is one that cannot be trusted, because text surrounds it or a value is of the wrong type.
func ErrorIn(verb Verb, output []byte) (_ *Error, err error) {
	if !hasErrorObject(verb, output) {
		return nil, nil
	}
	said := new(Error)
	if err := Output("error object", output, said); err != nil {
		return nil, err
	}
	return said, nil
}

// hasErrorObject reports whether the first JSON object in the output is meant as an error object.
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
			// CHECK prints health, whose code is a word, and which has no msg.
			return verb != Check || notNumber == nil || object.Msg != nil
		default:
			return true
		}
	}
	return false
}
