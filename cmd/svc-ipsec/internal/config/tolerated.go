package config

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

const (
	minLifetime = 60 // seconds, as in Neutron
	maxLifetime = 86400
)

// lifetime decodes a lifetime in seconds. It accepts values below minLifetime, as release 0.1.0 did.
// legacyFaults refuses them.
func lifetime(key string, raw json.RawMessage) (int, error) {
	n, err := number(key, raw, 1, maxLifetime, defaultLifetime)
	if fault, ok := err.(*spec.Fault); ok {
		fault.Allowed = lifetimeAllowed
	}
	return n, err
}

var lifetimeAllowed = fmt.Sprintf("a number from %d to %d", minLifetime, maxLifetime)

// legacyFaults lists the faults of the connection that release 0.1.0 accepted. These are settings with which no
// traffic, or hardly any, can pass. of is the configuration that contains the connection.
func (c *Connection) legacyFaults(of *Configuration) (faults []error) {
	add := func(key, value, allowed string) {
		faults = append(faults, &spec.Fault{Key: c.place + key, Value: value, Allowed: allowed})
	}
	for _, policy := range []struct {
		key      string
		lifetime int
	}{{".ikePolicy.lifetime", c.IKE.Lifetime}, {".ipsecPolicy.lifetime", c.IPsec.Lifetime}} {
		if policy.lifetime > 0 && policy.lifetime < minLifetime { // 0 if the policy was not decoded
			add(policy.key, strconv.Itoa(policy.lifetime), lifetimeAllowed)
		}
	}
	own := slices.Concat(of.ExternalIPs, of.InternalAddresses)
	if a := c.PeerAddress; a.IsValid() {
		if slices.Contains(of.InternalAddresses, a) {
			add(".peerAddress", a.String(), "another address than the container's own")
		}
		if reserved(host(a)) {
			add(".peerAddress", a.String(), "no address of "+reservedNetworks(a))
		}
	}
	if c.IPsec.Transport {
		return faults
	}
	for _, local := range c.LocalCIDRs {
		switch {
		case reserved(local):
			add(".localCidrs", local.String(), "no network inside "+reservedNetworks(local.Addr()))
		case c.PeerAddress.IsValid() && local == host(c.PeerAddress):
			add(".localCidrs", local.String(), "another network than the peer's address itself")
		}
	}
	for _, peer := range c.PeerCIDRs {
		switch {
		case reserved(peer):
			add(".peerCidrs", peer.String(), "no network inside "+reservedNetworks(peer.Addr()))
		case peer.IsSingleIP() && slices.Contains(own, peer.Addr()):
			add(".peerCidrs", peer.String(), "another network than an address of the container itself")
		case slices.Contains(c.LocalCIDRs, peer):
			add(".peerCidrs", peer.String(),
				"no network that is in localCidrs too; a larger or a smaller one may overlap it")
		}
	}
	return faults
}

// Networks without hosts that can be reached through a router: RFC 1122, section 3.2.1.3; RFC 1112, section 4, which
// includes the broadcast address; RFC 4291, sections 2.5.2 and 2.5.6.
var (
	reservedIPv4 = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("240.0.0.0/4")}
	reservedIPv6 = []netip.Prefix{netip.MustParsePrefix("::/128"), netip.MustParsePrefix("fe80::/10")}
)

func reservedOf(a netip.Addr) []netip.Prefix {
	if a.Is4() {
		return reservedIPv4
	}
	return reservedIPv6
}

// reserved reports whether the whole network is inside a reserved one.
func reserved(network netip.Prefix) bool {
	return slices.ContainsFunc(reservedOf(network.Addr()), func(r netip.Prefix) bool {
		return r.Bits() <= network.Bits() && r.Contains(network.Addr())
	})
}

func reservedNetworks(a netip.Addr) string {
	r := reservedOf(a)
	return r[0].String() + " or " + r[1].String()
}
