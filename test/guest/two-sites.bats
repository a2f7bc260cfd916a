#!/usr/bin/env bats
# The main job with traffic: two sites, two containers on one host, a router
# between their bridges (examples/two-sites/network), and a capture on it.
# One file, since the tests stand on each other: a guest is slow to start.

load helpers

capture=$RUN/wan.pcap
external_mac=ca:08:1a:94:29:0e

setup_file() {
	sites_up
	systemctl start svc-supervisor.service
	ip netns exec router-left tcpdump -i wan -n -U -Z root -w "$capture" >/dev/null 2>&1 3>&- &
	echo $! >"$RUN/tcpdump.pid"
	within 20 test -s "$capture"
}

teardown_file() {
	xargs kill <"$RUN/tcpdump.pid" || true
	sites_down
}

packets() { tcpdump -n -r "$capture" "$@" 2>/dev/null | wc -l; }
# carried N: so many packets of ESP, which are in the capture up to a second after they crossed.
carried() { [ "$(packets esp)" -ge "$1" ]; }

@test "with one side bound no packet crosses" {
	bind_port right
	within 60 is_running right
	run ! ping_from right 10.2.0.10 10.1.0.10
}

@test "with both sides bound they reach each other within 30 s" {
	bind_port left
	within 30 ping_from left 10.1.0.10 10.2.0.10
	within 10 ping_from right 10.2.0.10 10.1.0.10
	within 30 is_running left
}

@test "what guards against packets in clear is a table of nftables where the kernel has any, and else policies" {
	if ip netns exec vpn-left nft add table inet probe; then
		ip netns exec vpn-left nft delete table inet probe
		ip netns exec vpn-left nft list table inet svc-ipsec | grep "10.2.0.0/24 rt ipsec missing"
	else
		ip -n vpn-left xfrm policy list dst 10.2.0.0/24 action block | grep -q .
	fi
}

@test "between the sites there is ESP, and nothing of theirs in clear" {
	ip netns exec site-left ping -n -c 5 -i 0.2 -I 10.1.0.10 10.2.0.10
	within 10 carried 10
	[ "$(packets net 10.0.0.0/8)" = 0 ]
}

@test "ps and the published status tell that the connections are up" {
	within 40 connected 1
	[ "$(jq -r '.connections[0].status' "$STATUS/left.json")" = ACTIVE ]
}

@test "a packet of the connection's MTU crosses whole; of a larger one the sender is told" {
	ip netns exec site-left ping -n -c 2 -i 0.2 -W 2 -M "do" -s $((1400 - 28)) -I 10.1.0.10 10.2.0.10
	run ! ip netns exec site-left ping -n -c 1 -W 2 -M "do" -s $((1500 - 28)) -I 10.1.0.10 10.2.0.10
	[[ "$output" == *"mtu = 1400"* ]]
}

@test "what is in the place of a control socket takes no tunnel down" {
	local run=/run/svc-ipsec/vpn-left/run before since=$EPOCHSECONDS
	within 40 connected 1
	before="$(lives) $(spis left)"
	mv "$run/pluto.ctl" "$run/away"
	mkfifo "$run/pluto.ctl"
	within 120 unknown_checks 3
	ping_from left 10.1.0.10 10.2.0.10
	rm "$run/pluto.ctl"
	mv "$run/away" "$run/pluto.ctl"
	within 60 connected 1
	same "daemons and SPIs" "$before" "$(lives) $(spis left)"
	run ! journalctl --quiet -u svc-supervisor.service --since "@$since" -g 'delete container'
}
# unknown_checks N: so many CHECKs could not ask the daemon.
unknown_checks() {
	[ "$(journalctl --quiet -o cat -u svc-supervisor.service | grep -c 'its daemon cannot be asked')" -ge "$1" ]
}

@test "a connection that is set down takes the peer's tunnel down at once, and is back when it is up again" {
	within 40 connected 1
	sed -i 's/adminStateUp: true/adminStateUp: false/' "$NSDB/configurations/left.yaml"
	within 60 without_sas right # its dead peer detection takes 120 s
	without_sas left
	sed -i 's/adminStateUp: false/adminStateUp: true/' "$NSDB/configurations/left.yaml"
	within 60 ping_from left 10.1.0.10 10.2.0.10
	within 40 connected 1
}
without_sas() { [ -z "$(ip -n "vpn-$1" xfrm state)" ]; }

@test "with the tunnel's policies gone no packet of the sites comes out of the container" {
	local out=$RUN/port.pcap
	ip netns exec router-left tcpdump -i port -n -U -Z root -w "$out" "ether src $external_mac" >/dev/null 2>&1 3>&- &
	echo $! >>"$RUN/tcpdump.pid"
	within 20 test -s "$out"
	systemctl kill --signal STOP svc-vpn-left.service
	ip -n vpn-left xfrm policy deleteall action allow
	run ip netns exec site-left ping -n -c 10 -i 0.2 -W 1 -I 10.1.0.10 10.2.0.10
	systemctl kill --signal CONT svc-vpn-left.service
	[ "$status" -ne 0 ]
	[ "$(tcpdump -n -r "$out" dst net 10.2.0.0/24 2>/dev/null | wc -l)" = 0 ]
}

@test "unbound, nothing is left" {
	rm "$NSDB"/bindings/host-1/*
	within 30 nothing_left
	[ "$(packets net 10.0.0.0/8)" = 0 ]
	[ -z "$(ls /run/svc-supervisor/status/containers/host-1)" ]
}
