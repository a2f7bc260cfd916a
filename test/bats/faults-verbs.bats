#!/usr/bin/env bats
# Verbs that hang, die and leave things behind; supervisors that die under
# their verbs. What ran before runs on, and no two verbs meet at one container.

load helpers

teardown() {
	end_by_hand
	usual_teardown
}

# begins VERB [SHELL] writes a mood: each VERB from now on says when it was
# started, by the kernel's clock, and then does SHELL.
begins() {
	# shellcheck disable=SC2016 # expanded there
	mood "$1" 'echo "$(($(cut -d" " -f22 /proc/$$/stat) * 10)) $CNI_COMMAND $name" >>"$moods/begun"
'"${2:-}"
}

# begun VERB NAME N prints when the verb began for the Nth time, in ms.
begun() { awk -v verb="$1" -v name="$2" -v n="$3" '$2 == verb && $3 == name && ++i == n { print $1 }' "$MOODS/begun"; }

# apart EVENT EVENT LEAST MOST: so many ms are between two lines of begun. A deadline comes up to five times later on a busy
# machine.
apart() {
	local first second
	# shellcheck disable=SC2086 # three words each
	first=$(begun $1) second=$(begun $2)
	echo "from $1 at $first to $2 at $second: $((second - first)) ms, wanted $3 to $4"
	[ -n "$first" ] && [ -n "$second" ] && [ $((second - first)) -ge "$3" ] && [ $((second - first)) -le "$4" ]
}

count() { calls ".verb == \"$1\" and .name == \"$2\"" | wc -l; }
at_least() { [ "$(count "$2" "$3")" -ge "$1" ]; }
edit() { echo "{id: f-$1, text: ${2:-edited}}" | object "configurations/f-$1"; }

# by_hand runs a supervisor that systemd knows nothing of.
by_hand() {
	# shellcheck disable=SC2034 # for wind_up
	STARTED=()
	SVC_HOST_ID=$HOST_ID SVC_NSDB=file://$NSDB SVC_PLUGIN_PATH=$BIN \
		svc-supervisor run --rescan 1s --grace 1s --log-level debug >>"$T/by-hand.log" 2>&1 3>&- &
	HAND=$!
}

end_by_hand() {
	[ -n "${HAND:-}" ] || return 0
	kill "${1:--TERM}" "$HAND" 2>/dev/null || true
	wait "$HAND" || true
	HAND=""
}

@test "nothing that a verb forked is alive after it, be it ended by its deadline or by itself" {
	# Each ADD leaves a child of its own kind behind: the first hangs then, the second goes on and is done.
	# shellcheck disable=SC2016 # expanded there
	mood ADD 'turn=1
		[ ! -e "$moods/$name-1" ] || turn=2
		child="echo \$\$ >$moods/$name-$turn"
		case $name in
		session) setsid sh -c "$child; exec sleep 86391" & ;;
		double) setsid sh -c "sh -c \"echo \\\$\\\$ >$moods/$name-$turn; exec sleep 86392\" & exit" & ;;
		silent) setsid sh -c "$child; exec sleep 86393" </dev/null >/dev/null 2>&1 & ;;
		deaf) sh -c "trap \"\" TERM HUP INT; $child; while :; do sleep 86394; done" & ;;
		nameless) setsid env -i /bin/sh -c "$child; exec /bin/sleep 86395" & ;;
		esac
		while [ ! -s "$moods/$name-$turn" ]; do sleep 0.02; done
		if [ $turn = 1 ]; then trap "" TERM HUP INT; while :; do sleep 86396; done; fi'
	# shellcheck disable=SC2016 # expanded there
	mood DEL 'if grep -qs 8639 "/proc/$(cat "$moods/$name-1")/cmdline"; then touch "$moods/alive-$name"; fi'
	local kind
	for kind in session double silent deaf nameless; do
		want "$kind"
	done
	start SVC_VERB_TIMEOUT=4s SVC_PARALLEL=16
	for kind in session double silent deaf nameless; do
		eventually 20 runs "$kind"
		same "verbs" "ADD $kind DEL $kind ADD $kind" "$(verbs "$kind")"
		[ -s "$MOODS/$kind-1" ]
		[ -s "$MOODS/$kind-2" ]
	done
	same "processes" "" "$(pgrep -fa 'sleep 8639[1-6]' || true)"
	# Who hides its environment may live as long as another verb runs.
	same "alive when DEL began" "" "$(find "$MOODS" -name 'alive-*' ! -name '*-nameless')"
}

