package config

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/svc-supervisor/svc-supervisor/internal/lazyregexp"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Found is what a document only points at: this room does no I/O, so room verb looks, and sets it before Resolve. What is
// missing in it refuses the connections that need it.
type Found struct {
	Files        map[string]File // by path
	Certificates map[CertificateFiles]Certificate
	Names        map[string]Name // of peers
	At           time.Time       // when the names were looked up
}

// File is what a file holds, and why that cannot be had now: with both, the content is the last that was found.
type File struct {
	Content spec.Secret
	Fault   string
}

// Name is a peer's address and why there is no newer one: with both, the address is the last that was found.
type Name struct {
	Address netip.Addr
	Fault   string
}

// PeerNames lists the names of the peers of connections that may run, each once.
func (c *Configuration) PeerNames() []string {
	return c.each(func(c *Connection) string { return c.PeerName })
}

// PSKFiles lists the files that hold the keys of connections that may run, each once.
func (c *Configuration) PSKFiles() []string {
	return c.each(func(c *Connection) string { return c.PSKFile })
}

// each lists what is not "" of the connections that may run, each once.
func (c *Configuration) each(of func(*Connection) string) []string {
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

// canBeName says whether a peer's address can be a host name. One that ends in a number was meant as an address: no top
// level domain is a number (RFC 3696, section 2), and inet_aton takes 0x7f.1 and 1.2 for addresses.
func canBeName(s string) bool {
	return len(s) <= 253 && hostName.MatchString(s) && !longLabel.MatchString(s) && !endsInNumber.MatchString(s)
}

// takeAddress takes the address that was found for the peer's name, which is the peer's identity too if it has no other.
func (c *Connection) takeAddress(found Found) error {
	if c.PeerName == "" {
		return nil
	}
	name, ok := found.Names[c.PeerName]
	switch {
	case !ok:
		return fmt.Errorf("%s.peerAddress %s: was not looked up: allowed: a name, where there is an external address to reach its own from", c.place, spec.Quote(c.PeerName))
	case !name.Address.IsValid():
		return fmt.Errorf("%s.peerAddress %s: %s: allowed: an address, or a name that has one", c.place, spec.Quote(c.PeerName), name.Fault)
	}
	c.PeerAddress = name.Address
	if c.PeerID.IsZero() {
		c.PeerID = addressIdentity(c.PeerAddress)
	}
	return nil
}
