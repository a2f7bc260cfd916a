#!/usr/bin/env bats
# What systemd and those who use it can do to containers: daemons that die for
# good, an operator's stop and mask, systemd itself executed anew, gone or mute.

load helpers

eval "usual_$(declare -f teardown)"

# What a test took away is there again before anything is judged.
teardown() {
	[ ! -e /run/svc-bats-mute ] || unmute
	systemctl is-active --quiet dbus.socket || systemctl start dbus.socket
	find /run/systemd/system -maxdepth 1 -name 'svc-*.service' -lname /dev/null -printf '%f\n' |
		xargs -r systemctl unmask --runtime --quiet
	usual_teardown
}

main_pid() { systemctl show -P MainPID "svc-$1.service"; }
failed_units() { systemctl list-units --failed --plain --no-legend 'svc-*' | xargs; }

@test "daemons that spend their restarts, by themselves or killed, are made anew with growing delays, and are one stable state" {
	# shellcheck disable=SC2016 # expanded there
	mood ADD '
		echo "ADD $(date +%s%3N)" >>"$moods/times"
		[ "$(grep -c DEL "$moods/times")" -ge 2 ] || {
			systemd-run --quiet --unit="$unit" --slice="$slice" --property=Type=exec --property=Restart=on-failure \
				--property=RestartSec=50ms --property=StartLimitIntervalSec=60 --property=StartLimitBurst=3 \
				--property=NetworkNamespacePath="$CNI_NETNS" --setenv=SVC_OWNER="svc-supervisor:$name:$CNI_CONTAINERID" \
				sh -c "sleep 0.3; echo no such option; exit 3"
			result
			exit
		}'
	mood DEL 'systemctl show -P Result -P NRestarts "$unit" | xargs >>"$moods/results"; echo "DEL $(date +%s%3N)" >>"$moods/times"'
	published c-a
	published c-left
	vpn left 1
	begin_vpn
	eventually 15 runs left c-left IPSEC
	local life n
	life=$(life left)
	want a
	for n in 1 2 3 4; do
		eventually 10 killed left
		eventually 10 is "$n" systemctl show -P NRestarts svc-left.service
		eventually 10 reason_is left "failures within 10m0s: $n"
		# How it ended is known only if systemd was asked before it started it again.
		reason_is left 'RUNNING svc-left.service failed: (signal: SIGKILL: )?[^ ].* \(failures'
		same "restarts in ps" "$n" "$(row left .restarts)"
	done
	same "deletions while systemd restarts it" 0 "$(steps delete left)"
	eventually 10 killed left
	eventually 10 is 1 steps delete left
	eventually 10 reason_is left 'ERROR svc-left.service failed: .*5 or more failures within 10m0s'
	eventually 15 is "ADD a DEL a ADD a DEL a ADD a" verbs a
	eventually 10 reason_is a 'ERROR svc-a.service failed: exit-code: status 3: no such option .*5 or more failures within 10m0s'
	# They are published as RUNNING again when they have run for a minute.
	eventually 120 runs a
	eventually 120 runs left c-left IPSEC
	same "message" "" "$(status c-a .message)"

	not same "daemon" "$life" "$(life left)"
	same "restarts of the new one" 0 "$(systemctl show -P NRestarts svc-left.service)"
	same "ADDs" "ok ok" "$(outcomes ADD left | xargs)"
	same "DELs" "ok" "$(outcomes DEL left | xargs)"
	same "start limits hit" "1 2" "$(xargs < <(for n in left a; do logged_times "svc-$n.service: Start request repeated too quickly"; done))"
	same "verbs of a" "ADD a DEL a ADD a DEL a ADD a" "$(verbs a)"
	same "how its units ended, after how many restarts" "exit-code 3 exit-code 3" "$(xargs <"$MOODS/results")"
	# The delay runs from the end of DEL, which is a little later than its call.
	local -a gaps
	mapfile -t gaps < <(awk '$1 == "DEL" { at = $2 } $1 == "ADD" && at { print $2 - at }' "$MOODS/times")
	echo "gaps: ${gaps[*]}"
	[ "${gaps[0]}" -ge 1000 ]
	[ "${gaps[1]}" -ge 2000 ]
	for n in a left; do
		[[ "$(codes "c-$n")" =~ ^STARTING(\ RUNNING)+(\ ERROR)+(\ RUNNING)+$ ]] || { codes "c-$n"; return 1; }
	done
	same "failed units" "" "$(failed_units)"
}

# reason_is NAME PATTERN: the code and the message of the published status, and the reason in ps.
reason_is() {
	local said
	said=$(status "c-$1" '.code + " " + .message')
	[[ "$said" =~ $2 ]] || { echo "status of $1: $said"; return 1; }
	said="${said%% *} $(row "$1" .reason)"
	[[ "$said" =~ $2 ]] || { echo "reason of $1: $said"; return 1; }
}

