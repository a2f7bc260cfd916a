package reconcile

import (
	"fmt"
	"slices"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// desiredOf returns a desired state with n bindings. The binding with index changed has another group.
func desiredOf(n, changed int) spec.Desired {
	desired := spec.Desired{Host: spec.Host{ID: "h", Weight: 1, Limit: -1}}
	for i := range n {
		id := fmt.Sprintf("%06d", i)
		binding := vpn(spec.PortID("p"+id), spec.Name("vpn-"+id), spec.ContainerID("c"+id))
		if i == changed {
			binding.Container.GroupID = "other"
		}
		desired.Bindings = append(desired.Bindings, binding)
	}
	return desired
}

// BenchmarkDesiredSetDifference measures indexing a desired state and comparing it with one that differs in one
// binding.
func BenchmarkDesiredSetDifference(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			was, is := sortClaims(ptr(desiredOf(n, -1))), desiredOf(n, 7)
			b.ReportAllocs()
			for b.Loop() {
				if names := changedNames(was, sortClaims(&is)); len(names) != 1 {
					b.Fatal(names)
				}
			}
		})
	}
}

// BenchmarkClaim measures finding the binding of one name among n recorded names.
func BenchmarkClaim(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			claims, recorded := sortClaims(ptr(desiredOf(n, -1))), newHolders()
			for name, bindings := range claims.byName {
				recorded.set(name, holder{port: bindings[0].PortID, container: bindings[0].Container.ContainerID})
			}
			b.ReportAllocs()
			for b.Loop() {
				if c := claims.claim("vpn-000007", recorded); c.Binding == nil || c.Taken != "" {
					b.Fatal(c)
				}
			}
		})
	}
}

func ptr[T any](v T) *T { return &v }

// BenchmarkDuplicates measures the search for duplicates after a change of one binding.
func BenchmarkDuplicates(b *testing.B) {
	for _, count := range []int{100, 10000} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			var bindings []spec.Binding
			for i := range count {
				external := fmt.Sprintf("100.64.%d.%d", i/250, i%250)
				bindings = append(
					bindings,
					addressed(spec.PortID(fmt.Sprintf("p%05d", i)), "vpn", "c", external),
				)
			}
			var d duplicates
			d.find(bindings)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				c := &bindings[i%count]
				c.Configuration = slices.Clone(c.Configuration)
				d.find(bindings)
			}
		})
	}
}
