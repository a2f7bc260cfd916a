package model

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// ipsecType is the type whose configuration is a Router.
const ipsecType = "IPSEC"

// configuration is the document that svc-ipsec reads, with its pre-shared keys: it is marshalled and never printed.
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

// readConnection reads an IPSecSiteConnection. An unset enum is its first declared value, as for the agent. An unset number
// is 0, and none of these may be 0: it is left out, which is the executable's default. But without an interval the agent's
// daemon asks no peer whether it lives: DPD is disabled.
func readConnection(data []byte, id UUID) (c connection, err error) {
	r, err := read(data, id)
	if err != nil {
		return c, err
	}
	r.name("auth_mode", authModes)
	c = connection{
		ID: id, Name: r.text("name"), Up: r.up(),
		PeerAddress: r.text("peer_address"), PeerID: r.text("peer_id"),
		LocalCIDRs: r.subnets("local_cidrs"), PeerCIDRs: r.subnets("peer_cidrs"),
		Initiator: r.word("initiator", initiators), MTU: r.unsigned("mtu", 32), PSK: r.text("psk"),
		DPD: dpd{r.word("dpd_action", dpdActions), r.unsigned("dpd_interval", 32), r.unsigned("dpd_timeout", 32)},
	}
	if c.DPD.Interval == 0 {
		c.DPD = dpd{Action: "disabled"}
	}
	ike := r.nested("ikepolicy")
	c.IKEPolicy = ikePolicy{
		ike.word("ike_version", ikeVersions), ike.word("phase1_negotiation_mode", phase1Modes),
		ike.word("encryption_algorithm", encryptions), ike.word("auth_algorithm", integrities), ike.word("pfs", groups),
		ike.unsigned("lifetime_value", 32),
	}
	ipsec := r.nested("ipsecpolicy")
	c.IPsecPolicy = ipsecPolicy{
		ipsec.word("transform_protocol", protocols), ipsec.word("encapsulation_mode", modes),
		ipsec.word("encryption_algorithm", encryptions), ipsec.word("auth_algorithm", integrities), ipsec.word("pfs", groups),
		ipsec.unsigned("lifetime_value", 32),
	}
	return c, r.err()
}

// followRouter makes the configuration of a VPN router. Where it has no usable external address the connections stand there
// without one: the executable then has nothing to run, and the binding's note has the reason.
func (f *following) followRouter(by string, id UUID) {
	path := f.tree.Object(Router, id)
	r, ok, fault := object(f, Router, id, by, readRouter)
	if !ok {
		if fault != "" {
			f.end(spec.Unknown, path, fault)
		}
		return
	}
	c := configuration{ID: id, Connections: []connection{}}
	ips, known := f.followServices(path, r.services, &c)
	ports, portsKnown := f.followPorts(path, r.ports)
	if !known && !f.partial {
		return
	}
	slices.Sort(ips)
	switch ips = slices.Compact(ips); {
	case len(ips) == 0:
		f.note(path, "its VPN services have no external_ip: nothing runs: allowed: one")
	case len(ips) > 1:
		f.note(path, "its VPN services have several external_ip, "+strings.Join(ips, ", ")+": nothing runs: allowed: one")
	default:
		mac, found := ports[ips[0]]
		switch {
		case found:
			c.external(ips[0], mac)
		case !portsKnown && !f.partial:
			f.endAtPort(path, ips[0])
			return
		default:
			f.note(path, "none of its ports has the port_address "+ips[0]+", the external_ip of its VPN services: nothing runs: allowed: one that has")
		}
	}
	f.binding.Configuration = marshal(c)
}

// external gives the container its address. MidoNet has no field for the local identity: it is the address.
func (c *configuration) external(ip, mac string) {
	c.ExternalIPs, c.ExternalMAC = []string{ip}, mac
	for i := range c.Connections {
		c.Connections[i].LocalID = ip
	}
}

// endAtPort ends where the port with the external address may be the one that could not be read.
func (f *following) endAtPort(path, ip string) {
	for _, look := range f.looks {
		if look.state == NotFetched {
			return // it may come yet
		}
	}
	f.end(spec.Unknown, path, "none of its ports that can be read has the port_address "+ip+", the external_ip of its VPN services: allowed: one that has")
}

// followServices adds the connections of all VPN services that are up, and returns the external addresses of all, the down
// ones too. It is not known if anything on the way is not: a tunnel must not go because its object cannot be read.
func (f *following) followServices(by string, ids []UUID, c *configuration) (ips []string, known bool) {
	known = true
	missing := func(class Class, id UUID, fault string) {
		if known = false; fault != "" {
			f.end(spec.Unknown, f.tree.Object(class, id), fault)
		}
	}
	seen := map[UUID]bool{}
	for _, id := range ids {
		s, ok, fault := object(f, VpnService, id, by, readService)
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
			connection, ok, fault := object(f, IPSecSiteConnection, connectionID, f.tree.Object(VpnService, id), readConnection)
			if !ok {
				missing(IPSecSiteConnection, connectionID, fault)
				continue
			}
			c.Connections = append(c.Connections, connection)
		}
	}
	return ips, known
}

// followPorts returns the MACs of the router's ports by their addresses; of two with one address the first counts. They are
// known if each could be read: one that could not is told, and matters only if no other has the address that is looked for.
func (f *following) followPorts(by string, ids []UUID) (macs map[string]string, known bool) {
	macs, known = map[string]string{}, true
	for _, id := range ids {
		p, ok, fault := object(f, Port, id, by, readPort)
		var address, mac string
		if ok {
			var err error
			if address, mac, err = p.address(); err != nil {
				ok, fault = false, err.Error()
			}
		}
		if !ok {
			if known = false; fault != "" {
				f.fault(f.tree.Object(Port, id), fault)
			}
			continue
		}
		if _, taken := macs[address]; !taken && address != "" && mac != "" {
			macs[address] = mac
		}
	}
	return macs, known
}

// marshal writes JSON as it is written by hand: without HTML's escapes.
func marshal(value any) json.RawMessage {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		panic(err) // structs of strings and numbers
	}
	return bytes.TrimSpace(out.Bytes())
}
