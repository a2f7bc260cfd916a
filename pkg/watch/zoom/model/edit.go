package model

import (
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/text"
)

// fieldOrder lists the fields of the objects that are written, in the order of their numbers in the protos. A field
// that is added to an object is inserted before the fields that follow it here. A field that is not in the list keeps
// its position.
var fieldOrder = map[Class][]string{
	Host: {"id", "name", "flooding_proxy_weight", "container_weight", "container_limit", "enforce_container_limit",
		"tunnel_zone_ids", "port_ids", "host_group_ids"},
	Port: {"id", "network_id", "router_id", "inbound_filter_id", "outbound_filter_id", "tunnel_key", "peer_id",
		"vif_id", "host_id", "interface_name", "admin_state_up", "port_group_ids", "vlan_id", "port_subnet",
		"port_address", "port_mac", "route_ids", "dhcp_id", "vtep_id", "inbound_mirror_ids", "outbound_mirror_ids",
		"l2insertion_infilter_id", "l2insertion_outfilter_id", "service_container_id", "post_in_filter_mirror_ids",
		"pre_out_filter_mirror_ids", "previous_host_id", "vni", "off_ramp_vxlan", "tunnel_ip", "qos_policy_id", "vip_ids",
		"fip_nat_rule_ids", "trace_request_ids", "mirror_ids", "insertion_ids", "srv_insertion_ids",
		"remote_mac_entry_ids"},
	Router: {"id", "tenant_id", "name", "admin_state_up", "inbound_filter_id", "outbound_filter_id",
		"load_balancer_id", "route_ids", "as_number", "bgp_network_ids", "bgp_peer_ids", "inbound_mirror_ids",
		"outbound_mirror_ids", "local_redirect_chain_id", "forward_chain_id", "port_ids", "trace_request_ids",
		"vpn_service_ids"},
	ServiceContainer:      {"id", "service_group_id", "port_id", "service_type", "configuration_id"},
	ServiceContainerGroup: {"id", "policy", "host_group_id", "port_group_id", "service_container_ids"},
	HostGroup:             {"id", "name", "host_ids", "service_group_ids"},
	VpnService: {"id", "tenant_id", "name", "description", "admin_state_up", "router_id", "external_ip",
		"container_id", "ipsec_site_connection_ids"},
	IPSecSiteConnection: {"id", "tenant_id", "name", "description", "admin_state_up", "peer_address", "peer_id",
		"peer_cidrs", "local_cidrs", "route_mode", "mtu", "initiator", "auth_mode", "psk", "dpd_action", "dpd_interval",
		"dpd_timeout", "vpnservice_id", "ikepolicy", "ipsecpolicy", "route_ids"},
}

// laterThan returns a function that reports whether a field of the class comes after the field name.
func laterThan(class Class, name string) func(string) bool {
	order := fieldOrder[class]
	at := slices.Index(order, name)
	return func(other string) bool { return slices.Index(order, other) > at }
}

// hostFields maps the field names of the command line that EditHost accepts to the fields of a Host object.
var hostFields = map[string]string{spec.HostWeight: "container_weight", spec.HostLimit: "container_limit"}

// EditHost sets one field of a Host object, spec.HostWeight or spec.HostLimit. It keeps all other fields and their
// order, including unknown fields. It returns a *spec.Fault for a field or a number that is not allowed.
func EditHost(data []byte, field string, n int) ([]byte, error) {
	if err := spec.CheckHostField(field, n); err != nil {
		return nil, err
	}
	if n > math.MaxInt32 {
		allowed := "at most 2147483647, because MidoNet stores it as an int32"
		return nil, &spec.Fault{Key: field, Value: strconv.Itoa(n), Allowed: allowed}
	}
	name := hostFields[field]
	m, err := text.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("edit Host: %w", err)
	}
	m.Set(name, text.Int(n), laterThan(Host, name))
	return m.Print(), nil
}
