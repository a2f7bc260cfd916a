#!/usr/bin/env bats
# The executable that docs/executables.md shows whole, as a service type of its
# own: it lives as any other. It is an echo server at a container's address.

# shellcheck disable=SC2030,SC2031 # each test is a subshell
load helpers

# install_shown takes the executable out of the document: its first block that
# answers VERSION.
install_shown() {
	awk '/^```/ { if (inside && text ~ /serviceVersion/) { printf "%s", text; exit }
			inside = !inside; text = ""; next }
		inside { text = text $0 "\n" }' "$PROJECT/docs/executables.md" >"$T/shown"
	[ -s "$T/shown" ]
	chmod 755 "$T/shown"
	mv "$T/shown" "$BIN/echo"
}

# serve NAME N binds an echo server with the address 10.7.N.2.
serve() {
	echo "{id: f-$1, address: 10.7.$2.2/24}" | object "configurations/f-$1"
	want "$1"
}

# echoes NAME N: what is sent to it over its veth comes back.
echoes() {
	ip address replace "10.7.$2.1/24" dev "$1" &&
		[ "$(timeout 2 bash -c "exec 3<>/dev/tcp/10.7.$2.2/7 && echo hello >&3 && head -n 1 <&3")" = hello ]
}

@test "the executable of the document is a whole one, in about thirty lines" {
	install_shown
	[ "$(wc -l <"$BIN/echo")" -le 45 ]
	same "type" ECHO "$(CNI_COMMAND=VERSION "$BIN/echo" </dev/null | jq -r .serviceType)"
	same "refused" "" "$(sup plugins -o json 2>/dev/null | jq -r '.refused[].reason')"
	run -0 env -u CNI_COMMAND "$BIN/echo"
	# shellcheck disable=SC2154 # of run
	[[ "$output" =~ ^"CNI svc-echo plugin v"[0-9.]+$ ]]
}

@test "it is made, edited, healed, checked, adopted, renamed and removed like any other" {
	install_shown
	serve a 1
	serve b 2
	start SVC_CHECK_INTERVAL=1s
	eventually 10 runs a
	eventually 10 runs b
	eventually 5 echoes a 1
	eventually 5 echoes b 2
	same "tag of the veth" svc-supervisor:a:c-a "$(alias_of a)"

	echo '{id: f-a, address: 10.7.3.2/24}' | object configurations/f-a
	eventually 10 is 10.7.3.2/24 record a .conf.configuration.address
	eventually 10 runs a
	eventually 5 echoes a 3
	runs b

	local life
	life=$(life a)
	systemctl kill --signal=KILL svc-a.service
	eventually 15 another_life a "$life"
	eventually 10 runs a
	eventually 5 echoes a 3

	ip link delete dev a # CHECK of this one does not miss it; its namespace, the supervisor does
	ip netns delete a
	restart
	eventually 10 runs a
	eventually 5 echoes a 3

	life=$(life b)
	restart
	eventually 10 runs b
	same "daemon of b" "$life" "$(life b)"

	bind p-b renamed c-b
	eventually 10 runs renamed c-b
	eventually 5 echoes renamed 2
	eventually 5 not test -e /run/netns/b
	unbind p-a
	unbind p-b
	eventually 10 gone a
	eventually 10 gone renamed c-b
}

another_life() { [[ "$(life "$1")" != @("$2"|) ]] && unit_is "$1" active; }

@test "its bad configuration is an ERROR that names the key, and heals" {
	install_shown
	echo '{id: f-a, address: "10.7.1.2; reboot"}' | object configurations/f-a
	want a
	start
	eventually 10 is "ERROR configuration.address: allowed: address/length (code 7)" status c-a '.code + " " + .message'
	serve a 1
	eventually 10 runs a
	eventually 5 echoes a 1
}

@test "it can be driven by hand, and succeeds again and again at removing" {
	install_shown
	ip netns add hand
	conf='{"cniVersion": "1.1.0", "name": "by-hand", "type": "echo", "container": {"portId": "p1", "interfaceName": "hand",
		"containerId": "c1", "serviceType": "ECHO", "configurationId": "f1"}, "configuration": {"address": "10.7.1.2/24"}}'
	verb ADD | jq -e '.units == ["svc-hand.service"]'
	unit_is hand active
	eventually 5 echoes hand 1
	verb CHECK
	verb DEL
	not unit_is hand active
	run -1 verb CHECK
	# shellcheck disable=SC2154 # of run
	jq -e '.code and .msg' <<<"$output"
	verb DEL
	ip netns delete hand
	verb DEL
	same "unit" not-found "$(systemctl show -P LoadState svc-hand.service)"
}

verb() {
	CNI_COMMAND=$1 CNI_CONTAINERID=c1 CNI_NETNS=/run/netns/hand CNI_IFNAME=svc0 CNI_PATH=$BIN "$BIN/echo" <<<"$conf"
}

@test "two service types live beside each other" {
	install_shown
	PLUGIN_PATH=$BIN:$LIBEXEC
	serve a 1
	container c-i IPSEC f-i
	echo '{id: f-i, externalIps: [100.100.100.2]}' | object configurations/f-i
	bind p-i i c-i "addresses: [169.254.0.1/30]"
	start SVC_PLUGIN_PATH="$PLUGIN_PATH"
	eventually 10 runs a
	eventually 10 is "RUNNING i" status c-i '.code + " " + .namespaceName'
	same "records" "a.ECHO i.IPSEC" "$(records | xargs)"
	same "rows" "a:ECHO:RUNNING i:IPSEC:RUNNING" "$(sup ps -o json | jq -r '.containers[] | .name + ":" + .type + ":" + .status' | xargs)"
}
