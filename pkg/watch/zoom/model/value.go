package model

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/text"
)

// uuidValue returns a UUID message, which has the two halves of the id as unsigned integers.
func uuidValue(id UUID) text.Value {
	hex := strings.ReplaceAll(string(id), "-", "")
	half := func(digits string) text.Value {
		n, err := strconv.ParseUint(digits, 16, 64)
		if err != nil {
			panic(err) // cannot happen: every UUID was validated
		}
		return text.Uint(n)
	}
	return text.Of(text.Field{Name: "msb", Value: half(hex[:16])}, text.Field{Name: "lsb", Value: half(hex[16:])})
}

// version returns the field version of an IPAddress or an IPSubnet, which is the first field of both.
func version(a netip.Addr) text.Field {
	name := ipVersion[0].name
	if !a.Is4() {
		name = ipVersion[1].name
	}
	return text.Field{Name: "version", Value: text.Name(name)}
}

func addressValue(a netip.Addr) text.Value {
	return text.Of(version(a), text.Field{Name: "address", Value: text.Quoted(a.String())})
}

func subnetValue(p netip.Prefix) text.Value {
	return text.Of(version(p.Addr()), text.Field{Name: "address", Value: text.Quoted(p.Addr().String())},
		text.Field{Name: "prefix_length", Value: text.Int(p.Bits())})
}
