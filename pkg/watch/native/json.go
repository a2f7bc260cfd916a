package native

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// json copies JSON token by token: encoding/json alone would let a duplicate key win silently.
func (w *writer) json(value []byte) error {
	var whole json.RawMessage
	if err := json.Unmarshal(value, &whole); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) { // its text repeats a character of the value
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

func (w *writer) jsonValue(decoder *json.Decoder) error {
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

func (w *writer) jsonObject(decoder *json.Decoder) error {
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

func (w *writer) jsonList(decoder *json.Decoder) error {
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
