# shellcheck shell=bash
# The words of the tests. Each test has an NSDB, executables and a supervisor
# of its own, and fails if it leaves anything behind. What is asked of the
# world is asked of the world: records, units, namespaces, interfaces, status
# files, /proc.

bats_require_minimum_version 1.5.0

STATE=/var/lib/svc-supervisor
STATUS=/run/svc-supervisor/status
HOST_ID=h1

# Before and after.

setup() {
	# Not below /tmp: a unit may have a /tmp of its own.
	T=$(mktemp -d /run/svc-bats.XXXXXX)
	NSDB=$T/nsdb BIN=$T/bin MOODS=$T/moods CALLS=$T/calls
	rm -rf "$STATUS"
	mkdir -p "$NSDB"/{hosts,bindings/$HOST_ID,containers,groups,configurations} "$BIN" "$MOODS"
	: >"$CALLS"
	BEGAN=$(journalctl --quiet --no-pager -n 0 --show-cursor | sed -n 's/^-- cursor: //p')
	WORLD=$(world)
	host
	executable echo 1.0.0
}

teardown() {
	local left failed=0
	[ -n "${BATS_TEST_COMPLETED:-}" ] || failed=1
	wind_up || failed=1
	if left=$(diff <(echo "$WORLD") <(world)); then
		left=""
	else
		printf 'left behind (<: before, >: after):\n%s\n' "$left"
		failed=1
	fi
	if [ "$failed" = 1 ]; then
		echo "--- the test's journal"
		journal | tail -n "${JOURNAL_LINES:-200}"
		echo "--- the calls"
		tail -n "${JOURNAL_LINES:-200}" "$CALLS"
	fi
	[ -z "$left" ] || scrub
	rm -rf "$T"
	return "$failed"
}

# world lists what a container can leave anywhere: one line each. Statuses are
# not among it: a file NSDB keeps those of containers that are held. Nor is
# the mount view that all IPSEC containers share.
world() {
	local entry
	ip netns list | sed 's/ .*//; s/^/namespace /' | sort
	ip -o link | sed -E 's/^[0-9]+: ([^:@]+).*/interface \1/' | sort
	systemctl list-units --all --plain --no-legend 'svc-*.service' 'svc-*.scope' | awk '{ print "unit", $1, $3 }' |
		grep -v '^unit svc-supervisor.service inactive$' || true
	for entry in "$STATE"/containers/* /run/svc-ipsec/* /run/svc-user-ids/* /run/svc-supervisor/by-hand/*; do
		[ ! -e "$entry" ] || echo "file $entry"
	done
	awk '$5 ~ "^/run/(netns|svc-)" { print "mount", $5 }' /proc/self/mountinfo | sort -u |
		grep -v '^mount /run/netns$\|^mount /run/svc-ipsec/\.view' || true
	processes
}

# processes lists those that a container or a verb left, wherever they hide:
# by their control group, or by the environment that only executables get.
processes() {
	{
		grep -ls '/svc\.slice\|/svc-' /proc/[0-9]*/cgroup
		grep -lsz '^CNI_COMMAND=' /proc/[0-9]*/environ
	} | cut -d/ -f3 | sort -u | while read -r pid; do
		[ ! -e "/proc/$pid/exe" ] || { echo "process $(tr '\0' ' ' <"/proc/$pid/cmdline")"; } 2>/dev/null
	done | sort
	return 0
}

