#!/usr/bin/env bats
# CHECK soon after the kernel's IPsec state (XFRM) or the network of a container
# changed, for a plugin that asks for it in VERSION.

load helpers

# offers CHECK_ON makes the executable answer VERSION with this list.
offers() {
	mood VERSION "echo '{\"cniVersion\": \"1.1.0\", \"supportedVersions\": [\"1.1.0\"], \"serviceType\": \"ECHO\",
		\"serviceVersion\": \"1.0.0\", \"contractVersion\": 1, \"reconfigure\": true, \"checkOn\": $1}'; exit"
}

# policy NAME VERB adds or deletes a policy in the namespace of a container.
policy() { ip -n "$1" xfrm policy "$2" src 10.1.0.0/24 dst 10.2.0.0/24 dir out; }

checks() { calls '.verb == "CHECK"' | jq -r .name | grep -cx "$1" || true; }
checked_more() { [ "$(checks "$1")" -gt "$2" ]; }

# subscriptions prints the groups of each XFRM socket in the namespace of a
# container; the one with port id 0 is the kernel's own.
subscriptions() {
	ip netns exec "$1" awk '$2 == 6 && $3 != 0 { print $4 }' /proc/net/netlink
}

subscribed() { [ -n "$(subscriptions "$1")" ]; }

# supervisor_sockets counts the sockets of the supervisor, without those of its clients.
supervisor_sockets() {
	find "/proc/$(supervisor_pid)/fd" -lname 'socket:*' -printf '%l\n' | tr -dc '0-9\n' |
		grep -vxFc -f <(awk 'NR > 1 { print $7 }' /proc/net/unix)
}

@test "a change of the XFRM state leads to CHECK, for a plugin that asked for it" {
	offers '["xfrm", "of a later supervisor"]'
	want a
	want b
	start SVC_CHECK_INTERVAL=1h
	eventually 10 runs a
	eventually 10 runs b
	eventually 5 logged 'unknown events in checkOn ignored.*of a later supervisor'
	local a b
	a=$(checks a) b=$(checks b)
	policy a add
	eventually 10 checked_more a "$a"
	same "CHECKs of the other" "$b" "$(checks b)"

	restart
	eventually 10 runs a
	eventually 10 subscribed a
	a=$(checks a)
	policy a delete
	eventually 10 checked_more a "$a"
}

@test "a plugin that did not ask for it gets no CHECK" {
	want a
	start SVC_CHECK_INTERVAL=1h
	eventually 10 runs a
	policy a add
	sleep 3
	same "CHECKs" 0 "$(checks a)"
	same "subscriptions" "" "$(subscriptions a)"
}

@test "what CHECK reports after an event is published" {
	offers '["xfrm"]'
	want a
	start SVC_CHECK_INTERVAL=1h
	eventually 10 runs a
	mood CHECK "echo '{\"code\": \"RUNNING\", \"connections\": [{\"id\": \"1\", \"name\": \"to-peer\", \"status\": \"DOWN\", \"reason\": \"no answer\"}]}'; exit"
	policy a add
	eventually 10 is "DOWN no answer" status c-a '.connections[0] | .status + " " + .reason'
}

@test "a stream of events leads to four CHECKs per second at most" {
	offers '["xfrm"]'
	want a
	start SVC_CHECK_INTERVAL=1h
	eventually 10 runs a
	local before began seconds
	before=$(checks a) began=$SECONDS
	while [ $((SECONDS - began)) -lt 6 ]; do
		printf 'xfrm policy add src 10.%d.0.0/16 dst 10.200.0.0/24 dir out\n' {1..200}
		printf 'xfrm policy delete src 10.%d.0.0/16 dst 10.200.0.0/24 dir out\n' {1..200}
	done | ip -n a -force -batch - 2>/dev/null
	sleep 2
	seconds=$((SECONDS - began))
	eventually 10 checked_more a "$before"
	[ $(($(checks a) - before)) -le $((4 * seconds + 1)) ] || { echo "$(checks a) CHECKs in $seconds s"; return 1; }
}

@test "the subscription ends before the namespace is removed" {
	offers '["xfrm"]'
	want a
	start SVC_CHECK_INTERVAL=1h
	eventually 10 runs a
	eventually 10 subscribed a
	# A veth shows when the kernel has removed the namespace: it goes with it.
	# This one has no owner tag, so nothing else removes it.
	ip link add events-veth type veth peer name inside netns a
	local sockets
	sockets=$(supervisor_sockets)
	unbind p-a
	eventually 10 gone a
	eventually 10 not test -e /sys/class/net/events-veth
	eventually 10 is "$((sockets - 1))" supervisor_sockets
}

@test "a change of the network leads to CHECK, for a plugin that asked for it" {
	offers '["network"]'
	want a
	start SVC_CHECK_INTERVAL=1h
	eventually 10 runs a
	local before
	sleep 2 # a CHECK for the events of ADD itself
	before=$(checks a)
	policy a add
	sleep 2
	same "CHECKs after a policy" "$before" "$(checks a)"
	ip -n a address add 192.0.2.1/32 dev lo
	eventually 10 checked_more a "$before"
	before=$(checks a)
	ip netns exec a nft add table inet svc-test
	eventually 10 checked_more a "$before"
}

# heals NAME FAULT… makes a fault in an IPSEC container, which then is made anew.
heals() {
	local name=$1 life
	shift
	life=$(life "$name")
	echo "# $*"
	"$@"
	eventually 30 not is "$life" life "$name"
	eventually 30 runs "$name" "c-$name" IPSEC
}

@test "IPSEC: what breaks a container is found long before CHECK at its interval" {
	vpn vpn1 1
	start SVC_PLUGIN_PATH="$LIBEXEC" SVC_CHECK_INTERVAL=1h
	eventually 15 runs vpn1 c-vpn1 IPSEC
	heals vpn1 ip netns exec vpn1 nft flush ruleset
	heals vpn1 ip -n vpn1 address flush dev svc0
	heals vpn1 ip link set vpn1 down
	# ADD sets a setting in place.
	ip netns exec vpn1 sysctl -qw net.ipv4.conf.all.forwarding=0
	eventually 15 is 1 ip netns exec vpn1 sysctl -n net.ipv4.conf.all.forwarding
}
