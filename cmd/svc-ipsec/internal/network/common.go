package network

import "slices"

// Common returns what two plans for the same interface have in common: what a container has at every moment while its network
// changes from one to the other. The guard is left out.
func (p *Plan) Common(other *Plan) *Plan {
	common := &Plan{Interface: p.Interface, Chained: p.Chained,
		Addresses: both(p.Addresses, other.Addresses), Gateways: both(p.Gateways, other.Gateways),
		Neighbours: slices.DeleteFunc(slices.Clone(p.Neighbours), func(n Neighbour) bool { return !slices.ContainsFunc(other.Neighbours, n.same) }),
		Routes:     both(p.Routes, other.Routes)}
	if p.MAC.String() == other.MAC.String() {
		common.MAC = p.MAC
	}
	if p.Bridge == other.Bridge {
		common.Bridge = p.Bridge
	}
	return common
}

func (n Neighbour) same(other Neighbour) bool {
	return n.Address == other.Address && n.MAC.String() == other.MAC.String()
}

// both lists the elements of a that are in b too.
func both[T comparable](a, b []T) []T {
	return slices.DeleteFunc(slices.Clone(a), func(element T) bool { return !slices.Contains(b, element) })
}
