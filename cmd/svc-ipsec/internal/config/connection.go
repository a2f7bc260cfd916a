package config

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/svc-supervisor/svc-supervisor/internal/oneline"
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

var connectionKeys = []string{
	"id", "name", "description", "adminStateUp", "peerAddress", "peerId", "localId", "localCidrs", "peerCidrs",
	"initiator", "mtu", "authMode", "psk", "pskBase64", "pskFile", "certificate",
	"dpd", "ikePolicy", "ipsecPolicy",
}

var dpdKeys = []string{"action", "interval", "timeout"}

// decode decodes one connection. It sets Refused to the first fault. A refused connection keeps its id, name and
// networks as far as they can be decoded.
func (c *Connection) decode(key string, raw json.RawMessage) {
	c.Up, c.place = true, key
	fields, err := object(key, raw, connectionKeys)
	if err != nil {
		c.Refused = err
		// Operators need the id and the name to identify the refused connection in the status.
		var named struct{ ID, Name any }
		if json.Unmarshal(raw, &named) == nil {
			c.ID, _ = named.ID.(string)
			c.Name, _ = named.Name.(string)
		}
		if !readable(c.ID) {
			c.ID = ""
		}
		if !readable(c.Name) {
			c.Name = ""
		}
		c.LocalCIDRs, c.PeerCIDRs = readableNetworks(raw)
		return
	}
	for _, decodeGroup := range []func(string, map[string]json.RawMessage) error{
		c.decodeNames, c.decodeEnds, c.decodeRest, c.decodePolicies,
	} {
		if err := decodeGroup(key, fields); err != nil {
			c.faults = append(c.faults, err)
		}
	}
	if len(c.faults) == 0 {
		if err := c.checkSubnets(key); err != nil {
			c.faults = append(c.faults, err)
		}
	}
	if len(c.faults) > 0 {
		c.Refused = c.faults[0]
		c.LocalCIDRs, c.PeerCIDRs = readableNetworks(raw)
	}
}

// Closed lists the peer networks of a refused connection, as far as they can be decoded. Packets to these networks must
// not leave the container unencrypted, although the connection does not run. The list is empty for a connection that is
// not refused, or that is administratively down.
func (c *Connection) Closed() []netip.Prefix {
	if c.Refused == nil || !c.Up {
		return nil
	}
	if c.IPsec.Transport && c.PeerAddress.IsValid() {
		return []netip.Prefix{host(c.PeerAddress)}
	}
	return c.PeerCIDRs
}

// readableNetworks returns those networks of a refused connection that are valid, and ignores all other values.
func readableNetworks(raw json.RawMessage) (local, peer []netip.Prefix) {
	var named struct {
		LocalCIDRs any `json:"localCidrs"`
		PeerCIDRs  any `json:"peerCidrs"`
	}
	_ = json.Unmarshal(raw, &named)
	return readablePrefixes(named.LocalCIDRs), readablePrefixes(named.PeerCIDRs)
}

func readablePrefixes(values any) (list []netip.Prefix) {
	all, _ := values.([]any)
	for _, value := range all {
		s, _ := value.(string)
		cidr, err := spec.ParseCIDR("", s)
		if err == nil && unicast(cidr) && len(list) < maxCIDRs && !slices.Contains(list, cidr.Masked()) {
			list = append(list, cidr.Masked())
		}
	}
	return list
}

func (c *Connection) decodeNames(key string, fields map[string]json.RawMessage) error {
	id, err := text(key+".id", fields["id"])
	if err != nil {
		return err
	}
	if !readable(id) {
		return &spec.Fault{Key: key + ".id", Value: id, Allowed: "1 to 255 bytes of printable text"}
	}
	c.ID = id
	for _, free := range []string{"name", "description"} {
		value, err := text(key+"."+free, fields[free])
		if err != nil {
			return err
		}
		if value != "" && free == "name" {
			// The name is only displayed and never written to a file. So a control character in it is replaced, instead
			// of refusing the connection.
			c.Name = oneline.Replace(value, '?')
		}
	}
	c.Up, err = boolean(key+".adminStateUp", fields["adminStateUp"], true)
	return err
}

