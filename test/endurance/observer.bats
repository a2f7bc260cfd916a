#!/usr/bin/env bats
# What the supervisor and svc-ipsec need to observe a container is missing for ten minutes or more. An error of the observer says nothing about
# the container, so no daemon is stopped. CHECK comes every second here, where a host has it once a minute.

load ../bats/helpers
load containers

AWAY=.svc-away

bats_require_minimum_version 1.5.0

eval "usual_$(declare -f teardown)"

# helper_programs prints the programs that svc-ipsec, its launcher or the supervisor run. The shell is not among them: this test needs it.
helper_programs() {
	local name path
	for name in whack addconn pluto; do echo "/usr/libexec/ipsec/$name"; done
	for name in nft nsenter setpriv journalctl getent certutil ip; do
		path=$(command -v "$name") && readlink -f "$path"
	done
	return 0
}

hide() { for program; do mv "$program" "$program$AWAY"; done; }

bring_back() { for program; do [ ! -e "$program$AWAY" ] || mv "$program$AWAY" "$program"; done; }

teardown() {
	# shellcheck disable=SC2046 # paths without spaces
	bring_back $(cat "$T/programs" 2>/dev/null)
	usual_teardown
}

@test "each helper program is missing for a minute, then all for more than six: no daemon is stopped, and a warning names the container" {
	local lives program programs
	three_containers
	lives=$(lives left middle right)
	helper_programs >"$T/programs"
	mapfile -t programs <"$T/programs"
	[ "${#programs[@]}" -ge 8 ]
	for program in "${programs[@]}"; do
		hide "$program"
		sleep 60
		bring_back "$program"
		untouched "$lives" "after a minute without $program"
	done
	hide "${programs[@]}"
	sleep 400
	bring_back "${programs[@]}"
	untouched "$lives" "after more than six minutes without any"
	eventually 10 logged 'state of the container unknown.*container=left'
	eventually 30 is "RUNNING" row left .status
	conns left
}
