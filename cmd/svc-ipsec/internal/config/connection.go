package config

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Connection is one site connection.
type Connection struct {
	ID   string
	Name string
	Up   bool
	// Refused is why this connection does not run though the others do; nil if nothing is wrong with it.
	Refused error

	PeerAddress  netip.Addr // of a name: Resolve sets it
	PeerName     string     // a host name, where peerAddress is one
	LocalAddress netip.Addr // the external address of the peer's family; Resolve sets it
	LocalID      Identity
	PeerID       Identity
	LocalCIDRs   []netip.Prefix // masked, each once
	PeerCIDRs    []netip.Prefix
	ResponseOnly bool
	MTU          int
	PSK          spec.Secret // of a file: Resolve sets it
	PSKFile      string
	Files        CertificateFiles // of authMode certificate
	Certificate  Certificate      // what was found in them: Resolve sets it
	DPD          DPD
	IKE          IKEPolicy
	IPsec        IPsecPolicy

	localNumbers, peerNumbers []int // of the subnets, in the names of the pairs

	place string // its key in the document: configuration.connections[0]
}

// Place is where the connection stands in the document, as no other one does.
func (c *Connection) Place() string { return c.place }

// DPD says when a silent peer counts as dead, in seconds. A zero Interval: never asked.
type DPD struct {
	Action   string // in Libreswan's words
	Interval int
	Timeout  int
}

var connectionKeys = []string{"id", "name", "description", "adminStateUp", "peerAddress", "peerId", "localId", "localCidrs", "peerCidrs",
	"initiator", "mtu", "authMode", "psk", "pskBase64", "pskFile", "certificate",
	"dpd", "ikePolicy", "ipsecPolicy"}

var dpdKeys = []string{"action", "interval", "timeout"}

// decode reads one connection; what is wrong with it ends up in Refused, the id and name are kept if they are readable.
func (c *Connection) decode(key string, raw json.RawMessage) {
	c.Up, c.place = true, key
	fields, err := object(key, raw, connectionKeys)
	if err != nil {
		c.Refused = err
		// Its id still tells an operator which one is meant.
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
		c.LocalCIDRs, c.PeerCIDRs = legible(raw)
		return
	}
	for _, read := range []func(string, map[string]json.RawMessage) error{c.decodeNames, c.decodeEnds, c.decodeRest, c.decodePolicies} {
		if err := read(key, fields); err != nil && c.Refused == nil {
			c.Refused = err
		}
	}
	if c.Refused != nil {
		c.LocalCIDRs, c.PeerCIDRs = legible(raw)
	}
}

// Closed lists the networks that packets in clear must not leave for though the connection does not run: those of its peer, as
// far as they can be read.
func (c *Connection) Closed() []netip.Prefix {
	if c.Refused == nil || !c.Up {
		return nil
	}
	if c.IPsec.Transport && c.PeerAddress.IsValid() {
		return []netip.Prefix{host(c.PeerAddress)}
	}
	return c.PeerCIDRs
}

// legible returns what can be read of the networks of a connection that is refused.
func legible(raw json.RawMessage) (local, peer []netip.Prefix) {
	var named struct {
		LocalCIDRs any `json:"localCidrs"`
		PeerCIDRs  any `json:"peerCidrs"`
	}
	_ = json.Unmarshal(raw, &named)
	return legibleList(named.LocalCIDRs), legibleList(named.PeerCIDRs)
}

func legibleList(values any) (list []netip.Prefix) {
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
			// A name is shown and never written into a file: a control character in it is no reason to keep a tunnel down.
			c.Name = strings.Map(func(r rune) rune {
				if !unicode.IsPrint(r) {
					return '?'
				}
				return r
			}, value)
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
		if !canBeName(peer) {
			return &spec.Fault{Key: key + ".peerAddress", Value: peer, Allowed: "an IPv4 or IPv6 address, or a host name, whose last label is no number"}
		}
		c.PeerName = strings.ToLower(peer)
	}
	if a := c.PeerAddress; a.IsLoopback() || !a.Is4() && a.IsLinkLocalUnicast() {
		return &spec.Fault{Key: key + ".peerAddress", Value: peer, Allowed: "not a loopback address, nor a link-local one of IPv6"}
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
	least := 68 // RFC 791; RFC 8200 for IPv6
	for _, cidr := range c.PeerCIDRs {
		if !cidr.Addr().Is4() {
			least = 1280
		}
	}
	if c.MTU, err = number(key+".mtu", fields["mtu"], least, 65535, 1500); err != nil {
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
	if d.Action, err = choice(key+".action", fields["action"], "hold", "clear", "restart", "restart-by-peer", "disabled"); err != nil {
		return err
	}
	if d.Action == "disabled" {
		d.Action = ""
		return nil
	}
	if d.Action == "restart-by-peer" {
		d.Action = "restart" // Libreswan has no such word (reference: its dpdaction keyword)
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