func readable(s string) bool {
	return s != "" && len(s) <= 255 && printable(s)
}

func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

func (c *Connection) decodeEnds(key string, fields map[string]json.RawMessage) error {
	peer, err := text(key+".peerAddress", fields["peerAddress"])
	if err != nil {
		return err
	}
	if c.PeerAddress, err = spec.ParseAddress(key+".peerAddress", peer); err != nil {
		if !validHostName(peer) {
			return &spec.Fault{
				Key: key + ".peerAddress", Value: peer,
				Allowed: "an IPv4 or IPv6 address, or a host name, whose last label is no number",
			}
		}
		c.PeerName = strings.ToLower(peer)
	}
	if a := c.PeerAddress; a.IsLoopback() || !a.Is4() && a.IsLinkLocalUnicast() {
		return &spec.Fault{
			Key: key + ".peerAddress", Value: peer, Allowed: "not a loopback address, nor a link-local one of IPv6",
		}
	}
	if c.LocalID, err = identity(key+".localId", fields["localId"]); err != nil {
		return err
	}
	if c.PeerID, err = identity(key+".peerId", fields["peerId"]); err != nil {
		return err
	}
	if c.PeerID.IsZero() && c.PeerName == "" {
		c.PeerID = addressIdentity(c.PeerAddress)
	}
	if c.LocalCIDRs, err = cidrs(key+".localCidrs", fields["localCidrs"]); err != nil {
		return err
	}
	c.PeerCIDRs, err = cidrs(key+".peerCidrs", fields["peerCidrs"])
	return err
}

func (c *Connection) decodeRest(key string, fields map[string]json.RawMessage) error {
	initiator, err := choice(key+".initiator", fields["initiator"], "bi-directional", "response-only")
	if err != nil {
		return err
	}
	c.ResponseOnly = initiator == "response-only"
	minimum := 68 // RFC 791; RFC 8200 for IPv6
	for _, cidr := range c.PeerCIDRs {
		if !cidr.Addr().Is4() {
			minimum = 1280
		}
	}
	if c.MTU, err = number(key+".mtu", fields["mtu"], minimum, 65535, 1500); err != nil {
		return err
	}
	if err = c.decodeAuthentication(key, fields); err != nil {
		return err
	}
	return c.DPD.decode(key+".dpd", fields["dpd"])
}

func (d *DPD) decode(key string, raw json.RawMessage) error {
	fields := map[string]json.RawMessage{}
	var err error
	if !absent(raw) {
		if fields, err = object(key, raw, dpdKeys); err != nil {
			return err
		}
	}
	d.Action, err = choice(key+".action", fields["action"], "hold", "clear", "restart", "restart-by-peer", "disabled")
	if err != nil {
		return err
	}
	if d.Action == "disabled" {
		d.Action = ""
		return nil
	}
	if d.Action == "restart-by-peer" {
		d.Action = "restart" // Libreswan's dpdaction has no restart-by-peer
	}
	if d.Interval, err = number(key+".interval", fields["interval"], 1, 86400, 30); err != nil {
		return err
	}
	d.Timeout, err = number(key+".timeout", fields["timeout"], d.Interval+1, 86400, max(120, 4*d.Interval))
	return err
}

func unicast(p netip.Prefix) bool { return !p.Addr().IsMulticast() && !p.Addr().IsLoopback() }

func cidrs(key string, raw json.RawMessage) ([]netip.Prefix, error) {
	values, err := texts(key, raw, maxCIDRs)
	if err != nil {
		return nil, err
	}
	var list []netip.Prefix
	seen := map[netip.Prefix]bool{}
	for _, value := range values {
		prefix, err := spec.ParseCIDR(key, value)
		if err != nil {
			return nil, err
		}
		prefix = prefix.Masked()
		if !unicast(prefix) {
			return nil, &spec.Fault{Key: key, Value: value, Allowed: "unicast networks, not the loopback one"}
		}
		if !seen[prefix] {
			list = append(list, prefix)
		}
		seen[prefix] = true
	}
	return list, nil
}
