#!/usr/bin/env bats
# Containers that the version before this one made, under this version, and the way back. build/previous has that version
# (make previous).

load helpers

setup_file() {
	[ -x "$PROJECT/build/previous/svc-ipsec" ] || {
		echo "$PROJECT/build/previous is missing: make previous" >&2
		return 1
	}
	PREVIOUS=$("$PROJECT/build/previous/svc-supervisor" --version | awk '{ print $3 }')
	PRESENT=$("$PROJECT/build/svc-supervisor" --version | awk '{ print $3 }')
	export PREVIOUS PRESENT
}

eval "usual_$(declare -f setup)"
setup() {
	usual_setup
	supervisor_of "$PROJECT/build/previous" "$PROJECT/build/previous/systemd"
	ipsec_of "$PROJECT/build/previous"
}

# What is left running is removed by the present version.
teardown() {
	local failed=0
	stop || failed=1
	present
	usual_teardown || failed=1
	return "$failed"
}

present() {
	supervisor_of "$PROJECT/build" "$PROJECT/contrib/systemd"
	ipsec_of "$PROJECT/build"
}

# put FILE… DIRECTORY replaces files by renames, as a package manager does.
put() {
	local file directory=${*: -1}
	for file in "${@:1:$#-1}"; do
		install -m "$(stat -c %a "$file")" "$file" "$directory/.${file##*/}"
		mv "$directory/.${file##*/}" "$directory/${file##*/}"
	done
}

