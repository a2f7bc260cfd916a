#!/usr/bin/env bats
# One container by hand, and a supervisor beside it that leaves it alone.

load helpers

# verb ADD|CHECK|DEL [COMMAND] is the line of the contract.
verb() {
	CNI_COMMAND=$1 CNI_CONTAINERID=c1 CNI_NETNS=/run/netns/vpn-hand CNI_IFNAME=svc0 CNI_PATH=$LIBEXEC \
		"$LIBEXEC/svc-ipsec" <"$T/conf.json"
}

hand() { svc-supervisor exec --plugin-path "$LIBEXEC" --host-id h1 --nsdb "file://$NSDB" "$@"; }

@test "ADD, CHECK and DEL with the environment set in the shell" {
	site 100.100.100.2 200.200.200.2 10.1.0.0/24 10.2.0.0/24 | conf_by_hand vpn-hand >"$T/conf.json"
	ip netns add vpn-hand
	verb ADD >"$T/result"
	jq -e '.cniVersion == "1.1.0" and .units == ["svc-vpn-hand.service"] and (.interfaces | length) == 2' "$T/result"
	jq -e '.interfaces[1] | .name == "svc0" and .sandbox == "/run/netns/vpn-hand" and .mac == "ca:08:1a:94:29:0e"' "$T/result"
	unit_is vpn-hand active
	same "tag of the veth" by-hand:vpn-hand:c1 "$(alias_of vpn-hand)"
	same "tag of the namespace" null "$(tag_of vpn-hand)"

	jq -s '.[0] + {prevResult: .[1]}' "$T/conf.json" "$T/result" >"$T/with-result.json"
	jq 'del(.prevResult.health)' "$T/with-result.json" >"$T/check.json"
	CNI_COMMAND=CHECK CNI_CONTAINERID=c1 CNI_NETNS=/run/netns/vpn-hand CNI_IFNAME=svc0 CNI_PATH=$LIBEXEC \
		"$LIBEXEC/svc-ipsec" <"$T/check.json" >"$T/health"
	jq -e '.code == "RUNNING" and .connections[0].name == "to-peer" and .connections[0].status == "DOWN"' "$T/health"

	local life
	life=$(life vpn-hand)
	verb ADD | jq -e .units
	same "daemon after a second ADD" "$life" "$(life vpn-hand)"

	verb DEL
	same "unit" not-found "$(systemctl show -P LoadState svc-vpn-hand.service)"
	not test -e /sys/class/net/vpn-hand
	not test -e /run/svc-ipsec/vpn-hand
	same "interfaces inside" lo "$(ip -n vpn-hand -o link | awk -F'[:@ ]+' '{ print $2 }')"
	verb DEL
	ip netns delete vpn-hand
	verb DEL
}

@test "the name held by another container id is code 4, and nothing is changed" {
	site 100.100.100.2 200.200.200.2 10.1.0.0/24 10.2.0.0/24 | conf_by_hand vpn-hand >"$T/conf.json"
	ip netns add vpn-hand
	verb ADD
	local life
	life=$(life vpn-hand)
	jq '.container.containerId = "c2"' "$T/conf.json" >"$T/other.json"
	run -1 env CNI_COMMAND=ADD CNI_CONTAINERID=c2 CNI_NETNS=/run/netns/vpn-hand CNI_IFNAME=svc0 CNI_PATH="$LIBEXEC" \
		"$LIBEXEC/svc-ipsec" <"$T/other.json"
	# shellcheck disable=SC2154 # of run
	same "code" 4 "$(jq .code <<<"$output")"
	same "daemon" "$life" "$(life vpn-hand)"
	verb DEL
	ip netns delete vpn-hand
}

