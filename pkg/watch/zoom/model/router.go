package model

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"unicode/utf8"

	"github.com/svc-supervisor/svc-supervisor/internal/strictjson"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/text"
)

// nativeConfiguration is a native configuration of type IPSEC. Keys may be missing, and it may have keys that MidoNet
// does not use.
type nativeConfiguration struct {
	Name        string
	Description string
	ExternalIPs []string `json:"externalIps"`
	ExternalMAC string   `json:"externalMac"`
	Connections []json.RawMessage
}

type nativeConnection struct {
	connection
	Up          *bool  `json:"adminStateUp"`
	AuthMode    string `json:"authMode"`
	Description string `json:"description"`
	IKEPolicy   struct {
		ikePolicy
		policyLabels
	} `json:"ikePolicy"`
	IPsecPolicy struct {
		ipsecPolicy
		policyLabels
	} `json:"ipsecPolicy"`
}

// policyLabels are keys that a policy may have and that MidoNet's policies cannot represent.
type policyLabels struct {
	ID, Name, Description string
}

// configuration writes the Router of a configuration with its VpnService, its site connections, and the port that has
// the external address. A configuration that no imported container has is assumed to be of type IPSEC, and becomes a
// Router too. The import replaces the list of the router's VPN services. Otherwise the connections of VPN services
// that existed before would be part of the configuration again.
func (w *writer) configuration(rest string, document *native.Document) error {
	id, err := ParseUUID("id", rest)
	if err != nil {
		return err
	}
	raw, faults := document.Configuration(spec.ConfigurationID(id))
	if err := firstFault(faults); err != nil {
		return err
	}
	var c struct {
		ID string
		nativeConfiguration
	}
	if serviceType := w.types[id]; serviceType != "" && serviceType != ipsecType {
		if err := decodeStrict("", raw, &struct{ ID string }{}); err != nil {
			return fmt.Errorf("of type %s: %w: MidoNet only has the id of such a configuration", serviceType, err)
		}
		return nil
	}
	if err := decodeStrict("", raw, &c); err != nil {
		return err
	}
	ip, err := c.externalAddress()
	if err != nil {
		return err
	}
	service := deriveID(id, "VPN service")
	router := w.object(Router, id, "vpn_service_ids")
	router.text("name", c.Name)
	router.message.Add("admin_state_up", text.Bool(true))
	router.message.Add("vpn_service_ids", uuidValue(service))
	n := w.object(VpnService, service, "external_ip", "ipsec_site_connection_ids")
	n.text("name", c.Name)
	n.text("description", c.Description)
	n.message.Add("admin_state_up", text.Bool(true))
	n.id("router_id", id)
	n.id("container_id", w.users[id])
	if ip.IsValid() {
		n.message.Add("external_ip", addressValue(ip))
		w.externalPort(id, ip, c.ExternalMAC)
	}
	for i, raw := range c.Connections {
		key := fmt.Sprintf("connections[%d]", i)
		connection, err := w.connection(key, raw, service, ip)
		if err != nil {
			return err
		}
		n.message.Add("ipsec_site_connection_ids", uuidValue(connection))
	}
	return nil
}

// externalAddress returns the external address, which is not valid if there is none. It checks that MidoNet can
// represent it: at most one address, which a port of the router has, with a MAC.
func (c *nativeConfiguration) externalAddress() (netip.Addr, error) {
	switch {
	case len(c.ExternalIPs) > 1:
		return netip.Addr{}, &spec.Fault{
			Key: "externalIps", Value: c.ExternalIPs[1], Allowed: "one: a VPN service of MidoNet has one external address",
		}
	case len(c.ExternalIPs) == 0 && c.ExternalMAC == "":
		return netip.Addr{}, nil
	case len(c.ExternalIPs) == 0:
		return netip.Addr{}, &spec.Fault{
			Key: "externalIps", Value: "", Allowed: "one, the address of the interface with externalMac",
		}
	}
	if _, err := spec.ParseMAC("externalMac", c.ExternalMAC); err != nil {
		return netip.Addr{}, err
	}
	return spec.ParseAddress("externalIps", c.ExternalIPs[0])
}

// externalPort writes the port of the router that has the external address.
func (w *writer) externalPort(router UUID, ip netip.Addr, mac string) {
	id := deriveID(router, "external port")
	n := w.object(Port, id, "port_subnet")
	n.id("router_id", router)
	n.message.Add("admin_state_up", text.Bool(true))
	n.message.Add("port_subnet", subnetValue(netip.PrefixFrom(ip, ip.BitLen())))
	n.message.Add("port_address", addressValue(ip))
	n.text("port_mac", mac)
	w.addBackReference(Router, router, "port_ids", id)
}

// goTypeNames removes the names of embedded Go structs, which encoding/json includes in the path of a field.
var goTypeNames = strings.NewReplacer(
	"nativeConfiguration.", "", "connection.", "",
	"ikePolicy.ikePolicy.", "ikePolicy.", "ipsecPolicy.ipsecPolicy.", "ipsecPolicy.", "policyLabels.", "",
)

// decodeStrict decodes an object and rejects unknown keys. Its errors name a key and never contain a value.
func decodeStrict(key string, raw json.RawMessage, into any) error {
	err := strictjson.Unmarshal(raw, into)
	if err == nil {
		return nil
	}
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return &spec.Fault{
			Key:     strings.Trim(key+"."+goTypeNames.Replace(wrong.Field), "."),
			Value:   strings.Fields(wrong.Value + " ?")[0], // only the type, because the value of a number can follow it
			Allowed: "a value of another type: see svc-ipsec(8)",
		}
	}
	if unknown, ok := errors.AsType[*strictjson.UnknownKeyError](err); ok {
		return &spec.Fault{
			Key: strings.Trim(key+".unknown key", "."), Value: unknown.Key,
			Allowed: "a key that MidoNet can represent",
		}
	}
	return &spec.Fault{Key: key, Value: "", Allowed: "an object"}
}

