package native

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// json copies JSON token by token, because json.Unmarshal does not report duplicate keys.
func (w *jsonWriter) json(value []byte) error {
	var whole json.RawMessage
	if err := json.Unmarshal(value, &whole); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) { // not included in the error: its text contains a character of the value
			before := value[:min(int(syntax.Offset), len(value))]
			line := 1 + bytes.Count(before, []byte("\n"))
			column := len(before) - 1 - bytes.LastIndexByte(before, '\n')
			return fmt.Errorf("line %d, column %d: is not JSON from here on: allowed: one JSON object", line, column)
		}
		return fmt.Errorf("is not JSON: %w", err)
	}
	decoder := json.NewDecoder(bytes.NewReader(value))
	decoder.UseNumber()
	return w.jsonValue(decoder)
}

func (w *jsonWriter) jsonValue(decoder *json.Decoder) error {
	token, err := decoder.Token()
	if err != nil {
		return err
	}
	switch t := token.(type) {
	case json.Delim:
		if t == '{' {
			return w.jsonObject(decoder)
		}
		return w.jsonList(decoder)
	case string:
		return w.putString(t)
	case json.Number:
		return w.put(t.String())
	case bool:
		return w.put(fmt.Sprint(t))
	default:
		return w.put("null")
	}
}

func (w *jsonWriter) jsonObject(decoder *json.Decoder) error {
	err := w.object(func(member func(string, func() error) error) error {
		for decoder.More() {
			key, err := decoder.Token()
			if err != nil {
				return err
			}
			if err := member(key.(string), func() error { return w.jsonValue(decoder) }); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	_, err = decoder.Token()
	return err
}

func (w *jsonWriter) jsonList(decoder *json.Decoder) error {
	err := w.list(func(element func(func() error) error) error {
		for decoder.More() {
			if err := element(func() error { return w.jsonValue(decoder) }); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	_, err = decoder.Token()
	return err
}
