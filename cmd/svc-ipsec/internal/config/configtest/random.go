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

// Document is a random valid document and what each of its connections means.
type Document struct {
	Text        string
	Connections []Meaning
	Names       map[string]netip.Addr // what is behind the names of its peers
}

// Meaning is what a connection asks of a daemon.
type Meaning struct {
	ID              string
	Up              bool
	Version         string // v1 or v2
	Local, Peer     netip.Addr
	LocalID, PeerID Identity
	Pairs           [][2]netip.Prefix // none in transport mode
	Aggressive      bool
	AH, Transport   bool
	ResponseOnly    bool
	IKE, IPsec      string // in the words of Libreswan's status: AES_CBC_256-HMAC_SHA2_256-MODP2048, …
	PFS             bool
	IKELifetime     int // seconds, as all of these
	IPsecLifetime   int
	DPDAction       string // none: the peer is never asked
	DPDInterval     int
	DPDTimeout      int
	PSK             string
}

// Identity is an identity in the words of Libreswan's status: its type, and the text of its file.
type Identity struct{ Kind, Text string }

// maker draws one document.
type maker struct {
	*rapid.T
	ips      []netip.Addr // the external ones
	previous *Meaning
	policy   map[string]any // the ikePolicy of the previous connection
	ids      [2]any         // its localId and peerId
	names    map[string]netip.Addr
	hosts    map[netip.Addr]bool // the peers that have a connection in transport mode: there is one such pair
}

// Random makes documents of up to six connections that can all run beside each other, over all keys and values.
func Random() *rapid.Generator[Document] {
	return rapid.Custom(func(t *rapid.T) Document {
		m := &maker{T: t, hosts: map[netip.Addr]bool{}, names: map[string]netip.Addr{}, ips: []netip.Addr{netip.MustParseAddr("100.100.100.2"), netip.MustParseAddr("2001:db8:100::2")}}
		document := map[string]any{"externalIps": []string{"100.100.100.2", "2001:DB8:100:0::2"}}
		m.maybe(document, "id", "r1")
		m.maybe(document, "name", "any \"name\"\n")
		m.maybe(document, "externalMac", "CA:08:1a:94:29:0e")
		var made Document
		var connections []any
		for i := range m.n("connections", 1, 6) {
			connection, meaning := m.connection(i)
			connections, made.Connections = append(connections, connection), append(made.Connections, meaning)
		}
		document["connections"] = connections
		text, err := json.Marshal(document)
		if err != nil {
			panic(err) // it has nothing but strings, numbers, maps and lists
		}
		made.Text, made.Names = string(text), m.names
		return made
	})
}

func (m *maker) n(what string, least, most int) int {
	return rapid.IntRange(least, most).Draw(m.T, what)
}
func (m *maker) yes(what string) bool { return rapid.Bool().Draw(m.T, what) }
func (m *maker) of(what string, values ...string) string {
	return rapid.SampledFrom(values).Draw(m.T, what)
}

// maybe sets a key, or leaves it out, in one of the ways to do so.
func (m *maker) maybe(object map[string]any, key string, value any) bool {
	switch m.n(key+"?", 0, 3) {
	case 0:
		return false
	case 1:
		object[key] = nil
		return false
	}
	object[key] = value
	return true
}

// or sets a key to one of the values, or leaves it out, and returns which counts: the first is the default.
func (m *maker) or(object map[string]any, key string, values ...string) string {
	value := m.of(key, values...)
	if m.maybe(object, key, value) {
		return value
	}
	return values[0]
}

// number is like or; the ends are tried as often as all between.
func (m *maker) number(object map[string]any, key string, least, most, otherwise int) int {
	value := rapid.OneOf(rapid.SampledFrom([]int{least, most}), rapid.IntRange(least, most)).Draw(m.T, key)
	if m.maybe(object, key, value) {
		return value
	}
	return otherwise
}

func (m *maker) connection(i int) (map[string]any, Meaning) {
	c := map[string]any{"id": m.id(i)}
	w := Meaning{ID: c["id"].(string), Up: true}
	m.maybe(c, "name", "n\u00e4me "+m.of("name", "", "$(x)", "\n"))
	m.maybe(c, "description", strings.Repeat("d", m.n("description", 0, 1024)))
	if up := m.n("up", 0, 9) > 0; m.maybe(c, "adminStateUp", up) {
		w.Up = up
	}
	m.ends(i, c, &w)
	m.rest(c, &w)
	m.ipsec(c, &w)
	m.networks(i, c, &w)
	m.previous = &w
	return c, w
}

func (m *maker) id(i int) string {
	return fmt.Sprintf(m.of("id", "%d", "c%d", "7f1c0000-0000-4000-8000-00000000000%d", "with blank %d", "\u00fcn\u00ef %d", "a-0-%d", "h0123456789abcdef0123456789abcde%d",
		"\"; touch x %d", "X%d"+strings.Repeat("x", 200)), i)
}

