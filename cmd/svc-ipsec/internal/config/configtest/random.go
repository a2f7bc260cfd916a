package configtest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// Document is a random valid document, with the expected meaning of each connection.
type Document struct {
	Text        string
	Connections []Meaning
	Names       map[string]netip.Addr // the addresses of the peers that the document refers to by name
}

// Meaning is the expected configuration of the daemon for one connection.
type Meaning struct {
	ID              string
	Up              bool
	Version         string // v1 or v2
	Local, Peer     netip.Addr
	LocalID, PeerID Identity
	Pairs           [][2]netip.Prefix // empty in transport mode
	Aggressive      bool
	AH, Transport   bool
	ResponseOnly    bool
	IKE, IPsec      string // proposals as in Libreswan's status: AES_CBC_256-HMAC_SHA2_256-MODP2048, …
	PFS             bool
	IKELifetime     int    // seconds
	IPsecLifetime   int    // seconds
	DPDAction       string // empty if dead peer detection is disabled
	DPDInterval     int    // seconds
	DPDTimeout      int    // seconds
	PSK             string
}

// Identity is an identity: the type as in Libreswan's status, and the text as in its configuration files.
type Identity struct{ Kind, Text string }

// generator draws the parts of one document.
type generator struct {
	*rapid.T
	ips      []netip.Addr // the external addresses
	previous *Meaning
	policy   map[string]any // the ikePolicy of the previous connection
	ids      [2]any         // the localId and peerId of the previous connection
	names    map[string]netip.Addr
	hosts    map[netip.Addr]bool // peers with a connection in transport mode; each peer can have only one
}

// Random generates documents with all keys and values. They have up to six connections, which do not conflict.
func Random() *rapid.Generator[Document] {
	return rapid.Custom(func(t *rapid.T) Document {
		ips := []netip.Addr{netip.MustParseAddr("100.100.100.2"), netip.MustParseAddr("2001:db8:100::2")}
		g := &generator{T: t, hosts: map[netip.Addr]bool{}, names: map[string]netip.Addr{}, ips: ips}
		document := map[string]any{"externalIps": []string{"100.100.100.2", "2001:DB8:100:0::2"}}
		g.setOrOmit(document, "id", "r1")
		g.setOrOmit(document, "name", "any \"name\"\n")
		g.setOrOmit(document, "externalMac", "CA:08:1a:94:29:0e")
		var result Document
		var connections []any
		for i := range g.intRange("connections", 1, 6) {
			connection, meaning := g.connection(i)
			connections, result.Connections = append(connections, connection), append(result.Connections, meaning)
		}
		document["connections"] = connections
		text, err := json.Marshal(document)
		if err != nil {
			panic(err) // the document contains only strings, numbers, maps and lists
		}
		result.Text, result.Names = string(text), g.names
		return result
	})
}

func (g *generator) intRange(label string, minimum, maximum int) int {
	return rapid.IntRange(minimum, maximum).Draw(g.T, label)
}
func (g *generator) boolean(label string) bool { return rapid.Bool().Draw(g.T, label) }
func (g *generator) sample(label string, values ...string) string {
	return rapid.SampledFrom(values).Draw(g.T, label)
}

// setOrOmit sets a key to value, sets it to null, or omits it. It reports whether the key has the value.
func (g *generator) setOrOmit(object map[string]any, key string, value any) bool {
	switch g.intRange(key+"?", 0, 3) {
	case 0:
		return false
	case 1:
		object[key] = nil
		return false
	}
	object[key] = value
	return true
}

// setOneOf sets a key to one of the values, or leaves it unset. It returns the effective value. The default is the
// first one.
func (g *generator) setOneOf(object map[string]any, key string, values ...string) string {
	value := g.sample(key, values...)
	if g.setOrOmit(object, key, value) {
		return value
	}
	return values[0]
}

// setNumber is like setOneOf for a number. It draws the two limits as often as all values of the range together.
func (g *generator) setNumber(object map[string]any, key string, minimum, maximum, defaultValue int) int {
	limits := rapid.SampledFrom([]int{minimum, maximum})
	value := rapid.OneOf(limits, rapid.IntRange(minimum, maximum)).Draw(g.T, key)
	if g.setOrOmit(object, key, value) {
		return value
	}
	return defaultValue
}