# wind_up removes what the test's supervisor runs, as --stop-containers does.
wind_up() {
	stop || return 1
	[ -n "$(records)" ] || return 0
	rm -f "$MOODS"/*
	executable echo 1.0.0
	start "${STARTED[@]}" SVC_STOP_CONTAINERS=1 SVC_VERB_TIMEOUT=20s && stop
	[ -z "$(records)" ] || {
		printf 'not removed by --stop-containers: %s\n' "$(records)"
		return 1
	}
}

# scrub removes by force what a failed test left, for the next one.
scrub() {
	local unit name
	systemctl kill --signal=KILL svc-supervisor.service 2>/dev/null
	systemctl stop svc-supervisor.service 'svc-*.service' 2>/dev/null
	systemctl reset-failed 'svc-*' 2>/dev/null
	while read -r unit name _; do
		case $unit in
		namespace) ip netns delete "$name" ;;
		interface) ip link delete "$name" 2>/dev/null ;;
		file) rm -rf "$name" ;;
		mount) umount -l "$name" ;;
		esac
	done < <(diff <(echo "$WORLD") <(world) | sed -n 's/^> //p')
	rm -rf /run/svc-ipsec/* /run/svc-user-ids/* "$STATE"/containers/*
	true
}

# journal prints what systemd and everything of ours said during this test. journald may be behind, so it has to store all of it first.
journal() {
	journalctl --sync 2>/dev/null || true
	journalctl --quiet --no-pager -o short-precise --after-cursor "$BEGAN" |
		grep -E 'svc-|systemd\[1\]|pluto' | cut -d' ' -f3-
}

# stalled prints for how many microseconds since boot some process has waited for a processor; 0 if the kernel does not measure it.
stalled() {
	local line='total=0'
	read -r line 2>/dev/null </proc/pressure/cpu || true
	echo "${line##*total=}"
}

# eventually SECONDS COMMAND…: COMMAND succeeds before SECONDS have passed. It is tried at least ten times, because one try takes longer than
# SECONDS if a process is stalled.
eventually() {
	local seconds=$1 began stalled said elapsed tries=0
	shift
	began=${EPOCHREALTIME/./} stalled=$(stalled)
	while true; do
		# Like the limits of the program, this one is up to five times as long while processes wait for a processor.
		elapsed=$((${EPOCHREALTIME/./} - began - ($(stalled) - stalled) * 4 / 5))
		if said=$("$@" 2>&1); then return 0; fi
		tries=$((tries + 1))
		if [ "$tries" -ge 10 ] && [ "$elapsed" -gt $((seconds * 1000000)) ]; then
			printf 'not within %s s: %s\n%s\n' "$seconds" "$*" "$said"
			return 1
		fi
		sleep 0.05
	done
}

# took_less SECONDS BEGAN STALLED: less time than that has passed since then, by the clock of eventually. BEGAN and STALLED are what
# ${EPOCHREALTIME/./} and stalled said at the beginning.
took_less() {
	local elapsed=$((${EPOCHREALTIME/./} - $2 - ($(stalled) - $3) * 4 / 5))
	[ "$elapsed" -lt $(($1 * 1000000)) ] || {
		echo "$elapsed microseconds, not less than $1 s"
		return 1
	}
}

# not COMMAND…: COMMAND fails. A plain ! does not fail a test.
not() { ! "$@"; }

# same WHAT WANTED GOT
same() {
	[ "$2" = "$3" ] || {
		printf '%s is not as wanted:\n  wanted: %s\n  got:    %s\n' "$1" "$2" "$3"
		return 1
	}
}

# is WANTED COMMAND…: COMMAND prints just that. For eventually: it asks anew.
is() {
	local wanted=$1
	shift
	same "$*" "$wanted" "$("$@" 2>/dev/null)"
}

# The supervisor.

# start [NAME=VALUE…] starts the supervisor with these variables. Without SVC_CHECK_INTERVAL no CHECK runs at the interval
# during a test, however slow the machine is: many tests compare the calls.
start() {
	STARTED=("$@")
	{
		echo "SVC_HOST_ID=$HOST_ID"
		echo "SVC_NSDB=file://$NSDB"
		echo "SVC_PLUGIN_PATH=$BIN"
		echo "SVC_RESCAN=1s"
		echo "SVC_STATUS_INTERVAL=1s"
		echo "SVC_GRACE=5s"
		echo "SVC_CHECK_INTERVAL=1h"
		echo "SVC_LOG_LEVEL=debug"
		printf '%s\n' "$@"
	} >/run/svc-bats.env
	systemctl start svc-supervisor.service
}

stop() { timeout 150 systemctl stop svc-supervisor.service; }

restart() { systemctl restart svc-supervisor.service; }

supervisor_pid() { systemctl show -P MainPID svc-supervisor.service; }

# sup COMMAND…: svc-supervisor with the test's NSDB and executables.
sup() {
	SVC_HOST_ID=$HOST_ID SVC_NSDB=file://$NSDB SVC_PLUGIN_PATH=${PLUGIN_PATH:-$BIN} svc-supervisor "$@"
}

# The NSDB.

# object KEY puts standard input into a file, at once and whole.
object() {
	mkdir -p "$(dirname "$NSDB/$1")"
	cat >"$T/object"
	mv "$T/object" "$NSDB/$1.yaml"
}

# host [WEIGHT [LIMIT]]
host() { echo "{id: $HOST_ID, name: test, containerWeight: ${1:-1}, containerLimit: ${2:--1}}" | object "hosts/$HOST_ID"; }

# bind PORT NAME CONTAINER [FIELD…]; a FIELD is YAML, like mac: '…'
bind() {
	local port=$1 name=$2 container=$3 field
	shift 3
	{
		printf 'portId: %s\nhostId: %s\ninterfaceName: "%s"\n' "$port" "$HOST_ID" "$name"
		[ -z "$container" ] || echo "containerId: $container"
		for field; do echo "$field"; done
	} | object "bindings/$HOST_ID/$port"
}

unbind() { rm "$NSDB/bindings/$HOST_ID/$1.yaml"; }

# container ID TYPE [CONFIGURATION [GROUP]]
container() {
	printf '{id: %s, serviceType: %s, groupId: %s, configurationId: %s}\n' "$1" "$2" "${4:-g1}" "${3:-f1}" |
		object "containers/$1"
}

# configuration ID [TEXT]
configuration() { printf 'id: %s\ntext: %s\n' "$1" "${2:-hello}" | object "configurations/$1"; }

# want NAME [TYPE] binds a container NAME of its own: port p-NAME, container
# c-NAME, configuration f-NAME. The binding comes last.
want() {
	[ -e "$NSDB/configurations/f-$1.yaml" ] || echo "{id: f-$1, text: hello}" | object "configurations/f-$1"
	container "c-$1" "${2:-ECHO}" "f-$1"
	bind "p-$1" "$1" "c-$1"
}

# The executables.

# executable FILE VERSION [TYPE [RECONFIGURE]] makes one that writes down how
# it was called. Its ADD starts a unit in the container's namespace. What it
# does besides, or instead, is the test's: see mood.
# shellcheck disable=SC2129 # the parts differ in what is expanded now
executable() {
	cat >"$T/executable" <<-END
		#!/bin/sh
		set -eu
		self=$1 version=$2 type=${3:-ECHO} slice=svc-$(tr '[:upper:]' '[:lower:]' <<<"${3:-ECHO}").slice
		moods=$MOODS calls=$CALLS
	END
	cat >>"$T/executable" <<-'END'
		fail() {
			printf '{"cniVersion": "1.1.0", "code": %d, "msg": "%s"}\n' "$1" "$2"
			exit 1
		}
		result() { printf '{"cniVersion": "1.1.0", "interfaces": [], "units": ["%s"]}\n' "$unit"; }
		mood() {
			set +e
			[ ! -e "$moods/$CNI_COMMAND" ] || . "$moods/$CNI_COMMAND"
			set -e
		}
		conf=$(cat) name="" unit=""
		case $CNI_COMMAND in
		VERSION)
			mood
	END
	cat >>"$T/executable" <<-END
			printf '%s\n' '{"cniVersion": "1.1.0", "supportedVersions": ["1.0.0", "1.1.0"], "serviceType": "${3:-ECHO}", "serviceVersion": "$2", "contractVersion": 1, "reconfigure": ${4:-true}}'
	END
	cat >>"$T/executable" <<-'END'
			exit
			;;
		ADD | CHECK | DEL)
			name=$(printf %s "$conf" | jq -r .container.interfaceName)
			unit=svc-$name.service
			;;
		esac
		printf %s "$conf" | jq -c --arg self "$self" --arg version "$version" --arg name "$name" \
			'{verb: env.CNI_COMMAND, name: $name, id: env.CNI_CONTAINERID, self: $self, version: $version, netns: env.CNI_NETNS, conf: .}' >>"$calls"
		mood
		case $CNI_COMMAND in
		ADD)
			systemctl is-active --quiet "$unit" ||
				systemd-run --quiet --unit="$unit" --slice="$slice" --property=Type=exec \
					--property=NetworkNamespacePath="$CNI_NETNS" \
					--setenv=SVC_OWNER="svc-supervisor:$name:$CNI_CONTAINERID" sleep infinity ||
				fail 101 "no unit"
			result
			;;
		CHECK) systemctl is-active --quiet "$unit" || fail 102 "$unit is not active" ;;
		DEL)
			systemctl stop "$unit" 2>/dev/null || true
			systemctl reset-failed "$unit" 2>/dev/null || true
			;;
		esac
	END
	chmod 755 "$T/executable"
	mv "$T/executable" "$BIN/$1"
}

# mood VERB [SHELL]: from now on every executable first does SHELL at that
# verb, which knows $name and $version and can fail CODE TEXT, or exit.
mood() {
	if [ $# -eq 1 ]; then
		rm -f "$MOODS/$1"
	else
		echo "$2" >"$MOODS/.new"
		mv "$MOODS/.new" "$MOODS/$1"
	fi
}

# calls FILTER prints the calls that a jq condition chooses, one line each.
calls() { jq -c "select($1)" "$CALLS"; }

# verbs [NAME] prints the ADDs and DELs that began, in their order.
verbs() {
	jq -r --arg name "${1:-}" 'select(.verb == "ADD" or .verb == "DEL")
		| select($name == "" or .name == $name) | .verb + " " + .name' "$CALLS" | xargs
}

# How the world is.

records() { (cd "$STATE/containers" 2>/dev/null && ls) || true; }

# record NAME [TYPE] FILTER
record() { jq -r "${3:-$2}" "$STATE/containers/$1.${3:+$2}"*; }

# status CONTAINER FILTER prints from the published status; nothing if there is none.
status() { jq -r "$2" "$STATUS/containers/$HOST_ID/$1.json"; }

# row NAME FILTER prints from what ps shows of a name.
row() { sup ps -o json 2>/dev/null | jq -r --arg name "$1" ".containers[] | select(.name == \$name) | $2"; }

unit_is() { [ "$(systemctl show -P ActiveState "svc-$1.service")" = "$2" ]; }

# life NAME is what changes if a container's daemon was started anew.
life() { systemctl show -P InvocationID "svc-$1.service"; }

alias_of() { ip -j link show dev "$1" | jq -r '.[0].ifalias'; }
tag_of() { ip -n "$1" -j link show dev lo | jq -r '.[0].ifalias'; }

# runs NAME [CONTAINER [TYPE]]: record, namespace, unit, status and ps all say so.
runs() {
	local name=$1 id=${2:-c-$1} type=${3:-ECHO}
	same "record of $name" "added $id" "$(record "$name" "$type" '.phase + " " + .container.containerId')" &&
		same "owner tag of $name" "svc-supervisor:$name:$id" "$(tag_of "$name")" &&
		same "unit of $name" "svc-${type,,}.slice active" \
			"$(systemctl show -P Slice -P ActiveState "svc-$name.service" | xargs)" &&
		same "status of $name" "RUNNING $name" "$(status "$id" '.code + " " + .namespaceName')" &&
		same "row of $name" RUNNING "$(row "$name" .status)"
}

# gone NAME [CONTAINER]: nothing of it is anywhere.
gone() {
	local name=$1 id=${2:-c-$1}
	same "records of $name" "" "$(records | grep -F "$name." || true)" &&
		same "unit of $name" not-found "$(systemctl show -P LoadState "svc-$name.service")" &&
		not test -e "/run/netns/$name" &&
		not test -e "/sys/class/net/$name" &&
		same "status of $id" "" "$(status "$id" .code 2>/dev/null)" &&
		same "row of $name" "" "$(row "$name" .status)"
}

# held NAME REASON [CONTAINER]: ps says so, with a reason that matches; and the
# status is ERROR with the same reason.
held() {
	local id=${3:-c-$1} said
	said=$(row "$1" '.status + " " + .reason')
	[[ "$said" =~ ^HELD\ .*($2) ]] || { echo "row of $1: $said"; return 1; }
	said=$(status "$id" '.code + " " + .message')
	[[ "$said" =~ ^ERROR\ .*($2) ]] || { echo "status of $id: $said"; return 1; }
}

# waits NAME REASON: as held, without a word on the status.
waits() {
	local said
	said=$(row "$1" '.status + " " + .reason')
	[[ "$said" =~ ^(HELD|UNKNOWN)\ .*($2) ]] || { echo "row of $1: $said"; return 1; }
}

# IPSEC.

# psk prints a key that must not be seen anywhere but where it is needed: test/secrets looks for it, on the command lines
# of the tests too.
psk() { echo 'not"to be seen'; }

# psk_forms prints it as it is, as JSON has it, and as Libreswan's secrets file has it.
psk_forms() {
	psk
	psk | jq -R . | sed 's/^"//; s/"$//'
	psk | tr -d '\n' | od -An -tx1 | tr -d ' \n'
	echo
}

# site EXTERNAL PEER LOCAL_NET PEER_NET [KEY…] prints the configuration of one
# tunnel as JSON, without an id; a KEY is a jq assignment.
site() {
	local external=$1 peer=$2 local=$3 remote=$4
	shift 4
	jq -n --arg external "$external" --arg peer "$peer" --arg local "$local" --arg remote "$remote" --rawfile psk <(psk) '{
		externalIps: [$external], externalMac: "ca:08:1a:94:29:0e",
		connections: [{
			id: "7f1c0000-0000-4000-8000-000000000001", name: "to-peer", peerAddress: $peer, peerId: $peer,
			localCidrs: [$local], peerCidrs: [$remote], psk: ($psk | rtrimstr("\n")), mtu: 1400,
			dpd: {action: "hold", interval: 30, timeout: 120},
			ikePolicy: {ikeVersion: "v2", encryptionAlgorithm: "aes-256", authAlgorithm: "sha256", pfs: "group14", lifetime: 3600},
			ipsecPolicy: {transformProtocol: "esp", encapsulationMode: "tunnel", encryptionAlgorithm: "aes-256",
				authAlgorithm: "sha256", pfs: "group14", lifetime: 3600}
		}]} '"$(printf '| %s' "$@" | sed 's/^| $//')"
}

# with_id ID puts an id into a configuration.
with_id() { jq --arg id "$1" '{id: $id} + .'; }

# conf_by_hand NAME prints a network configuration for an executable's stdin;
# the configuration is on standard input.
conf_by_hand() {
	jq --arg name "$1" '{cniVersion: "1.1.0", name: "by-hand", type: "svc-ipsec",
		container: {portId: "p1", hostId: "h1", interfaceName: $name, containerId: "c1", serviceType: "IPSEC", groupId: "g1",
			configurationId: "f1"},
		port: {addresses: ["169.254.0.1/30"], mac: "02:00:00:00:00:01"},
		configuration: .}'
}

# whack NAME OPTION… asks the daemon of a container, as an operator does.
whack() { "$LIBEXEC/svc-ipsec" ctl "$@"; }

# CNI, by foreign runtimes.

# forget_results: runtimes remember what each ADD said.
forget_results() { rm -rf /var/lib/cni; }

# folders and container_unit print what svc-ipsec has for containers that it had to name itself.
folders() { find /run/svc-ipsec -mindepth 1 -maxdepth 1 ! -name '.*'; }
container_unit() { systemctl list-units --plain --no-legend 'svc-x*.service' | awk '{ print $1 }'; }

# Faults: systemd.

# vpn NAME N binds an IPSEC container NAME; N sets its addresses apart. It waits
# for its peer: one that begins asks for ADD again, to see what comes of it.
vpn() {
	site "100.100.$2.2" "200.200.$2.2" "10.1.$2.0/24" "10.2.$2.0/24" '.connections[0].initiator = "response-only"' | with_id "f-$1" | object "configurations/f-$1"
	container "c-$1" IPSEC "f-$1"
	bind "p-$1" "$1" "c-$1" "addresses: [169.254.$2.1/30]"
}

# published CONTAINER writes down each status code that a container has from now on; codes CONTAINER prints them.
published() {
	while [ -d "$T" ]; do
		status "$1" .code 2>/dev/null || true
		sleep 0.05
	done >"$T/codes.$1" 3>&- &
}
codes() { uniq "$T/codes.$1" | xargs; }

# lives NAME… prints what changes if one of the daemons is started anew.
lives() {
	local name
	for name; do life "$name"; done | xargs
}

# steps STEP NAME counts how often the supervisor began to create, update or delete a container.
steps() { journal | grep -cE "msg=\"$1 container .* interfaceName=$2 " || true; }

# outcomes VERB NAME prints how each run of a verb ended, as the log tells.
outcomes() { journal | sed -nE "s/.*msg=\"executable run\" .*container=$2 verb=$1 .*outcome=//p"; }

# logged TEXT: the journal has it; logged_times TEXT counts the lines.
logged() { journal | grep -qE "$1"; }
logged_times() { journal | grep -cE "$1" || true; }

# Faults: state

# The teardown above, for files that must end first what they spoilt themselves.
eval "usual_$(declare -f teardown)"

# ipsec_executable makes an svc-ipsec that writes down each call, has its mood,
# and then is the real one.
ipsec_executable() {
	cat >"$T/executable" <<-END
		#!/bin/sh
		name=\${CNI_CONTAINERID#c-} moods=$MOODS
		printf '{"verb": "%s", "name": "%s", "id": "%s"}\n' "\$CNI_COMMAND" "\$name" "\$CNI_CONTAINERID" >>$CALLS
		[ ! -e "\$moods/\$CNI_COMMAND" ] || . "\$moods/\$CNI_COMMAND"
		exec $LIBEXEC/svc-ipsec
	END
	chmod 755 "$T/executable"
	mv "$T/executable" "$BIN/svc-ipsec"
}

main_pid() { systemctl show -P MainPID "svc-$1.service"; }

# conns NAME prints which the daemon has loaded.
conns() { whack "$1" --status | grep -oE '^[^ ]* *"[^"]+"' | cut -d'"' -f2 | sort -u | xargs; }

# another_pid PID: there is a supervisor, and it is not this one.
another_pid() { [[ "$(supervisor_pid)" != @("$1"|0) ]]; }

# change_failed NAME REASON: it runs, and its status says why not as it is wanted.
change_failed() {
	local said
	said=$(status "c-$1" '.code + " " + .message')
	[[ "$said" =~ ^"RUNNING change failed: ".*$2 ]] || { echo "status of $1: $said"; return 1; }
}