begin_vpn() { start SVC_PLUGIN_PATH="$LIBEXEC:$BIN" "$@"; }

# killed NAME kills a daemon that was not killed before.
killed() {
	local pid
	pid=$(main_pid "$1")
	[ "$pid" != 0 ] && not grep -qx "$pid" "$T/killed" 2>/dev/null && kill -KILL "$pid" && echo "$pid" >>"$T/killed"
}

@test "systemd reloaded and executed anew: no verb runs again, no daemon is started anew, changes are noticed" {
	# shellcheck disable=SC2016 # expanded there
	mood ADD '[ "$name" != slow ] || while [ ! -e "$moods/go" ]; do sleep 0.05; done'
	want a
	want b
	start
	eventually 10 runs a
	eventually 10 runs b
	want slow
	eventually 10 is "ADD slow" verbs slow
	local lives ran pid
	lives=$(lives a b)
	ran=$(calls '.name != ""')
	pid=$(supervisor_pid)
	systemctl daemon-reload
	systemctl daemon-reexec
	systemctl daemon-reload
	systemctl daemon-reexec
	touch "$MOODS/go"
	eventually 10 runs slow
	runs a
	runs b
	same "calls" "$ran" "$(calls '.name != ""')"
	same "daemons" "$lives" "$(lives a b)"
	same "supervisor" "$pid" "$(supervisor_pid)"

	# The new connection tells of changes as the old one did, long before the look at everything.
	systemctl kill --signal=KILL svc-a.service
	eventually 10 is "ADD a DEL a ADD a" verbs a
	eventually 10 runs a
	systemctl daemon-reexec
	lives=$(lives a b slow)
	ran=$(calls '.name != ""')
	restart
	eventually 10 runs a
	eventually 10 runs b
	eventually 10 runs slow
	same "daemons" "$lives" "$(lives a b slow)"
	same "calls" "$ran" "$(calls '.name != ""')"
}

@test "systemd executed anew again and again under ADD and DEL of svc-ipsec: each runs once and succeeds" {
	vpn left 1
	begin_vpn
	eventually 15 runs left c-left IPSEC
	local lives
	lives=$(lives left)
	vpn right 2
	eventually 10 is 1 steps create right
	reexecs 4
	eventually 15 runs right c-right IPSEC
	same "ADDs" ok "$(outcomes ADD right)"
	unbind p-right
	eventually 10 is 1 steps delete right
	reexecs 3
	eventually 15 gone right
	same "DELs" ok "$(outcomes DEL right)"
	same "daemon" "$lives" "$(lives left)"
	runs left c-left IPSEC
	same "verbs of left" ok "$(outcomes '[ADEL]*' left | xargs)"
}

reexecs() {
	local n
	for ((n = 0; n < $1; n++)); do systemctl daemon-reexec; done
}

@test "the D-Bus daemon restarted and stopped: nothing happens to containers, and ADD, DEL and healing go on" {
	want a
	want b
	begin_vpn
	eventually 10 runs a
	eventually 10 runs b
	local lives ran pid
	lives=$(lives a b)
	ran=$(calls '.name != ""')
	pid=$(supervisor_pid)
	systemctl restart dbus.service
	systemctl stop dbus.socket dbus.service 2>/dev/null
	vpn left 1
	eventually 15 runs left c-left IPSEC
	not systemctl is-active --quiet dbus.service
	same "calls" "$ran" "$(calls '.name != ""')"
	same "daemons" "$lives" "$(lives a b)"
	systemctl kill --signal=KILL svc-a.service
	eventually 10 is "ADD a DEL a ADD a" verbs a
	eventually 10 runs a
	unbind p-left
	eventually 10 gone left
	restart
	eventually 10 runs a
	eventually 10 runs b
	not systemctl is-active --quiet dbus.service
	same "daemon of b" "${lives#* }" "$(lives b)"
	same "verbs of b" "ADD b" "$(verbs b)"
	not same "supervisor" "$pid" "$(supervisor_pid)"
}

@test "what an operator does with systemctl: a restart is none of our business, a stop is healed, of one or of all" {
	want a
	want b
	start
	eventually 10 runs a
	eventually 10 runs b
	local before
	before=$(lives a b)
	systemctl restart svc-a.service
	systemctl stop svc-b.service
	eventually 10 is "ADD b DEL b ADD b" verbs b
	eventually 10 runs b
	runs a
	same "verbs of a" "ADD a" "$(verbs a)"
	not same "daemon of a" "${before% *}" "$(lives a)"
	not same "daemon of b" "${before#* }" "$(lives b)"

	before=$(lives a b)
	systemctl stop svc.slice
	eventually 10 is "ADD a DEL a ADD a" verbs a
	eventually 10 is "ADD b DEL b ADD b DEL b ADD b" verbs b
	eventually 10 runs a
	eventually 10 runs b
	not same "daemon of a" "${before% *}" "$(lives a)"
	not same "daemon of b" "${before#* }" "$(lives b)"
	same "failed units" "" "$(failed_units)"
}

