#!/usr/bin/env bats
# What an operator sees, with a supervisor and without.

load helpers

@test "ps lists what runs and what is held: a table, and the same as JSON" {
	want a
	want b NOBODY
	start
	eventually 10 runs a
	eventually 10 held b 'no executable serves type NOBODY'
	run -0 --separate-stderr sup ps
	# shellcheck disable=SC2154 # of run
	same "stderr" "" "$stderr"
	# shellcheck disable=SC2154 # of run
	same "heading" "NAME TYPE VERSION STATUS UNIT AGE UP RESTARTS REASON" "$(xargs <<<"${lines[0]}")"
	[[ "${lines[1]}" =~ ^a\ +ECHO\ +1.0.0\ +RUNNING\ +svc-a.service\ +[0-9]+s\ +-\ +0\ *$ ]]
	[[ "${lines[2]}" =~ ^b\ +NOBODY\ +-\ +HELD\ +-\ +-\ +-\ +-\ +no\ executable\ serves\ type\ NOBODY$ ]]
	same "rows" 3 "${#lines[@]}"
	same "JSON of a" '{"name":"a","type":"ECHO","version":"1.0.0","status":"RUNNING","units":["svc-a.service"],"portId":"p-a","containerId":"c-a"}' \
		"$(sup ps -o json | jq -c '.containers[0] | del(.addedAt)')"
	same "JSON of the host" '{"id":"h1","weight":1,"quota":-1,"count":1}' "$(sup ps -o json | jq -c .host)"
	same "YAML of a" "- name: a type: ECHO version: 1.0.0 status: RUNNING" "$(sup ps -o yaml | grep -A3 'name: "a"$' | xargs)"
	run -1 sup ps -o xml
	[[ "$output" =~ allowed:\ table,\ json\ or\ yaml ]]
	# b is held.
	run -2 --separate-stderr sup ps --exit-code
	# shellcheck disable=SC2154 # of run
	same "stderr" "svc-supervisor: ps: containers that do not run: 1, connections that are down: 0" "$stderr"
	unbind p-b
	eventually 10 sup ps --exit-code
	stop
	run -3 sup ps --exit-code
}

@test "without a supervisor ps shows the records and the state of the units" {
	want a
	want b
	start
	eventually 10 runs a
	eventually 10 runs b
	stop
	systemctl stop svc-b.service
	run -0 --separate-stderr sup ps
	# shellcheck disable=SC2154 # of run
	[[ "$stderr" =~ "no supervisor runs" ]]
	# shellcheck disable=SC2154 # of run
	[[ "${lines[1]}" =~ ^a\ +ECHO\ +1.0.0\ +RUNNING\ +svc-a.service ]]
	[[ "${lines[2]}" =~ ^b\ +ECHO\ +1.0.0\ +UNKNOWN\ +svc-b.service\ .*svc-b.service\ is\ gone$ ]]
	same "the host, of which nothing is known" null "$(sup ps -o json 2>/dev/null | jq .host)"
	same "JSON" "a RUNNING b UNKNOWN" "$(sup ps -o json 2>/dev/null | jq -r '.containers[] | .name + " " + .status' | xargs)"
	start
	eventually 10 runs b
}

@test "a second supervisor is refused in one line, and does no harm to the first" {
	want a
	start
	eventually 10 runs a
	local pid
	pid=$(supervisor_pid)
	run -1 timeout 60 env SVC_HOST_ID=h1 SVC_NSDB="file://$NSDB" SVC_PLUGIN_PATH="$BIN" svc-supervisor run
	# shellcheck disable=SC2154 # of run
	same "lines" 1 "${#lines[@]}"
	[[ "$output" =~ "in use by another svc-supervisor".*$pid ]]
	same "supervisor" "$pid" "$(supervisor_pid)"
	runs a
}

@test "the API is root's alone and changes nothing" {
	start
	same "mode of the socket" 600 "$(stat -c %a /run/svc-supervisor/api.sock)"
	same "owner of the socket" root "$(stat -c %U /run/svc-supervisor/api.sock)"
	run -1 setpriv --reuid=nobody --regid=nogroup --clear-groups svc-supervisor ps
	# shellcheck disable=SC2154 # of run
	[[ "$output" =~ "permission denied" ]]
}

