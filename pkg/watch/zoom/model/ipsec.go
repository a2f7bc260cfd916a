package model

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/internal/jsonform"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// ipsecType is the service type whose configuration is a Router.
const ipsecType = "IPSEC"

// configuration is the configuration that svc-ipsec reads. It contains pre-shared keys. It is marshalled and must
// never be logged or printed.
type configuration struct {
	ID          UUID         `json:"id"`
	ExternalIPs []string     `json:"externalIps,omitempty"`
	ExternalMAC string       `json:"externalMac,omitempty"`
	Connections []connection `json:"connections"`
}

type connection struct {
	ID          UUID        `json:"id"`
	Name        string      `json:"name,omitempty"`
	Up          bool        `json:"adminStateUp"`
	PeerAddress string      `json:"peerAddress"`
	PeerID      string      `json:"peerId,omitempty"`
	LocalID     string      `json:"localId,omitempty"`
	LocalCIDRs  []string    `json:"localCidrs"`
	PeerCIDRs   []string    `json:"peerCidrs"`
	Initiator   string      `json:"initiator"`
	MTU         uint64      `json:"mtu,omitempty"`
	PSK         string      `json:"psk,omitempty"`
	DPD         dpd         `json:"dpd"`
	IKEPolicy   ikePolicy   `json:"ikePolicy"`
	IPsecPolicy ipsecPolicy `json:"ipsecPolicy"`
}

type dpd struct {
	Action   string `json:"action"`
	Interval uint64 `json:"interval,omitempty"`
	Timeout  uint64 `json:"timeout,omitempty"`
}

type ikePolicy struct {
	Version    string `json:"ikeVersion"`
	Mode       string `json:"phase1NegotiationMode"`
	Encryption string `json:"encryptionAlgorithm"`
	Integrity  string `json:"authAlgorithm"`
	PFS        string `json:"pfs"`
	Lifetime   uint64 `json:"lifetime,omitempty"`
}

type ipsecPolicy struct {
	Protocol   string `json:"transformProtocol"`
	Mode       string `json:"encapsulationMode"`
	Encryption string `json:"encryptionAlgorithm"`
	Integrity  string `json:"authAlgorithm"`
	PFS        string `json:"pfs"`
	Lifetime   uint64 `json:"lifetime,omitempty"`
}

// readConnection reads an IPSecSiteConnection. As for the agent, an enum that is not set has its first declared
// value. A number that is not set is 0. No number of a connection may be 0, so it is left out, and the executable
// uses its default. There is one exception: if dpd_interval is not set, DPD is disabled, because the daemon of the
// agent then sends no DPD probes.
func readConnection(data []byte, id UUID) (c connection, err error) {
	r, err := read(data, id)
	if err != nil {
		return c, err
	}
	r.enumName("auth_mode", authModes)
	c = connection{
		ID: id, Name: r.text("name"), Up: r.adminStateUp(),
		PeerAddress: r.text("peer_address"), PeerID: r.text("peer_id"),
		LocalCIDRs: r.subnets("local_cidrs"), PeerCIDRs: r.subnets("peer_cidrs"),
		Initiator: r.nativeName("initiator", initiators), MTU: r.unsigned("mtu", 32), PSK: r.text("psk"),
		DPD: dpd{r.nativeName("dpd_action", dpdActions), r.unsigned("dpd_interval", 32), r.unsigned("dpd_timeout", 32)},
	}
	if c.DPD.Interval == 0 {
		c.DPD = dpd{Action: "disabled"}
	}
	ike := r.nested("ikepolicy")
	c.IKEPolicy = ikePolicy{
		ike.nativeName("ike_version", ikeVersions), ike.nativeName("phase1_negotiation_mode", phase1Modes),
		ike.nativeName("encryption_algorithm", encryptions), ike.nativeName("auth_algorithm", integrities),
		ike.nativeName("pfs", groups),
		ike.unsigned("lifetime_value", 32),
	}
	ipsec := r.nested("ipsecpolicy")
	c.IPsecPolicy = ipsecPolicy{
		ipsec.nativeName("transform_protocol", protocols), ipsec.nativeName("encapsulation_mode", modes),
		ipsec.nativeName("encryption_algorithm", encryptions), ipsec.nativeName("auth_algorithm", integrities),
		ipsec.nativeName("pfs", groups),
		ipsec.unsigned("lifetime_value", 32),
	}
	return c, r.err()
}

