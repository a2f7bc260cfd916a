#!/usr/bin/env bats
# Programs that the supervisor and svc-ipsec need to observe a container are missing for ten minutes or more. An error of the
# observer does not mean that the container is broken, so no daemon is stopped. The interval of CHECK is a second instead of a minute.

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

@test "no daemon is stopped while each helper program is missing for a minute, then all but pluto for more than six, and a warning names the container" {
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
	# Without pluto's file, svc-ipsec would take Libreswan for removed, and read the tunnels from the kernel.
	for program in "${programs[@]}"; do
		[[ "$program" = */pluto ]] || hide "$program"
	done
	sleep 400
	bring_back "${programs[@]}"
	untouched "$lives" "after more than six minutes without all of them"
	eventually 10 logged 'state of the container unknown.*container=left'
	eventually 30 is "RUNNING" row left .status
	conns left
}
