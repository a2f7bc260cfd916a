#!/usr/bin/env bats
# Faults of the host and of those who run it: namespaces and interfaces that are
# taken away or cannot be read, no room, a stop in the middle of work, a second
# supervisor.

load helpers

eval "usual_$(declare -f teardown)"

DROPIN=/run/systemd/system/svc-supervisor.service.d/fault.conf
WHACK=/usr/libexec/ipsec/whack

# What a test put over things is away again before anything is judged.
teardown() {
	systemctl kill --signal=CONT svc-supervisor.service 2>/dev/null
	[ ! -e "$WHACK.away" ] || mv "$WHACK.away" "$WHACK"
	findmnt -rn -t proc -o TARGET | grep '^/run/netns/' | xargs -r -n 1 umount -l
	if [ -e "$DROPIN" ]; then
		rm -f "$DROPIN"
		systemctl daemon-reload
	fi
	usual_teardown
}

# Namespaces and interfaces.

@test "a namespace that is deleted, unmounted, or has another's in its place: DEL and ADD, and never the other's" {
	want deleted
	want stale
	want over
	want other
	ip netns add space
	start SVC_RESYNC=1s
	local name lives inode
	for name in deleted stale over other; do eventually 10 runs "$name"; done
	lives=$(lives deleted stale other)
	inode=$(stat -Lc %i /run/netns/space)
	systemctl kill --signal=STOP svc-supervisor.service # until all of it is done
	ip netns delete deleted
	umount -l /run/netns/stale
	same "stale file" "regular empty file" "$(stat -c %F /run/netns/stale)"
	umount -l /run/netns/over
	mount --bind /run/netns/space /run/netns/over
	systemctl kill --signal=CONT svc-supervisor.service
	eventually 10 is "ADD deleted DEL deleted ADD deleted" verbs deleted
	eventually 10 is "ADD stale DEL stale ADD stale" verbs stale
	eventually 10 waits over 'namespace over exists and is not ours'
	eventually 10 runs deleted
	eventually 10 runs stale
	same "verbs of the one that is covered" "ADD over DEL over" "$(verbs over)"
	same "the other's namespace" "$inode" "$(stat -Lc %i /run/netns/over)"
	same "its tag" "" "$(tag_of space | grep -v null)"
	same "the status of what is healed" STARTING "$(status c-over .code)"
	ip netns delete over
	eventually 10 runs over
	same "the other's namespace" "$inode" "$(stat -Lc %i /run/netns/space)"
	ip netns delete space
	runs other
	same "daemon of the other" "${lives##* }" "$(life other)"
	not same "daemon" "${lives%% *}" "$(life deleted)"
}

@test "a namespace that cannot be read: nothing is done for that name, ps says why, and it heals" {
	want a
	want other
	start SVC_RESYNC=1s
	eventually 10 runs a
	eventually 10 runs other
	local other ended
	other=$(life other)
	# The maps of a process that has ended: open fails with ESRCH. Before, it would be a plain file.
	kill -STOP "$(supervisor_pid)"
	sleep infinity 3>&- &
	ended=$!
	touch /run/netns/new
	mount --bind "/proc/$ended/maps" /run/netns/a
	mount --bind "/proc/$ended/maps" /run/netns/new
	kill "$ended"
	wait "$ended" || true
	kill -CONT "$(supervisor_pid)"
	systemctl kill --signal=KILL svc-a.service
	want new
	eventually 10 waits a 'observe namespace a: no such process'
	eventually 10 waits new 'observe namespace new: no such process'
	echo '{id: f-a, text: edited}' | object configurations/f-a
	echo '{id: f-other, text: edited}' | object configurations/f-other
	eventually 10 is "ADD other ADD other" verbs other
	same "verbs" "ADD a" "$(verbs a)"
	same "verbs of the new one" "" "$(verbs new)"
	same "statuses" "RUNNING " "$(status c-a .code) $(status c-new .code 2>/dev/null)"
	umount -l /run/netns/a /run/netns/new
	eventually 15 runs a
	eventually 15 runs new
	same "verbs" "ADD a DEL a ADD a" "$(verbs a)"
	same "verbs of the new one" "ADD new" "$(verbs new)"
	same "daemon of the other" "$other" "$(life other)"
}

