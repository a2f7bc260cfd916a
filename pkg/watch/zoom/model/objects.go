package model

import (
	"net/netip"
	"strconv"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// host is a Host.
type host struct {
	spec.Host
	ports  []UUID
	groups []UUID
}

// readHost reads a Host. A negative weight counts as none, a negative limit as no limit.
func readHost(data []byte, id UUID) (h host, err error) {
	r, err := read(data, id)
	if err != nil {
		return h, err
	}
	h.Host = spec.Host{
		ID: spec.HostID(id), Name: r.text("name"),
		Weight: max(0, r.signed("container_weight", 1)), Limit: max(-1, r.signed("container_limit", -1)),
	}
	h.ports, h.groups = r.ids("port_ids"), r.ids("host_group_ids")
	return h, r.err()
}

// port is a Port as far as it says whose it is and what it names. The rest is read only for those who want it.
type port struct {
	reading
	host, router, container UUID
	name                    string
}

func readPort(data []byte, id UUID) (p port, err error) {
	if p.reading, err = read(data, id); err != nil {
		return p, err
	}
	p.host, p.router, p.container = p.id("host_id"), p.id("router_id"), p.id("service_container_id")
	p.name = p.text("interface_name")
	return p, p.err()
}

// bound says whether the port asks a host for a container: all three are set.
func (p port) bound(host UUID) bool { return p.host == host && p.name != "" && p.container != "" }

// address is the port's own address and MAC; the address is "" if it has none.
func (p port) address() (address, mac string, err error) {
	address, mac = p.ip("port_address"), p.text("port_mac")
	return address, mac, p.err()
}

// connect makes what the container's interface connects to: the port's address in the first of its subnets of that family.
func (p port) connect() (to spec.Port, err error) {
	address, mac, err := p.address()
	if err != nil {
		return to, err
	}
	to.MAC = mac
	if address == "" {
		return to, nil
	}
	for _, subnet := range p.each("port_subnet") {
		if v4 := subnet.name("version", ipVersion) == "V4"; v4 == isV4(address) {
			to.Addresses = []string{address + "/" + strconv.FormatUint(subnet.unsigned("prefix_length", 32), 10)}
			break
		}
	}
	if to.Addresses == nil {
		p.refuse("port_subnet", "", "the subnet of port_address "+address)
	}
	return to, p.err()
}

func isV4(address string) bool {
	a, err := netip.ParseAddr(address)
	return err == nil && a.Is4()
}

// ip reads an IPAddress in the canonical form of its text, "" if it is not set.
func (r reading) ip(name string) string {
	if _, set := r.message.Last(name); !set {
		return ""
	}
	n := r.nested(name)
	n.require("version", "address")
	n.name("version", ipVersion)
	written := n.text("address")
	a, err := netip.ParseAddr(written)
	if err != nil || a.Zone() != "" {
		n.refuse("address", written, "an IPv4 or IPv6 address")
		return ""
	}
	return a.String()
}

// subnets reads a list of IPSubnets as they are written: the executable judges them, for one connection each.
func (r reading) subnets(name string) []string {
	list := []string{}
	for _, n := range r.each(name) {
		n.require("version")
		n.name("version", ipVersion)
		list = append(list, n.text("address")+"/"+strconv.FormatUint(n.unsigned("prefix_length", 32), 10))
	}
	return list
}

// container is a ServiceContainer.
type container struct {
	group, port, configuration UUID
	serviceType                string
}

func readContainer(data []byte, id UUID) (c container, err error) {
	r, err := read(data, id)
	if err != nil {
		return c, err
	}
	c = container{r.id("service_group_id"), r.id("port_id"), r.id("configuration_id"), r.text("service_type")}
	return c, r.err()
}

// ReadServiceType reads the type of a ServiceContainer, "" where it has none or cannot be read.
func ReadServiceType(data []byte, id UUID) spec.ServiceType {
	c, err := readContainer(data, id)
	if err != nil {
		return ""
	}
	serviceType, err := spec.ParseServiceType("service_type", c.serviceType)
	if err != nil {
		return ""
	}
	return serviceType
}

// missing names what a container needs and does not have.
func (c container) missing() (fields []string) {
	if c.serviceType == "" {
		fields = append(fields, "service_type")
	}
	if c.group == "" {
		fields = append(fields, "service_group_id")
	}
	if c.configuration == "" {
		fields = append(fields, "configuration_id")
	}
	return fields
}

// router is a Router.
type router struct {
	name            string
	ports, services []UUID
}

func readRouter(data []byte, id UUID) (x router, err error) {
	r, err := read(data, id)
	if err != nil {
		return x, err
	}
	x = router{r.text("name"), r.ids("port_ids"), r.ids("vpn_service_ids")}
	return x, r.err()
}

// service is a VpnService.
type service struct {
	up          bool
	externalIP  string
	connections []UUID
}

func readService(data []byte, id UUID) (s service, err error) {
	r, err := read(data, id)
	if err != nil {
		return s, err
	}
	s = service{r.up(), r.ip("external_ip"), r.ids("ipsec_site_connection_ids")}
	return s, r.err()
}

// up is the administrative state; unset counts as up.
func (r reading) up() bool {
	on, set := r.flag("admin_state_up")
	return on || !set
}
