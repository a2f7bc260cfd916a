#!/usr/bin/env bats
# A busy host slows work down and breaks nothing.

load helpers

eval "usual_$(declare -f teardown)"

busy=()

teardown() {
	local pid
	for pid in "${busy[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
	usual_teardown
}

# occupy N starts N processes that use a processor each.
occupy() {
	local i
	for ((i = 0; i < $1; i++)); do
		(while :; do :; done) 3>&- &
		busy+=("$!")
	done
}

names() { seq -f 'load%02g' 30; }

# running counts the containers whose status is RUNNING, and notes those whose status is ERROR in $T/errors.
running() {
	local statuses
	statuses=$(cat "$STATUS/containers/$HOST_ID"/*.json 2>/dev/null) || true
	jq -r 'select(.code == "ERROR") | .interfaceName' <<<"$statuses" >>"$T/errors"
	jq -r 'select(.code == "RUNNING") | .code' <<<"$statuses" | wc -l
}

@test "30 containers that are bound at once come up beside four busy processes without a failed ADD" {
	local name n=0
	ipsec_executable
	for name in $(names); do
		n=$((n + 1))
		vpn "$name" "$n"
	done
	occupy 4
	start
	eventually 240 is 30 running
	same "failed ADDs" 0 "$(journal | grep -c 'ADD failed' || true)"
	same "containers published as ERROR" "" "$(cat "$T/errors")"
	same "verbs" "30 ADD" "$(calls '.verb == "ADD" or .verb == "DEL"' | jq -r .verb | sort | uniq -c | xargs)"
	for name in $(names); do unbind "p-$name"; done
	eventually 120 is "" records
}
