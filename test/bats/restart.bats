#!/usr/bin/env bats
# Containers outlive their supervisor.

load helpers

# lives prints what a restart of anything would change.
lives() { systemctl show -P MainPID -P InvocationID svc-a.service svc-b.service | xargs; }

@test "a stop and a start of the supervisor touch nothing, and no verb runs" {
	want a
	want b
	start
	eventually 10 runs a
	eventually 10 runs b
	local lives ran
	lives=$(lives)
	ran=$(calls '.name != ""')
	stop
	same "daemons" "$lives" "$(lives)"
	same "status while it is stopped" "RUNNING RUNNING" "$(status c-a .code) $(status c-b .code)"
	start
	eventually 10 runs a
	eventually 10 runs b
	same "daemons" "$lives" "$(lives)"
	same "calls" "$ran" "$(calls '.name != ""')"
}

@test "a supervisor that is killed comes back and adopts what runs" {
	want a
	want b
	start
	eventually 10 runs a
	eventually 10 runs b
	local lives ran pid
	lives=$(lives)
	ran=$(calls '.name != ""')
	pid=$(supervisor_pid)
	kill -KILL "$pid"
	eventually 10 another_pid "$pid"
	eventually 10 runs a
	eventually 10 runs b
	same "daemons" "$lives" "$(lives)"
	same "calls" "$ran" "$(calls '.name != ""')"
}

another_pid() { [[ "$(supervisor_pid)" != @("$1"|0) ]]; }

@test "what changed while the supervisor was down is made good at its start" {
	want a
	want b
	want c
	start
	eventually 10 runs a
	eventually 10 runs b
	eventually 10 runs c
	local life
	life=$(life c)
	stop
	unbind p-a
	systemctl kill --signal=KILL svc-b.service
	want d
	start
	eventually 10 gone a
	eventually 10 runs b
	eventually 10 runs d
	runs c
	same "daemon of c" "$life" "$(life c)"
	same "verbs of b" "ADD b DEL b ADD b" "$(verbs b)"
}

@test "killed in the middle of ADD, the next start undoes it and makes it whole" {
	# shellcheck disable=SC2016 # expanded there
	mood ADD '[ -e "$moods/go" ] || sleep 86398'
	want a
	start
	eventually 10 is "ADD a" verbs
	same "record" adding "$(record a .phase)"
	kill -KILL "$(supervisor_pid)"
	eventually 5 is "" pgrep -f 'sleep 86398'
	touch "$MOODS/go"
	eventually 15 runs a
	same "verbs" "ADD a DEL a ADD a" "$(verbs)"
}

@test "with --stop-containers a stop removes everything, statuses too, whatever the NSDB says" {
	want a
	want b
	start SVC_STOP_CONTAINERS=1
	eventually 10 runs a
	eventually 10 runs b
	container c-rival ECHO f-a
	bind z-rival a c-rival
	eventually 10 is ERROR status c-rival .code
	mv "$NSDB" "$T/away"
	stop
	mv "$T/away" "$NSDB"
	same "records" "" "$(records)"
	gone a
	gone b
	same "statuses" "" "$(find "$STATUS/containers" -name '*.json')"
	same "verbs" "ADD ADD DEL DEL" "$(verbs | xargs -n 2 | cut -d' ' -f1 | sort | xargs)"
}
