package config

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/svc-supervisor/svc-supervisor/internal/oneline"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

var connectionKeys = []string{
	"id", "name", "description", "adminStateUp", "peerAddress", "peerId", "localId", "localCidrs", "peerCidrs",
	"initiator", "mtu", "authMode", "psk", "pskBase64", "pskFile", "certificate",
	"dpd", "ikePolicy", "ipsecPolicy",
}

var dpdKeys = []string{"action", "interval", "timeout"}

// connectionDecoder decodes one connection.
type connectionDecoder struct {
	*Connection
	key    string // of the connection in the document
	fields map[string]json.RawMessage
}

// decodeConnection decodes one connection. It sets Refused to the first fault. A refused connection keeps its id, name
// and what BlockedNetworks needs, as far as they can be decoded.
func decodeConnection(c *Connection, key string, raw json.RawMessage) {
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
		keepReadable(c, raw)
		return
	}
	d := connectionDecoder{c, key, fields}
	for _, decodeGroup := range []func() error{d.decodeNames, d.decodeEndpoints, d.decodeRest, d.decodePolicies} {
		if err := decodeGroup(); err != nil {
			c.faults = append(c.faults, err)
		}
	}
	if len(c.faults) == 0 {
		if err := d.checkSubnets(); err != nil {
			c.faults = append(c.faults, err)
		}
	}
	if len(c.faults) > 0 {
		c.Refused = c.faults[0]
		keepReadable(c, raw)
	}
}

func (d connectionDecoder) decodeNames() error {
	id, err := text(d.key+".id", d.fields["id"])
	if err != nil {
		return err
	}
	if !readable(id) {
		return &spec.Fault{Key: d.key + ".id", Value: id, Allowed: "1 to 255 bytes of printable text"}
	}
	d.ID = id
	for _, free := range []string{"name", "description"} {
		value, err := text(d.key+"."+free, d.fields[free])
		if err != nil {
			return err
		}
		if value != "" && free == "name" {
			// The name is only displayed and never written to a file. So a control character in it is replaced, instead
			// of refusing the connection.
			d.Name = oneline.Replace(value, '?')
		}
	}
	d.Up, err = boolean(d.key+".adminStateUp", d.fields["adminStateUp"], true)
	return err
}

func readable(s string) bool {
	return s != "" && len(s) <= 255 && printable(s)
}

func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

func (d connectionDecoder) decodeEndpoints() error {
	peer, err := text(d.key+".peerAddress", d.fields["peerAddress"])
	if err != nil {
		return err
	}
	if d.PeerAddress, err = spec.ParseAddress(d.key+".peerAddress", peer); err != nil {
		if !validHostName(peer) {
			return &spec.Fault{
				Key: d.key + ".peerAddress", Value: peer,
				Allowed: "an IPv4 or IPv6 address, or a host name whose last label is not a number",
			}
		}
		d.PeerName = strings.ToLower(peer)
	}
	if a := d.PeerAddress; a.IsLoopback() || !a.Is4() && a.IsLinkLocalUnicast() {
		return &spec.Fault{
			Key: d.key + ".peerAddress", Value: peer, Allowed: "not a loopback address, nor a link-local one of IPv6",
		}
	}
	if d.LocalID, err = identity(d.key+".localId", d.fields["localId"]); err != nil {
		return err
	}
	if d.PeerID, err = identity(d.key+".peerId", d.fields["peerId"]); err != nil {
		return err
	}
	if d.PeerID.IsZero() && d.PeerName == "" {
		d.PeerID = addressIdentity(d.PeerAddress)
	}
	if d.LocalCIDRs, err = cidrs(d.key+".localCidrs", d.fields["localCidrs"]); err != nil {
		return err
	}
	d.PeerCIDRs, err = cidrs(d.key+".peerCidrs", d.fields["peerCidrs"])
	return err
}

func (d connectionDecoder) decodeRest() error {
	initiator, err := choice(d.key+".initiator", d.fields["initiator"], "bi-directional", "response-only")
	if err != nil {
		return err
	}
	d.ResponseOnly = initiator == "response-only"
	minimum := 68 // RFC 791; RFC 8200 for IPv6
	for _, cidr := range d.PeerCIDRs {
		if !cidr.Addr().Is4() {
			minimum = 1280
		}
	}
	if d.MTU, err = number(d.key+".mtu", d.fields["mtu"], minimum, 65535, 1500); err != nil {
		return err
	}
	if err = d.decodeAuthentication(); err != nil {
		return err
	}
	return d.DPD.decode(d.key+".dpd", d.fields["dpd"])
}

func (d connectionDecoder) decodePolicies() error {
	if err := d.IKE.decode(d.key+".ikePolicy", d.fields["ikePolicy"]); err != nil {
		return err
	}
	return d.IPsec.decode(d.key+".ipsecPolicy", d.fields["ipsecPolicy"], d.IKE.Version)
}

// decodeAuthentication reads authMode and the keys that belong to it: a pre-shared key, or the paths of certificates.
func (d connectionDecoder) decodeAuthentication() error {
	mode, err := choice(d.key+".authMode", d.fields["authMode"], "psk", "certificate")
	if err != nil {
		return err
	}
	if mode == "psk" {
		if !absent(d.fields["certificate"]) {
			return &spec.Fault{
				Key: d.key + ".certificate", Value: kind(d.fields["certificate"]), Allowed: "none with authMode psk",
			}
		}
		return d.decodePSK()
	}
	for _, name := range pskKeys {
		if !absent(d.fields[name]) {
			return &spec.Fault{Key: d.key + "." + name, Value: "[secret]", Allowed: "none with authMode certificate"}
		}
	}
	if d.PeerID.kind == kindKeyID {
		return &spec.Fault{
			Key: d.key + ".peerId", Value: d.PeerID.text,
			Allowed: "with authMode certificate what a certificate can hold: no key id",
		}
	}
	return d.Files.decode(d.key+".certificate", d.fields["certificate"])
}