func (g *generator) connection(i int) (map[string]any, Meaning) {
	c := map[string]any{"id": g.id(i)}
	w := Meaning{ID: c["id"].(string), Up: true}
	g.setOrOmit(c, "name", "n\u00e4me "+g.sample("name", "", "$(x)", "\n"))
	g.setOrOmit(c, "description", strings.Repeat("d", g.intRange("description", 0, 1024)))
	if up := g.intRange("up", 0, 9) > 0; g.setOrOmit(c, "adminStateUp", up) {
		w.Up = up
	}
	g.authentication(i, c, &w)
	g.options(c, &w)
	g.ipsec(c, &w)
	g.networks(i, c, &w)
	g.previous = &w
	return c, w
}

func (g *generator) id(i int) string {
	return fmt.Sprintf(g.sample("id", "%d", "c%d", "7f1c0000-0000-4000-8000-00000000000%d", "with blank %d",
		"\u00fcn\u00ef %d", "a-0-%d", "h0123456789abcdef0123456789abcde%d", "\"; touch x %d",
		"X%d"+strings.Repeat("x", 200)), i)
}

// authentication draws the peer, the identities, the key and the IKE policy. Some connections have those of the
// previous connection.
func (g *generator) authentication(i int, c map[string]any, w *Meaning) {
	if before := g.previous; before != nil && before.Up && w.Up && g.boolean("same peer") {
		w.Local, w.Peer, w.LocalID, w.PeerID, w.PSK = before.Local, before.Peer, before.LocalID, before.PeerID,
			before.PSK
		w.Version, w.Aggressive, w.IKE, w.IKELifetime = before.Version, before.Aggressive, before.IKE,
			before.IKELifetime
		c["peerAddress"], c["ikePolicy"] = w.Peer.String(), g.policy
		c["localId"], c["peerId"] = g.ids[0], g.ids[1]
		g.peerName(i, c, w)
		g.secret(c, w)
		return
	}
	peer := fmt.Sprintf("198.51.100.%d", i+1)
	if g.boolean("peer of IPv6") {
		peer = fmt.Sprintf("2001:DB8:0:%d::%d", i, i+1)
	}
	w.Peer = netip.MustParseAddr(peer)
	w.Local = g.ips[slices.IndexFunc(g.ips, func(a netip.Addr) bool { return a.Is4() == w.Peer.Is4() })]
	c["peerAddress"] = peer
	g.peerName(i, c, w)
	w.LocalID, w.PeerID = addressID(w.Local), addressID(w.Peer)
	if given, id := g.identity("l", i); g.setOrOmit(c, "localId", given) {
		w.LocalID = id
	}
	if given, id := g.identity("p", i); g.setOrOmit(c, "peerId", given) {
		w.PeerID = id
	}
	bytes := rapid.Map(rapid.SliceOfN(rapid.Byte(), 1, 1000), func(b []byte) string { return string(b) })
	special := rapid.SampledFrom([]string{"\"", "\n", "\\", "'", "\x00", "0x", " ", "\u00fc", "\xff"})
	w.PSK = rapid.OneOf(rapid.StringN(1, 300, 1000), special, bytes).Draw(g.T, "psk")
	g.secret(c, w)
	policy := map[string]any{}
	g.ike(policy, w)
	c["ikePolicy"] = policy
	g.policy, g.ids = policy, [2]any{c["localId"], c["peerId"]}
}

// peerName replaces some peer addresses by names. Two connections may have different names for the same peer.
func (g *generator) peerName(i int, c map[string]any, w *Meaning) {
	if g.intRange("peer by name", 0, 3) > 0 {
		return
	}
	name := fmt.Sprintf(g.sample("name of the peer", "peer%d.example.org", "Peer-%d.EXAMPLE", "p_%d", "%d.0x.peer"), i)
	c["peerAddress"] = name
	g.names[strings.ToLower(name)] = w.Peer
}

// secret sets the key as text or in base64. A key that is not valid UTF-8 is always in base64.
func (g *generator) secret(c map[string]any, w *Meaning) {
	if utf8.ValidString(w.PSK) && g.boolean("key as text") {
		c["psk"] = w.PSK
	} else {
		c["pskBase64"] = base64.StdEncoding.EncodeToString([]byte(w.PSK))
	}
}

func addressID(a netip.Addr) Identity {
	if a.Is4() {
		return Identity{"ID_IPV4_ADDR", a.String()}
	}
	return Identity{"ID_IPV6_ADDR", a.String()}
}

