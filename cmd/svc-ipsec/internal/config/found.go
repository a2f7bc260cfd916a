package config

import (
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

// applyAddress sets PeerAddress to the address of PeerName, and PeerID to the same address if the document has no
// peerId.
func (c *Connection) applyAddress(found Found) error {
	if c.PeerName == "" {
		return nil
	}
	name, ok := found.Names[c.PeerName]
	switch {
	case !ok:
		return fmt.Errorf("%s.peerAddress %s: was not looked up: "+
			"allowed: a name, where there is an external address to reach its own from", c.place, spec.Quote(c.PeerName))
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
