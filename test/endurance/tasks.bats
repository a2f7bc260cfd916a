#!/usr/bin/env bats
# The supervisor's unit has a limit of tasks that its verbs exceed, for ten minutes. That says nothing about the containers, so no daemon is stopped. A
# limit needs the controller pids, which the sandbox lacks and the guest has.

load ../bats/helpers
load containers

eval "usual_$(declare -f teardown)"

teardown() {
	systemctl set-property --runtime svc-supervisor.service TasksMax=infinity
	usual_teardown
}

@test "a limit of tasks that is seven above what the supervisor has at rest, for ten minutes: no daemon is stopped" {
	local lives name tasks
	three_containers
	lives=$(lives left middle right)
	tasks=$(systemctl show -P TasksCurrent svc-supervisor.service)
	systemctl set-property --runtime svc-supervisor.service TasksMax=$((tasks + 7))
	sleep 600
	untouched "$lives" "after ten minutes with a limit of tasks"
	logged 'container state unknown to CHECK.*resource temporarily unavailable'
	systemctl set-property --runtime svc-supervisor.service TasksMax=infinity
	for name in left middle right; do eventually 240 runs "$name" "c-$name" IPSEC; done
	untouched "$lives" "without the limit"
}