// identity draws an identity that no other connection has.
func (g *generator) identity(side string, i int) (given string, id Identity) {
	name := fmt.Sprintf("%s%d.example.org", side, i)
	switch g.intRange("kind of identity", 0, 8) {
	case 0:
		return fmt.Sprintf("192.0.2.%d", i), Identity{"ID_IPV4_ADDR", fmt.Sprintf("192.0.2.%d", i)}
	case 1:
		return fmt.Sprintf("2001:DB8:0:0::%d", i+1), Identity{"ID_IPV6_ADDR", fmt.Sprintf("2001:db8::%d", i+1)}
	case 2:
		return name, Identity{"ID_FQDN", "@" + name}
	case 3:
		return "@" + name, Identity{"ID_FQDN", "@" + name}
	case 4:
		return fmt.Sprintf("@192.0.2.%d", i), Identity{"ID_FQDN", fmt.Sprintf("@192.0.2.%d", i)}
	case 5:
		return "joe.doe+x@" + name, Identity{"ID_USER_FQDN", "joe.doe+x@" + name}
	case 6:
		return fmt.Sprintf("@#0%dFf%02x", i, side[0]), Identity{"ID_KEY_ID", fmt.Sprintf("@#0%dff%02x", i, side[0])}
	case 7:
		return "@[branch/" + name + "]", Identity{"ID_KEY_ID", "@[branch/" + name + "]"}
	default:
		return "C=FR,O=Example Corp.,OU=R&D (main), CN=" + name,
			Identity{"ID_DER_ASN1_DN", "C=FR, O=Example Corp., OU=R&D (main), CN=" + name}
	}
}

func (g *generator) options(c map[string]any, w *Meaning) {
	w.ResponseOnly = g.setOneOf(c, "initiator", "bi-directional", "response-only") == "response-only"
	g.setNumber(c, "mtu", 1280, 65535, 1500)
	g.setOneOf(c, "authMode", "psk")
	dpd := map[string]any{}
	w.DPDAction = g.setOneOf(dpd, "action", "hold", "clear", "restart", "restart-by-peer", "disabled")
	w.DPDInterval = g.setNumber(dpd, "interval", 1, 86399, 30)
	w.DPDTimeout = g.setNumber(dpd, "timeout", w.DPDInterval+1, 86400, max(120, 4*w.DPDInterval))
	if !g.setOrOmit(c, "dpd", dpd) {
		w.DPDAction, w.DPDInterval, w.DPDTimeout = "hold", 30, 120
	}
	switch w.DPDAction {
	case "disabled":
		w.DPDAction, w.DPDInterval, w.DPDTimeout = "", 0, 0
	case "restart-by-peer":
		w.DPDAction = "restart"
	}
}

func (g *generator) ike(policy map[string]any, w *Meaning) {
	w.Version = g.setOneOf(policy, "ikeVersion", "v2", "v1")
	modes, use := []string{"main"}, IKEv2
	if w.Version == "v1" {
		modes, use = []string{"main", "aggressive"}, IKEv1
	}
	w.Aggressive = g.setOneOf(policy, "phase1NegotiationMode", modes...) == "aggressive"
	maximum := 3
	if w.Aggressive {
		maximum = 1
	}
	w.IKE = statusText(g.proposals(policy, use, maximum, false), func(p proposal) string {
		return p.encryption.IKE + "-" + p.integrity.IKE + "-" + p.group.IKE
	})
	w.IKELifetime = g.setNumber(policy, "lifetime", 60, 86400, 3600)
}

func (g *generator) ipsec(c map[string]any, w *Meaning) {
	policy := map[string]any{}
	w.AH = g.setOneOf(policy, "transformProtocol", "esp", "ah") == "ah"
	modes := []string{"tunnel", "transport"}
	if g.hosts[w.Peer] {
		modes = modes[:1]
	}
	w.Transport = g.setOneOf(policy, "encapsulationMode", modes...) == "transport"
	use := map[string]Use{"v1": ESPv1, "v2": ESPv2}[w.Version]
	if w.AH {
		use = map[string]Use{"v1": AHv1, "v2": AHv2}[w.Version]
	}
	proposals := g.proposals(policy, use, 3, true)
	w.IPsecLifetime = g.setNumber(policy, "lifetime", 60, 86400, 3600)
	if !g.setOrOmit(c, "ipsecPolicy", policy) {
		w.AH, w.Transport, w.IPsecLifetime = false, false, 3600
		proposals = []proposal{
			{Algorithms["encryptionAlgorithm"][0], Algorithms["authAlgorithm"][0], Algorithms["pfs"][0]},
		}
	}
	w.PFS = proposals[0].group.IPsec != ""
	w.IPsec = statusText(proposals, func(p proposal) string {
		text := p.encryption.IPsec + "-" + p.integrity.IPsec
		switch {
		case w.AH:
			text = p.integrity.IPsec
		case p.encryption.AEAD:
			text = p.encryption.IPsec + "-NONE"
		}
		if w.PFS {
			text += "-" + p.group.IPsec
		}
		return text
	})
}

