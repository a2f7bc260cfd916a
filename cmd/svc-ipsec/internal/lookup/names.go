package lookup

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// lookupTimeout limits the time for all names together, because an ADD has other work to do within its deadline.
const lookupTimeout = 3 * time.Second

// Resolver returns the addresses of a name. network is ip, ip4 or ip6.
type Resolver func(ctx context.Context, network, name string) ([]netip.Addr, error)

// Answer holds the addresses of a name, or the reason why they are not known.
type Answer struct {
	Addresses []netip.Addr // sorted, IPv4 first
	Fault     string
}

// Host resolves a name with the hosts file and the DNS servers of this host. A name that contains a dot is treated as
// fully qualified, so search domains are not tried for it.
func Host(ctx context.Context, network, name string) ([]netip.Addr, error) {
	if strings.Contains(name, ".") {
		name += "."
	}
	return (&net.Resolver{PreferGo: true}).LookupNetIP(ctx, network, name)
}

// Names resolves all names concurrently. A name that is not resolved within lookupTimeout gets a Fault.
func Names(ctx context.Context, resolve Resolver, network string, names []string) map[string]Answer {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	answers := make([]Answer, len(names))
	var wait sync.WaitGroup
	for i, name := range names {
		wait.Go(func() { answers[i] = answer(resolve(ctx, network, name)) })
	}
	wait.Wait()
	all := map[string]Answer{}
	for i, name := range names {
		all[name] = answers[i]
	}
	return all
}

// answer converts the result of a Resolver. It keeps only addresses that a peer can have.
func answer(addresses []netip.Addr, err error) Answer {
	if err != nil {
		return Answer{Fault: reason(err)}
	}
	var a Answer
	for _, address := range addresses {
		address = address.Unmap()
		if address.IsGlobalUnicast() && address.Zone() == "" && !slices.Contains(a.Addresses, address) {
			a.Addresses = append(a.Addresses, address)
		}
	}
	slices.SortFunc(a.Addresses, netip.Addr.Compare)
	if len(a.Addresses) == 0 {
		a.Fault = "the name has no address of a family in which the container has an external address"
	}
	return a
}

// reason returns the error text of the resolver without the name, the server and the port. These would make the reason
// different in each lookup.
func reason(err error) string {
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && dns.IsTimeout, errors.Is(err, context.DeadlineExceeded):
		return "no answer from DNS"
	case errors.As(err, &dns):
		return dns.Err[strings.LastIndex(": "+dns.Err, ": "):]
	default:
		return err.Error()
	}
}