# supervisor_of DIRECTORY UNITS and ipsec_of DIRECTORY install one of the two.
supervisor_of() {
	put "$1/svc-supervisor" /usr/sbin
	put "$2"/* /etc/systemd/system
	systemctl daemon-reload
}
ipsec_of() {
	put "$1/svc-ipsec" "$LIBEXEC"
	ipsec_executable
}

# upgrade replaces all, as make install does, and restarts the supervisor.
upgrade() {
	present
	restart
}

# count_checks begins the count of checked NAME: CHECK ran three times for it since then. The supervisor runs the second and
# the third only when the one before has ended.
count_checks() { CHECKS_BEFORE=$(wc -l <"$CALLS"); }
checked() { [ "$(tail -n +$((CHECKS_BEFORE + 1)) "$CALLS" | grep -c "\"CHECK\", \"name\": \"$1\"")" -ge 3 ]; }

failed_checks() { logged_times 'msg="CHECK'; }

# good NAME…: three CHECKs of each ran, and none has failed during this test but for those in EXPECTED.
good() {
	local name
	count_checks
	for name; do
		eventually 60 checked "$name"
	done
	same "CHECKs that failed" "${EXPECTED:-0}" "$(failed_checks)"
}

# begin starts the supervisor of the version before, and waits for containers.
begin() {
	local name
	start SVC_CHECK_INTERVAL=1s
	for name; do
		eventually 30 runs "$name" "c-$name" IPSEC
		same "version of $name" "$PREVIOUS" "$(record "$name" IPSEC .executable.version)"
	done
}

# daemons NAME… prints what changes if one is started anew. A container without a daemon has none.
daemons() {
	local name
	for name; do
		echo "$name $(systemctl show -P MainPID -P InvocationID "svc-$name.service" | xargs) $(stat -Lc %i "/run/netns/$name")"
	done
}

# nothing NAME N binds a container without connections.
nothing() {
	echo '{"connections": []}' | with_id "f-$1" | object "configurations/f-$1"
	container "c-$1" IPSEC "f-$1"
	bind "p-$1" "$1" "c-$1" "addresses: [169.254.$2.1/30]"
}

# by_certificate NAME N: as vpn, with a certificate in place of a key.
by_certificate() {
	local dir=$T/certificates
	mkdir -p "$dir"
	openssl req -x509 -newkey rsa:2048 -noenc -days 2 -subj /C=FR/O=Example/CN=ca -keyout "$dir/ca.key" -out "$dir/ca.pem" \
		-addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign
	openssl req -x509 -newkey rsa:2048 -noenc -days 2 -subj "/C=FR/O=Example/CN=$1" -CA "$dir/ca.pem" -CAkey "$dir/ca.key" \
		-keyout "$dir/$1.key" -out "$dir/$1.pem" -addext basicConstraints=CA:FALSE
	site "100.100.$2.2" "200.200.$2.2" "10.1.$2.0/24" "10.2.$2.0/24" ".connections[0] |= (del(.psk) | .initiator = \"response-only\"
		| .authMode = \"certificate\" | .peerId = \"C=FR, O=Example, CN=peer\" | .certificate = {certificateFile: \"$dir/$1.pem\",
		privateKeyFile: \"$dir/$1.key\", caFile: \"$dir/ca.pem\"})" | with_id "f-$1" | object "configurations/f-$1"
	container "c-$1" IPSEC "f-$1"
	bind "p-$1" "$1" "c-$1" "addresses: [169.254.$2.1/30]"
}

# second NAME N NETWORK gives the container of vpn NAME N a second connection, to this network.
second() {
	site "100.100.$2.2" "200.200.$2.2" "10.1.$2.0/24" "10.2.$2.0/24" '.connections[0].initiator = "response-only"' \
		'.connections += [.connections[0] * {id: "second", name: "second", peerAddress: "200.200.200.3", peerId: "200.200.200.3", peerCidrs: ["'"$3"'"]}]' |
		with_id "f-$1" | object "configurations/f-$1"
}
peers() { row "$1" '[.health.connections[].pairs[].peer] | sort | join(" ")'; }

# serial NAME CONNECTION prints what changes if the daemon loads the connection again.
serial() { whack "$1" --status | grep -oE "^[^ ]* *\"$2-0-0\":.*serial: [^;,]*" | grep -oE 'serial: .*'; }

# files NAME prints the files of svc-ipsec's own in the container's directory.
files() { find "/run/svc-ipsec/$1" -maxdepth 1 -type f -printf '%f\n' | sort | xargs; }
OLD_FILES="attachment.json conf.json found.json guard.nft push.json ran.json refused.json retry.json"

# pairs prints whom a user id is registered for.
pairs() { find /run/svc-user-ids -type l -printf '%f\n' 2>/dev/null | sort | xargs; }

first=7f1c0000-0000-4000-8000-000000000001
as_root="the daemon was started by svc-ipsec 0.1.0 and runs as root: svc-supervisor restart left gives it a user of its own"
message() { row "$1" .health.message; }
says() { [[ "$(message "$1")" == *"$2"* ]] || { message "$1"; return 1; }; }

# has_old_unit and has_new_unit NAME: the daemon runs as root with the unit of the version before; or as the container's user,
# in the user namespace that owns the network namespace and in a mount view.
has_old_unit() {
	same "user of $1" 0 "$(stat -c %u "/proc/$(main_pid "$1")")" &&
		[[ "$(systemctl show -P ExecStopPost "svc-$1.service")" == *"/run/push "* ]] &&
		same "tmpfs of $1" /run "$(systemctl show -P TemporaryFileSystem "svc-$1.service")"
}
has_new_unit() {
	local pid
	pid=$(main_pid "$1")
	same "user of $1" "$(readlink "/run/svc-user-ids/svc-supervisor:$1")" "$(awk '/^Uid/ { print $2 }' "/proc/$pid/status")" &&
		[ "$(readlink /proc/1/ns/user)" != "$(readlink "/proc/$pid/ns/user")" ] &&
		stat -c %i /run/svc-ipsec/.view/* | grep -qx "$(stat -Lc %i "/proc/$pid/ns/mnt")" &&
		same "commands, tmpfs" "" "$(systemctl show -P ExecStartPre -P ExecStartPost -P ExecStopPost -P TemporaryFileSystem "svc-$1.service" | xargs)"
}

@test "containers of the version before are adopted: no ADD, no DEL, the same daemons, CHECK is good" {
	local daemons
	vpn left 1
	by_certificate cert 2
	nothing none 3
	begin left cert
	eventually 15 is "RUNNING no connections: nothing to run" status c-none '.code + " " + .message'
	same "files" "$OLD_FILES" "$(files left)"
	daemons=$(daemons left cert none)

	upgrade
	same "version" "$PRESENT" "$("/proc/$(supervisor_pid)/exe" --version | awk '{ print $3 }')"
	good left cert none
	eventually 5 says left "$as_root"
	has_old_unit left
	has_old_unit cert
	runs left c-left IPSEC
	runs cert c-cert IPSEC
	is "RUNNING no connections: nothing to run" status c-none '.code + " " + .message'
	same "daemons" "$daemons" "$(daemons left cert none)"
	same "ADD and DEL" "1 ADD cert 1 ADD left 1 ADD none" "$(verbs | xargs -n 2 | sort | uniq -c | xargs)"
	same "files" "$OLD_FILES" "$(files left)"
	same "user ids" "" "$(pairs)"
	not logged 'panic|level=ERROR'

	# Of each an edit. The one with nothing to run gets a daemon: of this version.
	daemons=$(daemons left cert)
	second left 1 10.3.1.0/24
	eventually 10 is "10.2.1.0/24 10.3.1.0/24" peers left
	vpn none 3
	eventually 15 runs none c-none IPSEC
	eventually 5 says none "CAP_NET_ADMIN on the host"
	site 100.100.2.2 200.200.2.2 10.1.2.0/24 10.9.2.0/24 "$(jq '.connections[0] | {certificate, authMode, peerId, initiator}' "$NSDB/configurations/f-cert.yaml" | jq -c . | sed 's/^/.connections[0] |= (del(.psk) + /; s/$/)/')" |
		with_id f-cert | object configurations/f-cert
	eventually 10 is 10.9.2.0/24 peers cert
	good left cert none
	same "daemons" "$daemons" "$(daemons left cert)"
	same "DELs" "" "$(calls '.verb == "DEL"')"
	for name in left cert none; do
		same "files of $name" state.json "$(files "$name")"
	done
	same "user ids" "svc-supervisor:none" "$(pairs)"
	unbind p-left
	unbind p-cert
	unbind p-none
	eventually 15 gone left
	eventually 15 gone cert
	eventually 15 gone none
	same "directories, user ids" "" "$(find /run/svc-ipsec /run/svc-user-ids -mindepth 1 -maxdepth 1 ! -name '.*')"
}

@test "an edit of one connection leaves the other one and the daemon of the version before alone" {
	local daemons serial
	second left 1 10.3.1.0/24
	container c-left IPSEC f-left
	bind p-left left c-left "addresses: [169.254.1.1/30]"
	begin left
	daemons=$(daemons left)
	upgrade
	good left
	serial=$(serial left "$first")
	[ -n "$serial" ]
	same "files" "$OLD_FILES" "$(files left)"

	second left 1 10.4.1.0/24
	eventually 10 is "10.2.1.0/24 10.4.1.0/24" peers left
	same "files" state.json "$(files left)"
	good left
	same "daemon" "$daemons" "$(daemons left)"
	same "the other connection" "$serial" "$(serial left "$first")"
	same "ADD and DEL" "ADD left ADD left" "$(verbs)"
}

# adopt binds a container of the version before, and installs the present one under it.
adopt() {
	vpn left 1
	begin left
	upgrade
	good left
}

@test "a killed daemon of the version before is restarted by systemd with its old unit, and is as good" {
	local edited pid up=/run/svc-ipsec/left/run/up
	adopt
	for edited in before after; do
		# What its script writes when a tunnel comes up; so it runs svc-ipsec when the daemon has ended.
		mkdir -p "$up"
		echo up >"$up/$first-0-0"
		pid=$(main_pid left)
		systemctl kill --signal=KILL svc-left.service
		eventually 15 eval "[[ \"\$(main_pid left)\" != @($pid|0) ]]"
		eventually 15 eval 'conns left | grep -q .'
		same "what the script wrote ($edited)" down "$(cat "$up/$first-0-0")"
		[[ "$(systemctl show -P ExecStartPre svc-left.service)" =~ /run/push.*status=0 ]]
		has_old_unit left
		good left
		eventually 5 says left "$as_root"
		same "DELs ($edited)" "" "$(calls '.verb == "DEL"')"
		[ "$edited" = after ] || {
			second left 1 10.3.1.0/24
			eventually 10 is "10.2.1.0/24 10.3.1.0/24" peers left
		}
	done
	same "connections" 2 "$(conns left | wc -w)"
	unbind p-left
	eventually 15 gone left
}

@test "restart gives a container of the version before the new unit, and nothing of the old one stays" {
	local life
	adopt
	life=$(life left)
	run -0 sup restart left
	# shellcheck disable=SC2154 # of run
	same "what it says" "svc-left.service restarted" "$output"
	has_new_unit left
	runs left c-left IPSEC
	good left
	not says left "runs as root"
	same "files" state.json "$(files left)"
	not test -e /run/svc-ipsec/left/run/push
	not test -e /run/svc-ipsec/left/run/up
	same "ADD and DEL" "ADD left DEL left ADD left" "$(verbs)"

	# From now on it restarts the unit alone.
	life=$(life left)
	run -0 sup restart left
	same "what it says" "svc-left.service restarted" "$output"
	not same "daemon" "$life" "$(life left)"
	has_new_unit left
	same "ADD and DEL" "ADD left DEL left ADD left" "$(verbs)"
	unbind p-left
	eventually 15 gone left
	same "directories, user ids" "" "$(find /run/svc-ipsec /run/svc-user-ids -mindepth 1 -maxdepth 1 ! -name '.*')"
}

@test "restart makes nothing anew that could not be made now, and without a supervisor restarts the old unit" {
	local life
	adopt
	life=$(life left)
	mv "$NSDB/hosts/$HOST_ID.yaml" "$T/host.yaml"
	eventually 10 is UNKNOWN row left .status
	run -1 sup restart left
	[[ "$output" == *"restart left: it cannot be made anew now: it is UNKNOWN: "* ]]
	mv "$T/host.yaml" "$NSDB/hosts/$HOST_ID.yaml"
	eventually 10 is RUNNING row left .status

	mv /usr/libexec/ipsec/addconn "$T/addconn"
	restart
	eventually 10 eval 'sup plugins | grep -q "not ready"'
	eventually 10 is RUNNING row left .status
	run -1 sup restart left
	mv "$T/addconn" /usr/libexec/ipsec/addconn
	[[ "$output" == *"restart left: it cannot be made anew now: $BIN/svc-ipsec: missing on this host: "* ]]
	same "daemon" "$life" "$(life left)"

	stop
	run -0 sup restart left
	not same "daemon" "$life" "$(life left)"
	has_old_unit left
	same "ADD and DEL" "ADD left" "$(verbs)"
}

@test "svc-ipsec alone is of this version: what runs goes on and can be changed, and new containers are held" {
	local daemons
	vpn left 1
	vpn right 2
	begin left right
	daemons=$(daemons left right)
	ipsec_of "$PROJECT/build"
	eventually 10 eval "sup plugins | grep -q 'IPSEC *$PRESENT *not ready  missing on this host: CAP_CHOWN, '"
	good left right
	second left 1 10.3.1.0/24
	eventually 10 is "10.2.1.0/24 10.3.1.0/24" peers left
	same "files" state.json "$(files left)"
	vpn new 3
	eventually 10 held new 'missing on this host: CAP_CHOWN, '
	run -0 sup restart left # of the version before: the same unit
	has_old_unit left
	eventually 10 says left "$as_root"
	unbind p-right
	eventually 15 gone right
	same "ADD and DEL" "2 ADD left 1 ADD right 1 DEL right" "$(verbs | xargs -n 2 | sort | uniq -c | xargs)"
	daemons=$(daemons left)

	supervisor_of "$PROJECT/build" "$PROJECT/contrib/systemd"
	restart
	eventually 15 runs new c-new IPSEC
	has_new_unit new
	good left new
	same "daemon" "$daemons" "$(daemons left)"
}

@test "the supervisor alone is of this version: all goes on as before" {
	local daemons
	vpn left 1
	begin left
	daemons=$(daemons left)
	supervisor_of "$PROJECT/build" "$PROJECT/contrib/systemd"
	restart
	good left
	second left 1 10.3.1.0/24
	eventually 10 is "10.2.1.0/24 10.3.1.0/24" peers left
	vpn new 3
	eventually 15 runs new c-new IPSEC
	has_old_unit new
	same "daemon" "$daemons" "$(daemons left)"
	run -0 sup restart new
	has_old_unit new
	unbind p-new
	eventually 15 gone new
	same "ADD and DEL" "2 ADD left 1 ADD new 1 DEL new" "$(verbs | xargs -n 2 | sort | uniq -c | xargs)"
	ipsec_of "$PROJECT/build"
	eventually 10 says left "$as_root"
	good left
	same "daemon" "$daemons" "$(daemons left)"
}

@test "twenty containers of the version before are adopted at once" {
	local name names n=0 daemons ran
	names=$(seq -f 'many%02g' 20)
	for name in $names; do
		n=$((n + 1))
		vpn "$name" "$n"
	done
	start
	eventually 90 is 20 running
	eventually 10 is 20 added
	# shellcheck disable=SC2086 # names, split on purpose
	daemons=$(daemons $names)
	ran=$(verbs)
	present
	stop
	rm "$STATUS/containers/$HOST_ID"/*.json
	start SVC_CHECK_INTERVAL=1s
	eventually 10 is 20 running
	# shellcheck disable=SC2086
	good $names
	same "statuses" 20 "$(running)"
	# shellcheck disable=SC2086
	same "daemons" "$daemons" "$(daemons $names)"
	same "ADD and DEL" "$ran" "$(verbs)"
	for name in $names; do
		unbind "p-$name"
	done
	eventually 60 is "" records
}

# downgrade is upgrade the other way.
downgrade() {
	supervisor_of "$PROJECT/build/previous" "$PROJECT/build/previous/systemd"
	ipsec_of "$PROJECT/build/previous"
	restart
}

@test "a downgrade makes each container anew once, and a later upgrade removes what it left" {
	local verbs
	present
	vpn left 1
	vpn right 2
	start SVC_CHECK_INTERVAL=1s
	eventually 15 runs left c-left IPSEC
	eventually 15 runs right c-right IPSEC
	has_new_unit left

	downgrade
	eventually 30 is "$PREVIOUS $PREVIOUS" eval '{ record left IPSEC .executable.version; record right IPSEC .executable.version; } | xargs'
	eventually 15 runs left c-left IPSEC
	eventually 15 runs right c-right IPSEC
	has_old_unit left
	same "network namespace of" "$(readlink /proc/1/ns/user)" "$(readlink "/proc/$(main_pid left)/ns/user")"
	same "files" "$OLD_FILES" "$(files left)"
	verbs=$(verbs)
	same "ADD and DEL" "2 ADD left 2 ADD right 1 DEL left 1 DEL right" "$(xargs -n 2 <<<"$verbs" | sort | uniq -c | xargs)"
	unbind p-right
	eventually 15 not test -e /run/netns/right
	same "processes of user ids" "" "$(ps -eo uid= | awk '$1 >= 2100000000')"
	# What it does not know.
	same "user ids" "svc-supervisor:left svc-supervisor:right" "$(pairs)"

	EXPECTED=$(failed_checks)
	upgrade
	good left
	has_old_unit left
	eventually 40 is svc-supervisor:left pairs
	same "ADD and DEL since" "$verbs DEL right" "$(verbs)"
	run -0 sup restart left
	has_new_unit left
}

@test "after a downgrade an edit works too, and a later upgrade adopts what it made" {
	local daemons
	present
	vpn left 1
	nothing none 2
	start SVC_CHECK_INTERVAL=10m
	eventually 15 runs left c-left IPSEC
	eventually 15 is added record none IPSEC .phase
	downgrade
	eventually 15 eval 'sup plugins | grep -q IPSEC'
	# The version before does not know that container, and cannot use the directory of its daemon.
	second left 1 10.3.1.0/24
	eventually 20 is "ADD left ADD left DEL left ADD left" verbs left
	eventually 15 runs left c-left IPSEC
	has_old_unit left
	# In the directory of one without a daemon it writes its own files beside state.json.
	vpn none 2
	eventually 15 runs none c-none IPSEC
	has_old_unit none
	same "ADD and DEL" "ADD none ADD none" "$(verbs none)"
	same "files" "$OLD_FILES state.json" "$(files none)"

	daemons=$(daemons left none)
	EXPECTED=$(failed_checks) # a CHECK between the exchange of the programs and the restart
	start SVC_CHECK_INTERVAL=1s
	upgrade
	good left none
	same "peer that CHECK tells" 10.2.2.0/24 "$(peers none)"
	same "daemons" "$daemons" "$(daemons left none)"
	second left 1 10.4.1.0/24
	second none 2 10.4.2.0/24
	eventually 10 is "10.2.1.0/24 10.4.1.0/24" peers left
	eventually 10 is "10.2.2.0/24 10.4.2.0/24" peers none
	same "files" "state.json state.json" "$(files left) $(files none)"
	same "daemons" "$daemons" "$(daemons left none)"
}

@test "a downgrade leaves a container alone that was only adopted meanwhile, and makes an edited one anew" {
	local daemons
	vpn left 1
	vpn right 2
	begin left right
	upgrade
	good left right
	second right 2 10.3.2.0/24
	eventually 10 is "10.2.2.0/24 10.3.2.0/24" peers right
	daemons=$(daemons left)
	downgrade
	eventually 30 is "ADD right ADD right DEL right ADD right" verbs right
	eventually 15 runs right c-right IPSEC
	count_checks
	eventually 60 checked left
	same "daemon" "$daemons" "$(daemons left)"
	same "ADD and DEL" "ADD left" "$(verbs left)"
}

# by_hand VERB runs the verb as another runtime does, for the namespace pod.
by_hand() {
	site 100.100.100.2 200.200.200.2 10.1.0.0/24 10.2.0.0/24 |
		jq '{cniVersion: "1.1.0", name: "by-hand", type: "svc-ipsec", port: {addresses: ["169.254.0.1/30"]}, configuration: .}' |
		CNI_COMMAND=$1 CNI_CONTAINERID=pod CNI_NETNS=/run/netns/pod CNI_IFNAME=eth0 CNI_PATH=$LIBEXEC "$LIBEXEC/svc-ipsec"
}
in_pod() { ip -n pod -o link | awk -F'[:@ ]+' '{ print $2 }' | xargs; ip netns exec pod nft list ruleset | awk '/^table/ { print $3 }'; }

@test "a container that the version before made for another runtime can be checked, reconfigured and removed" {
	local verb life unit
	for verb in DEL "ADD DEL"; do
		ipsec_of "$PROJECT/build/previous"
		ip netns add pod
		by_hand ADD
		unit=$(container_unit)
		life=$(systemctl show -P InvocationID "$unit")
		ipsec_of "$PROJECT/build"
		[[ "$(by_hand CHECK | jq -r .message)" == *"the daemon was started by svc-ipsec 0.1.0 and runs as root"* ]]
		[ "$verb" = DEL ] || by_hand ADD
		by_hand CHECK
		same "daemon" "$life" "$(systemctl show -P InvocationID "$unit")"
		by_hand DEL
		same "in the namespace" lo "$(in_pod)"
		same "unit" "" "$(container_unit)"
		same "directories" "" "$(folders)"
		ip netns delete pod
	done

	# The other way round, something stays in the namespace, and the user id in its registry.
	ip netns add pod
	by_hand ADD
	ipsec_of "$PROJECT/build/previous"
	run -1 by_hand CHECK
	same "code" 3 "$(jq .code <<<"$output")"
	by_hand DEL
	same "unit" "" "$(container_unit)"
	same "directories" "" "$(folders)"
	same "in the namespace" "lo svc-ipsec" "$(in_pod | xargs)"
	same "user ids" 1 "$(pairs | wc -w)"
	find /run/svc-user-ids -mindepth 1 -delete
	ip netns delete pod
}

running() { cat "$STATUS/containers/$HOST_ID"/*.json | jq -r 'select(.code == "RUNNING") | .containerId // .code' | wc -l; }
added() { grep -l '"phase": "added"' "$STATE"/containers/* | wc -l; }
