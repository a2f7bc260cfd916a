#!/usr/bin/env bats
# Edits that are refused: the connection, or the container, goes on with its
# last valid configuration, through restarts of the supervisor, a reboot and
# healing, and says so.
# shellcheck disable=SC2030,SC2031 # each test is a subshell

load helpers

# vpn EDIT binds the container left with two connections; EDIT is a jq filter on its configuration.
vpn() {
	site 100.100.100.2 200.200.200.2 10.1.0.0/24 10.2.0.0/24 \
		'.connections[0].initiator = "response-only"' \
		'.connections += [.connections[0] * {id: "second", name: "second", peerAddress: "200.200.200.3", peerId: "200.200.200.3", peerCidrs: ["10.3.0.0/24"]}]' |
		jq "${1:-.}" | with_id f-left | object configurations/f-left
	container c-left IPSEC f-left
	bind p-left left c-left "addresses: [169.254.0.1/30]"
}

begin() { start SVC_PLUGIN_PATH="$LIBEXEC" SVC_CHECK_INTERVAL=5s "$@"; }
ps_row() { PLUGIN_PATH=$LIBEXEC row "$@"; }
FIRST=7f1c0000-0000-4000-8000-000000000001

# goes_on REASON: both connections are loaded, and the status and ps have the reason.
goes_on() {
	local has
	has=$(conns left)
	[ "$has" = "$FIRST-0-0 second-0-0" ] || { echo "conns: $has"; return 1; }
	[[ "$(status c-left '.code + " " + .message')" =~ ^RUNNING\ .*edit\ refused:\ .*$1 ]] || { echo "status: $(status c-left .)"; return 1; }
	[[ "$(ps_row left '.status + " " + (.reason // "") + (.health.message // "")')" =~ edit\ refused:\ .*$1 ]] || { echo "row: $(ps_row left .)"; return 1; }
}

# warnings counts the lines about refused edits.
warnings() { journal | grep -c 'level=WARN msg="edit refused' || true; }

# reboots makes the record one of another boot.
reboots() {
	stop
	jq '.bootId = "another"' "$STATE"/containers/left.IPSEC >"$T/record"
	cat "$T/record" >"$STATE/containers/left.IPSEC"
	begin
}

@test "a connection whose edit is refused goes on: after restarts, a reboot and healing, with one warning" {
	local life
	vpn
	begin
	eventually 15 runs left c-left IPSEC
	eventually 15 is "$FIRST-0-0 second-0-0" conns left
	life=$(life left)
	vpn '.connections[0] |= (.peerCidr = .peerCidrs | del(.peerCidrs))'
	eventually 15 goes_on 'connections\[0\]: unknown key "peerCidr": allowed: id, name'
	same "reason of the connection" 'edit refused: configuration.connections[0]: unknown key "peerCidr"' \
		"$(status c-left ".connections[] | select(.id == \"$FIRST\").reason" | grep -o '^edit refused: .*"peerCidr"')"
	same "daemon" "$life" "$(life left)"
	same "warnings" 1 "$(warnings)"
	restart
	eventually 15 runs left c-left IPSEC
	eventually 70 goes_on 'unknown key "peerCidr"'
	same "daemon after a restart" "$life" "$(life left)"
	same "mode of the record" 600 "$(stat -c %a "$STATE/containers/left.IPSEC")"

	reboots
	eventually 30 goes_on 'unknown key "peerCidr"'
	not same "daemon after a reboot" "$life" "$(life left)"

	# Another edit beside it is made; an edit that is refused for another reason keeps it, too.
	vpn '.connections[0].mtu = 14000000 | .connections[1].mtu = 1300'
	eventually 15 goes_on 'connections\[0\].mtu "14000000": allowed: a number from 68 to 65535'
	eventually 15 is 1300 mtu_to left 10.3.0.0/24
	same "mtu of the edit that is refused" 1400 "$(mtu_to left 10.2.0.0/24)"

	# Healing: DEL and ADD.
	life=$(life left)
	ip netns delete left
	eventually 60 another_life "$life"
	eventually 30 goes_on 'mtu "14000000"'
	same "mtu after healing" "1400 1300" "$(mtu_to left 10.2.0.0/24) $(mtu_to left 10.3.0.0/24)"

	# What is removed is removed, and a valid edit ends it all.
	vpn 'del(.connections[0])'
	eventually 15 is second-0-0 conns left
	vpn
	eventually 15 is "$FIRST-0-0 second-0-0" conns left
	eventually 15 is "RUNNING " status c-left '.code + " " + (.message | if contains("edit") then . else "" end)'
}