@test "a supervisor that crashes leaves no core, which would have keys in it" {
	start
	same "core file size" "0 0" "$(awk '/^Max core file size/ { print $5, $6 }' "/proc/$(supervisor_pid)/limits")"
}

@test "a command line that is wrong is one line on stderr" {
	local words
	for words in "foo" "ps --colour" "config set --colour" "--colour" "run --parallel 0" "run --parallel x"; do
		# shellcheck disable=SC2086 # words
		run -1 --separate-stderr svc-supervisor $words
		# shellcheck disable=SC2154 # of run
		same "stdout of $words" "" "$output"
		# shellcheck disable=SC2154 # of run
		same "lines of $words" 1 "$(wc -l <<<"$stderr")"
		[[ "$stderr" == svc-supervisor:\ * ]]
	done
}

@test "a host without an object is told in ps, and a supervisor without a host id does not start" {
	rm "$NSDB/hosts/h1.yaml"
	want a
	start
	eventually 10 unread_host
	run -0 --separate-stderr sup ps
	# shellcheck disable=SC2154 # of run
	[[ "$stderr" =~ "host unknown, nothing is changed: hosts/h1: no Host object" ]]
	same "records" "" "$(records)"
	stop
	run -1 env -u SVC_HOST_ID SVC_NSDB="file://$NSDB" svc-supervisor run
	# shellcheck disable=SC2154 # of run
	[[ "$output" =~ --host-id.*/etc/svc-supervisor/host-id.*midonet ]]
	same "lines" 1 "${#lines[@]}"
	host
	start
	eventually 10 runs a
}

unread_host() { [[ "$(sup ps -o json | jq -r .host.unread)" =~ "no Host object" ]]; }

@test "--log-level gives a logger a level of its own" {
	executable other 1.0.0 OTHER
	want a
	want b OTHER
	start SVC_LOG_LEVEL=warn,containers.echo=debug
	eventually 10 runs a
	eventually 10 runs b c-b OTHER
	eventually 5 logged 'msg="executable run" logger=containers.echo'
	logged 'msg="create container for port binding" logger=containers.echo'
	not logged 'logger=containers.other'
	not logged 'level=INFO.*logger=containers '
	not logged 'msg=start'
	run -1 timeout 60 env SVC_HOST_ID=h1 SVC_NSDB="file://$NSDB" svc-supervisor run --log-level loud
	# shellcheck disable=SC2154 # of run
	[[ "$output" == *'--log-level "loud": allowed: debug, info, warn or error'* ]]
	run -1 timeout 60 env SVC_HOST_ID=h1 SVC_NSDB="file://$NSDB" SVC_LOG_LEVEL=info,container=debug svc-supervisor run
	[[ "$output" == *'--log-level "container=debug": allowed: debug, info, warn or error'*containers.\<type\>* ]]
}

logged() { journal | grep -qE "$1"; }

@test "the log tells what operators look for, one line each, and never a configuration" {
	echo "{id: f-a, text: hello, psk: $(psk | jq -R .)}" | object configurations/f-a
	mood ADD 'echo "a line of its own" >&2'
	want a
	start
	eventually 10 runs a
	logged 'level=INFO msg=start .*host=h1'
	logged 'level=INFO msg="executable found" .*type=ECHO version=1.0.0'
	logged 'level=DEBUG msg="host bindings updated" .*hostId=h1 portIds=\[p-a\]'
	logged 'level=DEBUG msg="container service is running" .*weight=1 count=1 limit=-1 quota=-1'
	logged 'level=INFO msg="create container .*portId=p-a hostId=h1 interfaceName=a containerId=c-a type=ECHO groupId=g1 configurationId=f-a'
	logged 'level=INFO msg="a line of its own" logger=containers.echo .*verb=ADD'
	logged 'level=DEBUG msg="executable run" logger=containers.echo container=a verb=ADD .*version=1.0.0 duration=.* outcome=ok'
	echo "{id: f-a, text: edited, psk: $(psk | jq -R .)}" | object configurations/f-a
	eventually 10 is edited record a .conf.configuration.text
	logged 'level=DEBUG msg="update container .*portId=p-a hostId=h1 interfaceName=a containerId=c-a type=ECHO groupId=g1 configurationId=f-a'
	unbind p-a
	eventually 10 gone a
	logged 'level=INFO msg="delete container .*portId=p-a hostId=h1 interfaceName=a containerId=c-a type=ECHO groupId=g1 configurationId=f-a'
	not grep -qF -f <(psk_forms) <<<"$(journal)"
	not logged 'time='
}

