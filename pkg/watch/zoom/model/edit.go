package model

import (
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/text"
)

// orders are the fields of the objects that are written, in the order of their numbers in the protos. A field that is put
// into an object goes in front of those that follow it here; one that is not in the list stays where it is.
var orders = map[Class][]string{
	Host: {"id", "name", "flooding_proxy_weight", "container_weight", "container_limit", "enforce_container_limit",
		"tunnel_zone_ids", "port_ids", "host_group_ids"},
	Port: {"id", "network_id", "router_id", "inbound_filter_id", "outbound_filter_id", "tunnel_key", "peer_id", "vif_id", "host_id",
		"interface_name", "admin_state_up", "port_group_ids", "vlan_id", "port_subnet", "port_address", "port_mac", "route_ids",
		"dhcp_id", "vtep_id", "inbound_mirror_ids", "outbound_mirror_ids", "l2insertion_infilter_id", "l2insertion_outfilter_id",
		"service_container_id", "post_in_filter_mirror_ids", "pre_out_filter_mirror_ids", "previous_host_id", "vni",
		"off_ramp_vxlan", "tunnel_ip", "qos_policy_id", "vip_ids", "fip_nat_rule_ids", "trace_request_ids", "mirror_ids",
		"insertion_ids", "srv_insertion_ids", "remote_mac_entry_ids"},
	Router: {"id", "tenant_id", "name", "admin_state_up", "inbound_filter_id", "outbound_filter_id", "load_balancer_id", "route_ids",
		"as_number", "bgp_network_ids", "bgp_peer_ids", "inbound_mirror_ids", "outbound_mirror_ids", "local_redirect_chain_id",
		"forward_chain_id", "port_ids", "trace_request_ids", "vpn_service_ids"},
	ServiceContainer:      {"id", "service_group_id", "port_id", "service_type", "configuration_id"},
	ServiceContainerGroup: {"id", "policy", "host_group_id", "port_group_id", "service_container_ids"},
	HostGroup:             {"id", "name", "host_ids", "service_group_ids"},
	VpnService: {"id", "tenant_id", "name", "description", "admin_state_up", "router_id", "external_ip", "container_id",
		"ipsec_site_connection_ids"},
	IPSecSiteConnection: {"id", "tenant_id", "name", "description", "admin_state_up", "peer_address", "peer_id", "peer_cidrs",
		"local_cidrs", "route_mode", "mtu", "initiator", "auth_mode", "psk", "dpd_action", "dpd_interval", "dpd_timeout",
		"vpnservice_id", "ikepolicy", "ipsecpolicy", "route_ids"},
}

// later says which fields of a class follow one.
func later(class Class, name string) func(string) bool {
	order := orders[class]
	at := slices.Index(order, name)
	return func(other string) bool { return slices.Index(order, other) > at }
}

// hostFields are what EditHost can set, by the words of the command line.
var hostFields = map[string]string{spec.HostWeight: "container_weight", spec.HostLimit: "container_limit"}

// EditHost sets one field of a Host object, spec.HostWeight or spec.HostLimit, and keeps all others, those it does not know
// included, in their order. A field or number that is not allowed is a *spec.Fault.
func EditHost(data []byte, field string, n int) ([]byte, error) {
	if err := spec.CheckHostField(field, n); err != nil {
		return nil, err
	}
	if n > math.MaxInt32 {
		return nil, &spec.Fault{Key: field, Value: strconv.Itoa(n), Allowed: "at most 2147483647, as MidoNet's int32 holds it"}
	}
	name := hostFields[field]
	m, err := text.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("edit Host: %w", err)
	}
	m.Set(name, text.Int(n), later(Host, name))
	return m.Print(), nil
}
