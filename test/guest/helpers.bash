# shellcheck shell=bash
# What the tests with tunnels share: the two sites of examples/two-sites with
# what `make install` makes, and the words for them. A program takes 150 ms to
# start in a guest: what can be asked in one is.

bats_require_minimum_version 1.5.0

PROJECT=${BATS_TEST_DIRNAME%/test/*}
EXAMPLE=$PROJECT/examples/two-sites
PLUGIN=/usr/libexec/svc-supervisor/svc-ipsec
PREVIOUS=$PROJECT/build/previous
STATE=/var/lib/svc-supervisor/containers
STATUS=/run/svc-supervisor/status/containers/host-1
RUN=/run/two-sites
NSDB=${NSDB:-$RUN/nsdb}
VERBS=$RUN/verbs
PINGS=$RUN/pings

# sites_may_be_here refuses a machine that is not to be changed.
sites_may_be_here() {
	case ${HOST:-0}$(systemd-detect-virt) in
	1* | 0uml | 0container-other) ;;
	*)
		echo "these tests change the machine: run test/ground/run esp bats test/guest, or set HOST=1" >&2
		return 1
		;;
	esac
}

# sites_up makes the two sites and their routers, and installs the supervisor
# with the NSDB of the example, without bindings unless there is one already.
sites_up() {
	sites_may_be_here
	make -C "$PROJECT" --no-print-directory install DESTDIR= PREFIX=/usr >/dev/null
	mkdir -p "$RUN" /etc/svc-supervisor
	if [ ! -e "$NSDB" ]; then
		cp -r "$EXAMPLE/nsdb" "$NSDB"
		rm "$NSDB"/bindings/host-1/*
	fi
	cat >/etc/svc-supervisor/environment <<-END
		SVC_HOST_ID=host-1
		SVC_NSDB=file://$NSDB
		SVC_CHECK_INTERVAL=5s
		SVC_LOG_LEVEL=info,containers.ipsec=debug
	END
	"$EXAMPLE/network" up
	systemctl daemon-reload
}

sites_down() {
	[ -d "$RUN" ] || return 0 # sites_up refused
	rm -f "$NSDB"/bindings/host-1/*
	within 30 nothing_left || true
	systemctl stop svc-supervisor.service
	"$EXAMPLE/network" down
	rm -rf "$RUN"
}

# A test that failed shows what ps and the journal know.
teardown() {
	[ "${BATS_TEST_COMPLETED:-}" != 1 ] || return 0
	[ -z "${pinger:-}" ] || kill "$pinger" || true
	svc-supervisor ps || true
	journalctl --no-pager -o cat -n 60 -u svc-supervisor.service || true
	journalctl --no-pager -o short-monotonic -n 80 || true
}

# within SECONDS COMMAND… waits until the command succeeds.
within() {
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ "$SECONDS" -lt "$end" ] || {
			echo "not in time: $*" >&2
			return 1
		}
		sleep 0.2
	done
}

# same WHAT WANTED GOT
same() {
	[ "$2" = "$3" ] || {
		printf '%s is not as wanted:\n  wanted: %s\n  got:    %s\n' "$1" "$2" "$3"
		return 1
	}
}

# bind_port SIDE
bind_port() { cp "$EXAMPLE/nsdb/bindings/host-1/port-$1.yaml" "$NSDB/bindings/host-1/"; }

# add_lab adds a connection between two more networks to each site's
# configuration, first to the end that responds: the other one would be
# refused at first, and ask again some seconds later.
add_lab() {
	local side
	for side in right left; do
		cat "$NSDB/configurations/$side.yaml" "$EXAMPLE/lab/$side.yaml" >"$RUN/$side.yaml"
		mv "$RUN/$side.yaml" "$NSDB/configurations/$side.yaml"
		within 30 has_two "$side"
	done
}

# has_two SIDE: its container has two connections, up or not.
has_two() { svc-supervisor ps | awk -v name="vpn-$1" '$1 == name && $7 ~ "/2$" {found = 1} END {exit !found}'; }

# ping_from SITE FROM TO
ping_from() { ip netns exec "site-$1" ping -n -c 1 -W 1 -I "$2" "$3"; }

# ping_begins starts a ping every 50 ms from the left site's office to the
# right one's, ping_ends ends it, and ping_lost prints how many were not
# answered: the one that was under way at the end does not count.
ping_begins() {
	ip netns exec site-left ping -n -i 0.05 -I 10.1.0.10 10.2.0.10 >"$PINGS" 2>&1 3>&- &
	pinger=$!
	within 10 grep -q 'icmp_seq=20 ' "$PINGS"
}
ping_ends() {
	kill -INT "$pinger"
	wait "$pinger" || true
}
ping_sent() { sed -n 's/ packets transmitted.*//p' "$PINGS"; }
ping_lost() {
	awk '/ bytes from / { sub(/.*icmp_seq=/, ""); answered[$1 + 0] = 1 }
		/ packets transmitted/ { sent = $1 }
		END { for (n = 1; n < sent; n++) lost += !answered[n]; print sent ? lost + 0 : "all" }' "$PINGS"
}

is_running() { [ "$(jq -r .code "$STATUS/$1.json")" = RUNNING ]; }

# connected N: ps shows for both containers that all of their N connections are up.
connected() { [ "$(svc-supervisor ps | awk -v up="$1/$1" '$7 == up' | wc -l)" = 2 ]; }

# lives prints what changes if a daemon of the two was started anew: process
# and invocation. spis SIDE… prints what changes if a tunnel was.
lives() { systemctl show -P MainPID -P InvocationID svc-vpn-left.service svc-vpn-right.service | xargs; }
spis() {
	local side
	for side; do
		ip -n "vpn-$side" xfrm state
	done | awk '$3 == "spi" && $4 != "0x00000000" { print $4 }' | sort # 0: the kernel has asked for one
}

# witness FILE puts a script in the place of svc-ipsec, which writes down what
# it is run for, and by which process, and becomes FILE.
witness() {
	cat >"$RUN/witness" <<-END
		#!/bin/sh
		[ -z "\$CNI_COMMAND" ] || echo "\$CNI_COMMAND \$CNI_CONTAINERID \$PPID" >>$VERBS
		exec $1
	END
	chmod 755 "$RUN/witness"
	# A rename in the folder of the plugin path: nobody sees half a file.
	cp "$RUN/witness" "$PLUGIN.new"
	mv "$PLUGIN.new" "$PLUGIN"
}

# previous_version and present_version install both executables and the supervisor's units; the supervisor is restarted by who
# calls them.
previous_version() {
	[ -x "$PREVIOUS/svc-ipsec" ] || {
		echo "$PREVIOUS is missing: make previous" >&2
		return 1
	}
	supervisor_of "$PREVIOUS" "$PREVIOUS/systemd"
	witness "$PREVIOUS/svc-ipsec"
}
present_version() {
	supervisor_of "$PROJECT/build" "$PROJECT/contrib/systemd"
	witness "$PROJECT/build/svc-ipsec"
}
supervisor_of() {
	install "$1/svc-supervisor" /usr/sbin/svc-supervisor.new
	mv /usr/sbin/svc-supervisor.new /usr/sbin/svc-supervisor
	cp "$2"/* /usr/lib/systemd/system/
	systemctl daemon-reload
}

# ran prints the ADDs and DELs of a container, in their order; of all without one.
ran() { awk -v id="${1:-}" '/^(ADD|DEL) / && (id == "" || $2 == id) { print $1, $2 }' "$VERBS" | xargs; }

# contents FOLDER prints the names in it.
contents() { (cd "$1" && echo *); }

# containers prints what there is of containers: namespaces, interfaces and units.
containers() {
	ip netns list | awk '/^vpn-/ { print "namespace", $1 }' | sort
	ip -brief link show type veth | awk -F '[@ ]' '/^vpn-/ { print "interface", $1 }' | sort
	systemctl list-units --all --plain --no-legend 'svc-vpn-*' | awk '{ print "unit", $1, $3 }' | sort
}
nothing_left() { [ -z "$(containers)" ] && [ -z "$(ls "$STATE")" ]; }
