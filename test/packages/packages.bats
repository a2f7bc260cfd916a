#!/usr/bin/env bats
# The Debian package: installed from scratch, a tunnel from its sample, an upgrade under a ping, removal and purge.
# test/packages/run runs this in a guest with ESP.

load ../guest/helpers

NSDB=/etc/svc-supervisor/nsdb
SHARE=/usr/share/doc/svc-supervisor
PACKAGES=$PROJECT/build/packages

setup_file() {
	sites_may_be_here
	rm -rf /etc/svc-supervisor
	mkdir -p "$RUN"
}

teardown_file() {
	rm -f "$NSDB"/bindings/host-1/*
	within 30 nothing_left || true
	dpkg --purge svc-supervisor || true
	"$EXAMPLE/network" down
	rm -rf /etc/svc-supervisor
}

deb() { echo "$PACKAGES"/svc-supervisor_*.deb; }

@test "the package is installed: the service waits for a host id, and its manual is there" {
	run -0 dpkg --install "$(deb)"
	echo "$output"
	run -3 systemctl is-active svc-supervisor.service
	run -1 systemctl is-enabled svc-supervisor.service
	for page in svc-supervisor svc-ipsec; do
		zcat "/usr/share/man/man8/$page.8.gz" | head -n 1 | grep -q '^\.TH\|^\.\\"'
	done
	svc-supervisor --version | grep -Eq '^svc-supervisor version [0-9.]+ \(commit [0-9a-f]{7,}, 20[0-9-]{8}\)$'
	run -1 timeout 10 svc-supervisor run
	[[ "$output" == *"no host id: give --host-id, or write it to /etc/svc-supervisor/host-id"* ]]
	[ -z "$(find /etc/svc-supervisor /usr/libexec/svc-supervisor /usr/sbin/svc-supervisor -perm /022 -not -type l)" ]
}

@test "a tunnel comes up from the packaged sample" {
	"$SHARE/examples/two-sites/network" up
	(umask 077 && cp -r "$SHARE/examples/two-sites/nsdb" /etc/svc-supervisor)
	echo host-1 >/etc/svc-supervisor/host-id
	systemctl enable --now svc-supervisor.service
	within 60 is_running left
	within 60 is_running right
	within 60 connected 1
	ping_from left 10.1.0.10 10.2.0.10
}

@test "bash completes commands, options and names" {
	completes() {
		# shellcheck disable=SC2016 # expanded there
		bash -c '. /usr/share/bash-completion/completions/svc-supervisor; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
			_svc_supervisor; printf "%s\n" "${COMPREPLY[@]}"' - svc-supervisor "$@"
	}
	completes sta | grep -qx status
	completes ps --ou | grep -qx -- --output
	same "names" "vpn-left vpn-right" "$(completes status vpn- | sort | xargs)"
}

@test "an upgrade restarts the supervisor, and loses no packet of a ping" {
	local life pid
	life=$(systemctl show -P ActiveEnterTimestampMonotonic svc-vpn-left.service)
	pid=$(systemctl show -P MainPID svc-supervisor.service)
	ping_begins
	run -0 dpkg --install "$(deb)"
	[ "$(systemctl show -P MainPID svc-supervisor.service)" != "$pid" ]
	within 30 is_running left
	sleep 2
	ping_ends
	same "lost packets" 0 "$(ping_lost)"
	[ "$(systemctl show -P ActiveEnterTimestampMonotonic svc-vpn-left.service)" = "$life" ]
}

@test "a removal leaves the containers running, and a purge is refused until they are gone" {
	run -0 dpkg --remove svc-supervisor
	[ ! -e /usr/sbin/svc-supervisor ]
	systemctl is-active svc-vpn-left.service svc-vpn-right.service
	ping_from left 10.1.0.10 10.2.0.10
	run -1 dpkg --purge svc-supervisor
	[[ "$output" == *"containers still run"* ]]
	run -0 dpkg --install "$(deb)"
	systemctl enable --now svc-supervisor.service
	within 30 is_running left
	rm -f "$NSDB"/bindings/host-1/*
	within 60 nothing_left
	run -0 dpkg --purge svc-supervisor
	rm -rf /etc/svc-supervisor # the files of the administrator stay: host-id and nsdb
	local left
	left=$(find /usr/sbin /usr/libexec /usr/lib/systemd /usr/share /var/lib /run -name 'svc-*' \
		-not -path '/run/svc-bats*' -not -path '/run/netns/*' 2>/dev/null | grep -v '^/run/svc-ipsec\|^/run/svc-user-ids' || true)
	[ -z "$left" ] || { echo "left behind: $left"; return 1; }
}