// decodePSK decodes the pre-shared key, or the path of its file. It does not read the file. Faults never contain a
// value that may be a key.
func (d connectionDecoder) decodePSK() error {
	var given []string
	for _, name := range pskKeys {
		if !absent(d.fields[name]) {
			given = append(given, name)
		}
	}
	if len(given) != 1 {
		return &spec.Fault{
			Key: d.key + ".psk", Value: strings.Join(given, " and "),
			Allowed: "exactly one of " + strings.Join(pskKeys, ", "),
		}
	}
	var err error
	switch name := given[0]; name {
	case "psk":
		d.PSK, err = secret(d.key+".psk", d.fields[name])
	case "pskBase64":
		d.PSK, err = secretBase64(d.key+".pskBase64", d.fields[name])
	default:
		d.PSKFile, err = filePath(d.key+".pskFile", d.fields[name])
	}
	return err
}

// checkSubnets requires at least one subnet on each side, of the same address families, and limits the number of pairs.
// In transport mode, which connects two hosts, it allows only single addresses.
func (d connectionDecoder) checkSubnets() error {
	if d.IPsec.Transport {
		for _, side := range []struct {
			key   string
			cidrs []netip.Prefix
		}{{".localCidrs", d.LocalCIDRs}, {".peerCidrs", d.PeerCIDRs}} {
			for _, cidr := range side.cidrs {
				if !cidr.IsSingleIP() {
					return &spec.Fault{
						Key: d.key + side.key, Value: cidr.String(),
						Allowed: "none with encapsulationMode transport, which joins the two addresses themselves",
					}
				}
			}
		}
		return nil
	}
	if len(d.LocalCIDRs) == 0 {
		return &spec.Fault{Key: d.key + ".localCidrs", Value: "", Allowed: "at least one network"}
	}
	if len(d.PeerCIDRs) == 0 {
		return &spec.Fault{Key: d.key + ".peerCidrs", Value: "", Allowed: "at least one network"}
	}
	local, peer := families(d.LocalCIDRs), families(d.PeerCIDRs)
	if local != peer {
		return &spec.Fault{
			Key: d.key + ".peerCidrs", Value: d.PeerCIDRs[0].String(),
			Allowed: "networks of the same families as localCidrs",
		}
	}
	if n := len(d.Pairs()); n > maxPairs {
		return &spec.Fault{
			Key: d.key + ".peerCidrs", Value: fmt.Sprint(n, " pairs"),
			Allowed: fmt.Sprint("at most ", maxPairs, " pairs of subnets"),
		}
	}
	return nil
}

// families reports whether cidrs contains IPv4 networks, and whether it contains IPv6 networks.
func families(cidrs []netip.Prefix) (seen [2]bool) {
	for _, cidr := range cidrs {
		if cidr.Addr().Is4() {
			seen[0] = true
		} else {
			seen[1] = true
		}
	}
	return seen
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

// keepReadable sets the values of a refused connection that BlockedNetworks needs, as far as each of them is valid,
// whatever the fault is. Without them, packets to its peer could leave the container unencrypted.
func keepReadable(c *Connection, raw json.RawMessage) {
	var fields, policy map[string]json.RawMessage
	if json.Unmarshal(raw, &fields) != nil {
		return
	}
	c.LocalCIDRs, c.PeerCIDRs = readablePrefixes(fields["localCidrs"]), readablePrefixes(fields["peerCidrs"])
	up, err := boolean("", fields["adminStateUp"], true)
	c.Up = up || err != nil
	if peer, err := text("", fields["peerAddress"]); err == nil && !c.PeerAddress.IsValid() {
		if address, err := spec.ParseAddress("", peer); err == nil {
			c.PeerAddress = address
		}
	}
	if json.Unmarshal(fields["ipsecPolicy"], &policy) == nil {
		mode, err := text("", policy["encapsulationMode"])
		c.IPsec.Transport = err == nil && mode == "transport"
	}
}

// readablePrefixes returns the valid networks of a list. If there are more than a connection can have, it returns one
// network for each family that contains them all.
func readablePrefixes(raw json.RawMessage) (list []netip.Prefix) {
	var values []any
	if json.Unmarshal(raw, &values) != nil {
		return nil
	}
	seen := map[netip.Prefix]bool{}
	for _, value := range values {
		s, _ := value.(string)
		cidr, err := spec.ParseCIDR("", s)
		if err != nil {
			continue
		}
		if cidr = cidr.Masked(); unicast(cidr) && !seen[cidr] {
			list = append(list, cidr)
			seen[cidr] = true
		}
	}
	if len(list) > maxCIDRs {
		return covering(list)
	}
	return list
}

// covering returns the smallest network of each family that contains all networks of that family.
func covering(cidrs []netip.Prefix) (list []netip.Prefix) {
	for _, cidr := range cidrs {
		i := slices.IndexFunc(list, func(p netip.Prefix) bool { return p.Addr().Is4() == cidr.Addr().Is4() })
		if i < 0 {
			list = append(list, cidr)
			continue
		}
		for !list[i].Contains(cidr.Addr()) || list[i].Bits() > cidr.Bits() {
			list[i] = netip.PrefixFrom(list[i].Addr(), list[i].Bits()-1).Masked()
		}
	}
	return list
}
