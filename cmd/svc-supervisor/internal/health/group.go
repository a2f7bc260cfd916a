package health

import (
	"slices"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// slice is the slice above the slices of all service types.
const slice = "svc.slice"

// group is the position of a process in the control groups.
type group struct {
	container spec.Name // the container whose unit the process is in; "" if it is in none
	inSlice   bool      // the process is below svc.slice
}

// groupOf parses the text of /proc/<pid>/cgroup. systemd keeps units in the hierarchy of version 2, in the hierarchy
// name=systemd of version 1, or in both (hybrid). All other hierarchies are ignored.
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

// unitIn returns the container of the first unit in a path that belongs to a container. Later elements of the path are
// ignored, because a process can make control groups of any name below its own unit. The slice of the unit is ignored
// too: a plugin may start a daemon of a container in another slice.
func unitIn(path []string) spec.Name {
	for _, element := range path {
		if name, ok := spec.UnitOwner(element); ok {
			return name
		}
	}
	return ""
}
