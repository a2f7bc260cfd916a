#!/usr/bin/env bats
# Twenty tunnels outlive their supervisor, and the next one is at once as well
# informed as the one before.

load helpers

names() { seq -f 'many%02g' 20; }

# lives prints what a restart of anything would change.
lives() {
	local name
	for name in $(names); do
		echo "$name $(systemctl show -P MainPID -P InvocationID "svc-$name.service" | xargs)" \
			"$(stat -Lc %i "/run/netns/$name") $(cat "/sys/class/net/$name/ifindex")"
	done
}

# running counts the containers whose status is RUNNING.
running() { cat "$STATUS/containers/$HOST_ID"/*.json | jq -r 'select(.code == "RUNNING") | .containerId // .code' | wc -l; }

# added counts the records of that phase.
added() { grep -l '"phase": "added"' "$STATE"/containers/* | wc -l; }

# work prints which verbs ran for a container.
work() { calls '.verb == "ADD" or .verb == "DEL" or .verb == "CHECK"'; }

# began prints when the supervisor's process was started, in ms.
began() { date -d "$(systemctl show --timestamp=us+utc -P ExecMainStartTimestamp svc-supervisor.service)" +%s%3N; }

# told prints when the last of the statuses was published, in ms.
told() { find "$STATUS/containers/$HOST_ID" -name '*.json' -printf '%T@\n' | sort -n | awk 'END { printf "%.0f\n", $1 * 1000 }'; }

# killed kills the supervisor and removes every status before the next comes;
# that one must publish them all within a second.
killed() {
	local pid stalled
	pid=$(supervisor_pid)
	kill -KILL "$pid"
	systemctl stop svc-supervisor.service # systemd would start it while the statuses are removed
	rm "$STATUS/containers/$HOST_ID"/*.json
	ran=$(work) stalled=$(stalled)
	systemctl start svc-supervisor.service
	eventually 10 another_pid "$pid"
	eventually 10 is 20 running
	local took=$(($(told) - $(began)))
	echo "the last status came $took ms after the start"
	[ "$took" -ge 0 ]
	# Without the time in which processes waited for a processor, as in eventually.
	[ $((took - ($(stalled) - stalled) * 4 / 5000)) -lt 1000 ]
}

@test "after a supervisor that is killed the next one finds 20 tunnels as they are, without a verb" {
	local name n=0 lives ran
	ipsec_executable
	for name in $(names); do
		n=$((n + 1))
		vpn "$name" "$n"
	done
	start
	eventually 60 is 20 running
	eventually 10 is 20 added
	lives=$(lives)

	killed
	sleep 5
	same "verbs" "$ran" "$(work)"
	same "lives" "$lives" "$(lives)"
	same "statuses" 20 "$(running)"

	# And it is at work: what is no longer wanted goes.
	for name in $(names); do
		unbind "p-$name"
	done
	eventually 30 is "" records
	same "verbs since" "20 DEL" \
		"$(work | tail -n +$(($(wc -l <<<"$ran") + 1)) | jq -r '.verb | select(. != "CHECK")' | sort | uniq -c | xargs)"
}