# The reason needs systemd's own words after "a unit of that name exists": pkg/unit, Start.
@test "a masked unit: what runs goes on, ADD fails with a clear line, and it heals when the mask is off" {
	vpn left 1
	begin_vpn
	eventually 15 runs left c-left IPSEC
	local life
	life=$(life left)
	systemctl mask --runtime --quiet svc-left.service svc-right.service 2>/dev/null
	vpn right 2
	eventually 15 held right 'start svc-right.service: .*(masked|fragment file)'
	eventually 10 not test -e /run/svc-ipsec/right # each ADD makes and removes it
	runs left c-left IPSEC
	systemctl unmask --runtime --quiet svc-left.service svc-right.service
	eventually 15 runs right c-right IPSEC
	runs left c-left IPSEC
	same "daemon" "$life" "$(life left)"
	same "verbs of left" ok "$(outcomes '[ADEL]*' left)"
	same "failed units" "" "$(failed_units)"
}

@test "a systemd that does not answer: nothing is known and nothing is done, ps says why, and it heals" {
	want a
	want b
	want other
	start
	eventually 10 runs a
	eventually 10 runs b
	eventually 10 runs other
	local lives ran daemon
	lives=$(lives a other)
	ran=$(calls '.name != ""')
	daemon=$(main_pid a)
	published c-a
	systemd-run --quiet --unit=bats-mute --socket-property=ListenStream=/run/svc-bats-mute sleep infinity
	mute
	kill -KILL "$daemon"
	echo '{id: f-a, text: edited}' | object configurations/f-a
	unbind p-b
	want new
	eventually 40 waits a 'connect to systemd: .*(timeout|deadline)'
	eventually 5 waits new 'connect to systemd: .*(timeout|deadline)'
	same "calls" "$ran" "$(calls '.name != ""')"
	same "records" "added added" "$(record a .phase) $(record b .phase)"
	same "statuses" "RUNNING RUNNING" "$(codes c-a) $(status c-b .code)"
	same "status of the new one" "" "$(status c-new .code 2>/dev/null)"

	unmute
	eventually 40 runs new
	eventually 40 runs a
	eventually 40 gone b
	runs other
	same "verbs of a" "ADD a DEL a ADD a" "$(verbs a)"
	same "verbs of b" "ADD b DEL b" "$(verbs b)"
	not same "daemon of a" "${lives% *}" "$(life a)"
	same "daemon of the other" "${lives#* }" "$(life other)"
	[[ "$(codes c-a)" =~ ^RUNNING\ STARTING\ RUNNING$ ]] || { codes c-a; return 1; }
}

# mute executes systemd anew, and it cannot take its socket back: whoever dials
# there from now on is never accepted. systemctl dials there too.
mute() {
	mount --bind /run/svc-bats-mute /run/systemd/private
	kill -TERM 1
}

unmute() {
	umount /run/systemd/private
	kill -TERM 1
	eventually 30 timeout 20 systemctl show -P Version
	systemctl daemon-reload
	systemctl stop bats-mute.socket bats-mute.service 2>/dev/null
	rm -f /run/svc-bats-mute
}

journald() { systemctl "$1" systemd-journald.socket systemd-journald-dev-log.socket systemd-journald.service 2>/dev/null; }

# logged PATTERN: the supervisor's journal has such a line.
logged() { journal | grep 'svc-supervisor\[' | grep -q "$1"; }

@test "journald stopped with its sockets: the supervisor goes on, and logs again when they are back" {
	local pid
	want a
	start
	eventually 10 runs a
	pid=$(supervisor_pid)
	journald stop
	want b
	eventually 10 runs b
	same "supervisor" "$pid" "$(supervisor_pid)"
	journald start
	want c
	eventually 10 runs c
	same "supervisor" "$pid" "$(supervisor_pid)"
	same "restarts" 0 "$(systemctl show -P NRestarts svc-supervisor.service)"
	eventually 10 logged 'create container.*interfaceName=c '
	logged 'log lines lost, journald was away.*count='

	# A supervisor that starts meanwhile gets /dev/null for its log.
	stop
	journald stop
	start
	eventually 10 runs c
	same "stderr" /dev/null "$(readlink "/proc/$(supervisor_pid)/fd/2")"
	journald start
	want d
	eventually 10 runs d
	eventually 10 logged 'create container.*interfaceName=d '
	# Its lines have their priority, unit and name as before.
	journalctl --quiet --after-cursor "$BEGAN" -u svc-supervisor.service -t svc-supervisor -p warning | grep -q 'log lines lost'
}
