package config

import (
	"net/netip"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Connection is one site connection.
type Connection struct {
	ID   string
	Name string
	Up   bool
	// Refused is the reason why this connection must not run, or nil if it is valid. The other connections are not
	// affected.
	Refused error
	// Tolerated lists faults for which the connection would be refused if it were new.
	Tolerated []error

	PeerAddress  netip.Addr // Resolve sets it if PeerName is set
	PeerName     string     // the host name in peerAddress, or "" if that is an address
	LocalAddress netip.Addr // the external address of the peer's family; Resolve sets it
	LocalID      Identity
	PeerID       Identity
	LocalCIDRs   []netip.Prefix // masked, without duplicates
	PeerCIDRs    []netip.Prefix // masked, without duplicates
	ResponseOnly bool
	MTU          int
	PSK          spec.Secret // Resolve sets it if PSKFile is set
	PSKFile      string
	Files        CertificateFiles // zero unless authMode is certificate
	Certificate  Certificate      // from the contents of Files; Resolve sets it
	DPD          DPD
	IKE          IKEPolicy
	IPsec        IPsecPolicy

	localNumbers, peerNumbers []int // the numbers of the subnets in the names of the pairs; Resolve sets them

	faults []error // of decode, at most one for each group of keys

	place string         // the key of the connection in the document: configuration.connections[0]
	of    *Configuration // set by Resolve
}

// Place returns the key of the connection in the document, such as configuration.connections[0]. It is unique in the
// document, also where ids are missing or duplicated.
func (c *Connection) Place() string { return c.place }

// DPD configures dead peer detection, in seconds. With a zero Interval it is disabled.
type DPD struct {
	Action   string // a value of Libreswan's dpdaction
	Interval int
	Timeout  int
}

// BlockedNetworks lists the peer networks of a refused connection, as far as they can be decoded. Packets to these
// networks must not leave the container unencrypted, although the connection does not run. The list is empty for a
// connection that is not refused, or that is administratively down.
func (c *Connection) BlockedNetworks() []netip.Prefix {
	if c.Refused == nil || !c.Up {
		return nil
	}
	if c.IPsec.Transport && c.PeerAddress.IsValid() {
		return []netip.Prefix{host(c.PeerAddress)}
	}
	return c.PeerCIDRs
}

// ByCertificate reports whether the connection has authMode certificate.
func (c *Connection) ByCertificate() bool { return c.Files != CertificateFiles{} }

// authentication returns a key that is equal for two connections if they use the same certificate, or if both use a
// pre-shared key.
func (c *Connection) authentication() string {
	return strings.Join([]string{c.Certificate.Nickname, c.Certificate.PeerCA, c.Certificate.Digest}, " ")
}

// withoutPlace returns the text of a fault without the place of its connection. The place changes when an edit inserts
// or removes another connection.
func (c *Connection) withoutPlace(err error) string {
	return strings.ReplaceAll(err.Error(), c.place, "")
}