@test "a supervisor that can open no file: nothing is known and nothing is done, and it heals" {
	want a
	want b
	want other
	start SVC_RESYNC=1s
	eventually 10 runs a
	eventually 10 runs b
	eventually 10 runs other
	local other pid
	other=$(life other)
	pid=$(supervisor_pid)
	published c-a
	prlimit --pid "$pid" --nofile=3:
	systemctl kill --signal=KILL svc-a.service
	unbind p-b
	eventually 10 logged 'leftover scan failed.*too many open files'
	eventually 10 logged 'container held.*container=a .*too many open files'
	sleep 1
	same "verbs" "ADD a ADD b ADD other" "$(verbs | xargs -n 2 | sort | xargs)"
	same "records" "added added" "$(record a .phase) $(record b .phase)"
	same "statuses" "RUNNING RUNNING" "$(codes c-a) $(status c-b .code)"
	prlimit --pid "$pid" --nofile=1024:
	want new # by which it looks at the NSDB at once
	eventually 20 runs new
	eventually 20 runs a
	eventually 20 gone b
	runs other
	same "verbs of a" "ADD a DEL a ADD a" "$(verbs a)"
	same "daemon of the other" "$other" "$(life other)"
	same "supervisor" "$pid" "$(supervisor_pid)"
}

@test "a supervisor that has no netlink: nothing is known and nothing is done, ps says why, and it heals" {
	want a
	want b
	start
	eventually 10 runs a
	eventually 10 runs b
	local lives ran
	lives=$(lives a b)
	ran=$(calls '.name != ""')
	printf '[Service]\nRestrictAddressFamilies=\nRestrictAddressFamilies=AF_UNIX\n' >"$DROPIN"
	systemctl daemon-reload
	restart
	want new
	systemctl kill --signal=KILL svc-a.service
	local name
	for name in a b new; do
		eventually 10 waits "$name" 'address family not supported'
	done
	same "calls" "$ran" "$(calls '.name != ""')"
	same "statuses" "RUNNING RUNNING " "$(status c-a .code) $(status c-b .code) $(status c-new .code 2>/dev/null)"
	rm "$DROPIN"
	systemctl daemon-reload
	restart
	eventually 10 runs a
	eventually 10 runs b
	eventually 10 runs new
	same "verbs of a" "ADD a DEL a ADD a" "$(verbs a)"
	same "daemon of b" "${lives#* }" "$(life b)"
}

@test "an IPSEC container that loses its interface, and then its namespace, is made anew" {
	vpn left 1
	start SVC_PLUGIN_PATH="$LIBEXEC" SVC_CHECK_INTERVAL=1s SVC_RESYNC=1s
	eventually 15 runs left c-left IPSEC
	local life
	life=$(life left)
	ip link delete left
	eventually 15 is 1 steps delete left
	logged 'CHECK failed.*container=left .*times=2'
	eventually 15 runs left c-left IPSEC
	same "tag of the veth" svc-supervisor:left:c-left "$(alias_of left)"
	not same "daemon" "$life" "$(life left)"
	life=$(life left)
	ip netns delete left
	eventually 15 is 2 steps delete left
	eventually 15 runs left c-left IPSEC
	same "tag of the veth" svc-supervisor:left:c-left "$(alias_of left)"
	not same "daemon" "$life" "$(life left)"
	same "namespace of the daemon" "$(stat -Lc %i /run/netns/left)" \
		"$(stat -Lc %i "/proc/$(systemctl show -P MainPID svc-left.service)/ns/net")"
	same "verbs" "ok ok ok ok ok" "$(outcomes '(ADD|DEL)' left | xargs)"
}

# Room.