// enumField is a field of a site connection or of a policy whose value is an enum.
type enumField struct {
	name  string // of the field in MidoNet
	key   string // in the native object
	value string // in the native object, "" if the key is missing
	enum  enum
	unset string // the executable's default, used if value is ""
}

// connection writes one IPSecSiteConnection and returns its id.
func (w *writer) connection(key string, raw json.RawMessage, service UUID, external netip.Addr) (UUID, error) {
	var c nativeConnection
	if err := decodeStrict(key, raw, &c); err != nil {
		return "", err
	}
	id, err := ParseUUID(key+".id", c.ID)
	if err != nil {
		return "", err
	}
	c.setDefaults()
	n := w.object(IPSecSiteConnection, id, "name", "description", "peer_id", "peer_cidrs", "local_cidrs", "psk")
	if len(n.message.Fields) > 1 {
		return "", &spec.Fault{Key: key + ".id", Value: string(id), Allowed: "an id that no other connection has"}
	}
	if c.LocalID != "" && c.LocalID != external.String() {
		return "", &spec.Fault{
			Key: key + ".localId", Value: c.LocalID,
			Allowed: "the external address, or none: MidoNet has no field for another one",
		}
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
	return id, firstError(
		addSubnets(n.message, "peer_cidrs", key+".peerCidrs", c.PeerCIDRs),
		addSubnets(n.message, "local_cidrs", key+".localCidrs", c.LocalCIDRs),
		addEnums(n.message, key, enumField{"initiator", "initiator", c.Initiator, initiators, "bi-directional"},
			enumField{"auth_mode", "authMode", c.AuthMode, authModes, "psk"},
			enumField{"dpd_action", "dpd.action", c.DPD.Action, dpdActions, "hold"}),
		addNumbers(n.message, key, map[string]uint64{
			"mtu": c.MTU, "dpd_interval": c.DPD.Interval, "dpd_timeout": c.DPD.Timeout,
		}),
		c.policies(n.message, key),
	)
}

// setDefaults sets numbers that are missing to the executable's defaults. A field that is not set would have
// MidoNet's default, which is a different one.
func (c *nativeConnection) setDefaults() {
	set := func(n *uint64, value uint64) {
		if *n == 0 {
			*n = value
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

// policies adds the IKE policy and the IPsec policy.
func (c *nativeConnection) policies(m *text.Message, key string) error {
	ike, ipsec := new(text.Message), new(text.Message)
	i, p := c.IKEPolicy.ikePolicy, c.IPsecPolicy.ipsecPolicy
	err := firstError(
		addEnums(ike, key+".ikePolicy",
			enumField{"auth_algorithm", "authAlgorithm", i.Integrity, integrities, "sha256"},
			enumField{"encryption_algorithm", "encryptionAlgorithm", i.Encryption, encryptions, "aes-256"},
			enumField{"phase1_negotiation_mode", "phase1NegotiationMode", i.Mode, phase1Modes, "main"},
			enumField{"ike_version", "ikeVersion", i.Version, ikeVersions, "v2"},
			enumField{"pfs", "pfs", i.PFS, groups, "group14"}),
		addNumbers(ike, key+".ikePolicy", map[string]uint64{"lifetime_value": i.Lifetime}),
		addEnums(ipsec, key+".ipsecPolicy",
			enumField{"transform_protocol", "transformProtocol", p.Protocol, protocols, "esp"},
			enumField{"auth_algorithm", "authAlgorithm", p.Integrity, integrities, "sha256"},
			enumField{"encryption_algorithm", "encryptionAlgorithm", p.Encryption, encryptions, "aes-256"},
			enumField{"encapsulation_mode", "encapsulationMode", p.Mode, modes, "tunnel"},
			enumField{"pfs", "pfs", p.PFS, groups, "group14"}),
		addNumbers(ipsec, key+".ipsecPolicy", map[string]uint64{"lifetime_value": p.Lifetime}),
	)
	for _, policy := range []*text.Message{ike, ipsec} {
		policy.Add("lifetime_units", text.Quoted("seconds"))
	}
	m.Add("ikepolicy", text.Value{Kind: text.Nested, Message: ike})
	m.Add("ipsecpolicy", text.Value{Kind: text.Nested, Message: ipsec})
	return err
}

// addEnums adds enum fields. The first value that MidoNet does not have is returned as a fault.
func addEnums(m *text.Message, key string, fields ...enumField) error {
	for _, f := range fields {
		value, shown := f.value, f.value
		if value == "" {
			value, shown = f.unset, f.unset+" (the default)"
		}
		name, ok := f.enum.fromNative(value)
		if !ok {
			return &spec.Fault{
				Key: key + "." + f.key, Value: shown,
				Allowed: f.enum.nativeNames() + ": MidoNet has no other value",
			}
		}
		m.Add(f.name, text.Name(name))
	}
	return nil
}

func addSubnets(m *text.Message, name, key string, cidrs []string) error {
	for _, cidr := range cidrs {
		prefix, err := spec.ParseCIDR(key, cidr)
		if err != nil {
			return err
		}
		m.Add(name, subnetValue(prefix))
	}
	return nil
}

func addNumbers(m *text.Message, key string, values map[string]uint64) error {
	for _, name := range sortedKeys(values) {
		if values[name] > math.MaxUint32 {
			return &spec.Fault{
				Key: key + "." + name, Value: fmt.Sprint(values[name]), Allowed: fmt.Sprint("at most ", math.MaxUint32),
			}
		}
		m.Add(name, text.Uint(values[name]))
	}
	return nil
}
