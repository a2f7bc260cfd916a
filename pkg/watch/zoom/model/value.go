package model

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/text"
)

// uuidValue is a UUID message: the two halves as unsigned decimals.
func uuidValue(id UUID) text.Value {
	hex := strings.ReplaceAll(string(id), "-", "")
	half := func(digits string) text.Value {
		n, err := strconv.ParseUint(digits, 16, 64)
		if err != nil {
			panic(err) // a UUID is checked where it is made
		}
		return text.Uint(n)
	}
	return text.Of(text.Field{Name: "msb", Value: half(hex[:16])}, text.Field{Name: "lsb", Value: half(hex[16:])})
}

// version is the first field of an IPAddress and of an IPSubnet.
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
