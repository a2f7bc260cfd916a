package health

import (
	"slices"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// slice is the slice above the slices of all service types.
const slice = "svc.slice"

// group is where a process stands in the control groups.
type group struct {
	container spec.Name // whose unit it is in; "" for none
	inSlice   bool
}

// groupOf reads the text of /proc/<pid>/cgroup. systemd keeps units in the hierarchy of version 2, in the hierarchy
// name=systemd of version 1, or in both (hybrid).
func groupOf(text string) group {
	var g group
	for line := range strings.Lines(text) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(fields) != 3 || fields[0] != "0" && fields[1] != "name=systemd" {
			continue
		}
		path := strings.Split(fields[2], "/")
		g.inSlice = g.inSlice || slices.Contains(path, slice)
		if g.container == "" {
			g.container = unitIn(path)
		}
	}
	return g
}

// unitIn returns the container whose unit is the first in a path. A process can make control groups of any name
// below its own unit, so what follows the first does not count. The slice of the unit does not count either: a
// daemon that a plugin started in another slice is a daemon of its container all the same.
func unitIn(path []string) spec.Name {
	for _, element := range path {
		if name, ok := spec.UnitOwner(element); ok {
			return name
		}
	}
	return ""
}
