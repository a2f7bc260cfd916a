#!/usr/bin/env bats
# Pushed health (docs/executables.md): of the sender's own container only, and at a limited rate.

load helpers

# with_health makes ADD tell of one connection, which is down.
with_health() {
	mood ADD 'result() {
		printf "%s" "{\"cniVersion\": \"1.1.0\", \"interfaces\": [], \"units\": [\"$unit\"]," \
			"\"health\": {\"code\": \"RUNNING\", \"connections\": [{\"id\": \"x\", \"status\": \"DOWN\"}]}}"
	}'
}

# health_of NAME STATUS [AFTER] prints a push of that connection, which asks for ADD in AFTER seconds.
health_of() {
	printf '{"interfaceName": "%s", "code": "RUNNING", "connections": [{"id": "x", "status": "%s"}]%s}' \
		"$1" "$2" "${3:+, \"again\": {\"after\": $3\}}"
}

# push TIMES DATAGRAM… sends the datagrams in turn, and stays until the last one has been read.
push() {
	# shellcheck disable=SC2016 # Perl's variables
	perl -MIO::Socket::UNIX -MSocket -e '
		my ($times, @datagrams) = @ARGV;
		my $socket = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Peer => "/run/svc-supervisor/health.sock") or die "open: $!";
		for my $i (1 .. $times) {
			defined $socket->send($datagrams[$i % @datagrams]) or die "send: $!";
		}
		for (my $unread = pack("i", 1); unpack("i", $unread); select(undef, undef, undef, 0.01)) {
			ioctl($socket, 0x5411, $unread) or die "SIOCOUTQ: $!"; # the bytes that nobody has read
		}
		sleep 1' "$@"
}

# in_unit NAME COMMAND… runs a command in the control group of a container's unit.
in_unit() {
	local group
	group=/sys/fs/cgroup$(systemctl show -P ControlGroup "svc-$1.service")
	shift
	(echo "$BASHPID" >"$group/cgroup.procs" && "$@")
}

# connection NAME prints the status of its connection, as ps has it.
connection() { row "$1" '.health.connections[0].status'; }

# lines PATTERN counts lines of this test's journal.
lines() { journal | grep -cE "$1" || true; }

@test "a process in the unit of a container reports for that container only" {
	with_health
	want a
	want b
	start
	eventually 10 runs a
	eventually 10 runs b
	in_unit a push 1 "$(health_of b ACTIVE 0)"
	eventually 10 is 1 lines 'pushed health refused.*container=a.*the sender belongs to container a and reports for b'
	same "connection of b" DOWN "$(connection b)"
	in_unit a push 1 "$(health_of a ACTIVE)"
	eventually 10 is ACTIVE connection a
	same "connection of b" DOWN "$(connection b)"
	same "verbs of b" "ADD b" "$(verbs b)"
	push 1 "$(health_of b ACTIVE)" # an operator
	eventually 10 is ACTIVE connection b
}

@test "a flood of pushes costs no verb of another container and few lines" {
	with_health
	want a
	want b
	start
	eventually 10 runs a
	eventually 10 runs b
	SECONDS=0
	in_unit a push 93000 "$(health_of a ACTIVE 0)" "$(health_of b ACTIVE 0)" "$(health_of a DOWN 0)" garbage
	eventually 10 is 1 lines 'pushed health dropped.*container=a'
	local adds
	adds=$(calls '.verb == "ADD" and .name == "a"' | wc -l)
	[ "$adds" -le $((2 + SECONDS / 3)) ] || {
		echo "$adds ADDs of a in $SECONDS s"
		return 1
	}
	same "verbs of b" "ADD b" "$(verbs b)"
	same "connection of b" DOWN "$(connection b)"
	local lines
	lines=$(lines 'pushed health|connection (up|down|changes)')
	[ "$lines" -le $((30 + SECONDS)) ] || {
		echo "$lines lines in $SECONDS s"
		return 1
	}
	push 1 "$(health_of b ACTIVE)"
	eventually 10 is ACTIVE connection b
}