@test "no room: LIMIT_EXCEEDED, until another container is gone, and not before it is" {
	host 1 2
	want a
	want b
	start
	eventually 10 runs a
	eventually 10 runs b
	want c
	want d
	eventually 10 is "ERROR LIMIT_EXCEEDED" status c-c '.code + " " + .message'
	eventually 10 is "HELD LIMIT_EXCEEDED" row c '.status + " " + .reason'
	eventually 10 held d LIMIT_EXCEEDED
	# shellcheck disable=SC2016 # expanded there
	mood DEL 'while [ ! -e "$moods/go" ]; do sleep 0.05; done'
	unbind p-a
	eventually 10 is "ADD a DEL a" verbs a
	sleep 0.5
	same "verbs before there is room" "ADD ADD DEL" "$(verbs | xargs -n 2 | cut -d' ' -f1 | xargs)"
	touch "$MOODS/go"
	eventually 10 one_of runs c d
	eventually 10 one_of held c d LIMIT_EXCEEDED
	eventually 5 is '{"weight":1,"quota":0,"count":2}' jq -c . "$STATUS/hosts/h1.json"
	unbind p-b
	eventually 10 runs c
	eventually 10 runs d
	runs c
	same "ADDs" 4 "$(calls '.verb == "ADD"' | wc -l)"
}

# one_of WORD NAME NAME [MORE…]: it is true of exactly one of two.
one_of() {
	local word=$1 first=$2 second=$3 count=0
	shift 3
	! "$word" "$first" "$@" || count=$((count + 1))
	! "$word" "$second" "$@" || count=$((count + 1))
	[ "$count" = 1 ]
}

@test "many that come at once get what room there is, and no more" {
	host 1 3
	local n
	for n in 1 2 3 4 5 6 7 8; do want "n$n"; done
	start SVC_PARALLEL=8
	eventually 15 is 3 running
	eventually 10 is '{"weight":1,"quota":0,"count":3}' jq -c . "$STATUS/hosts/h1.json"
	eventually 10 is 5 refused
	same "ADDs" 3 "$(calls '.verb == "ADD"' | wc -l)"
	same "records" 3 "$(records | wc -l)"
	unbind "p-$(records | head -n 1 | cut -d. -f1)"
	eventually 10 is 4 refused
	eventually 10 is 3 running
	same "ADDs" 4 "$(calls '.verb == "ADD"' | wc -l)"
}