// ends draws peer, identities, key and IKE policy; some connections have those of the one before them.
func (m *maker) ends(i int, c map[string]any, w *Meaning) {
	if before := m.previous; before != nil && before.Up && w.Up && m.yes("same peer") {
		w.Local, w.Peer, w.LocalID, w.PeerID, w.PSK = before.Local, before.Peer, before.LocalID, before.PeerID, before.PSK
		w.Version, w.Aggressive, w.IKE, w.IKELifetime = before.Version, before.Aggressive, before.IKE, before.IKELifetime
		c["peerAddress"], c["ikePolicy"] = w.Peer.String(), m.policy
		c["localId"], c["peerId"] = m.ids[0], m.ids[1]
		m.name(i, c, w)
		m.key(c, w)
		return
	}
	peer := fmt.Sprintf("198.51.100.%d", i+1)
	if m.yes("peer of IPv6") {
		peer = fmt.Sprintf("2001:DB8:0:%d::%d", i, i+1)
	}
	w.Peer = netip.MustParseAddr(peer)
	w.Local = m.ips[slices.IndexFunc(m.ips, func(a netip.Addr) bool { return a.Is4() == w.Peer.Is4() })]
	c["peerAddress"] = peer
	m.name(i, c, w)
	w.LocalID, w.PeerID = addressID(w.Local), addressID(w.Peer)
	if given, id := m.identity("l", i); m.maybe(c, "localId", given) {
		w.LocalID = id
	}
	if given, id := m.identity("p", i); m.maybe(c, "peerId", given) {
		w.PeerID = id
	}
	bytes := rapid.Map(rapid.SliceOfN(rapid.Byte(), 1, 1000), func(b []byte) string { return string(b) })
	w.PSK = rapid.OneOf(rapid.StringN(1, 300, 1000), rapid.SampledFrom([]string{"\"", "\n", "\\", "'", "\x00", "0x", " ", "\u00fc", "\xff"}), bytes).Draw(m.T, "psk")
	m.key(c, w)
	policy := map[string]any{}
	m.ike(policy, w)
	c["ikePolicy"] = policy
	m.policy, m.ids = policy, [2]any{c["localId"], c["peerId"]}
}

// name names some peers instead: two connections may have two names for one.
func (m *maker) name(i int, c map[string]any, w *Meaning) {
	if m.n("peer by name", 0, 3) > 0 {
		return
	}
	name := fmt.Sprintf(m.of("name of the peer", "peer%d.example.org", "Peer-%d.EXAMPLE", "p_%d", "%d.0x.peer"), i)
	c["peerAddress"] = name
	m.names[strings.ToLower(name)] = w.Peer
}

