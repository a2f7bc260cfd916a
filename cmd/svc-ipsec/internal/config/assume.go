package config

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Assume puts something into Found for everything that the document points at, so that Resolve finds what is wrong with the document
// itself. What two connections name in the same way is the same.
func (c *Configuration) Assume() {
	c.Found = Found{Files: map[string]File{}, Names: map[string]Name{}, Certificates: map[CertificateFiles]Certificate{}}
	for _, path := range c.PSKFiles() {
		c.Found.Files[path] = File{Content: spec.NewSecret([]byte(path))}
	}
	for i, name := range c.PeerNames() {
		c.Found.Names[name] = Name{Address: c.assumed(i)}
	}
	for _, files := range c.Certificates() {
		c.Found.Certificates[files] = Certificate{Nickname: files.Certificate, AuthBy: "rsasig", PeerCA: sameCA,
			Digest: files.Certificate + " " + files.PrivateKey + " " + files.CA}
	}
}

// assumed is the address of a peer's name: one of a family that the container has, from a range in which nobody has a peer (RFC 7526,
// RFC 6666).
func (c *Configuration) assumed(i int) netip.Addr {
	for _, ip := range c.ExternalIPs {
		if ip.Is4() {
			return netip.AddrFrom4([4]byte{192, 88, 99, byte(i)}) // there are at most maxConnections
		}
	}
	address := netip.MustParseAddr("100::").As16()
	binary.BigEndian.PutUint32(address[12:], uint32(i))
	return netip.AddrFrom16(address)
}

// Faults lists what is wrong with the connections, after Resolve: why each one is refused that is, and what earlier releases
// accepted.
func (c *Configuration) Faults() []error {
	var faults []error
	for i := range c.Connections {
		connection := &c.Connections[i]
		if connection.Refused == nil {
			continue
		}
		list := slices.Clone(connection.faults)
		if len(list) == 0 {
			list = []error{connection.Refused}
		}
		for _, fault := range connection.newFaults(c) {
			if fault.Error() != connection.Refused.Error() {
				list = append(list, fault)
			}
		}
		faults = append(faults, list...)
	}
	return faults
}