@test "ps tells the truth of a supervisor whose socket is gone, and of one that hangs" {
	local pid
	want a
	start
	eventually 10 runs a
	pid=$(supervisor_pid)
	kill -STOP "$pid"
	run -0 --separate-stderr sup ps
	kill -CONT "$pid"
	# shellcheck disable=SC2154 # of run
	same "stderr" "the supervisor (process $pid) does not answer within 5s: showing the records and the state of the units instead" "$stderr"
	# shellcheck disable=SC2154 # of run
	[[ "${lines[1]}" =~ ^a\ +ECHO\ +1.0.0\ +RUNNING\ +svc-a.service ]]
	rm /run/svc-supervisor/api.sock
	run -0 --separate-stderr sup ps
	[[ "$stderr" == "the supervisor (process $pid) runs, and does not listen on /run/svc-supervisor/api.sock: "* ]]
	[[ "${lines[1]}" =~ ^a\ +ECHO\ +1.0.0\ +RUNNING ]]
	run -0 --separate-stderr sup plugins
	[[ "$stderr" == "the supervisor (process $pid) runs, and does not listen on "* ]]
	restart
	run -0 --separate-stderr sup ps
	same "stderr" "" "$stderr"
}

@test "right after the start ps shows what is wanted" {
	want a
	want b NOBODY
	start
	run -0 --separate-stderr sup ps
	# shellcheck disable=SC2154 # of run
	same "stderr" "" "$stderr"
	# shellcheck disable=SC2154 # of run
	same "names" "NAME a b" "$(awk '{ print $1 }' <<<"$output" | xargs)"
	eventually 10 runs a
}

@test "a new binding with a misspelt key, a misspelt variable, and a plugin path without a plugin leave a trace" {
	rm "$BIN/echo"
	want a
	printf 'portId: p-b\nhostId: h1\ninterfaceName: b\ncontainerID: c-b\n' | object bindings/h1/p-b
	start SVC_NSBD=file:///nowhere
	eventually 10 shows 'UNKNOWN.*bindings/h1/p-b: .*containerID'
	logged 'level=WARN msg="unknown variable ignored" .*variable=SVC_NSBD nearest=SVC_NSDB'
	logged "level=WARN msg=\"no usable executable on the plugin path\" .*pluginPath=\\[$BIN\\] refused=0"
	unbind p-b
	executable echo 1.0.0
	eventually 10 runs a
	run -0 --separate-stderr env SVC_NSBD=x svc-supervisor plugins
	# shellcheck disable=SC2154 # of run
	same "stderr" "warning: variable SVC_NSBD is unknown and ignored; the nearest known one is SVC_NSDB" "$stderr"
}

shows() { sup ps 2>/dev/null | grep -qE "$1"; }

@test "an ADD that hangs again keeps the reason of the last one in sight" {
	mood ADD 'sleep 86394'
	want a
	start SVC_VERB_TIMEOUT=3s
	eventually 30 is_starting 'ADD failed, will be retried: deadline of 3s'
	mood ADD
	eventually 30 runs a
}

is_starting() {
	local said
	said=$(row a '.status + " " + .reason')
	[[ "$said" =~ ^STARTING\ $1 ]] || { echo "row: $said"; return 1; }
}

