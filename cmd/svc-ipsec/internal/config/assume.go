package config

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Assume fills Found with made-up values for all files and names that the document references, so that Resolve reports
// only faults of the document itself. Two connections that reference the same file or name get the same value.
func (c *Configuration) Assume() {
	c.Found = Found{Files: map[string]File{}, Names: map[string]Name{}, Certificates: map[CertificateFiles]Certificate{}}
	for _, path := range c.PSKFiles() {
		c.Found.Files[path] = File{Content: spec.NewSecret([]byte(path))}
	}
	for i, name := range c.PeerNames() {
		c.Found.Names[name] = Name{Address: c.assumedAddress(i)}
	}
	for _, files := range c.Certificates() {
		c.Found.Certificates[files] = Certificate{Nickname: files.Certificate, AuthBy: "rsasig", PeerCA: sameCA,
			Digest: files.Certificate + " " + files.PrivateKey + " " + files.CA}
	}
}

// assumedAddress returns the address that Assume uses for the peer name with index i. The container has an external
// address of the same family. The range is one in which no peer has an address (RFC 7526, RFC 6666).
func (c *Configuration) assumedAddress(i int) netip.Addr {
	for _, ip := range c.ExternalIPs {
		if ip.Is4() {
			return netip.AddrFrom4([4]byte{192, 88, 99, byte(i)}) // there are at most maxConnections
		}
	}
	address := netip.MustParseAddr("100::").As16()
	binary.BigEndian.PutUint32(address[12:], uint32(i))
	return netip.AddrFrom16(address)
}

// Faults lists the faults of all refused connections: the reasons for which Resolve refused each of them, and the
// faults that release 0.1.0 accepted. The caller must have called Resolve.
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
		for _, fault := range connection.faultsAcceptedBy010(c) {
			if fault.Error() != connection.Refused.Error() {
				list = append(list, fault)
			}
		}
		faults = append(faults, list...)
	}
	return faults
}
