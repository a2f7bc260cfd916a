#!/usr/bin/env bats
# Packets for a peer's networks, when no tunnel takes them: none comes out of
# the container in clear, whatever its daemon does. Where the kernel has no ESP
# the tunnel is down by itself; elsewhere, since there is no peer.

load helpers

MAC=ca:08:1a:94:29:0e
PEER4=10.2.0.10 PEER6=2001:db8:2::10
OUT="ether src $MAC and (dst net 10.2.0.0/24 or dst net 2001:db8:2::/64)"
IN="not ether src $MAC and (dst net 10.2.0.0/24 or dst net 2001:db8:2::/64)"

teardown() {
	[ -z "${CAPTURE:-}" ] || kill "$CAPTURE" 2>/dev/null || true
	ip netns pids router 2>/dev/null | xargs -r kill || true
	ip link delete br-left 2>/dev/null || true
	ip link delete r-left 2>/dev/null || true # the kernel removes it with the namespace of its peer, but later
	ip netns delete router 2>/dev/null || true
	usual_teardown
}

# site_up makes a router with a site behind it, and the container at its port.
site_up() {
	ip netns add router
	ip link add br-left type bridge
	ip link set br-left up
	ip link add r-left type veth peer name left netns router
	ip link set r-left master br-left up
	ip -n router link set lo up
	ip -n router link set left address 02:00:00:00:00:01 up
	ip -n router address add 169.254.1.1/30 dev left
	ip -n router address add fd00::1/126 dev left nodad
	ip -n router address add 10.1.0.10/32 dev lo
	ip -n router address add 2001:db8:1::10/128 dev lo
	ip -n router route add 10.2.0.0/24 via 169.254.1.2
	ip -n router route add 2001:db8:2::/64 via fd00::2
	connections 1
	container c-left IPSEC f-left
	bind p-left left c-left "addresses: [169.254.1.1/30, 'fd00::1/126']" "mac: '02:00:00:00:00:01'" "bridge: br-left"
	start SVC_PLUGIN_PATH="$LIBEXEC"
	eventually 15 runs left c-left IPSEC
	# Who waits for a neighbour to answer loses packets.
	eventually 10 ip netns exec router ping -c 1 -W 1 169.254.1.2
	eventually 10 ip netns exec router ping -c 1 -W 1 fd00::2
	# Ours beside the guard counts what has arrived.
	ip netns exec left nft -f - <<-END
		table inet arrived {
			counter v4 {}
			counter v6 {}
			chain prerouting {
				type filter hook prerouting priority raw;
				ip daddr 10.2.0.0/24 counter name v4
				ip6 daddr 2001:db8:2::/64 counter name v6
			}
		}
	END
}

# connections N writes the configuration with so many; with two of them the first is another one too.
connections() {
	site 100.100.100.2 200.200.200.2 10.1.0.0/24 10.2.0.0/24 '.connections[0].localCidrs += ["2001:db8:1::/64"]' \
		'.connections[0].peerCidrs += ["2001:db8:2::/64"]' '.connections += [.connections[0] * {id: "second", name: "second",
			peerAddress: "200.200.200.3", peerId: "200.200.200.3", peerCidrs: ["10.3.0.0/24"], localCidrs: ["10.1.0.0/24"]}]' \
		".connections |= .[:$1]" ".connections[0].ipsecPolicy.lifetime = 3600 * $1" | with_id f-left | object configurations/f-left
}

# flood sends a thousand packets of each family from the site to the peer's, all at once. flood_on sends a hundred of each family a second
# until flooded.
flood() { pings -c 1000 -l 1000; }
flood_on() {
	pings -l 500
	ENDLESS=1
}
pings() {
	ENDLESS=""
	ip netns exec router ping -n -q "$@" -i 0.01 -W 1 -I 10.1.0.10 "$PEER4" >"$T/ping4" 3>&- &
	PINGS=$!
	ip netns exec router ping -n -q "$@" -i 0.01 -W 1 -I 2001:db8:1::10 "$PEER6" >"$T/ping6" 3>&- &
	PINGS+=" $!"
}

# flooded: all of them, a thousand or more, have arrived in the container, and no answer came. SENT is their number.
flooded() {
	local pid sent
	[ -z "$ENDLESS" ] || eventually 60 enough_arrived
	for pid in $PINGS; do
		[ -z "$ENDLESS" ] || kill -INT "$pid"
		wait "$pid" || true # since no answer came
	done
	sent=$(sed -nE 's/^([0-9]+) packets transmitted, ([0-9]+) received.*/\1 \2/p' "$T/ping4" "$T/ping6" | xargs)
	[[ "$sent" =~ ^([0-9]+)\ 0\ ([0-9]+)\ 0$ ]] || same "sent and answered" "a thousand, and none" "$sent"
	[ "${BASH_REMATCH[1]}" -ge 1000 ] && [ "${BASH_REMATCH[2]}" -ge 1000 ]
	SENT=$((BASH_REMATCH[1] + BASH_REMATCH[2]))
	same "arrived" "${BASH_REMATCH[1]} ${BASH_REMATCH[2]}" "$(arrived)"
}

