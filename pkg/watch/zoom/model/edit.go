package model

import (
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/text"
)

// hostFieldOrder lists the fields of a Host object in the order of their numbers in the proto. A field that is added to
// an object is inserted before the fields that follow it here. A field that is not in the list keeps its position.
var hostFieldOrder = []string{"id", "name", "flooding_proxy_weight", "container_weight", "container_limit",
	"enforce_container_limit", "tunnel_zone_ids", "port_ids", "host_group_ids"}

// hostFields maps the field names of the command line that EditHost accepts to the fields of a Host object.
var hostFields = map[string]string{spec.HostWeight: "container_weight", spec.HostLimit: "container_limit"}

// EditHost sets one field of a Host object, spec.HostWeight or spec.HostLimit. It keeps all other fields and their
// order, including unknown fields. It returns a *spec.Fault for a field or a number that is not allowed.
func EditHost(data []byte, field string, n int) ([]byte, error) {
	if err := spec.CheckHostField(field, n); err != nil {
		return nil, err
	}
	if n > math.MaxInt32 {
		allowed := "at most 2147483647, because MidoNet stores it as an int32"
		return nil, &spec.Fault{Key: field, Value: strconv.Itoa(n), Allowed: allowed}
	}
	name := hostFields[field]
	m, err := text.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("edit Host: %w", err)
	}
	at := slices.Index(hostFieldOrder, name)
	m.Set(name, text.Int(n), func(other string) bool { return slices.Index(hostFieldOrder, other) > at })
	return m.Print(), nil
}
