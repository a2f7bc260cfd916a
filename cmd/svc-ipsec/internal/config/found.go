package config

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/svc-supervisor/svc-supervisor/internal/lazyregexp"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Found holds the contents of the files and the addresses of the names that a document references. Package config does
// no I/O, so package verb fills it before Resolve. Resolve refuses connections that reference a file or name without an
// entry.
type Found struct {
	Files        map[string]File // pre-shared keys, by path
	Certificates map[CertificateFiles]Certificate
	Names        map[string]Name // by the name of the peer
	At           time.Time       // when the names were resolved
}

// File is the content of a file, and the reason why the file cannot be read now. If both are set, Content is from an
// earlier read.
type File struct {
	Content spec.Secret
	Fault   string
}

// Name is the address of a peer name, and the reason why the name cannot be resolved now. If both are set, Address is
// from an earlier lookup.
type Name struct {
	Address netip.Addr
	Fault   string
}

// PeerNames lists the peer names of the connections that Wanted returns, without duplicates.
func (c *Configuration) PeerNames() []string {
	return c.distinct(func(c *Connection) string { return c.PeerName })
}

// PSKFiles lists the paths of the key files of the connections that Wanted returns, without duplicates.
func (c *Configuration) PSKFiles() []string {
	return c.distinct(func(c *Connection) string { return c.PSKFile })
}

// Certificates lists the certificate files of the connections that Wanted returns, each set of files once.
func (c *Configuration) Certificates() []CertificateFiles {
	var list []CertificateFiles
	seen := map[CertificateFiles]bool{{}: true}
	for _, connection := range c.Wanted() {
		if !seen[connection.Files] {
			list = append(list, connection.Files)
		}
		seen[connection.Files] = true
	}
	return list
}

// distinct lists the values that of returns for the connections that Wanted returns, without duplicates and empty
// strings.
func (c *Configuration) distinct(of func(*Connection) string) []string {
	var values []string
	seen := map[string]bool{"": true}
	for _, connection := range c.Wanted() {
		if value := of(connection); !seen[value] {
			values = append(values, value)
			seen[value] = true
		}
	}
	return values
}

var (
	endsInNumber = lazyregexp.New(`(^|\.)([0-9]+|0[xX][0-9a-fA-F]*)$`)
	longLabel    = lazyregexp.New(`[^.]{64}`)
)

// validHostName reports whether a peerAddress that is not an IP address can be a host name. A name whose last label is
// a number is a mistyped address: no top level domain is a number (RFC 3696, section 2), and inet_aton accepts 0x7f.1
// and 1.2 as addresses.
func validHostName(s string) bool {
	return len(s) <= 253 && hostName.MatchString(s) && !longLabel.MatchString(s) && !endsInNumber.MatchString(s)
}

// setPSK sets PSK to the content of PSKFile. The content of an earlier read counts if the file cannot be read now.
func (f Found) setPSK(c *Connection) error {
	if c.PSKFile == "" || !c.Up {
		return nil
	}
	file, ok := f.Files[c.PSKFile]
	switch {
	case !ok:
		return fmt.Errorf("%s.pskFile %s: was not read", c.place, spec.Quote(c.PSKFile))
	case file.Fault != "" && len(file.Content.Reveal()) == 0:
		return fmt.Errorf("%s.pskFile %s: %s", c.place, spec.Quote(c.PSKFile), file.Fault)
	}
	c.PSK = file.Content
	return nil
}

// setAddress sets PeerAddress to the address of PeerName, and PeerID to the same address if the document has no
// peerId.
func (f Found) setAddress(c *Connection) error {
	if c.PeerName == "" {
		return nil
	}
	name, ok := f.Names[c.PeerName]
	switch {
	case !ok:
		return fmt.Errorf("%s.peerAddress %s: was not looked up: "+
			"allowed: a name, where there is an external address to reach its own from", c.place,
			spec.Quote(c.PeerName))
	case !name.Address.IsValid():
		return fmt.Errorf("%s.peerAddress %s: %s: allowed: an address, or a name that has one",
			c.place, spec.Quote(c.PeerName), name.Fault)
	}
	c.PeerAddress = name.Address
	if c.PeerID.IsZero() {
		c.PeerID = addressIdentity(c.PeerAddress)
	}
	return nil
}

// setCertificate sets Certificate, and LocalID if the document has none, from the contents of the certificate files.
// It returns an error if no contents are known. Contents from an earlier read count if the files cannot be read now.
func (f Found) setCertificate(c *Connection) error {
	if !c.ByCertificate() || !c.Up {
		return nil
	}
	certificate, ok := f.Certificates[c.Files]
	switch {
	case !ok:
		return fmt.Errorf("%s.certificate.certificateFile %s: was not read", c.place, spec.Quote(c.Files.Certificate))
	case certificate.Nickname == "":
		return fmt.Errorf("%s.certificate: %s", c.place, certificate.Fault)
	case certificate.AuthBy == "ecdsa" && c.IKE.Version == "v1":
		return fmt.Errorf("%s.certificate.certificateFile %s: an ECDSA key: allowed: RSA, with ikeVersion v1",
			c.place, spec.Quote(c.Files.Certificate))
	}
	if certificate.PeerCA != sameCA {
		name, fault := distinguishedName(certificate.PeerCA)
		if fault != nil {
			return fmt.Errorf("%s.certificate.caFile %s: the root's subject is %s: "+
				"allowed: the issuer of our own certificate, or a subject like C=FR, O=Example, CN=ca",
				c.place, spec.Quote(c.Files.CA), spec.Quote(certificate.PeerCA))
		}
		certificate.PeerCA = name.String()
	}
	c.Certificate = certificate
	if c.LocalID.IsZero() {
		c.LocalID = Identity{kindDN, fromCertificate}
	}
	return nil
}

// Assume fills Found with made-up values for all files and names that the document references, so that Resolve reports
// only faults of the document itself. Two connections that reference the same file or name get the same value.
func (c *Configuration) Assume() {
	c.Found = Found{
		Files: map[string]File{}, Names: map[string]Name{}, Certificates: map[CertificateFiles]Certificate{},
	}
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