@test "svc-supervisor exec does the same from the NSDB, and the command that it prints works as printed" {
	site 100.100.100.2 200.200.200.2 10.1.0.0/24 10.2.0.0/24 | with_id f1 | object configurations/f1
	container c1 IPSEC f1
	bind p1 vpn-hand c1 "addresses: [169.254.0.1/30]" "mac: '02:00:00:00:00:01'"
	hand ADD vpn-hand >"$T/result" 2>"$T/said"
	jq -e '.units == ["svc-vpn-hand.service"]' "$T/result"
	unit_is vpn-hand active
	same "tag of the veth" by-hand:vpn-hand:c1 "$(alias_of vpn-hand)"

	local command file
	command=$(grep ^CNI_COMMAND=ADD "$T/said")
	file=${command##*<}
	same "mode of the file" "600 root" "$(stat -c '%a %U' "$file")"
	same "mode of its folder" 700 "$(stat -c %a "$(dirname "$file")")"
	not grep -q "to be seen" "$T/said"
	local life
	life=$(life vpn-hand)
	sh -ec "$command" | jq -e '.units == ["svc-vpn-hand.service"]'
	same "daemon" "$life" "$(life vpn-hand)"

	hand CHECK vpn-hand 2>"$T/said" | jq -e '.code == "RUNNING"'
	sh -ec "$(grep ^CNI_COMMAND=CHECK "$T/said")" | jq -e '.code == "RUNNING"'
	hand DEL vpn-hand 2>"$T/said"
	not test -e /run/netns/vpn-hand
	not test -e "$file"
	same "unit" not-found "$(systemctl show -P LoadState svc-vpn-hand.service)"
}

@test "svc-supervisor exec from a file, in a namespace that was there, which stays" {
	site 100.100.100.2 200.200.200.2 10.1.0.0/24 10.2.0.0/24 | conf_by_hand vpn-hand >"$T/conf.json"
	ip netns add vpn-hand
	hand --file "$T/conf.json" ADD vpn-hand | jq -e .units
	unit_is vpn-hand active
	hand DEL vpn-hand
	test -e /run/netns/vpn-hand
	not test -e /run/svc-ipsec/vpn-hand
	ip netns delete vpn-hand
	run -1 hand --file "$T/conf.json" ADD vpn-other
	# shellcheck disable=SC2154 # of run
	[[ "$output" == *'container.interfaceName "vpn-hand": allowed: vpn-other'* ]]
	run -1 hand RUN vpn-hand
	[[ "$output" == *'allowed: ADD, CHECK or DEL'* ]]
	run -1 hand ADD ../x
	[[ "$output" == *'name "../x": allowed: a letter or digit'* ]]
}

@test "the supervisor leaves what was made by hand alone: beside it, after its start, its GC and its stop" {
	local life
	site 100.100.100.2 200.200.200.2 10.1.0.0/24 10.2.0.0/24 | conf_by_hand vpn-hand >"$T/conf.json"
	hand --file "$T/conf.json" ADD vpn-hand >/dev/null
	life=$(life vpn-hand)
	want a
	start SVC_PLUGIN_PATH="$BIN:$LIBEXEC"
	eventually 10 runs a
	restart
	eventually 10 runs a
	same "daemon" "$life" "$(life vpn-hand)"

	# A binding of the same name is held, and its end costs nothing either.
	container c-h IPSEC f1
	configuration f1
	bind p-h vpn-hand c-h
	eventually 10 held vpn-hand 'exists and is not ours' c-h
	unbind p-h
	eventually 10 is "" row vpn-hand .status

	# GC of the supervisor's own network, as it runs it once a day.
	CNI_COMMAND=GC CNI_CONTAINERID=svc-supervisor CNI_IFNAME=svc0 CNI_PATH=$LIBEXEC "$LIBEXEC/svc-ipsec" \
		<<<'{"cniVersion": "1.1.0", "name": "svc-supervisor", "type": "svc-ipsec", "cni.dev/valid-attachments": []}'
	same "daemon" "$life" "$(life vpn-hand)"
	stop
	start SVC_STOP_CONTAINERS=1
	stop
	same "daemon" "$life" "$(life vpn-hand)"
	test -e /run/svc-ipsec/vpn-hand
	hand DEL vpn-hand
}

@test "exec refuses a name that the supervisor runs, but for CHECK, which changes nothing" {
	want a
	start
	eventually 10 runs a
	local life
	life=$(life a)
	run -1 sup exec ADD a
	# shellcheck disable=SC2154 # of run
	[[ "$output" =~ "a is the supervisor's container" ]]
	run -1 sup exec DEL a
	[[ "$output" =~ "a is the supervisor's container" ]]
	run -0 sup exec CHECK a
	same "daemon" "$life" "$(life a)"
	runs a
	same "verbs" "ADD a" "$(verbs)"
	same "files by hand" "" "$(ls /run/svc-supervisor/by-hand)"
}
