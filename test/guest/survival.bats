#!/usr/bin/env bats
# Tunnels outlive the supervisor and its upgrade, and a daemon that dies comes back: what the sites of examples/two-sites see
# of it. The containers are made by the version before this one (make previous). The tests stand on each other.

load helpers

setup_file() {
	sites_up
	previous_version
	systemctl start svc-supervisor.service
	bind_port left
	within 60 is_running left
	bind_port right
	within 90 ping_from left 10.1.0.10 10.2.0.10
	within 30 is_running left
	within 30 is_running right
	within 30 connected 1
}

teardown_file() { sites_down; }

supervisor_pid() { systemctl show -P MainPID svc-supervisor.service; }
daemon_pid() { systemctl show -P MainPID svc-vpn-left.service; }
# another PID WHOSE…: there is one, and it is not that.
another() { [[ "$("${@:2}")" != @("$1"|0) ]]; }

# adopted: the supervisor of now has asked each container CHECK, which it does
# not before it has found what runs.
adopted() {
	local pid
	pid=$(supervisor_pid)
	grep -qx "CHECK left $pid" "$VERBS" && grep -qx "CHECK right $pid" "$VERBS"
}

# restarts stops and starts the supervisor, and kills it.
restarts() {
	local pid
	systemctl stop svc-supervisor.service
	systemctl start svc-supervisor.service
	within 60 adopted
	pid=$(supervisor_pid)
	kill -KILL "$pid"
	within 30 another "$pid" supervisor_pid
	within 60 adopted
}

# user SIDE prints the user id of a daemon.
user() { awk '/^Uid/ { print $2 }' "/proc/$(systemctl show -P MainPID "svc-vpn-$1.service")/status"; }

@test "of a ping every 50 ms none is lost while the supervisor is stopped, killed, upgraded and started" {
	local lives spis ran version
	lives=$(lives) spis=$(spis left right) ran=$(ran)
	same "version of what runs" "$("$PREVIOUS/svc-supervisor" --version)" "$("/proc/$(supervisor_pid)/exe" --version)"
	ping_begins
	restarts
	version=$("$PROJECT/build/svc-supervisor" --version)
	present_version
	systemctl restart svc-supervisor.service
	within 60 adopted
	within 60 connected 1

	ping_ends
	same "version of what runs" "$version" "$("/proc/$(supervisor_pid)/exe" --version)"
	svc-supervisor plugins | grep -F " $(awk '{ print $3 }' <<<"$version") "
	echo "$(ping_sent) packets"
	same "lost packets" 0 "$(ping_lost)"
	same "daemons" "$lives" "$(lives)"
	same "SPIs" "$spis" "$(spis left right)"
	same "ADD and DEL" "$ran" "$(ran)"
}

@test "of a ping every 50 ms none is lost while a second connection is added" {
	local lives spis removed
	lives=$(lives) spis=$(spis left right) removed=$(ran | grep -o DEL | wc -l)
	run ! ping_from left 10.1.1.10 10.2.1.10
	ping_begins
	add_lab
	within 60 ping_from left 10.1.1.10 10.2.1.10
	within 30 connected 2
	ping_ends
	echo "$(ping_sent) packets"
	same "lost packets" 0 "$(ping_lost)"
	same "daemons" "$lives" "$(lives)"
	same "SPIs that are gone" "" "$(comm -23 <(echo "$spis") <(spis left right))"
	same "DELs" "$removed" "$(ran | grep -o DEL | wc -l)"
}

# killed_is_back kills the left daemon: it is back with its tunnels within 30 s, and what it left in the kernel is gone.
killed_is_back() {
	local spis removed pid
	spis=$(spis left) removed=$(ran | grep -o DEL | wc -l) pid=$(daemon_pid)
	systemctl kill --signal=KILL svc-vpn-left.service
	SECONDS=0
	within 30 another "$pid" daemon_pid
	within $((30 - SECONDS)) ping_from left 10.1.0.10 10.2.0.10
	within $((30 - SECONDS)) ping_from right 10.2.0.10 10.1.0.10
	within $((30 - SECONDS)) ping_from left 10.1.1.10 10.2.1.10
	echo "after $SECONDS s"
	same "SPIs of the killed one" "" "$(comm -12 <(echo "$spis") <(spis left))"
	same "DELs" "$removed" "$(ran | grep -o DEL | wc -l)"
}

@test "a daemon of the version before that is killed is back with its tunnels within 30 s, and what it left in the kernel is gone" {
	killed_is_back
	same "user" 0 "$(user left)"
	within 60 connected 2
}

@test "restart gives a container of the version before the new unit, and its tunnels are up again" {
	local side
	for side in left right; do
		svc-supervisor restart "vpn-$side"
		same "user of $side" "$(readlink "/run/svc-user-ids/svc-supervisor:vpn-$side")" "$(user "$side")"
		within 60 ping_from left 10.1.0.10 10.2.0.10
		within 60 ping_from left 10.1.1.10 10.2.1.10
	done
	within 60 connected 2
	same "DELs" "DEL left DEL right" "$(ran | grep -oE 'DEL [a-z]+' | xargs)"
}

@test "of a ping every 50 ms none is lost while the supervisor of a new container is stopped, killed and started" {
	local lives spis removed
	lives=$(lives) spis=$(spis left right) removed=$(ran | grep -o DEL | wc -l)
	ping_begins
	restarts
	ping_ends
	echo "$(ping_sent) packets"
	same "lost packets" 0 "$(ping_lost)"
	same "daemons" "$lives" "$(lives)"
	same "SPIs" "$spis" "$(spis left right)"
	same "DELs" "$removed" "$(ran | grep -o DEL | wc -l)"
}

@test "a daemon that is killed is back with its tunnels within 30 s, and what it left in the kernel is gone" {
	killed_is_back
	same "user" "$(readlink /run/svc-user-ids/svc-supervisor:vpn-left)" "$(user left)"
}