// proposal is one algorithm of each kind.
type proposal struct{ encryption, integrity, group Algorithm }

// statusText returns the proposals as Libreswan's status prints them, without duplicates.
func statusText(proposals []proposal, format func(proposal) string) string {
	var list []string
	for _, p := range proposals {
		if text := format(p); !slices.Contains(list, text) {
			list = append(list, text)
		}
	}
	return strings.Join(list, ", ")
}

// proposals draws the proposals of a policy: one in the keys of the policy itself, or a list of up to maximum. oneGroup
// requires all of the list to have the same group.
func (g *generator) proposals(policy map[string]any, use Use, maximum int, oneGroup bool) []proposal {
	if !g.boolean("a list of proposals") {
		g.setOrOmit(policy, "proposals", nil)
		return []proposal{g.algorithms(policy, use)}
	}
	var list []proposal
	var given []any
	for i := range g.intRange("proposals", 1, maximum) {
		object := map[string]any{}
		p := g.algorithms(object, use)
		if i > 0 && oneGroup {
			p.group = list[0].group
			object["pfs"] = p.group.Value
		}
		list, given = append(list, p), append(given, object)
	}
	policy["proposals"] = given
	return list
}

// algorithms draws one algorithm of each kind. AH does not encrypt, so a policy for AH may name any cipher.
func (g *generator) algorithms(policy map[string]any, use Use) proposal {
	draw := func(key string) Algorithm {
		possible := In(key, use)
		if len(possible) == 0 {
			possible = Algorithms[key]
		}
		a := rapid.SampledFrom(possible).Draw(g.T, key)
		if g.setOrOmit(policy, key, a.Value) {
			return a
		}
		return Algorithms[key][0]
	}
	return proposal{draw("encryptionAlgorithm"), draw("authAlgorithm"), draw("pfs")}
}

// networks draws the networks of both sides, with IPv4, IPv6 or both. Some have host bits set, and some are duplicates.
func (g *generator) networks(i int, c map[string]any, w *Meaning) {
	if w.Transport {
		g.hosts[w.Peer] = true
		g.setOrOmit(c, "localCidrs", []string{netip.PrefixFrom(w.Local, w.Local.BitLen()).String()})
		g.setOrOmit(c, "peerCidrs", []string{})
		return
	}
	families := g.intRange("families", 1, 3)
	local, localGiven := g.side("local", families, 0)
	peer, peerGiven := g.side("peer", families, i+1)
	c["localCidrs"], c["peerCidrs"] = localGiven, peerGiven
	for _, l := range local {
		for _, p := range peer {
			if l.Addr().Is4() == p.Addr().Is4() {
				w.Pairs = append(w.Pairs, [2]netip.Prefix{l, p})
			}
		}
	}
}

// side draws the networks of one side. families is 1 for IPv4, 2 for IPv6, and 3 for both. It returns the expected
// networks and the text for the document.
func (g *generator) side(label string, families, block int) (expected []netip.Prefix, given []string) {
	add := func(text string) {
		given = append(given, text)
		if p := netip.MustParsePrefix(text).Masked(); !slices.Contains(expected, p) {
			expected = append(expected, p)
		}
	}
	if families&1 != 0 {
		for range g.intRange(label+" networks of IPv4", 1, 5) {
			// The second byte is different in each connection, so no two connections have the same network.
			third, last, bits := g.intRange("byte", 0, 3), g.intRange("byte", 0, 255), g.intRange("bits", 16, 32)
			add(fmt.Sprintf("10.%d.%d.%d/%d", block, third, last, bits))
		}
	}
	if families&2 != 0 {
		for range g.intRange(label+" networks of IPv6", 1, 3) {
			group, host, bits := g.intRange("group", 0, 3), g.intRange("host", 0, 255), g.intRange("bits", 32, 128)
			add(fmt.Sprintf("FD00:%d:%d::%d/%d", block, group, host, bits))
		}
	}
	return expected, given
}