# enough_arrived: at least a thousand packets of each family have arrived since arrived was last asked.
enough_arrived() {
	ip netns exec left nft -j list counters table inet arrived |
		jq -e '[.nftables[].counter // empty | .packets] | length == 2 and all(. >= 1000)'
}

# arrived prints what has arrived of each family since it was last asked.
arrived() { ip netns exec left nft -j reset counters table inet arrived | jq -r '[.nftables[].counter // empty | .packets] | map(tostring) | join(" ")'; }

# guarded prints how many packets for the peers the guard has dropped of each family.
guarded() {
	ip netns exec left nft -j list chain inet svc-ipsec peers |
		jq -r '[.nftables[].rule // empty | select(.expr[0].match.right.prefix.addr | IN("10.2.0.0", "2001:db8:2::")) |
			.expr[].counter // empty | .packets] | map(tostring) | join(" ")'
}

# capture begins one on the host's side of the veth, captured ends it: the kernel must not have kept any packet from it.
capture() {
	: >"$T/tcpdump"
	# Short snaps in a large buffer: a burst has to fit.
	tcpdump -i left -n --immediate-mode -s 128 -B 16384 -Z root -w "$T/pcap" 2>"$T/tcpdump" 3>&- &
	CAPTURE=$!
	eventually 10 grep -q '^tcpdump: listening' "$T/tcpdump"
}
captured() {
	kill -INT "$CAPTURE"
	wait "$CAPTURE" || true
	CAPTURE=""
	grep -q '^0 packets dropped by kernel' "$T/tcpdump" || { cat "$T/tcpdump"; return 1; }
	same "captured on their way in" "$SENT" "$(packets "$IN")"
}
packets() { tcpdump -n -r "$T/pcap" "$1" 2>/dev/null | wc -l; }

daemon() { systemctl kill --signal="$1" svc-left.service; }

flush() {
	ip -n left xfrm policy flush
	ip -n left xfrm state flush
}

@test "daemon up, tunnel down: of a thousand packets for the peer none comes out" {
	site_up
	capture
	flood
	flooded
	captured
	same "packets that came out" 0 "$(packets "$OUT")"
}

@test "daemon stopped, its policies flushed: of a thousand packets none comes out, and the guard has counted each" {
	site_up
	stop # it would make the container anew
	daemon STOP
	flush
	same "guarded before" "0 0" "$(guarded)"
	capture
	flood
	flooded
	captured
	same "packets that came out" 0 "$(packets "$OUT")"
	same "guarded" "1000 1000" "$(guarded)"

	# Without the guard they do come out: these tests would see it.
	ip netns exec left nft delete table inet svc-ipsec
	capture
	flood
	flooded
	captured
	same "packets that came out without a guard" 2000 "$(packets "$OUT")"
	daemon CONT
}

@test "daemon killed and started again, its policies flushed meanwhile: none of more than a thousand packets comes out" {
	local life
	site_up
	life=$(life left)
	capture
	flood_on
	daemon KILL
	flush
	eventually 60 another_life "$life"
	pings_run # so all of it was under way
	flooded
	captured
	same "packets that came out" 0 "$(packets "$OUT")"
}

@test "daemon stopped and started by the operator, which flushes all policies on Libreswan 5: none of more than a thousand packets comes out" {
	local life
	site_up
	life=$(life left)
	capture
	flood_on
	sup restart left
	eventually 60 another_life "$life" # pluto reports a reload to systemd while it begins to listen
	pings_run
	flooded
	captured
	same "packets that came out" 0 "$(packets "$OUT")"
}

another_life() { unit_is left active && not same "life" "$1" "$(life left)" >/dev/null; }
pings_run() {
	# shellcheck disable=SC2086 # process ids
	kill -0 $PINGS
}

@test "a connection is changed and another one added by a reconfigure: none of more than a thousand packets comes out" {
	local life
	site_up
	life=$(life left)
	capture
	flood_on
	connections 2
	eventually 60 is 2 jq '.connections | length' "$STATUS/containers/h1/c-left.json"
	pings_run
	flooded
	captured
	same "packets that came out" 0 "$(packets "$OUT")"
	same "daemon" "$life" "$(life left)"
	grep -q 'ipsec-lifetime=7200\|salifetime=7200' /run/svc-ipsec/left/conns/*.conf
}