// key gives a key as text, if it can be, or in base64.
func (m *maker) key(c map[string]any, w *Meaning) {
	if utf8.ValidString(w.PSK) && m.yes("key as text") {
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

// identity draws an identity of some kind that no other connection has.
func (m *maker) identity(side string, i int) (given string, id Identity) {
	name := fmt.Sprintf("%s%d.example.org", side, i)
	switch m.n("kind of identity", 0, 8) {
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
		return "C=FR,O=Example Corp.,OU=R&D (main), CN=" + name, Identity{"ID_DER_ASN1_DN", "C=FR, O=Example Corp., OU=R&D (main), CN=" + name}
	}
}

func (m *maker) rest(c map[string]any, w *Meaning) {
	w.ResponseOnly = m.or(c, "initiator", "bi-directional", "response-only") == "response-only"
	m.number(c, "mtu", 1280, 65535, 1500)
	m.or(c, "authMode", "psk")
	dpd := map[string]any{}
	w.DPDAction = m.or(dpd, "action", "hold", "clear", "restart", "restart-by-peer", "disabled")
	w.DPDInterval = m.number(dpd, "interval", 1, 86399, 30)
	w.DPDTimeout = m.number(dpd, "timeout", w.DPDInterval+1, 86400, max(120, 4*w.DPDInterval))
	if !m.maybe(c, "dpd", dpd) {
		w.DPDAction, w.DPDInterval, w.DPDTimeout = "hold", 30, 120
	}
	switch w.DPDAction {
	case "disabled":
		w.DPDAction, w.DPDInterval, w.DPDTimeout = "", 0, 0
	case "restart-by-peer":
		w.DPDAction = "restart"
	}
}

func (m *maker) ike(policy map[string]any, w *Meaning) {
	w.Version = m.or(policy, "ikeVersion", "v2", "v1")
	modes, use := []string{"main"}, IKEv2
	if w.Version == "v1" {
		modes, use = []string{"main", "aggressive"}, IKEv1
	}
	w.Aggressive = m.or(policy, "phase1NegotiationMode", modes...) == "aggressive"
	most := 3
	if w.Aggressive {
		most = 1
	}
	w.IKE = listed(m.proposals(policy, use, most, false), func(p proposal) string { return p.encryption.IKE + "-" + p.integrity.IKE + "-" + p.group.IKE })
	w.IKELifetime = m.number(policy, "lifetime", 1, 86400, 3600)
}

func (m *maker) ipsec(c map[string]any, w *Meaning) {
	policy := map[string]any{}
	w.AH = m.or(policy, "transformProtocol", "esp", "ah") == "ah"
	modes := []string{"tunnel", "transport"}
	if m.hosts[w.Peer] {
		modes = modes[:1]
	}
	w.Transport = m.or(policy, "encapsulationMode", modes...) == "transport"
	use := map[string]Use{"v1": ESPv1, "v2": ESPv2}[w.Version]
	if w.AH {
		use = map[string]Use{"v1": AHv1, "v2": AHv2}[w.Version]
	}
	proposals := m.proposals(policy, use, 3, true)
	w.IPsecLifetime = m.number(policy, "lifetime", 1, 86400, 3600)
	if !m.maybe(c, "ipsecPolicy", policy) {
		w.AH, w.Transport, w.IPsecLifetime = false, false, 3600
		proposals = []proposal{{Algorithms["encryptionAlgorithm"][0], Algorithms["authAlgorithm"][0], Algorithms["pfs"][0]}}
	}
	w.PFS = proposals[0].group.IPsec != ""
	w.IPsec = listed(proposals, func(p proposal) string {
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

// listed names proposals as the status does, what is the same there once.
func listed(proposals []proposal, words func(proposal) string) string {
	var list []string
	for _, p := range proposals {
		if text := words(p); !slices.Contains(list, text) {
			list = append(list, text)
		}
	}
	return strings.Join(list, ", ")
}

// proposals draws those of a policy: one by its own keys, or a list.
func (m *maker) proposals(policy map[string]any, use Use, most int, oneGroup bool) []proposal {
	if !m.yes("a list of proposals") {
		m.maybe(policy, "proposals", nil)
		return []proposal{m.algorithms(policy, use)}
	}
	var list []proposal
	var given []any
	for i := range m.n("proposals", 1, most) {
		object := map[string]any{}
		p := m.algorithms(object, use)
		if i > 0 && oneGroup {
			p.group = list[0].group
			object["pfs"] = p.group.Value
		}
		list, given = append(list, p), append(given, object)
	}
	policy["proposals"] = given
	return list
}

// algorithms draws one of each kind. AH does not encrypt: a policy may name any cipher there.
func (m *maker) algorithms(policy map[string]any, use Use) proposal {
	draw := func(key string) Algorithm {
		possible := In(key, use)
		if len(possible) == 0 {
			possible = Algorithms[key]
		}
		a := rapid.SampledFrom(possible).Draw(m.T, key)
		if m.maybe(policy, key, a.Value) {
			return a
		}
		return Algorithms[key][0]
	}
	return proposal{draw("encryptionAlgorithm"), draw("authAlgorithm"), draw("pfs")}
}

// networks draws those of both sides: of IPv4, IPv6 or both, with bits of the host and twice at times.
func (m *maker) networks(i int, c map[string]any, w *Meaning) {
	if w.Transport {
		m.hosts[w.Peer] = true
		m.maybe(c, "localCidrs", []string{netip.PrefixFrom(w.Local, w.Local.BitLen()).String()})
		m.maybe(c, "peerCidrs", []string{})
		return
	}
	families := m.n("families", 1, 3)
	local, localGiven := m.side("local", families, 0)
	peer, peerGiven := m.side("peer", families, i+1)
	c["localCidrs"], c["peerCidrs"] = localGiven, peerGiven
	for _, l := range local {
		for _, p := range peer {
			if l.Addr().Is4() == p.Addr().Is4() {
				w.Pairs = append(w.Pairs, [2]netip.Prefix{l, p})
			}
		}
	}
}

func (m *maker) side(what string, families, block int) (meant []netip.Prefix, given []string) {
	add := func(text string) {
		given = append(given, text)
		if p := netip.MustParsePrefix(text).Masked(); !slices.Contains(meant, p) {
			meant = append(meant, p)
		}
	}
	if families&1 != 0 {
		for range m.n(what+" networks of IPv4", 1, 5) {
			// The second byte is the connection's, so no other has the same.
			add(fmt.Sprintf("10.%d.%d.%d/%d", block, m.n("byte", 0, 3), m.n("byte", 0, 255), m.n("bits", 16, 32)))
		}
	}
	if families&2 != 0 {
		for range m.n(what+" networks of IPv6", 1, 3) {
			add(fmt.Sprintf("FD00:%d:%d::%d/%d", block, m.n("group", 0, 3), m.n("host", 0, 255), m.n("bits", 32, 128)))
		}
	}
	return meant, given
}
