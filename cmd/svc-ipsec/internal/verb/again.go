package verb

import "github.com/svc-supervisor/svc-supervisor/pkg/spec"

// soonest is the earliest of several wishes for another ADD; nil is none.
func soonest(wishes ...*spec.Again) *spec.Again {
	var first *spec.Again
	for _, wish := range wishes {
		if wish != nil && (first == nil || wish.After < first.After) {
			first = wish
		}
	}
	return first
}
