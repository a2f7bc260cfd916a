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

// namesLimit bounds the look at all names together: an ADD has more to do.
const namesLimit = 3 * time.Second

// Resolver answers with the addresses of a name; network is ip, ip4 or ip6.
type Resolver func(ctx context.Context, network, name string) ([]netip.Addr, error)

// Answer is what a name leads to, or why that is not known.
type Answer struct {
	Addresses []netip.Addr // sorted, IPv4 first
	Fault     string
}

// Host resolves as this host does, by its files and its DNS servers. A name with a dot is a whole one: no search domain
// is tried for it.
func Host(ctx context.Context, network, name string) ([]netip.Addr, error) {
	if strings.Contains(name, ".") {
		name += "."
	}
	return (&net.Resolver{PreferGo: true}).LookupNetIP(ctx, network, name)
}

// Names looks up all names at once. Whoever does not answer in time has not answered.
func Names(ctx context.Context, resolve Resolver, network string, names []string) map[string]Answer {
	ctx, cancel := context.WithTimeout(ctx, namesLimit)
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

// answer keeps the addresses that a peer can have.
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
		a.Fault = "it has no address of a family that the container has an external address of"
	}
	return a
}

// reason is the resolver's own word. Name, server and port are left out: they would make another reason at each look.
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
