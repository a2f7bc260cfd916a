#!/usr/bin/env bats
# What README.md shows under "Install and run", run as it stands there: but for
# the packages, which are here, and the build, which was before.

load helpers

NSDB=/etc/svc-supervisor/nsdb

setup_file() {
	# Whatever else was installed here is another test's.
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

commands() {
	awk '/^## / { here = $0 == "## Install and run" } /^```/ { inside = here && !inside; next } inside' "$PROJECT/README.md" |
		grep -v '^apt ' | sed 's/^make build && //'
}

@test "the commands of the README bring two containers up, and a tunnel between them" {
	[ "$(commands | wc -l)" -ge 5 ]
	cd "$PROJECT"
	run -0 bash -euo pipefail -c "$(commands)"
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
