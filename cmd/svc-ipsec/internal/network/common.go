package network

import "slices"

// Common returns what two plans for the same interface have in common, without the guard. A container has all of it at
// every moment while its network changes from one plan to the other.
func (p *Plan) Common(other *Plan) *Plan {
	common := &Plan{Interface: p.Interface, Chained: p.Chained,
		Addresses: intersection(p.Addresses, other.Addresses), Gateways: intersection(p.Gateways, other.Gateways),
		Neighbours: slices.DeleteFunc(slices.Clone(p.Neighbours), func(n Neighbour) bool {
			return !slices.ContainsFunc(other.Neighbours, n.equal)
		}),
		Routes: intersection(p.Routes, other.Routes)}
	if p.MAC.String() == other.MAC.String() {
		common.MAC = p.MAC
	}
	if p.Bridge == other.Bridge {
		common.Bridge = p.Bridge
	}
	return common
}

func (n Neighbour) equal(other Neighbour) bool {
	return n.Address == other.Address && n.MAC.String() == other.MAC.String()
}

// intersection returns the elements of a that are also in b.
func intersection[T comparable](a, b []T) []T {
	return slices.DeleteFunc(slices.Clone(a), func(element T) bool { return !slices.Contains(b, element) })
}