mtu_to() { ip -n "$1" -j route show "$2" | jq -r '.[0].metrics[0].mtu'; }
another_life() { [ -n "$(life left)" ] && [ "$(life left)" != "$1" ]; }

@test "a container whose configuration is refused as a whole goes on, also where it cannot be parsed" {
	local life
	vpn
	begin
	eventually 15 runs left c-left IPSEC
	eventually 15 is "$FIRST-0-0 second-0-0" conns left
	life=$(life left)
	vpn '.conections = .connections | del(.connections)'
	eventually 15 goes_on 'configuration: unknown key "conections": allowed: '
	same "daemon" "$life" "$(life left)"
	same "warnings" 1 "$(warnings)"
	reboots
	eventually 30 goes_on 'unknown key "conections"'

	echo '{id: f-left, connections: [' | object configurations/f-left
	eventually 15 goes_on 'configurations/f-left: is not YAML'
	same "warnings" 1 "$(journal | grep -c 'level=WARN.*configurations/f-left.*is not YAML' || true)"
	reboots
	eventually 30 goes_on 'configurations/f-left: is not YAML'
	life=$(life left)
	ip netns delete left
	eventually 60 another_life "$life"
	eventually 30 goes_on 'configurations/f-left: is not YAML'
	same "what a new boot does" 2 "$(journal | grep -c 'msg="delete container.*rule=4' || true)"

	vpn 'del(.connections[1])'
	eventually 15 is "$FIRST-0-0" conns left
	eventually 15 runs left c-left IPSEC
}

@test "a host that never had a valid configuration shows why it is refused" {
	vpn '.connections[0].mtu = 14000000'
	site 100.100.101.2 200.200.201.2 10.1.0.0/24 10.2.0.0/24 '.conections = 1' | with_id f-right | object configurations/f-right
	container c-right IPSEC f-right
	bind p-right right c-right "addresses: [169.254.1.1/30]"
	begin
	eventually 15 runs left c-left IPSEC
	eventually 15 is second-0-0 conns left
	same "reason" 'configuration.connections[0].mtu "14000000": allowed: a number from 68 to 65535' "$(status c-left ".connections[] | select(.id == \"$FIRST\").reason")"
	eventually 15 is ERROR status c-right .code
	[[ "$(status c-right .message)" == *'unknown key "conections"'* ]]
	not test -e /run/svc-ipsec/right
}

@test "validate asks svc-ipsec, and prints file, key and what is allowed" {
	vpn
	echo '{id: g1, policy: leastContainers, hostIds: [h1]}' | object groups/g1
	run --separate-stderr svc-supervisor validate --plugin-path "$LIBEXEC" "$NSDB"
	# shellcheck disable=SC2154 # of run
	same "status and faults" 0 "$status$output"
	vpn '.connections[0] |= (.peerCidr = .peerCidrs | del(.peerCidrs)) | .connections[1].mtu = 14000000'
	run -1 --separate-stderr svc-supervisor validate --plugin-path "$LIBEXEC" "file://$NSDB"
	grep -qE '^configurations/f-left.*connections\[0\]: unknown key "peerCidr": allowed: id, name' <<<"$output"
	grep -qE '^configurations/f-left.*connections\[1\].mtu "14000000": allowed: a number from 68 to 65535' <<<"$output"
}
