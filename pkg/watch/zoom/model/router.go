package model

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"unicode/utf8"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/text"
)

// given is a configuration of type IPSEC as a person may have written it: with keys left out, and with those that MidoNet
// has no use for.
type given struct {
	Name        string
	Description string
	ExternalIPs []string `json:"externalIps"`
	ExternalMAC string   `json:"externalMac"`
	Connections []json.RawMessage
}

type givenConnection struct {
	connection
	Up          *bool  `json:"adminStateUp"`
	AuthMode    string `json:"authMode"`
	Description string `json:"description"`
	IKEPolicy   struct {
		ikePolicy
		labels
	} `json:"ikePolicy"`
	IPsecPolicy struct {
		ipsecPolicy
		labels
	} `json:"ipsecPolicy"`
}

// labels are allowed in a policy and have no place in MidoNet's.
type labels struct {
	ID, Name, Description string
}

// configuration writes the Router of a configuration with its VpnService, the site connections, and the port that has the
// external address. One that no imported container has is taken for a router too. The configuration takes the router over:
// VPN services that others gave it are its own no longer, or their connections would come back.
func (w *writer) configuration(rest string, document *native.Document) error {
	id, err := ParseUUID("id", rest)
	if err != nil {
		return err
	}
	raw, faults := document.Configuration(spec.ConfigurationID(id))
	if err := refused(faults); err != nil {
		return err
	}
	var g struct {
		ID string
		given
	}
	if serviceType := w.types[id]; serviceType != "" && serviceType != ipsecType {
		if err := strict("", raw, &struct{ ID string }{}); err != nil {
			return fmt.Errorf("of type %s: %w: MidoNet has no place for more than its id", serviceType, err)
		}
		return nil
	}
	if err := strict("", raw, &g); err != nil {
		return err
	}
	ip, err := g.external()
	if err != nil {
		return err
	}
	service := derive(id, "VPN service")
	router := w.object(Router, id, "vpn_service_ids")
	router.text("name", g.Name)
	router.message.Add("admin_state_up", text.Bool(true))
	router.message.Add("vpn_service_ids", uuidValue(service))
	n := w.object(VpnService, service, "external_ip", "ipsec_site_connection_ids")
	n.text("name", g.Name)
	n.text("description", g.Description)
	n.message.Add("admin_state_up", text.Bool(true))
	n.id("router_id", id)
	n.id("container_id", w.users[id])
	if ip.IsValid() {
		n.message.Add("external_ip", addressValue(ip))
		w.externalPort(id, ip, g.ExternalMAC)
	}
	for i, raw := range g.Connections {
		key := fmt.Sprintf("connections[%d]", i)
		connection, err := w.connection(key, raw, service, ip)
		if err != nil {
			return err
		}
		n.message.Add("ipsec_site_connection_ids", uuidValue(connection))
	}
	return nil
}

// external checks what MidoNet can hold of an external address: one, which a port of the router has, with a MAC.
func (g *given) external() (netip.Addr, error) {
	switch {
	case len(g.ExternalIPs) > 1:
		return netip.Addr{}, &spec.Fault{Key: "externalIps", Value: g.ExternalIPs[1], Allowed: "one: MidoNet's VPN services have one"}
	case len(g.ExternalIPs) == 0 && g.ExternalMAC == "":
		return netip.Addr{}, nil
	case len(g.ExternalIPs) == 0:
		return netip.Addr{}, &spec.Fault{Key: "externalIps", Value: "", Allowed: "one, the address that externalMac belongs to"}
	}
	if _, err := spec.ParseMAC("externalMac", g.ExternalMAC); err != nil {
		return netip.Addr{}, err
	}
	return spec.ParseAddress("externalIps", g.ExternalIPs[0])
}

func (w *writer) externalPort(router UUID, ip netip.Addr, mac string) {
	id := derive(router, "external port")
	n := w.object(Port, id, "port_subnet")
	n.id("router_id", router)
	n.message.Add("admin_state_up", text.Bool(true))
	n.message.Add("port_subnet", subnetValue(netip.PrefixFrom(ip, ip.BitLen())))
	n.message.Add("port_address", addressValue(ip))
	n.text("port_mac", mac)
	w.refer(Router, router, "port_ids", id)
}

// embedded are the Go names in the path of a field that encoding/json tells.
var embedded = strings.NewReplacer("given.", "", "connection.", "", "ikePolicy.ikePolicy.", "ikePolicy.", "ipsecPolicy.ipsecPolicy.", "ipsecPolicy.", "labels.", "")

// strict reads an object and refuses what it does not know. Its errors name a key and never repeat a value.
func strict(key string, raw json.RawMessage, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	if err == nil {
		return nil
	}
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return &spec.Fault{Key: strings.Trim(key+"."+embedded.Replace(wrong.Field), "."), Value: strings.Fields(wrong.Value + " ?")[0], Allowed: "another form of value: see svc-ipsec(8)"}
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return &spec.Fault{Key: strings.Trim(key+".unknown key", "."), Value: strings.Trim(name, `"`), Allowed: "a key that MidoNet has a place for"}
	}
	return &spec.Fault{Key: key, Value: "", Allowed: "an object"}
}

// field is one field of a site connection that takes words of the native form.
type field struct {
	name  string
	key   string
	value string
	enum  enum
	unset string // what the executable takes where nothing is given
}

