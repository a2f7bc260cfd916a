#!/usr/bin/env bats
# Three tunnels of one container to three peers: what is changed of one is not
# noticed by the others. Each step has a ping every 50 ms through all of them.
# The tests stand on each other.

load helpers

# site N: the variables of the right container N and its network.
site() {
	external=200.200.200.$(($1 + 1)) net=10.2.$(($1 - 1)) gateway=169.254.0.$((4 * $1 + 1)) inside=169.254.0.$((4 * $1 + 2))
	name=right$1
	[ "$1" != 1 ] || name=right
}

setup_file() {
	local n
	sites_up
	(umask 077 && echo '"the first key of all tunnels" "the second key, of tunnel 2"' >"$RUN/keys")
	# Two more containers beside the right one, each for a network of its own
	# behind the same router.
	for n in 2 3; do
		site "$n"
		ip -n router-right address add "$gateway/30" dev port
		ip -n router-right route add "$external" via "$inside"
		[ "$n" = 2 ] || ip -n router-right address add "$net.1/24" dev site
		[ "$n" = 2 ] || ip -n site-right address add "$net.10/24" dev eth0
		ip -n router-right route add 10.1.0.0/16 via "$inside" table "$n"
		ip -n router-right rule add from "$net.0/24" lookup "$n"
		ip -n router-left route add "$external" via 192.0.2.2
		ip -n router-left route replace "$net.0/24" via 169.254.0.2
		echo "{id: $name, serviceType: IPSEC, groupId: vpn, configurationId: $name, portId: port-$name}" >"$NSDB/containers/$name.yaml"
	done
	ip -n site-right address add 10.2.3.10/24 dev eth0
	ip -n router-right address add 10.2.3.1/24 dev site
	ip -n router-left route add 10.2.3.0/24 via 169.254.0.2
	left "$(to 1)" "$(to 2)" "$(to 3)"
	for n in 1 2 3; do right "$n" "$(from "$n")"; done
	systemctl start svc-supervisor.service
	# One after the other: a guest has one processor.
	for n in 1 2 3; do
		bind_right "$n"
		site "$n"
		within 60 is_running "$name"
	done
	bind_port left
	within 120 up 3 || {
		teardown
		return 1
	}
}

teardown_file() { sites_down; }

bind_right() {
	site "$1"
	printf '{portId: port-%s, hostId: host-1, interfaceName: vpn-%s, containerId: %s, addresses: [%s/30], mac: "ca:fe:00:00:00:05", bridge: br-right}\n' \
		"$name" "$name" "$name" "$gateway" >"$RUN/binding"
	mv "$RUN/binding" "$NSDB/bindings/host-1/port-$name.yaml"
}

# connection ID PEER LOCAL REMOTE [JQ] prints one as JSON, JQ applied to it. No
# key is on a command line: key N is the N-th of a file.
connection() {
	jq -cn --arg id "$1" --arg peer "$2" --arg local "$3" --arg remote "$4" --slurpfile keys "$RUN/keys" '
		def key(n): .psk = $keys[n];
		{id: $id, name: "to-\($peer)", peerAddress: $peer, mtu: 1400, localCidrs: [$local], peerCidrs: [$remote]} | key(0) | '"${5:-.}"
}
# to N [JQ], from N [JQ]: tunnel N at the left and at the right end.
to() { site "$1" && connection "t$1" "$external" 10.1.0.0/24 "$net.0/24" "${2:-.}"; }
from() { site "$1" && connection "t$1" 100.100.100.2 "$net.0/24" 10.1.0.0/24 ".initiator = \"response-only\" | ${2:-.}"; }
# The fourth goes to the first one's peer, and so shares its IKE SA. Its own dead
# peer detection is slow to find out that this one is gone.
fourth_to() { connection t4 200.200.200.2 10.1.1.0/24 10.2.3.0/24 '.dpd = {action: "restart", interval: 120, timeout: 480}'; }
fourth_from() { connection t4 100.100.100.2 10.2.3.0/24 10.1.1.0/24 '.initiator = "response-only"'; }

# left CONNECTION…, right N CONNECTION…: the configuration of a container.
left() { configure left 100.100.100.2 ca:08:1a:94:29:0e "$@"; }
right() {
	site "$1"
	shift
	configure "$name" "$external" "ca:08:1a:94:30:0${external##*.}" "$@"
}
configure() {
	local id=$1 external=$2 mac=$3
	shift 3
	jq -s --arg id "$id" --arg external "$external" --arg mac "$mac" '{id: $id, externalIps: [$external], externalMac: $mac, connections: .}' <<<"$*" >"$RUN/configuration"
	mv "$RUN/configuration" "$NSDB/configurations/$id.yaml"
}

# left_has JQ: of the left container's health.
left_has() { svc-supervisor ps -o json | jq -e ".containers[] | select(.name == \"vpn-left\") | .health.connections | $1"; }
up() { left_has "length == $1 and all(.[]; .status == \"ACTIVE\")"; }

# spis_to N: those of the left container's tunnel N, both ways.
spis_to() {
	site "$1"
	ip -n vpn-left xfrm state | awk -v peer="$external" '$1 == "src" { of = $2 == peer || $4 == peer } $3 == "spi" && of { print $4 }' | sort
}

