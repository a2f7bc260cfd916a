package texttest

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// UUID returns the value of a UUID field. id must be in canonical form.
func UUID(id string) Values {
	raw, err := hex.DecodeString(strings.ReplaceAll(id, "-", ""))
	if err != nil || len(raw) != 16 {
		panic(fmt.Sprintf("texttest: %q is not a UUID", id))
	}
	return Values{"msb": {binary.BigEndian.Uint64(raw[:8])}, "lsb": {binary.BigEndian.Uint64(raw[8:])}}
}

// Print prints a message whose type has the name proto, as TextFormat prints it. It returns an error if Check fails for
// the result, for example because of an unknown field or enum value.
func Print(proto string, values Values) ([]byte, error) {
	out := appendMessage(nil, proto, values, "")
	return out, Check(proto, out)
}

func appendMessage(out []byte, proto string, values Values, indent string) []byte {
	fields := protos[proto]
	for _, name := range slices.SortedFunc(maps.Keys(values), func(a, b string) int {
		return cmp.Compare(fields[a].number, fields[b].number)
	}) {
		for _, value := range values[name] {
			out = append(append(out, indent...), name...)
			switch v := value.(type) {
			case Values:
				out = append(appendMessage(append(out, " {\n"...), fields[name].kind, v, indent+"  "), indent+"}\n"...)
			case string:
				if fields[name].kind == "string" {
					v = quote(v)
				}
				out = append(out, ": "+v+"\n"...)
			default:
				out = fmt.Appendf(out, ": %v\n", v)
			}
		}
	}
	return out
}

func quote(s string) string {
	out := []byte{'"'}
	for _, b := range []byte(s) {
		switch at := strings.IndexByte("\a\b\f\n\r\t\v\\'\"", b); {
		case at >= 0:
			out = append(out, '\\', `abfnrtv\'"`[at])
		case b < 0x20 || b >= 0x80:
			out = fmt.Appendf(out, `\%03o`, b)
		default:
			out = append(out, b)
		}
	}
	return string(append(out, '"'))
}