// resolveRouter builds the configuration of a VPN router. If the router has no usable external address, the
// configuration has its connections without an external address. The executable then runs nothing, and the note of
// the binding has the reason.
func (f *resolution) resolveRouter(by string, id UUID) {
	path := f.tree.Object(Router, id)
	r, ok, fault := readObject(f, Router, id, by, readRouter)
	if !ok {
		if fault != "" {
			f.setReading(spec.Unknown, path, fault)
		}
		return
	}
	c := configuration{ID: id, Connections: []connection{}}
	ips, servicesComplete := f.resolveServices(path, r.services, &c)
	macs, portsComplete := f.resolveRouterPorts(path, r.ports)
	if !servicesComplete && !f.partial {
		return
	}
	slices.Sort(ips)
	switch ips = slices.Compact(ips); {
	case len(ips) == 0:
		f.addNote(path, "its VPN services have no external_ip: nothing runs: allowed: one")
	case len(ips) > 1:
		f.addNote(path, "its VPN services have several external_ip, "+strings.Join(ips, ", ")+
			": nothing runs: allowed: one")
	default:
		mac, found := macs[ips[0]]
		switch {
		case found:
			c.setExternalAddress(ips[0], mac)
		case !portsComplete && !f.partial:
			f.reportMissingPort(path, ips[0])
			return
		default:
			f.addNote(path, "none of its ports has the port_address "+ips[0]+
				", the external_ip of its VPN services: nothing runs: allowed: one that has")
		}
	}
	f.binding.Configuration = marshal(c)
}

// setExternalAddress sets the external address of the container. It is also the local identity of every connection,
// because MidoNet has no field for a local identity.
func (c *configuration) setExternalAddress(ip, mac string) {
	c.ExternalIPs, c.ExternalMAC = []string{ip}, mac
	for i := range c.Connections {
		c.Connections[i].LocalID = ip
	}
}

// reportMissingPort makes the binding unknown if no readable port of the router has the external address ip. An
// unreadable port may have it. While a node is NotFetched it does nothing, because that node may be the port.
func (f *resolution) reportMissingPort(path, ip string) {
	for _, visit := range f.visits {
		if visit.state == NotFetched {
			return
		}
	}
	f.setReading(spec.Unknown, path, "none of its ports that can be read has the port_address "+ip+
		", the external_ip of its VPN services: allowed: one that has")
}

// resolveServices adds to c the connections of all VPN services that are up. It returns the external addresses of all
// services, including those that are down. complete is false if an object could not be read. The configuration must
// not be used then: it would remove a running connection only because its object cannot be read.
func (f *resolution) resolveServices(by string, ids []UUID, c *configuration) (ips []string, complete bool) {
	complete = true
	missing := func(class Class, id UUID, fault string) {
		if complete = false; fault != "" {
			f.setReading(spec.Unknown, f.tree.Object(class, id), fault)
		}
	}
	seen := map[UUID]bool{}
	for _, id := range ids {
		s, ok, fault := readObject(f, VpnService, id, by, readService)
		if !ok {
			missing(VpnService, id, fault)
			continue
		}
		if s.externalIP != "" {
			ips = append(ips, s.externalIP)
		}
		if !s.up {
			continue
		}
		for _, connectionID := range s.connections {
			if seen[connectionID] {
				continue
			}
			seen[connectionID] = true
			service := f.tree.Object(VpnService, id)
			connection, ok, fault := readObject(f, IPSecSiteConnection, connectionID, service, readConnection)
			if !ok {
				missing(IPSecSiteConnection, connectionID, fault)
				continue
			}
			c.Connections = append(c.Connections, connection)
		}
	}
	return ips, complete
}

// resolveRouterPorts returns the MACs of the router's ports by address. If two ports have the same address, the first
// one counts. complete is false if a port could not be read. Such a port is recorded as a fault, but it only matters
// if no other port has the external address.
func (f *resolution) resolveRouterPorts(by string, ids []UUID) (macs map[string]string, complete bool) {
	macs, complete = map[string]string{}, true
	for _, id := range ids {
		p, ok, fault := readObject(f, Port, id, by, readPort)
		var address, mac string
		if ok {
			var err error
			if address, mac, err = p.address(); err != nil {
				ok, fault = false, err.Error()
			}
		}
		if !ok {
			if complete = false; fault != "" {
				f.addFault(f.tree.Object(Port, id), fault)
			}
			continue
		}
		if _, taken := macs[address]; !taken && address != "" && mac != "" {
			macs[address] = mac
		}
	}
	return macs, complete
}

// marshal encodes a value as JSON, without the escapes for HTML that json.Marshal writes.
func marshal(value any) json.RawMessage {
	text, err := jsonform.Marshal(value)
	if err != nil {
		panic(err) // cannot happen: the values are structs of strings and numbers
	}
	return text
}
