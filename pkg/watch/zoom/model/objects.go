package model

import (
	"net/netip"
	"strconv"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// host holds the fields of a Host object that are used.
type host struct {
	spec.Host
	ports  []UUID
	groups []UUID
}

// readHost reads a Host object. A negative weight counts as 0, and a negative limit as -1, which means no limit.
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

// port holds the fields of a Port object that identify its host, router and container. The other fields are read from
// the embedded fieldReader when they are needed.
type port struct {
	fieldReader
	host, router, container UUID
	name                    string
}

func readPort(data []byte, id UUID) (p port, err error) {
	if p.fieldReader, err = read(data, id); err != nil {
		return p, err
	}
	p.host, p.router, p.container = p.id("host_id"), p.id("router_id"), p.id("service_container_id")
	p.name = p.text("interface_name")
	return p, p.err()
}

// bound reports whether the port asks a host for a container: it must be bound to the host, and have an interface
// name and a container.
func (p port) bound(host UUID) bool { return p.host == host && p.name != "" && p.container != "" }

// address returns the address and the MAC of the port. The address is "" if the port has none.
func (p port) address() (address, mac string, err error) {
	address, mac = p.ip("port_address"), p.text("port_mac")
	return address, mac, p.err()
}

// connect returns what the interface of the container connects to: the MAC and the address of the port. The prefix
// length is that of the first subnet of the same address family.
func (p port) connect() (to spec.Port, err error) {
	address, mac, err := p.address()
	if err != nil {
		return to, err
	}
	to.MAC = mac
	if address == "" {
		return to, nil
	}
	for _, subnet := range p.messages("port_subnet") {
		if v4 := subnet.enumName("version", ipVersion) == "V4"; v4 == isV4(address) {
			to.Addresses = []string{address + "/" + strconv.FormatUint(subnet.unsigned("prefix_length", 32), 10)}
			break
		}
	}
	if to.Addresses == nil {
		p.setFault("port_subnet", "", "the subnet of port_address "+address)
	}
	return to, p.err()
}

func isV4(address string) bool {
	a, err := netip.ParseAddr(address)
	return err == nil && a.Is4()
}

// ip returns an IPAddress field in its canonical text form, and "" if it is not set.
func (r fieldReader) ip(name string) string {
	if _, set := r.message.Last(name); !set {
		return ""
	}
	n := r.nested(name)
	n.require("version", "address")
	n.enumName("version", ipVersion)
	written := n.text("address")
	a, err := netip.ParseAddr(written)
	if err != nil || a.Zone() != "" {
		n.setFault("address", written, "an IPv4 or IPv6 address")
		return ""
	}
	return a.String()
}

// subnets returns a list of IPSubnet fields in their original spelling. The executable validates them, so that an
// invalid subnet affects only its own connection.
func (r fieldReader) subnets(name string) []string {
	list := []string{}
	for _, n := range r.messages(name) {
		n.require("version")
		n.enumName("version", ipVersion)
		list = append(list, n.text("address")+"/"+strconv.FormatUint(n.unsigned("prefix_length", 32), 10))
	}
	return list
}

// container holds the fields of a ServiceContainer.
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

// ReadServiceType returns the service type of a ServiceContainer. It returns "" if the type is not set, or if it or
// the object is invalid.
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

// missing returns the names of the required fields that are not set.
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

// router holds the fields of a Router that are used.
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

// service holds the fields of a VpnService that are used.
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
	s = service{r.adminStateUp(), r.ip("external_ip"), r.ids("ipsec_site_connection_ids")}
	return s, r.err()
}

// adminStateUp returns the administrative state. It is true if the field is not set.
func (r fieldReader) adminStateUp() bool {
	on, set := r.flag("admin_state_up")
	return on || !set
}
