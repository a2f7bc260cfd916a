#!/usr/bin/env bats
# doctor: clean on a healthy host, and for each fault the line that names it with the next step. It changes nothing.

load helpers

eval "usual_$(declare -f teardown)"

teardown() {
	systemctl kill --signal=CONT svc-supervisor.service 2>/dev/null || true
	usual_teardown
}

# finds STATUS SUBJECT CHECK RESULT DETAIL [ARGUMENT…]: doctor exits with STATUS, and has a finding of this check with this
# result, whose detail matches and which names the next step unless the result is ok.
finds() {
	local wanted=$1 subject=$2 check=$3 result=$4 detail=$5 found
	shift 5
	run -"$wanted" --separate-stderr sup doctor -o json "$@"
	found=$(jq -r --arg subject "$subject" --arg check "$check" --arg result "$result" --arg detail "$detail" '
		[.[] | select(.subject == $subject and .check == $check and .result == $result and (.detail | test($detail)))
			| select(.result == "ok" or (.next // "") != "")] | length' <<<"$output")
	[ "$found" -ge 1 ] || { echo "no $result of $check with $detail:"; jq -c '.[]' <<<"$output"; return 1; }
}

healthy() {
	want a
	want b
	start
	eventually 10 runs a
	eventually 10 runs b
}

@test "doctor is clean on a healthy host, for the host and for a container by each of its names, and changes nothing" {
	healthy
	local ran
	ran=$(calls '.verb == "ADD" or .verb == "DEL"')
	for argument in "" a p-a c-a; do
		# shellcheck disable=SC2086 # "" is no argument
		run -0 sup doctor $argument
		echo "$output"
		[[ "$output" != *FAIL* && "$output" != *UNKNOWN* ]]
	done
	[[ "$output" == *"CHECK        the plugin finds what it configured"* ]]
	finds 0 host supervisor ok 'answers'
	finds 0 host NSDB ok '2 bindings of this host, 0 of them'
	finds 0 containers a ok '^RUNNING'
	finds 0 a unit ok 'svc-a.service is active' a
	same "ADDs and DELs" "$ran" "$(calls '.verb == "ADD" or .verb == "DEL"')"
	finds 2 nowhere binding fail 'no binding, record or container' nowhere
	run -1 sup doctor a b
	[[ "$output" == *'doctor "b": allowed: at most one argument'* ]]
}

@test "doctor names the faults of the host and the next steps" {
	healthy
	mood STATUS 'fail 50 "no pluto"'
	executable echo 1.0.0
	eventually 10 finds 2 host plugins fail 'STATUS: no pluto'
	mood STATUS
	eventually 10 finds 0 host plugins ok 'serves type ECHO'

	host 0
	eventually 10 finds 2 host capacity fail 'containerWeight of the host is 0'
	host 1 2
	eventually 10 finds 2 host capacity fail 'containerLimit of the host is 2'
	host

	mv "$NSDB/hosts/$HOST_ID.yaml" "$T/host.yaml"
	eventually 10 finds 2 host NSDB fail 'no Host object'
	mv "$T/host.yaml" "$NSDB/hosts/$HOST_ID.yaml"
	mv "$NSDB" "$T/away"
	finds 2 host NSDB fail 'does not exist'
	mv "$T/away" "$NSDB"
	eventually 10 finds 0 host NSDB ok '2 bindings'

	systemctl kill --signal=STOP svc-supervisor.service
	finds 2 host supervisor fail 'does not answer within 5s'
	finds 2 a unit ok 'svc-a.service is active' a
	systemctl kill --signal=CONT svc-supervisor.service
	rm /run/svc-supervisor/api.sock
	finds 2 host supervisor fail 'does not listen on'
	stop
	finds 2 host supervisor fail 'no supervisor runs'
	finds 2 containers a ok RUNNING
	finds 2 a CHECK ok 'finds what it configured' a
	printf 'garbage' >"$STATE/containers/b.ECHO"
	finds 2 host records fail 'b: .*damaged'
	start
	eventually 10 finds 0 host supervisor ok answers
}

@test "doctor names the faults of a container and the next steps" {
	healthy
	bind p-x x c-missing
	eventually 10 finds 2 x binding fail 'containers/c-missing: no such object' x
	eventually 10 finds 2 x supervisor fail 'HELD|UNKNOWN' x
	unbind p-x

	mood ADD 'fail 101 "no room"'
	want c
	eventually 10 finds 2 c supervisor fail 'ADD failed, will be retried: no room' c
	eventually 30 finds 2 containers c fail 'no room'
	unbind p-c
	mood ADD
	eventually 10 gone c

	mood CHECK 'fail 102 "the guard is gone"'
	finds 2 a CHECK fail 'the guard is gone' a
	mood CHECK 'sleep 0.1; exit 3'
	finds 3 a CHECK unknown 'exit status 3' a
	mood CHECK "echo '{\"code\": \"RUNNING\", \"message\": \"old daemon\", \"connections\": [
		{\"id\": \"1\", \"name\": \"to-peer\", \"status\": \"DOWN\", \"reason\": \"no answer\"}]}'; exit"
	finds 2 a connection fail 'to-peer is down: no answer' a
	finds 2 a health fail 'old daemon' a
	mood CHECK

	stop
	systemctl stop svc-a.service
	finds 2 a unit fail 'svc-a.service is gone' a
	ip netns delete b
	finds 2 b namespace fail 'absent' b
	start
	eventually 20 runs a
	eventually 20 runs b
	eventually 10 finds 0 b namespace ok /run/netns/b b
}

@test "doctor checks an IPsec container: interface, daemon, CHECK, and the connection that is down" {
	site 100.100.100.2 200.200.200.2 10.1.0.0/24 10.2.0.0/24 | with_id f-left | object configurations/f-left
	container c-left IPSEC f-left
	bind p-left left c-left "addresses: [169.254.0.1/30]"
	start SVC_PLUGIN_PATH="$LIBEXEC"
	eventually 15 runs left c-left IPSEC
	export PLUGIN_PATH=$LIBEXEC
	eventually 20 finds 2 left connection fail 'is down: ' left
	finds 2 left interface ok 'left: [0-9]+ packets to the container' left
	finds 2 left unit ok 'svc-left.service is active' left
	finds 2 left CHECK ok 'finds what it configured' left
	finds 2 host plugins ok 'svc-ipsec serves type IPSEC'
	run -2 sup doctor left
	echo "$output"
	# The findings contain no key: test/secrets searches the output.
	[[ "$output" == *"man svc-ipsec explains the reason; compare the configuration with that of the peer 200.200.200.2"* ]]
	stop # it would make the container anew
	ip -n left link set dev svc0 down
	finds 2 left CHECK fail 'svc0 is down' left
}
