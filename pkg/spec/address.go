package spec

import (
	"net"
	"net/netip"
)

const (
	cidrAllowed    = "an address with a prefix length, like 169.254.0.1/30 or fd00::1/126"
	addressAllowed = "an IPv4 or IPv6 unicast address, like 100.100.100.2 or 2001:db8::2"
	macAllowed     = "a unicast MAC address of six bytes, like ca:08:1a:94:29:0e"
)

// ParseCIDR checks an address with its prefix length; the bits of the host are kept. A zone or a v4-mapped form is refused.
func ParseCIDR(key, s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, &Fault{key, s, cidrAllowed}
	}
	return p, nil
}

// broadcast is the one address of IPv4 that no network has to be known for to tell that it is none of a host.
var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// ParseAddress checks a single unicast address without a zone.
func ParseAddress(key, s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" || a.Is4In6() || a.IsUnspecified() || a.IsMulticast() || a == broadcast {
		return netip.Addr{}, &Fault{key, s, addressAllowed}
	}
	return a, nil
}

// isBroadcast says whether the address is the broadcast address of its IPv4 subnet; one of 31 or 32 bits has none (RFC 3021).
func isBroadcast(subnet netip.Prefix, a netip.Addr) bool {
	return a.Is4() && subnet.Bits() < 31 && !subnet.Contains(a.Next())
}

// ParseMAC checks a unicast Ethernet address.
func ParseMAC(key, s string) (net.HardwareAddr, error) {
	mac, err := net.ParseMAC(s)
	if err != nil || len(mac) != 6 || mac[0]&1 == 1 || mac.String() == "00:00:00:00:00:00" {
		return nil, &Fault{key, s, macAllowed}
	}
	return mac, nil
}
