#!/usr/bin/env bats
# svc-ipsec under a foreign runtime: libcni, by way of cnitool.

load helpers

tool_setup() {
	if [ ! -x "$TOOLS/cnitool" ]; then
		echo "$TOOLS/cnitool is missing: make tools" >&2
		return 1
	fi
	mkdir "$T/net.d"
	ip netns add pod
}

# cni VERB: cnitool for the network "test" and the namespace pod.
cni() { NETCONFPATH=$T/net.d CNI_PATH=$LIBEXEC:$TOOLS CNI_IFNAME=eth0 "$TOOLS/cnitool" "$1" test /run/netns/pod; }

# network FILE: the plugins of the network are on standard input, one object each.
network() { jq -s '{cniVersion: "1.1.0", name: "test", plugins: .}' >"$T/net.d/10-test.conflist"; }

@test "stand-alone: status, add, check, again check, del, again del" {
	tool_setup
	site 100.100.100.2 200.200.200.2 10.1.0.0/24 10.2.0.0/24 |
		jq '{type: "svc-ipsec", port: {addresses: ["169.254.0.1/30"]}, configuration: .}' | network
	cni status
	cni add >"$T/result"
	jq -e '.interfaces[1].name == "eth0" and .interfaces[1].sandbox == "/run/netns/pod"' "$T/result"
	local unit
	unit=$(container_unit)
	[[ "$unit" =~ ^svc-x[0-9a-f]{10}\.service$ ]]
	ip -n pod address show dev eth0 | grep -q 'inet 100.100.100.2/32'
	cni check
	cni check
	ip -n pod address delete 100.100.100.2/32 dev eth0
	run -1 cni check
	cni del
	same "unit" "" "$(container_unit)"
	same "folders" "" "$(folders)"
	same "interfaces in the pod" lo "$(ip -n pod -o link | awk -F'[:@ ]+' '{ print $2 }')"
	cni del
	run -1 cni check
	ip netns delete pod
	cni del
	forget_results
}

@test "chained after ptp with host-local: it takes the interface it is given, and leaves it behind" {
	tool_setup
	{
		echo '{"type": "ptp", "ipam": {"type": "host-local", "dataDir": "'"$T"'/ipam", "subnet": "10.88.0.0/24", "routes": [{"dst": "0.0.0.0/0"}]}}'
		site 10.88.0.2 200.200.200.2 10.1.0.0/24 10.2.0.0/24 | jq '{type: "svc-ipsec", configuration: (. | del(.externalIps, .externalMac))}'
	} | network
	cni status
	cni add >"$T/result"
	jq -e '.ips[0].address == "10.88.0.2/24"' "$T/result"
	local unit
	unit=$(container_unit)
	[[ "$unit" =~ ^svc-x[0-9a-f]{10}\.service$ ]]
	same "interfaces in the pod" "eth0 lo" "$(ip -n pod -o link | awk -F'[:@ ]+' '{ print $2 }' | sort | xargs)"
	ip -n pod route show 10.2.0.0/24 | grep -q eth0
	cni check
	cni del
	same "unit" "" "$(container_unit)"
	same "interfaces in the pod" lo "$(ip -n pod -o link | awk -F'[:@ ]+' '{ print $2 }')"
	same "addresses held" "" "$(find "$T/ipam/test" -type f -name '10.*')"
	cni del
	ip netns delete pod
	forget_results
}

@test "chained: an external address that the chain did not give, and a port, are code 7, and nothing is left" {
	tool_setup
	local ptp='{"type": "ptp", "ipam": {"type": "host-local", "dataDir": "'"$T"'/ipam", "subnet": "10.88.0.0/24"}}'
	{
		echo "$ptp"
		site 100.100.100.2 200.200.200.2 10.1.0.0/24 10.2.0.0/24 | jq '{type: "svc-ipsec", configuration: .}'
	} | network
	run -1 cni add
	# shellcheck disable=SC2154 # of run
	[[ "$output" == *'configuration.externalIps "100.100.100.2": allowed: the addresses of prevResult: 10.88.0.2'* ]]
	same "unit" "" "$(container_unit)"
	cni del
	{
		echo "$ptp"
		site 10.88.0.3 200.200.200.2 10.1.0.0/24 10.2.0.0/24 |
			jq '{type: "svc-ipsec", port: {addresses: ["169.254.0.1/30"]}, configuration: (. | del(.externalIps))}'
	} | network
	run -1 cni add
	[[ "$output" =~ port\ .*allowed:\ none\ after\ another\ plugin ]]
	cni del
	same "folders" "" "$(folders)"
	ip netns delete pod
	forget_results
}

