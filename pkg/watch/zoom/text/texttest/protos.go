package texttest

import (
	"fmt"
	"strings"
)

type field struct {
	number             int
	kind               string
	required, repeated bool
}

// protos has the message types that MidoNet declares. Each field is its number, name and type. The suffix '*' marks a
// repeated field and '!' a required one.
var protos = map[string]map[string]field{
	"UUID":      declare("1 msb uint64!", "2 lsb uint64!"),
	"IPAddress": declare("1 version IPVersion!", "2 address string!"),
	"IPSubnet":  declare("1 version IPVersion!", "2 address string", "3 prefix_length uint32"),
	"Host": declare("1 id UUID", "2 name string", "3 flooding_proxy_weight int32", "4 container_weight int32",
		"5 container_limit int32", "6 enforce_container_limit bool", "101 tunnel_zone_ids UUID*", "102 port_ids UUID*",
		"103 host_group_ids UUID*"),
	"Port": declare("1 id UUID", "2 network_id UUID", "3 router_id UUID", "4 inbound_filter_id UUID",
		"5 outbound_filter_id UUID", "6 tunnel_key uint64", "7 peer_id UUID", "8 vif_id UUID", "9 host_id UUID",
		"10 interface_name string", "11 admin_state_up bool", "12 port_group_ids UUID*", "13 vlan_id uint32",
		"14 port_subnet IPSubnet*", "15 port_address IPAddress", "16 port_mac string", "17 route_ids UUID*",
		"18 dhcp_id UUID", "19 vtep_id UUID", "20 inbound_mirror_ids UUID*", "21 outbound_mirror_ids UUID*",
		"23 l2insertion_infilter_id UUID", "24 l2insertion_outfilter_id UUID", "25 service_container_id UUID",
		"26 post_in_filter_mirror_ids UUID*", "27 pre_out_filter_mirror_ids UUID*", "28 previous_host_id UUID",
		"40 vni uint32", "41 off_ramp_vxlan bool", "42 tunnel_ip IPAddress", "43 qos_policy_id UUID",
		"101 vip_ids UUID*",
		"102 fip_nat_rule_ids UUID*", "103 trace_request_ids UUID*", "104 mirror_ids UUID*", "110 insertion_ids UUID*",
		"111 srv_insertion_ids UUID*", "120 remote_mac_entry_ids UUID*"),
	"Router": declare("1 id UUID", "2 tenant_id string", "3 name string", "4 admin_state_up bool",
		"5 inbound_filter_id UUID", "6 outbound_filter_id UUID", "7 load_balancer_id UUID", "8 route_ids UUID*",
		"9 as_number int32", "10 bgp_network_ids UUID*", "11 bgp_peer_ids UUID*", "12 inbound_mirror_ids UUID*",
		"13 outbound_mirror_ids UUID*", "14 local_redirect_chain_id UUID", "15 forward_chain_id UUID",
		"101 port_ids UUID*", "102 trace_request_ids UUID*", "103 vpn_service_ids UUID*"),
	"ServiceContainer": declare("1 id UUID", "2 service_group_id UUID", "3 port_id UUID", "4 service_type string",
		"5 configuration_id UUID"),
	"ServiceContainerGroup": declare("1 id UUID", "2 policy ServiceContainerPolicy", "3 host_group_id UUID",
		"4 port_group_id UUID", "101 service_container_ids UUID*"),
	"HostGroup": declare("1 id UUID", "2 name string", "101 host_ids UUID*", "102 service_group_ids UUID*"),
	"VpnService": declare("1 id UUID", "2 tenant_id string", "3 name string", "4 description string",
		"5 admin_state_up bool", "6 router_id UUID", "20 external_ip IPAddress", "21 container_id UUID",
		"30 ipsec_site_connection_ids UUID*"),
	"IPSecSiteConnection": declare("1 id UUID", "2 tenant_id string", "3 name string", "4 description string",
		"5 admin_state_up bool", "6 peer_address string", "7 peer_id string", "8 peer_cidrs IPSubnet*",
		"9 local_cidrs IPSubnet*", "10 route_mode RouteMode", "11 mtu uint32", "12 initiator Initiator",
		"13 auth_mode AuthMode", "14 psk string", "15 dpd_action DpdAction", "16 dpd_interval uint32",
		"17 dpd_timeout uint32", "18 vpnservice_id UUID", "20 ikepolicy IkePolicy", "21 ipsecpolicy IPSecPolicy",
		"101 route_ids UUID*"),
	"IkePolicy": declare("1 auth_algorithm IPSecAuthAlgorithm", "2 encryption_algorithm IPSecEncryptionAlgorithm",
		"3 phase1_negotiation_mode Phase1NegotiationMode", "4 ike_version IkeVersion", "5 pfs IPSecPfs",
		"6 lifetime_value uint32", "7 lifetime_units string"),
	"IPSecPolicy": declare("1 transform_protocol TransformProtocol", "2 auth_algorithm IPSecAuthAlgorithm",
		"3 encryption_algorithm IPSecEncryptionAlgorithm", "4 encapsulation_mode EncapsulationMode", "5 pfs IPSecPfs",
		"6 lifetime_value uint32", "7 lifetime_units string"),
	"ContainerServiceStatus": declare("1 weight int32", "2 quota int32", "3 count int32"),
	"ContainerStatus": declare("1 status_code Code", "2 status_message string", "3 host_id UUID",
		"4 namespace_name string", "5 interface_name string"),
}

var enums = map[string]map[string]int{
	"IPVersion":                {"V4": 1, "V6": 2},
	"ServiceContainerPolicy":   {"WEIGHTED_SCHEDULER": 0, "LEAST_SCHEDULER": 1},
	"RouteMode":                {"STATIC": 1},
	"Initiator":                {"BI_DIRECTIONAL": 1, "RESPONSE_ONLY": 2},
	"AuthMode":                 {"PSK": 1},
	"DpdAction":                {"CLEAR": 1, "HOLD": 2, "RESTART": 3, "DISABLED": 4, "RESTART_BY_PEER": 5},
	"IPSecAuthAlgorithm":       {"SHA1": 0},
	"IPSecEncryptionAlgorithm": {"DES_3": 0, "AES_128": 1, "AES_192": 2, "AES_256": 3},
	"IPSecPfs":                 {"GROUP2": 1, "GROUP5": 2, "GROUP14": 3},
	"Phase1NegotiationMode":    {"MAIN": 1},
	"IkeVersion":               {"V1": 1, "V2": 2},
	"TransformProtocol":        {"ESP": 1, "AH": 2, "AH_ESP": 3},
	"EncapsulationMode":        {"TUNNEL": 1, "TRANSPORT": 2},
	"Code":                     {"STARTING": 1, "RUNNING": 2, "STOPPING": 3, "STOPPED": 4, "ERROR": 5},
}

func declare(lines ...string) map[string]field {
	fields := map[string]field{}
	for _, line := range lines {
		var f field
		var name string
		if _, err := fmt.Sscan(line, &f.number, &name, &f.kind); err != nil {
			panic(err)
		}
		f.kind, f.required = strings.CutSuffix(f.kind, "!")
		f.kind, f.repeated = strings.CutSuffix(f.kind, "*")
		fields[name] = f
	}
	return fields
}
