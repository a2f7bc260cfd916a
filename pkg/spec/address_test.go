package spec

import "testing"

func TestParseCIDR(t *testing.T) {
	check(t, "k", []row{
		{"an IPv4 address with its prefix passes", "169.254.0.1/30", true},
		{"an IPv6 address with its prefix passes", "fd00::1/126", true},
		{"a whole network passes", "0.0.0.0/0", true},
		{"a host passes", "10.0.0.1/32", true},
		{"an empty string is refused", "", false},
		{"an address without prefix is refused", "10.0.0.1", false},
		{"a prefix that is too long is refused", "10.0.0.1/33", false},
		{"a negative prefix is refused", "10.0.0.1/-1", false},
		{"a prefix with a sign is refused", "10.0.0.1/+8", false},
		{"a prefix with a leading zero is refused", "10.0.0.1/08", false},
		{"an octet with a leading zero is refused, because some parsers read it as octal", "010.0.0.1/8", false},
		{"a mask is refused", "10.0.0.1/255.0.0.0", false},
		{"a zone is refused", "fe80::1%eth0/64", false},
		{"an IPv4-mapped address is refused, because it would be of both families", "::ffff:10.0.0.1/126", false},
		{"a newline at the end is refused", "10.0.0.1/8\n", false},
		{"a leading blank is refused", " 10.0.0.1/8", false},
		{"a command is refused", "10.0.0.1/8;id", false},
	}, func(s string) error { _, err := ParseCIDR("k", s); return err })
}

func TestParseCIDRKeepsHostBits(t *testing.T) {
	if p, err := ParseCIDR("k", "10.1.2.3/8"); err != nil || p.String() != "10.1.2.3/8" {
		t.Errorf("%v, %v", p, err)
	}
}

func TestParseAddress(t *testing.T) {
	check(t, "k", []row{
		{"an IPv4 address passes", "100.100.100.2", true},
		{"an IPv6 address passes", "2001:db8::2", true},
		{"an empty string is refused", "", false},
		{"a host name is refused", "example.org", false},
		{"a CIDR is refused", "10.0.0.1/8", false},
		{"0.0.0.0 is refused", "0.0.0.0", false},
		{":: is refused", "::", false},
		{"an IPv4 multicast address is refused", "224.0.0.5", false},
		{"an IPv6 multicast address is refused", "ff02::1", false},
		{"the broadcast address is refused", "255.255.255.255", false},
		{"a zone is refused", "fe80::1%eth0", false},
		{"an IPv4-mapped address is refused", "::ffff:10.0.0.1", false},
		{"a newline at the end is refused", "10.0.0.1\n", false},
		{"text after the address is refused", "10.0.0.1 leftupdown=/bin/sh", false},
	}, func(s string) error { _, err := ParseAddress("k", s); return err })
}

func TestParseMAC(t *testing.T) {
	check(t, "k", []row{
		{"a unicast address passes", "ca:08:1a:94:29:0e", true},
		{"capital letters pass", "CA:08:1A:94:29:0E", true},
		{"an empty string is refused", "", false},
		{"a multicast address is refused", "01:00:5e:00:00:01", false},
		{"the broadcast address is refused", "ff:ff:ff:ff:ff:ff", false},
		{"zero is refused", "00:00:00:00:00:00", false},
		{"eight bytes are refused", "02:00:5e:10:00:00:00:01", false},
		{"five bytes are refused", "ca:08:1a:94:29", false},
		{"a newline at the end is refused", "ca:08:1a:94:29:0e\n", false},
	}, func(s string) error { _, err := ParseMAC("k", s); return err })
}