@test "a first ADD that hangs: DEL at once, ADD again with a growing delay, the verdict with the second time" {
	# shellcheck disable=SC2016 # expanded there
	begins ADD 'jq -r .code /run/svc-supervisor/status/containers/h1/c-a.json >>"$moods/codes"; [ -e "$moods/go" ] || sleep 86396'
	begins DEL
	want a
	start SVC_VERB_TIMEOUT=2s
	eventually 40 is "ADD a DEL a ADD a DEL a" verbs
	touch "$MOODS/go"
	eventually 10 runs a
	same "verbs" "ADD a DEL a ADD a DEL a ADD a" "$(verbs)"
	same "status when each ADD began" "STARTING ERROR" "$(tail -n 2 "$MOODS/codes" | xargs)"
	apart "ADD a 1" "DEL a 1" 2000 10950
	apart "ADD a 1" "ADD a 2" 3000 15000
	apart "ADD a 2" "ADD a 3" 4000 17000
}

@test "an edit whose verb is killed, hangs or says nothing, and a DEL that hangs, cost nothing, and heal by the next good try" {
	local name life
	declare -A lives
	for name in killed hung mute nonsense stays; do
		want "$name"
	done
	start SVC_VERB_TIMEOUT=2s SVC_PARALLEL=16
	for name in killed hung mute nonsense stays; do
		eventually 20 runs "$name"
		lives[$name]=$(life "$name")
	done
	# shellcheck disable=SC2016 # expanded there
	begins ADD 'case $name in
		killed) kill -KILL $$ ;;
		hung) sleep 86396 ;;
		mute) exit 5 ;;
		nonsense) echo "this is fine"; exit 0 ;;
	esac'
	begins DEL 'sleep 86396'
	for name in killed hung mute nonsense; do
		edit "$name"
	done
	unbind p-stays
	eventually 10 change_failed killed 'killed'
	eventually 10 change_failed hung 'deadline of 2s'
	eventually 10 change_failed mute 'exit status 5 without an error object'
	eventually 10 change_failed nonsense 'result'
	for name in killed hung mute nonsense; do
		eventually 10 at_least 3 ADD "$name" # the first before the edit
		same "record of $name" "changing hello" "$(record "$name" '.phase + " " + .previous.configuration.text')"
	done
	eventually 10 at_least 2 DEL stays
	eventually 15 apart "DEL stays 1" "DEL stays 2" 3000 15000
	eventually 15 apart "ADD hung 1" "ADD hung 2" 3000 15000
	same "record of what should go" deleting "$(record stays .phase)"
	test -e /run/netns/stays
	for name in killed hung mute nonsense stays; do
		same "daemon of $name" "${lives[$name]}" "$(life "$name")"
		unit_is "$name" active
	done

	mood ADD
	mood DEL
	eventually 15 gone stays
	for name in killed hung mute nonsense; do
		eventually 15 is "added edited" record "$name" '.phase + " " + .conf.configuration.text'
		eventually 5 is "RUNNING " status "c-$name" '.code + " " + .message'
		runs "$name"
		same "daemon of $name" "${lives[$name]}" "$(life "$name")"
		same "deletions of $name" 0 "$(count DEL "$name")"
	done
}

@test "as many hung containers as may be worked on at once delay nobody else" {
	# shellcheck disable=SC2016 # expanded there
	begins ADD 'case $name in hung*) sleep 86396 ;; esac'
	# shellcheck disable=SC2016 # expanded there
	begins CHECK 'case $name in check) sleep 86396 ;; esac'
	want check
	start SVC_PARALLEL=2 SVC_VERB_TIMEOUT=120s SVC_CHECK_INTERVAL=1s SVC_GRACE=500ms
	# A verb that hangs counts as blocked after at most 20 s on a busy machine. Without that, each would delay the next
	# one until its deadline.
	eventually 10 at_least 1 CHECK check
	want hung1
	want hung2
	eventually 10 at_least 1 ADD hung1
	eventually 60 at_least 1 ADD hung2
	want a
	eventually 60 runs a
	apart "ADD hung2 1" "ADD a 1" 0 60000
	local began
	began=$(date +%s%N)
	edit a
	eventually 60 is edited record a .conf.configuration.text
	unbind p-a
	eventually 60 gone a
	[ $(($(date +%s%N) - began)) -lt 60000000000 ]
	same "row of the hung one" RUNNING "$(row check .status)"
	same "hung all the while" "CHECK 1, ADD 1, ADD 1" "CHECK $(count CHECK check), ADD $(count ADD hung1), ADD $(count ADD hung2)"
}

# beating makes ADD hang, and say that it lives, and so a child that left its
# session: each until it is killed.
beating() {
	# shellcheck disable=SC2016 # expanded there
	mood ADD 'if [ ! -e "$moods/go" ]; then
		[ ! -e "$moods/with-child" ] ||
			setsid sh -c "while :; do date +%s%N >>$moods/child-beats; sleep 0.02; done" </dev/null >/dev/null 2>&1 &
		while :; do date +%s%N >>"$moods/beats"; sleep 0.02; done
	fi'
	# shellcheck disable=SC2016 # expanded there
	mood DEL 'date +%s%N >>"$moods/deletions"'
}