@test "LIMIT_EXCEEDED comes with numbers in the table and in the log" {
	host 1 1
	want a
	start
	eventually 10 runs a
	want b
	eventually 10 held b LIMIT_EXCEEDED
	shows '^b .* LIMIT_EXCEEDED: the host has 1 containers, and its containerLimit is 1$'
	logged 'level=WARN msg="container held" .*container=b reason=LIMIT_EXCEEDED weight=1 limit=1 count=1'
	# What tools compare is the word alone.
	same "reason" LIMIT_EXCEEDED "$(row b .reason)"
	same "message" LIMIT_EXCEEDED "$(status c-b .message)"
	host 0 1
	eventually 10 shows '^b .* WEIGHT_ZERO: the host.s containerWeight is 0$'
}

@test "status shows everything about one container, with a supervisor and without" {
	want a
	want b NOBODY
	start
	eventually 10 runs a
	eventually 10 held b 'no executable serves type NOBODY'
	run -0 --separate-stderr sup status a
	# shellcheck disable=SC2154 # of run
	same "stderr" "" "$stderr"
	for line in 'status +RUNNING' 'type +ECHO 1.0.0' 'port +p-a' 'container +c-a' 'configuration +f-a' "plugin +$BIN/echo" \
		'record +added' 'namespace +/run/netns/a' 'unit +svc-a.service: active \(running\) for [0-9]+s, process [0-9]+'; do
		grep -qE "^$line" <<<"$output" || { echo "no line $line in: $output"; return 1; }
	done
	same "JSON" "RUNNING added a" "$(sup status -o json a | jq -r '.container.status + " " + .record.phase + " " + .record.container.interfaceName')"
	grep -q hello "$NSDB/configurations/f-a.yaml"
	run -0 sup status -o json a
	[[ "$output" != *hello* ]]
	[[ "$(sup status b)" =~ reason\ +no\ executable\ serves\ type\ NOBODY ]]
	run -1 sup status none
	same "output" "svc-supervisor: status none: no container has this name; svc-supervisor ps lists them" "$output"
	stop
	run -0 --separate-stderr sup status a
	# shellcheck disable=SC2154 # of run
	[[ "$stderr" =~ "no supervisor runs" ]]
	grep -qE '^status +RUNNING' <<<"$output"
}

@test "wait ends when a container runs and when it is gone, and reports the reason after the timeout" {
	start
	want a
	sup wait --timeout 60s a
	runs a
	run -1 sup wait --for gone --timeout 1s a
	# shellcheck disable=SC2154 # of run
	same "output" "svc-supervisor: wait a: not gone: after 1s: it is RUNNING" "$output"
	want b NOBODY
	eventually 10 held b 'no executable serves type NOBODY'
	run -1 sup wait --timeout 1s b
	[[ "$output" =~ "not running: after 1s: it is HELD: no executable serves type NOBODY" ]]
	unbind p-a
	sup wait --for gone a
	same "records" "" "$(records)"
	stop
	run -1 sup wait --timeout 1s a
	[[ "$output" =~ "not running: after 1s: no supervisor runs" ]]
}

@test "logs shows the lines of the daemon, of systemd and of the supervisor about one container, and follows" {
	want log1
	want log10
	start
	eventually 10 runs log1
	eventually 10 runs log10
	systemd-run --quiet --wait --unit=note-log1.service echo "a line of another unit"
	has_line() { sup logs -n 1000 log1 | grep -qE "$1"; }
	eventually 10 has_line '^[0-9-]+ [0-9:.]+ systemd: Started svc-log1.service'
	eventually 10 has_line ' svc-supervisor: .*msg="create container for port binding" .*interfaceName=log1 '
	run -0 sup logs -n 1000 log1
	run ! grep -qE 'interfaceName=log10 |svc-log10.service|another unit' <<<"$output"
	same "lines" 1 "$(sup logs -n 1 log1 | wc -l)"
	svc-supervisor logs -n 1 -f log1 >"$T/followed" 3>&- &
	local following=$!
	eventually 20 test -s "$T/followed"
	unbind p-log1
	eventually 20 grep -q 'msg="delete container for port binding" .*interfaceName=log1 ' "$T/followed"
	kill -INT "$following"
	wait "$following"
	run ! grep -q 'create container' "$T/followed"
	run -0 --separate-stderr sup logs nothing
	# shellcheck disable=SC2154 # of run
	same "stderr" "the journal has no lines about nothing, or this user cannot read them" "$stderr"
}
