#!/usr/bin/env bats
# Libreswan's package is upgraded under the containers: their daemons go on,
# that is shown, and the operator says when they are replaced.

load helpers

libreswan=/usr/libexec/ipsec
talked=/run/svc-bats.talked

begin() { start SVC_PLUGIN_PATH="$LIBEXEC" SVC_CHECK_INTERVAL=1s; }
ps_row() { PLUGIN_PATH=$LIBEXEC row "$@"; }
message() { ps_row left .health.message; }
checks() { outcomes CHECK left | wc -l; }
more_checks() { [ "$(checks)" -ge "$1" ]; }
shows() { [[ "$(message)" =~ $1 ]] || { message; return 1; }; }

# upgrade [VERSION] puts another file in the place of the daemon's, as dpkg
# does; one that says it is of that version. The tools write down that they run.
upgrade() {
	local tool
	cp -a "$libreswan" "$T/libreswan"
	sed "s/4\.10/${1:-4.10}/g" "$T/libreswan/pluto" >"$libreswan/pluto.new"
	chmod 755 "$libreswan/pluto.new"
	mv "$libreswan/pluto.new" "$libreswan/pluto"
	[ -z "${1:-}" ] || [ "$("$libreswan/pluto" --version | cut -d' ' -f2)" = "$1" ]
	: >"$talked"
	for tool in whack addconn; do
		mv "$libreswan/$tool" "$libreswan/$tool.real"
		printf '#!/bin/sh\necho %s >>%s\nexec %s.real "$@"\n' "$tool" "$talked" "$libreswan/$tool" >"$libreswan/$tool"
		chmod 755 "$libreswan/$tool"
	done
}
downgrade() {
	[ -d "$T/libreswan" ] || return 0
	rm -rf "$libreswan"
	mv "$T/libreswan" "$libreswan"
	rm -f "$talked"
}

teardown() {
	local failed=0
	[ ! -e "$talked" ] || downgrade # before $T is removed, which has the tools
	usual_teardown || failed=1
	return "$failed"
}

requires_4_10() {
	[ "$("$libreswan/pluto" --version | cut -d' ' -f2)" = 4.10 ] || skip "requires Libreswan 4.10, whose version the test writes over"
}

@test "a daemon of another version is shown and not talked to; restart replaces it, and then a change is made" {
	requires_4_10
	local life checks second='.connections += [.connections[0] * {id: "second", name: "second", peerAddress: "200.200.200.3", peerId: "200.200.200.3", peerCidrs: ["10.3.0.0/24"]}]'
	site 100.100.100.2 200.200.200.2 10.1.0.0/24 10.2.0.0/24 | with_id f-left | object configurations/f-left
	container c-left IPSEC f-left
	bind p-left left c-left "addresses: [169.254.0.1/30]"
	begin
	eventually 15 runs left c-left IPSEC
	eventually 10 is "" eval 'message | grep -o Libreswan'
	life=$(life left)

	upgrade 4.11
	eventually 40 shows 'the daemon runs Libreswan 4.10, and 4.11 is installed now: svc-supervisor restart left replaces it'
	: >"$talked"
	checks=$(checks)
	# CHECK at the interval is put off up to ten times.
	eventually 40 more_checks "$((checks + 2))"
	shows 4.11
	same "tools that talked to the daemon" "" "$(cat "$talked")"
	site 100.100.100.2 200.200.200.2 10.1.0.0/24 10.2.0.0/24 "$second" | with_id f-left | object configurations/f-left
	eventually 10 change_failed left 'svc-supervisor restart left replaces it'
	same "tools that talked to the daemon" "" "$(cat "$talked")"
	same "daemon" "$life" "$(life left)"

	run -0 sup restart left
	# shellcheck disable=SC2154 # of run
	same "what it says" "svc-left.service restarted" "$output"
	not same "daemon" "$life" "$(life left)"
	eventually 15 is 2 eval "status c-left '.connections | length'"
	eventually 15 is 2 eval 'conns left | wc -w'
	eventually 10 is "" eval 'message | grep -o Libreswan'
	same "deletions" "" "$(journal | grep 'msg="delete container' || true)"
	unbind p-left
	eventually 15 gone left
	downgrade
}

@test "a daemon of another build of the same version is shown, and can be changed" {
	local life
	vpn left 7
	begin
	eventually 15 runs left c-left IPSEC
	life=$(life left)
	upgrade
	eventually 40 shows 'the daemon runs a former build of Libreswan [0-9.]+: svc-supervisor restart left replaces it'
	site 100.100.7.2 200.200.7.2 10.1.7.0/24 10.9.7.0/24 | with_id f-left | object configurations/f-left
	eventually 10 is 10.9.7.0/24 eval "ps_row left '.health.connections[0].pairs[0].peer'"
	same "daemon" "$life" "$(life left)"
	sup restart left
	eventually 10 is "" eval 'message | grep -o Libreswan'
	unbind p-left
	eventually 15 gone left
	downgrade
}

@test "restart refuses what it cannot restart, and says why" {
	want echo
	run -1 sup restart
	[[ "$output" == *'restart "0 arguments": allowed: one: the name of a container'* ]]
	run -1 sup restart ../x
	[[ "$output" == *'restart "../x"'* ]]
	run -1 sup restart none
	[[ "$output" == *'restart none: no container of that name is recorded'* ]]
	start
	eventually 15 runs echo
	local life
	life=$(life echo)
	run -0 sup restart echo
	not same "unit" "$life" "$(life echo)"
	eventually 5 runs echo
	same "verbs" "ADD echo" "$(verbs echo)"
}