# ended_before_the_next FILE: the last beat in it is before the first DEL.
ended_before_the_next() {
	local last first
	last=$(tail -n 1 "$MOODS/$1") first=$(head -n 1 "$MOODS/deletions")
	echo "$1: the last beat $last, the DEL $first"
	[ "${#last}" = "${#first}" ] && [ "$last" -lt "$first" ]
}

@test "the verb of a killed supervisor is ended, with all that it forked, before the next one's begins" {
	touch "$MOODS/with-child"
	beating
	want a
	start
	eventually 10 test -s "$MOODS/child-beats"
	eventually 10 test -s "$MOODS/beats"
	kill -KILL "$(supervisor_pid)"
	touch "$MOODS/go"
	eventually 15 runs a
	same "verbs" "ADD a DEL a ADD a" "$(verbs)"
	ended_before_the_next beats
	ended_before_the_next child-beats
}

@test "so it is for supervisors that are started by hand" {
	beating
	want a
	by_hand
	eventually 10 test -s "$MOODS/beats"
	end_by_hand -KILL
	touch "$MOODS/go"
	by_hand
	eventually 15 runs a
	same "verbs" "ADD a DEL a ADD a" "$(verbs)"
	ended_before_the_next beats
	# And what runs goes on.
	local life
	life=$(life a)
	end_by_hand -KILL
	by_hand
	eventually 10 is RUNNING row a .status
	same "daemon" "$life" "$(life a)"
	same "verbs" "ADD a DEL a ADD a" "$(verbs)"
	unbind p-a
	eventually 10 gone a
}

@test "a supervisor killed before, in and after an edit's ADD: the connection that is not edited stays loaded, in the same daemon" {
	local point life pid n=1 first=7f1c0000-0000-4000-8000-000000000001
	ipsec_executable
	vpn a 1
	jq '.connections[0].initiator = "bi-directional"' "$NSDB/configurations/f-a.yaml" | object configurations/f-a
	start
	eventually 15 runs a c-a IPSEC
	life=$(life a)
	eventually 5 is "added IKE 1 initiating IKE 1" turns
	for point in before in after; do
		n=$((n + 1))
		rm -f "$MOODS/there"
		# shellcheck disable=SC2016 # expanded there
		case $point in
		before) mood ADD 'touch "$moods/there"; sleep 86396' ;;
		in) mood ADD "exec 8<&0; $LIBEXEC"'/svc-ipsec <&8 >/dev/null & pid=$!
			while ! grep -qs "200.200.200.'"$n"'" /run/svc-ipsec/a/.new-load.conf /run/svc-ipsec/a/conns/*; do sleep 0.01; done
			kill -STOP $pid; touch "$moods/there"; sleep 86396' ;;
		after) mood ADD "$LIBEXEC"'/svc-ipsec >/dev/null; touch "$moods/there"; sleep 86396' ;;
		esac
		jq --arg n "$n" '.connections += [.connections[0] + {id: "second-\($n)", name: "second", peerAddress: "200.200.200.\($n)",
			peerId: "200.200.200.\($n)", peerCidrs: ["10.3.\($n).0/24"]}] | .connections |= [.[0], .[-1]]' \
			"$NSDB/configurations/f-a.yaml" | object configurations/f-a
		eventually 15 test -e "$MOODS/there"
		same "record" changing "$(record a IPSEC .phase)"
		pid=$(supervisor_pid)
		kill -KILL "$pid"
		mood ADD
		eventually 10 another_pid "$pid"
		eventually 15 is "added second-$n" record a IPSEC '.phase + " " + .conf.configuration.connections[-1].id'
		eventually 5 runs a c-a IPSEC
		same "daemon" "$life" "$(life a)"
		same "conns" "$first-0-0 second-$n-0-0" "$(conns a)"
	done
	same "turns of the first connection" "added IKE 1 initiating IKE 1" "$(turns)"
	same "deletions" 0 "$(count DEL a)"
}

# turns prints how often the daemon took in the first connection, set out for
# its peer, and let go of it.
turns() {
	journalctl --quiet --no-pager -o cat --after-cursor "$BEGAN" SVC_CONTAINER=a |
		awk '/^"7f1c0000-0000-4000-8000-000000000001-/ && match($0, /added IKE|initiating IKE|terminating|deleting/) {
			count[substr($0, RSTART, RLENGTH)]++ } END { for (turn in count) print turn, count[turn] }' | sort | xargs
}