# watch begins a ping every 50 ms through each tunnel and notes their SPIs;
# unnoticed N… ends all and wants those to have lost nothing.
watch() {
	local n
	pingers=()
	for n in 1 2 3; do
		site "$n"
		spis_to "$n" >"$RUN/spis.$n"
		ip netns exec site-left ping -n -i 0.05 -I 10.1.0.10 "$net.10" >"$RUN/pings.$n" 2>&1 3>&- &
		pingers+=("$!")
	done
	for n in 1 2 3; do within 20 grep -q 'icmp_seq=20 ' "$RUN/pings.$n"; done
}
unnoticed() {
	local n
	kill -INT "${pingers[@]}"
	wait "${pingers[@]}" || true
	for n; do
		echo "tunnel $n: $(PINGS=$RUN/pings.$n ping_sent) packets"
		same "lost packets of tunnel $n" 0 "$(PINGS=$RUN/pings.$n ping_lost)"
		same "SPIs of tunnel $n" "$(cat "$RUN/spis.$n")" "$(spis_to "$n")"
	done
}

# new_spis N: a tunnel that was changed is another one, and carries.
new_spis() { [ -n "$(spis_to "$1")" ] && [ -z "$(comm -12 "$RUN/spis.$1" <(spis_to "$1"))" ] && up 3; }
setting() { grep -qx "	$2" "/run/svc-ipsec/vpn-left/conns/t$1-0-0.conf"; }

@test "a fourth is added, over the first one's IKE SA: none of the three notices" {
	watch
	right 1 "$(from 1)" "$(fourth_from)"
	within 30 test -e /run/svc-ipsec/vpn-right/conns/t4-0-0.conf
	left "$(to 1)" "$(to 2)" "$(to 3)" "$(fourth_to)"
	within 60 up 4
	ping_from left 10.1.1.10 10.2.3.10
	site 1
	# The fourth one's are among them now: of the first one's none is gone.
	same "SPIs of the first that are gone" "" "$(comm -23 "$RUN/spis.1" <(spis_to 1))"
	spis_to 1 >"$RUN/spis.1"
	unnoticed 1 2 3
}

@test "the second gets a new key at both ends: the others do not notice" {
	watch
	right 2 "$(from 2 'key(1)')"
	left "$(to 1)" "$(to 2 'key(1)')" "$(to 3)" "$(fourth_to)"
	within 60 changed_with_four 2
	unnoticed 1 3
}
changed_with_four() { [ -n "$(spis_to "$1")" ] && [ -z "$(comm -12 "$RUN/spis.$1" <(spis_to "$1"))" ] && up 4; }

@test "the third gets another name: none notices, the third neither" {
	watch
	left "$(to 1)" "$(to 2 'key(1)')" "$(to 3 '.name = "another name"')" "$(fourth_to)"
	within 30 left_has 'any(.[]; .name == "another name")'
	unnoticed 1 2 3
}

@test "the fourth is removed: none of the three notices, the first neither" {
	watch
	# Of the four SPIs to that peer two go.
	left "$(to 1)" "$(to 2 'key(1)')" "$(to 3)"
	within 30 up 3
	right 1 "$(from 1)"
	within 30 test ! -e /run/svc-ipsec/vpn-right/conns/t4-0-0.conf
	same "SPIs of the first one's peer that are new" "" "$(comm -13 "$RUN/spis.1" <(spis_to 1))"
	same "SPIs of the first" 2 "$(spis_to 1 | wc -l)"
	spis_to 1 >"$RUN/spis.1"
	unnoticed 1 2 3
}

@test "the first gets another DPD: the others do not notice" {
	watch
	left "$(to 1 '.dpd = {action: "restart", interval: 10, timeout: 40}')" "$(to 2 'key(1)')" "$(to 3)"
	within 30 setting 1 dpddelay=10s
	within 60 new_spis 1
	unnoticed 2 3
}

@test "one that the peer does not know yet is refused, and asked for again until it does: the others do not notice" {
	watch
	left "$(to 1 '.dpd = {action: "restart", interval: 10, timeout: 40}')" "$(to 2 'key(1)')" "$(to 3)" "$(fourth_to)"
	within 30 left_has 'any(.[]; .id == "t4" and .status == "DOWN" and .reason == "TS_UNACCEPTABLE")'
	right 1 "$(from 1)" "$(fourth_from)"
	within 60 up 4
	ping_from left 10.1.1.10 10.2.3.10
	unnoticed 2 3
}

# lost and back are when the first one's IKE SA went, and when the fourth was up
# last, as the left daemon says, in ms.
last() {
	journalctl --quiet -o short-unix -u svc-vpn-left.service -g "$1" -n 1 |
		awk '{ printf "%.0f\n", $1 * 1000 }'
}
lost() { last '"t1-0-0" #[0-9]+: deleting (state .STATE_V2_ESTABLISHED_IKE_SA|IKE SA)'; }
back() { last '"t4-0-0" #[0-9]+: initiator established Child SA'; }
is_back() { [ "$(back)" -gt "$(lost)" ] && up 4; }

@test "the first changes, and with it goes the IKE SA that the fourth uses: the fourth is back at once, the others do not notice" {
	# The two share one IKE SA, and it may be the fourth's by now. It is the
	# first's if that comes up first.
	left "$(to 2 'key(1)')" "$(to 3)"
	within 30 up 2
	left "$(to 1)" "$(to 2 'key(1)')" "$(to 3)"
	within 60 up 3
	left "$(to 1)" "$(to 2 'key(1)')" "$(to 3)" "$(fourth_to)"
	within 60 up 4
	watch
	left "$(to 1 '.dpd = {action: "restart", interval: 20, timeout: 80}')" "$(to 2 'key(1)')" "$(to 3)" "$(fourth_to)"
	within 30 setting 1 dpddelay=20s
	within 60 is_back
	# A guest with one processor, which others keep busy, takes 10 s. Its dead
	# peer detection would take 90 at least.
	echo "the fourth was away for $(($(back) - $(lost))) ms"
	[ $(($(back) - $(lost))) -le 40000 ]
	ping_from left 10.1.1.10 10.2.3.10
	unnoticed 2 3
}
