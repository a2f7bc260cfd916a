#!/usr/bin/env bats
# The commands of README.md, run as they are written there, except for the installation
# of packages and the build, which have been done before.

load helpers

NSDB=/etc/svc-supervisor/nsdb

setup_file() {
	# Whatever else is installed here belongs to another test.
	rm -rf /etc/svc-supervisor
	sites_may_be_here
}

teardown_file() {
	rm -f "$NSDB"/bindings/host-1/*
	within 30 nothing_left || true
	systemctl disable --now svc-supervisor.service
	"$EXAMPLE/network" down
	rm -rf /etc/svc-supervisor
}

# commands SECTION: the commands of that section.
commands() {
	awk -v section="## $1" '/^## / { here = $0 == section } /^```/ { inside = here && !inside; next } inside' "$PROJECT/README.md" |
		grep -v '^apt ' | sed 's/^make build && //'
}

@test "the commands of the README bring two containers up, and a tunnel between them" {
	[ "$(commands "Install and run" | wc -l)" -ge 5 ]
	cd "$PROJECT"
	run -0 bash -euo pipefail -c "$(commands "Install and run")"
	echo "$output"
	# The last command shows both containers at once.
	[[ "$output" != *"host unknown"* ]]
	grep -q '^vpn-left ' <<<"$output"
	grep -q '^vpn-right ' <<<"$output"
	# The keys are for root alone, and the plugin path is there.
	[ -z "$(find "$NSDB" -perm /077)" ] || { find "$NSDB" -perm /077 -ls; return 1; }
	[ "$(stat -c %a /opt/svc/bin)" = 755 ]
	within 60 is_running left
	within 60 is_running right
	within 60 connected 1
	ping_from left 10.1.0.10 10.2.0.10
	svc-supervisor ps | grep '^vpn-left .* RUNNING '
}

@test "the commands of the README bring up a container of the reader's own as soon as its bridge exists" {
	[ "$(commands "Your own container" | wc -l)" = 5 ]
	EDITOR=true run bash -euo pipefail -c "$(commands "Your own container")"
	echo "$output"
	[ "$status" = 0 ]
	within 30 reason_names_bridge
	ip link add br-mine type bridge
	within 60 eval 'svc-supervisor ps | grep -q "^vpn-mine .* RUNNING "'
	rm "$NSDB/bindings/host-1/port-mine.yaml"
	within 30 eval '! svc-supervisor ps | grep -q "^vpn-mine "'
	ip link delete br-mine
}

reason_names_bridge() { svc-supervisor ps | grep -q "^vpn-mine .*br-mine"; }