@test "gc keeps what is on its list, and all of it where there is no list" {
	tool_setup
	site 100.100.100.2 200.200.200.2 10.1.0.0/24 10.2.0.0/24 |
		jq '{type: "svc-ipsec", port: {addresses: ["169.254.0.1/30"]}, configuration: .}' | network
	cni add >"$T/result"
	local unit id
	unit=$(container_unit)
	id=$(systemctl show -P Environment "$unit" | sed 's/.*SVC_OWNER=[^:]*:[^:]*:\([^ "]*\).*/\1/')
	gc null
	same "unit without a list" "$unit" "$(container_unit)"
	gc '[{"containerID": "'"$id"'", "ifname": "eth0"}]'
	same "unit that is on the list" "$unit" "$(container_unit)"
	gc '[{"containerID": "'"$id"'", "ifname": "eth1"}]'
	same "unit that is not" "" "$(container_unit)"
	cni del

	# libcni itself removes what it remembers: cnitool gives it no list.
	cni add >"$T/result"
	same "units" 1 "$(container_unit | wc -l)"
	cni gc
	same "units after cnitool gc" "" "$(container_unit)"
	ip netns delete pod
	forget_results
}

@test "gc with an empty list collects all of its network, and nothing of another network or of the supervisor" {
	tool_setup
	local id
	vpn left 9
	start SVC_PLUGIN_PATH="$LIBEXEC"
	eventually 15 runs left c-left IPSEC
	for id in one two; do
		by_spec ADD test "$id" >/dev/null
	done
	by_spec ADD other one >/dev/null
	same "units" 3 "$(container_unit | wc -l)"
	same "what gc says" "" "$(gc '[]')"
	same "unit of the other network" "1 other" "$(container_unit | wc -l) $(systemctl show -P Environment "$(container_unit)" | sed 's/.*SVC_OWNER=\([^:]*\):.*/\1/')"
	same "folders" 1 "$(folders | grep -c /x)"
	same "interfaces on the host" "left $(container_unit | sed 's/^svc-//; s/\.service$//')" \
		"$(ip -j link show type veth | jq -r '.[].ifname' | sort | xargs)"
	runs left c-left IPSEC
	by_spec DEL other one
	same "folders" "" "$(folders | grep /x || true)"
	ip netns delete one
	ip netns delete two
	ip netns delete pod
}

# by_spec VERB NETWORK ID runs the verb as the specification has it, without a runtime, for a namespace ID.
by_spec() {
	[ -e "/run/netns/$3" ] || ip netns add "$3"
	site 100.100.100.2 200.200.200.2 10.1.0.0/24 10.2.0.0/24 |
		jq --arg name "$2" '{cniVersion: "1.1.0", name: $name, type: "svc-ipsec", port: {addresses: ["169.254.0.1/30"]}, configuration: .}' |
		CNI_COMMAND=$1 CNI_CONTAINERID=$3 CNI_NETNS=/run/netns/$3 CNI_IFNAME=eth$2 CNI_PATH=$LIBEXEC "$LIBEXEC/svc-ipsec"
}

@test "status is code 50 with what is missing, each by its name, and cnitool shows it" {
	tool_setup
	site 100.100.100.2 200.200.200.2 10.1.0.0/24 10.2.0.0/24 |
		jq '{type: "svc-ipsec", port: {addresses: ["169.254.0.1/30"]}, configuration: .}' | network
	local words covered
	export T
	export -f cni
	while read -r words covered; do
		run -1 without "$covered" env CNI_COMMAND=STATUS CNI_PATH="$LIBEXEC" "$LIBEXEC/svc-ipsec" \
			<<<'{"cniVersion": "1.1.0", "name": "test", "type": "svc-ipsec"}'
		# shellcheck disable=SC2154 # of run
		same "version and code without $covered" "1.1.0 50" "$(jq -r '"\(.cniVersion) \(.code)"' <<<"$output")"
		[[ "$(jq -r .msg <<<"$output")" =~ ^missing\ on\ this\ host:\ $words ]] || { echo "$output"; return 1; }
		run -1 without "$covered" bash -c 'cni status'
		[[ "$output" =~ missing\ on\ this\ host:\ $words ]] || { echo "$output"; return 1; }
	done <<-END
		.*pluto /usr/libexec/ipsec
		.*nft $(command -v nft)
		.*systemd /run/systemd /run/dbus
	END
	cni status
	ip netns delete pod
}

# without PATHS COMMAND…: COMMAND finds folders empty, and files that cannot be run.
without() {
	unshare --mount bash -ec 'for path in $0; do
		if [ -d "$path" ]; then mount -t tmpfs tmpfs "$path"; else mount --bind /dev/null "$path"; fi
	done; exec "$@"' "$@"
}

gc() {
	jq -n --argjson valid "$1" '{cniVersion: "1.1.0", name: "test", type: "svc-ipsec", "cni.dev/valid-attachments": $valid} | del(.[] | nulls)' |
		CNI_COMMAND=GC CNI_CONTAINERID=x CNI_IFNAME=x CNI_PATH=$LIBEXEC "$LIBEXEC/svc-ipsec"
}
