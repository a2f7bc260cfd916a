# shellcheck shell=bash
# What all files share: the binaries and units where an installation puts
# them, in the sandbox's overlay. A real host is changed only when asked to.

setup_suite() {
	local project libexec=/usr/libexec/svc-supervisor
	project=$(cd "$BATS_TEST_DIRNAME/../.." && pwd -P)
	case ${HOST:-0}$(systemd-detect-virt) in
	1* | 0uml | 0container-other) ;;
	*)
		echo "these tests change the machine: run test/ground/sandbox bats test/bats, or set HOST=1" >&2
		return 1
		;;
	esac
	for binary in svc-supervisor svc-ipsec; do
		if [ ! -x "$project/build/$binary" ]; then
			echo "$project/build/$binary is missing: make build" >&2
			return 1
		fi
	done
	# Libreswan's package starts a daemon of its own on some hosts: it has port 500.
	systemctl stop ipsec.service 2>/dev/null || true

	install -D -m 755 "$project/build/svc-supervisor" /usr/sbin/svc-supervisor
	install -D -m 755 "$project/build/svc-ipsec" "$libexec/svc-ipsec"
	install -m 644 "$project"/contrib/systemd/* /etc/systemd/system/
	# The flags are given in variables, in a file that each test writes.
	mkdir -p /run/systemd/system/svc-supervisor.service.d
	cat >/run/systemd/system/svc-supervisor.service.d/bats.conf <<-END
		[Service]
		EnvironmentFile=
		EnvironmentFile=/run/svc-bats.env
		TimeoutStopSec=140s
	END
	systemctl daemon-reload
	local started
	started=$(systemctl show -P ExecStart svc-supervisor.service)
	if [[ "$started" != *"path=/usr/sbin/svc-supervisor "* ]]; then
		# As with make install PREFIX=…: the unit says where the binary is.
		started=${started#*path=}
		install -D -m 755 "$project/build/svc-supervisor" "${started%% *}"
	fi
	export PROJECT=$project LIBEXEC=$libexec TOOLS=$project/build/tools
}

teardown_suite() {
	rm -f /run/svc-bats.env
	rm -rf /run/systemd/system/svc-supervisor.service.d
	systemctl daemon-reload
}