// connection writes one IPSecSiteConnection.
func (w *writer) connection(key string, raw json.RawMessage, service UUID, external netip.Addr) (UUID, error) {
	var c givenConnection
	if err := strict(key, raw, &c); err != nil {
		return "", err
	}
	id, err := ParseUUID(key+".id", c.ID)
	if err != nil {
		return "", err
	}
	c.fill()
	n := w.object(IPSecSiteConnection, id, "name", "description", "peer_id", "peer_cidrs", "local_cidrs", "psk")
	if len(n.message.Fields) > 1 {
		return "", &spec.Fault{Key: key + ".id", Value: string(id), Allowed: "an id that no other connection has"}
	}
	if c.LocalID != "" && c.LocalID != external.String() {
		return "", &spec.Fault{Key: key + ".localId", Value: c.LocalID, Allowed: "the external address, or none: MidoNet has no place for another"}
	}
	if !utf8.ValidString(c.PSK) {
		return "", &spec.Fault{Key: key + ".psk", Value: "[secret]", Allowed: "UTF-8"}
	}
	n.text("name", c.Name)
	n.text("description", c.Description)
	n.message.Add("admin_state_up", text.Bool(c.Up == nil || *c.Up))
	n.text("peer_address", c.PeerAddress)
	n.text("peer_id", c.PeerID)
	n.text("psk", c.PSK)
	n.message.Add("route_mode", text.Name("STATIC"))
	n.id("vpnservice_id", service)
	return id, first(
		subnets(n.message, "peer_cidrs", key+".peerCidrs", c.PeerCIDRs),
		subnets(n.message, "local_cidrs", key+".localCidrs", c.LocalCIDRs),
		words(n.message, key, field{"initiator", "initiator", c.Initiator, initiators, "bi-directional"},
			field{"auth_mode", "authMode", c.AuthMode, authModes, "psk"}, field{"dpd_action", "dpd.action", c.DPD.Action, dpdActions, "hold"}),
		numbers(n.message, key, map[string]uint64{"mtu": c.MTU, "dpd_interval": c.DPD.Interval, "dpd_timeout": c.DPD.Timeout}),
		c.policies(n.message, key),
	)
}

// fill sets what the executable takes where nothing is given: an unset field would be MidoNet's default, which is another.
func (c *givenConnection) fill() {
	set := func(n *uint64, otherwise uint64) {
		if *n == 0 {
			*n = otherwise
		}
	}
	set(&c.MTU, 1500)
	if c.DPD.Action != "disabled" {
		set(&c.DPD.Interval, 30)
		set(&c.DPD.Timeout, max(120, 4*c.DPD.Interval))
	}
	set(&c.IKEPolicy.Lifetime, 3600)
	set(&c.IPsecPolicy.Lifetime, 3600)
}

func (c *givenConnection) policies(m *text.Message, key string) error {
	ike, ipsec := new(text.Message), new(text.Message)
	i, p := c.IKEPolicy.ikePolicy, c.IPsecPolicy.ipsecPolicy
	err := first(
		words(ike, key+".ikePolicy", field{"auth_algorithm", "authAlgorithm", i.Integrity, integrities, "sha256"},
			field{"encryption_algorithm", "encryptionAlgorithm", i.Encryption, encryptions, "aes-256"},
			field{"phase1_negotiation_mode", "phase1NegotiationMode", i.Mode, phase1Modes, "main"},
			field{"ike_version", "ikeVersion", i.Version, ikeVersions, "v2"}, field{"pfs", "pfs", i.PFS, groups, "group14"}),
		numbers(ike, key+".ikePolicy", map[string]uint64{"lifetime_value": i.Lifetime}),
		words(ipsec, key+".ipsecPolicy", field{"transform_protocol", "transformProtocol", p.Protocol, protocols, "esp"},
			field{"auth_algorithm", "authAlgorithm", p.Integrity, integrities, "sha256"},
			field{"encryption_algorithm", "encryptionAlgorithm", p.Encryption, encryptions, "aes-256"},
			field{"encapsulation_mode", "encapsulationMode", p.Mode, modes, "tunnel"}, field{"pfs", "pfs", p.PFS, groups, "group14"}),
		numbers(ipsec, key+".ipsecPolicy", map[string]uint64{"lifetime_value": p.Lifetime}),
	)
	for _, policy := range []*text.Message{ike, ipsec} {
		policy.Add("lifetime_units", text.Quoted("seconds"))
	}
	m.Add("ikepolicy", text.Value{Kind: text.Nested, Message: ike})
	m.Add("ipsecpolicy", text.Value{Kind: text.Nested, Message: ipsec})
	return err
}

// words adds enums; the first that MidoNet does not have is the fault.
func words(m *text.Message, key string, fields ...field) error {
	for _, f := range fields {
		word, said := f.value, f.value
		if word == "" {
			word, said = f.unset, f.unset+" (where none is given)"
		}
		name, ok := f.enum.of(word)
		if !ok {
			return &spec.Fault{Key: key + "." + f.key, Value: said, Allowed: f.enum.words() + ": MidoNet has no other"}
		}
		m.Add(f.name, text.Name(name))
	}
	return nil
}

func subnets(m *text.Message, name, key string, cidrs []string) error {
	for _, cidr := range cidrs {
		prefix, err := spec.ParseCIDR(key, cidr)
		if err != nil {
			return err
		}
		m.Add(name, subnetValue(prefix))
	}
	return nil
}

func numbers(m *text.Message, key string, values map[string]uint64) error {
	for _, name := range sortedKeys(values) {
		if values[name] > math.MaxUint32 {
			return &spec.Fault{Key: key + "." + name, Value: fmt.Sprint(values[name]), Allowed: fmt.Sprint("at most ", math.MaxUint32)}
		}
		m.Add(name, text.Uint(values[name]))
	}
	return nil
}
