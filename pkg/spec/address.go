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

// ParseCIDR parses an address with its prefix length and keeps the host bits. It refuses a zone and an IPv4-mapped IPv6
// address.
func ParseCIDR(key, s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, &Fault{key, s, cidrAllowed}
	}
	return p, nil
}

// broadcast is the limited broadcast address of IPv4. It is never the address of a host, whatever the subnet is.
var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// ParseAddress parses a unicast address without a zone. It refuses an IPv4-mapped IPv6 address.
func ParseAddress(key, s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" || a.Is4In6() || a.IsUnspecified() || a.IsMulticast() || a == broadcast {
		return netip.Addr{}, &Fault{key, s, addressAllowed}
	}
	return a, nil
}

// isBroadcast reports whether a, an address of the subnet, is the subnet's broadcast address. IPv6 subnets and IPv4
// subnets with a prefix length of 31 or 32 have none (RFC 3021).
func isBroadcast(subnet netip.Prefix, a netip.Addr) bool {
	return a.Is4() && subnet.Bits() < 31 && !subnet.Contains(a.Next())
}

// ParseMAC parses a unicast Ethernet address of six bytes other than 00:00:00:00:00:00.
func ParseMAC(key, s string) (net.HardwareAddr, error) {
	mac, err := net.ParseMAC(s)
	if err != nil || len(mac) != 6 || mac[0]&1 == 1 || mac.String() == "00:00:00:00:00:00" {
		return nil, &Fault{key, s, macAllowed}
	}
	return mac, nil
}
