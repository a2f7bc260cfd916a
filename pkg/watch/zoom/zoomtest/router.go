package zoomtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/model"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/text/texttest"
)

// configuration is a native configuration of type IPSEC.
type configuration struct {
	ID          string
	Name        string
	ExternalIPs []string
	ExternalMAC string
	Connections []json.RawMessage
}

// connection is a connection of a native configuration.
type connection struct {
	ID          string
	Name        string
	Up          bool `json:"adminStateUp"`
	PeerAddress string
	PeerID      string
	LocalID     string
	LocalCIDRs  []string
	PeerCIDRs   []string
	Initiator   string
	MTU         int
	PSK         string
	DPD         struct {
		Action   string
		Interval int
		Timeout  int
	}
	IKEPolicy struct {
		Version    string `json:"ikeVersion"`
		Mode       string `json:"phase1NegotiationMode"`
		Encryption string `json:"encryptionAlgorithm"`
		Integrity  string `json:"authAlgorithm"`
		PFS        string
		Lifetime   int
	}
	IPsecPolicy struct {
		Protocol   string `json:"transformProtocol"`
		Mode       string `json:"encapsulationMode"`
		Encryption string `json:"encryptionAlgorithm"`
		Integrity  string `json:"authAlgorithm"`
		PFS        string
		Lifetime   int
	}
}

// newConnection returns a connection with the defaults of svc-ipsec.
func newConnection() (c connection) {
	c.Up, c.Initiator, c.MTU = true, "bi-directional", 1500
	c.DPD.Action, c.DPD.Interval, c.DPD.Timeout = "hold", 30, 120
	ike, ipsec := &c.IKEPolicy, &c.IPsecPolicy
	ike.Version, ike.Mode, ike.Encryption, ike.Integrity = "v2", "main", "aes-256", "sha256"
	ike.PFS, ike.Lifetime = "group14", 3600
	ipsec.Protocol, ipsec.Mode, ipsec.Encryption, ipsec.Integrity = "esp", "tunnel", "aes-256", "sha256"
	ipsec.PFS, ipsec.Lifetime = "group14", 3600
	return c
}

// configuration writes the Router of a configuration, its VpnService with the site connections, and the port that has
// the external address. The configuration of another service type has no object in MidoNet, only its id.
func (w *writer) configuration(id string, value json.RawMessage) {
	if user := w.users[id]; user.ServiceType != "" && !user.isIPSEC() {
		w.decode(value, &struct {
			ID string
		}{})
		return
	}
	var c configuration
	w.decode(value, &c)
	if len(c.ExternalIPs) > 1 {
		w.check(errors.New("MidoNet has one external address"))
	}
	service := derivedID(id, "VPN service")
	router := w.object(model.Router, id)
	put(router, "name", c.Name)
	put(router, "admin_state_up", true)
	put(router, "vpn_service_ids", w.uuid(service))
	values := w.object(model.VpnService, service)
	put(values, "name", c.Name)
	put(values, "admin_state_up", true)
	put(values, "router_id", w.uuid(id))
	if user := w.users[id].ID; user != "" {
		put(values, "container_id", w.uuid(user))
	}
	var external string
	for _, external = range c.ExternalIPs {
		ip, err := netip.ParseAddr(external)
		w.check(err)
		put(values, "external_ip", address(ip))
		w.externalPort(id, ip, c.ExternalMAC)
	}
	for _, raw := range c.Connections {
		add(values, "ipsec_site_connection_ids", w.uuid(w.connection(raw, service, external)))
	}
}

// externalPort writes the port of the router that has the external address.
func (w *writer) externalPort(router string, ip netip.Addr, mac string) {
	id := derivedID(router, "external port")
	port := w.object(model.Port, id)
	put(port, "router_id", w.uuid(router))
	put(port, "admin_state_up", true)
	put(port, "port_subnet", subnet(netip.PrefixFrom(ip, ip.BitLen())))
	put(port, "port_address", address(ip))
	put(port, "port_mac", mac)
	add(w.reference(model.Router, router), "port_ids", w.uuid(id))
}

// connection writes one IPSecSiteConnection and returns its id.
func (w *writer) connection(raw json.RawMessage, service, external string) string {
	c := newConnection()
	w.decode(raw, &c)
	if c.LocalID != "" && c.LocalID != external {
		w.check(fmt.Errorf("localId %q: MidoNet has only the external address", c.LocalID))
	}
	values := w.object(model.IPSecSiteConnection, c.ID)
	for name, value := range map[string]any{
		"name": c.Name, "admin_state_up": c.Up, "peer_address": c.PeerAddress, "peer_id": c.PeerID,
		"route_mode": "STATIC", "mtu": c.MTU, "initiator": enumName(c.Initiator), "auth_mode": "PSK", "psk": c.PSK,
		"dpd_action": enumName(c.DPD.Action), "dpd_interval": c.DPD.Interval, "dpd_timeout": c.DPD.Timeout,
		"vpnservice_id": w.uuid(service),
		"ikepolicy": texttest.Values{
			"auth_algorithm":          {enumName(c.IKEPolicy.Integrity)},
			"encryption_algorithm":    {enumName(c.IKEPolicy.Encryption)},
			"phase1_negotiation_mode": {enumName(c.IKEPolicy.Mode)}, "ike_version": {enumName(c.IKEPolicy.Version)},
			"pfs": {enumName(c.IKEPolicy.PFS)}, "lifetime_value": {c.IKEPolicy.Lifetime}, "lifetime_units": {"seconds"},
		},
		"ipsecpolicy": texttest.Values{
			"transform_protocol":   {enumName(c.IPsecPolicy.Protocol)},
			"auth_algorithm":       {enumName(c.IPsecPolicy.Integrity)},
			"encryption_algorithm": {enumName(c.IPsecPolicy.Encryption)},
			"encapsulation_mode":   {enumName(c.IPsecPolicy.Mode)}, "pfs": {enumName(c.IPsecPolicy.PFS)},
			"lifetime_value": {c.IPsecPolicy.Lifetime}, "lifetime_units": {"seconds"},
		},
	} {
		put(values, name, value)
	}
	for _, cidr := range c.PeerCIDRs {
		add(values, "peer_cidrs", subnet(w.prefix(cidr)))
	}
	for _, cidr := range c.LocalCIDRs {
		add(values, "local_cidrs", subnet(w.prefix(cidr)))
	}
	return c.ID
}