running() { cat "$STATUS"/containers/h1/*.json | jq -r .code | grep -c RUNNING; }
refused() { cat "$STATUS"/containers/h1/*.json | jq -r .message | grep -cx LIMIT_EXCEEDED; }

@test "a lowered limit and weight 0 take nothing down, and what breaks, is edited or is adopted has its room" {
	executable echo 1.0.0 ECHO false
	want a
	want b
	want c
	start
	local name lives
	for name in a b c; do eventually 10 runs "$name"; done
	lives=$(lives a b c)
	host 1 1
	eventually 10 is '{"weight":1,"quota":0,"count":3}' jq -c . "$STATUS/hosts/h1.json"
	host 0 0
	want new
	eventually 10 is "ERROR WEIGHT_ZERO" status c-new '.code + " " + .message'
	eventually 10 is "HELD WEIGHT_ZERO" row new '.status + " " + .reason'
	for name in a b c; do runs "$name"; done
	same "daemons" "$lives" "$(lives a b c)"

	systemctl kill --signal=KILL svc-a.service
	echo '{id: f-b, text: edited}' | object configurations/f-b
	eventually 10 is "ADD a DEL a ADD a" verbs a
	eventually 10 is "ADD b DEL b ADD b" verbs b
	eventually 10 runs a
	eventually 10 runs b

	# Between DEL and ADD: the record keeps the room over a restart of the supervisor.
	systemctl kill --signal=KILL svc-a.service
	eventually 10 is deleted record a .phase
	restart
	eventually 15 is "ADD a DEL a ADD a DEL a ADD a" verbs a
	eventually 10 runs a
	eventually 10 runs b
	runs c
	same "daemon of c" "${lives##* }" "$(life c)"
	held new WEIGHT_ZERO
	host 1 4
	eventually 10 runs new
}

# The supervisor's stop.

@test "a stop lets a short ADD and DEL finish, and begins nothing else" {
	# shellcheck disable=SC2016 # expanded there
	local wait='while [ ! -e "$moods/go" ]; do sleep 0.05; done'
	want b
	want other
	start SVC_GRACE=100s
	eventually 10 runs b
	eventually 10 runs other
	mood ADD "$wait"
	mood DEL "$wait"
	want a
	unbind p-b
	eventually 10 is "ADD a DEL b" began a b
	systemctl stop --no-block svc-supervisor.service
	eventually 30 logged 'msg=stop'
	want late
	systemctl kill --signal=KILL svc-other.service
	touch "$MOODS/go"
	eventually 10 unit_is supervisor inactive
	same "records" "added added" "$(record a .phase) $(record other .phase)"
	unit_is a active
	gone_from_host b
	same "verbs after the stop" "ADD other" "$(verbs other)"
	same "verbs of the late one" "" "$(verbs late)"
	start
	eventually 10 runs a
	eventually 10 runs other
	eventually 10 runs late
	eventually 10 gone b
	same "verbs" "ADD a ADD b DEL b ADD late" "$(verbs a) $(verbs b) $(verbs late)"
	same "verbs of the other" "ADD other DEL other ADD other" "$(verbs other)"
}

# began ADDED DELETED prints the last verbs of the two.
began() { echo "$(verbs "$1" | xargs -n 2 | tail -n 1) $(verbs "$2" | xargs -n 2 | tail -n 1)"; }

gone_from_host() {
	same "records" "" "$(records | grep -F "$1." || true)"
	same "unit" not-found "$(systemctl show -P LoadState "svc-$1.service")"
	not test -e "/run/netns/$1"
}

@test "a stop ends a long ADD and DEL after the grace, and the next start puts right what was half done" {
	want b
	want other
	start SVC_GRACE=1s
	eventually 10 runs b
	eventually 10 runs other
	local other began stalled
	other=$(life other)
	mood ADD 'sleep 86398'
	mood DEL 'setsid sleep 86398'
	want a
	unbind p-b
	eventually 10 is "ADD a DEL b" began a b
	began=${EPOCHREALTIME/./} stalled=$(stalled)
	stop
	took_less 10 "$began" "$stalled"
	same "result of the stop" success "$(systemctl show -P Result svc-supervisor.service)"
	same "records" "adding deleting" "$(record a .phase) $(record b .phase)"
	same "what the verbs started" "" "$(pgrep -f 'sleep 86398')"
	same "daemon of the other" "$other" "$(life other)"
	mood ADD
	mood DEL
	start
	eventually 10 runs a
	eventually 10 gone b
	runs other
	same "verbs of a" "ADD a DEL a ADD a" "$(verbs a)"
	same "verbs of b" "ADD b DEL b DEL b" "$(verbs b)"
	same "daemon of the other" "$other" "$(life other)"
}

@test "--stop-containers removes what fails, what hangs and what is being added, in bounded time" {
	want fails
	want hangs
	want plain
	start SVC_STOP_CONTAINERS=1 SVC_VERB_TIMEOUT=5s
	local name began stalled
	for name in fails hangs plain; do eventually 10 runs "$name"; done
	mood ADD 'sleep 86398'
	# shellcheck disable=SC2016 # expanded there
	mood DEL '[ -e "$moods/once-$name" ] || {
		touch "$moods/once-$name"
		case $name in
			fails) fail 7 "not today" ;;
			hangs) setsid sleep 86398 ;;
		esac
	}'
	want added
	eventually 10 is "ADD added" verbs added
	began=${EPOCHREALTIME/./} stalled=$(stalled)
	stop
	took_less 25 "$began" "$stalled"
	same "result of the stop" success "$(systemctl show -P Result svc-supervisor.service)"
	for name in fails hangs plain added; do gone "$name"; done
	same "records" "" "$(records)"
	same "statuses" "" "$(find "$STATUS/containers" -name '*.json')"
	same "DELs" "added fails fails hangs hangs plain" "$(calls '.verb == "DEL"' | jq -r .name | sort | xargs)"
	same "what the verbs started" "" "$(pgrep -f 'sleep 86398')"
}

@test "--stop-containers with a DEL that never ends is ended by systemd's time-out, and is gone on with at the next stop" {
	want a
	want b
	printf '[Service]\nTimeoutStopSec=10s\n' >"$DROPIN"
	systemctl daemon-reload
	start SVC_STOP_CONTAINERS=1 SVC_GRACE=1s
	eventually 10 runs a
	eventually 10 runs b
	# shellcheck disable=SC2016 # expanded there
	mood DEL '[ "$name" != a ] || setsid sleep 86398'
	local began=${EPOCHREALTIME/./} stalled
	stalled=$(stalled)
	stop
	took_less 25 "$began" "$stalled"
	gone_from_host b
	same "record" deleting "$(record a .phase)"
	eventually 5 is "" pgrep -f 'sleep 86398'
	mood DEL
	rm "$DROPIN"
	systemctl daemon-reload
	start SVC_STOP_CONTAINERS=1
	stop
	gone_from_host a
	same "statuses" "" "$(find "$STATUS/containers" -name '*.json')"
}

# Two supervisors.

@test "a second supervisor with another NSDB, that would remove everything, is refused and does no harm" {
	want a
	start
	eventually 10 runs a
	local pid life ran
	pid=$(supervisor_pid)
	life=$(life a)
	ran=$(calls '.name != ""')
	mkdir -p "$T/empty"/{hosts,bindings/h1,containers,groups,configurations}
	cp "$NSDB/hosts/h1.yaml" "$T/empty/hosts/"
	run -1 timeout 60 env SVC_HOST_ID=h1 SVC_NSDB="file://$T/empty" SVC_PLUGIN_PATH="$BIN" SVC_RUN_DIR="$T/run" \
		SVC_STOP_CONTAINERS=1 svc-supervisor run
	# shellcheck disable=SC2154 # of run
	same "lines" 1 "${#lines[@]}"
	[[ "$output" =~ ^"svc-supervisor: state directory $STATE: in use by another svc-supervisor".*$pid ]]
	run -1 timeout 60 svc-supervisor run --host-id h2 --nsdb "file://$T/empty" --plugin-path "$BIN"
	same "lines" 1 "${#lines[@]}"
	runs a
	same "daemon" "$life" "$(life a)"
	same "calls" "$ran" "$(calls '.name != ""')"
	same "supervisor" "$pid" "$(supervisor_pid)"
	echo '{id: f-a, text: edited}' | object configurations/f-a
	eventually 10 is edited record a .conf.configuration.text
	eventually 10 runs a
}

locked_out() { cat "$T"/said.* | grep -c 'in use by another svc-supervisor'; }

@test "of several that start at one moment exactly one works; when it is killed the next one may" {
	want a
	local n
	for n in 1 2 3 4; do
		env SVC_HOST_ID=h1 SVC_NSDB="file://$NSDB" SVC_PLUGIN_PATH="$BIN" svc-supervisor run 2>"$T/said.$n" 3>&- &
		echo $! >"$T/pid.$n"
	done
	eventually 10 runs a
	eventually 10 is 3 locked_out
	local alive=()
	for n in 1 2 3 4; do ! kill -0 "$(cat "$T/pid.$n")" 2>/dev/null || alive+=("$(cat "$T/pid.$n")"); done
	same "alive" 1 "${#alive[@]}"
	same "verbs" "ADD a" "$(verbs)"
	local life
	life=$(life a)
	kill -KILL "${alive[0]}"
	wait "${alive[0]}" || true
	start
	eventually 10 runs a
	same "daemon" "$life" "$(life a)"
	same "verbs" "ADD a" "$(verbs)"
}

# What CHECK needs to see a container.

@test "CHECK without whack, or without file descriptors, takes no daemon down, and goes on when they are back" {
	local life limit
	ipsec_executable
	vpn left 1
	start SVC_CHECK_INTERVAL=1s
	eventually 20 runs left c-left IPSEC
	life=$(life left)
	mv "$WHACK" "$WHACK.away"
	eventually 20 logged 'container state unknown to CHECK.*whack'
	sleep 5
	mv "$WHACK.away" "$WHACK"
	same "verbs without whack" "ADD left" "$(verbs left)"
	for limit in 6 8 10 12; do
		echo "ulimit -n $limit" >"$MOODS/CHECK"
		sleep 2
	done
	rm "$MOODS/CHECK"
	same "verbs without file descriptors" "ADD left" "$(verbs left)"
	same "daemon" "$life" "$(life left)"
	eventually 10 is RUNNING status c-left .code
	unbind p-left
	eventually 20 is "" records
}
