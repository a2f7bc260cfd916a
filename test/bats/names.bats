#!/usr/bin/env bats
# Who gets a name, and what no name may do.

load helpers

@test "two bindings with one interface name: one runs, the other is held, and gets the name when it is free" {
	want a
	container c-rival ECHO f-a
	bind z-rival a c-rival
	start
	eventually 10 runs_beside a c-a
	eventually 10 is "ERROR name a is taken by port p-a" status c-rival '.code + " " + .message'
	same "held" "HELD name a is taken by port p-a" "$(row a 'select(.portId == "z-rival") | .status + " " + .reason')"
	same "verbs" "ADD a" "$(verbs)"

	unbind p-a
	eventually 10 runs a c-rival
	eventually 5 not test -e "$STATUS/containers/h1/c-a.json"
	same "verbs" "ADD a DEL a ADD a" "$(verbs)"
}

# runs_beside NAME CONTAINER: as runs, where another binding claims the name.
runs_beside() {
	same "record" "added $2" "$(record "$1" '.phase + " " + .container.containerId')" &&
		same "status" RUNNING "$(status "$2" .code)" && unit_is "$1" active
}

@test "the binding that has the record keeps the name, whatever the port ids" {
	want a
	start
	eventually 10 runs a
	container c-low ECHO f-a
	bind a-low a c-low
	eventually 10 is "ERROR name a is taken by port p-a" status c-low '.code + " " + .message'
	runs_beside a c-a
	restart
	eventually 10 is "ERROR name a is taken by port p-a" status c-low '.code + " " + .message'
	runs_beside a c-a
	same "verbs" "ADD a" "$(verbs)"
	unbind a-low
	eventually 10 runs a
	eventually 5 not test -e "$STATUS/containers/h1/c-low.json"
	same "verbs" "ADD a" "$(verbs)"
}

@test "two names for one container id: one runs, the other is held and says nothing over its status" {
	want a
	bind p-b b c-a
	start
	eventually 10 runs a
	eventually 10 waits b 'container id c-a is (held|wanted) by a'
	same "status of the id" "RUNNING a" "$(status c-a '.code + " " + .namespaceName')"
	not test -e /run/netns/b
	unbind p-a
	eventually 10 runs b c-a
	same "verbs" "ADD a DEL a ADD b" "$(verbs)"
}

@test "a foreign interface and a foreign namespace of a binding's name are never touched, and held until they go" {
	ip link add name link type veth peer name link-peer
	ip netns add space
	ip -n space link set lo up
	local index inode
	index=$(cat /sys/class/net/link/ifindex)
	inode=$(stat -Lc %i /run/netns/space)
	want link
	want space
	want other
	start
	eventually 10 runs other
	eventually 10 held link 'interface link exists and is not ours'
	eventually 10 held space 'namespace space exists and is not ours'

	# A restart looks again at all of it, and so do edits and the end of the binding.
	restart
	eventually 10 runs other
	eventually 10 held link 'interface link exists and is not ours'
	eventually 10 held space 'namespace space exists and is not ours'
	echo '{id: f-link, text: edited}' | object configurations/f-link
	echo '{id: f-space, text: edited}' | object configurations/f-space
	unbind p-link
	unbind p-space
	eventually 10 is "" row link .status
	eventually 10 is "" row space .status
	same "interface" "$index" "$(cat /sys/class/net/link/ifindex)"
	same "namespace" "$inode" "$(stat -Lc %i /run/netns/space)"
	same "its tag" "" "$(tag_of space | grep -v null)"
	same "verbs" "ADD other" "$(verbs)"
	not unit_is link active
	not test -e /run/netns/link

	want link
	want space
	eventually 10 held link 'not ours'
	eventually 10 held space 'not ours'
	ip link delete dev link
	ip netns delete space
	# No event tells of it: the supervisor looks every 30 s, and at its start.
	restart
	eventually 10 runs link
	eventually 10 runs space
	runs other
}

@test "a foreign unit below a foreign namespace is left alone at the start too" {
	ip netns add space
	systemd-run --quiet --unit=svc-space.service --property=NetworkNamespacePath=/run/netns/space sleep infinity
	local life
	life=$(life space)
	want other
	start
	eventually 10 runs other
	want space
	eventually 10 held space 'namespace space exists and is not ours'
	restart
	eventually 10 held space 'namespace space exists and is not ours'
	unbind p-space
	eventually 10 is "" row space .status
	same "unit" "$life" "$(life space)"
	systemctl stop svc-space.service
	ip netns delete space
}

@test "hostile and over-long interface names reach no path and no shell, and are held with what is allowed" {
	local marker=$T/marker n=0 name
	local -a names=('../x' '..' '.' 'a/b' 'a b' 'a\nb' 'a\"b' "a'b" 'a;b' "\$(touch $marker)" "\`touch $marker\`" \
		'-n' 'sixteen-bytes-xx' 'supervisor' '%i' 'é' '' 'a:b' 'a\\b')
	for name in "${names[@]}"; do
		container "c-$n" ECHO f1
		bind "p-$n" "$name" "c-$n"
		n=$((n + 1))
	done
	configuration f1
	want other
	start
	eventually 10 runs other
	for ((n = 0; n < ${#names[@]}; n++)); do
		eventually 10 refused_name "$n" || { echo "name: ${names[n]}"; return 1; }
	done
	not test -e "$marker"
	same "verbs" "ADD other" "$(verbs)"
	same "records" other.ECHO "$(records)"
	same "namespaces" other "$(ip netns list | cut -d' ' -f1)"
	same "units" svc-other.service "$(systemctl list-units --plain --no-legend 'svc-*.service' | awk '$1 != "svc-supervisor.service" { print $1 }')"
	same "statuses" "$((${#names[@]} + 1))" "$(find "$STATUS/containers" -name '*.json' | wc -l)"
	same "lines of ps" "$((${#names[@]} + 2))" "$(sup ps | wc -l)"

	# Mended, they run; gone, they leave no status.
	bind p-0 mended c-0
	eventually 10 runs mended c-0
	bind p-11 mended-n c-11
	eventually 10 runs mended-n c-11
	unbind p-1
	eventually 10 not test -e "$STATUS/containers/h1/c-1.json"
	runs other
}

# refused_name N: container c-N is held because of its interface name.
refused_name() {
	local said='interfaceName ".*": allowed: a letter or digit'
	[[ "$(status "c-$1" '.code + " " + .message')" =~ ^ERROR\ .*$said ]] &&
		[[ "$(sup ps -o json | jq -r --arg id "c-$1" '.containers[] | select(.containerId == $id) | .status + " " + .reason')" =~ ^HELD\ .*$said ]]
}

@test "hostile ids in the NSDB reach no path, and hold only their own container" {
	configuration f1
	local n=0 id
	for id in '../../etc/x' 'a b' '$(id)' "$(printf 'x%.0s' {1..65})" 'a\nb'; do
		printf 'id: c-%d\nserviceType: ECHO\ngroupId: g1\nconfigurationId: "%s"\n' "$n" "$id" | object "containers/c-$n"
		bind "p-$n" "name-$n" "c-$n"
		n=$((n + 1))
	done
	bind p-up up "\"../c-0\""
	want other
	start
	eventually 10 runs other
	for ((n = 0; n < 5; n++)); do
		eventually 10 waits "name-$n" 'configurationId ".*".*: allowed: 1 to 64 bytes'
	done
	eventually 10 waits up 'containerId ".*": allowed: 1 to 64 bytes'
	same "verbs" "ADD other" "$(verbs)"
	same "records" other.ECHO "$(records)"
	container c-0 ECHO f1
	eventually 10 runs name-0 c-0
}

# address NAME: the container NAME has the external IP, MAC and port address that all containers of this test have.
address() {
	printf 'id: f-%s\ntext: hello\nexternalIps: [192.0.2.1]\nexternalMac: "ac:ca:ba:00:00:01"\n' "$1" | object "configurations/f-$1"
	bind "p-$1" "$1" "c-$1" 'addresses: [169.254.0.1/30]'
}

@test "two containers with the same external IP, MAC and port address both run, with a warning and a message" {
	want a
	want b
	start
	eventually 10 runs a
	eventually 10 runs b
	address a
	address b
	local same="external IP 192.0.2.1, MAC ac:ca:ba:00:00:01 and port address 169.254.0.1 are also those of"
	run -1 svc-supervisor validate "$NSDB"
	grep -F "bindings/h1/p-a.yaml: addresses $same bindings/h1/p-b.yaml: allowed: one container" <<<"$output"
	grep -F "bindings/h1/p-b.yaml: addresses $same bindings/h1/p-a.yaml: allowed: one container" <<<"$output"
	eventually 10 is "RUNNING" status c-a .code
	eventually 10 grep -F "$same b (port p-b)" "$STATUS/containers/h1/c-a.json"
	eventually 10 grep -F "$same a (port p-a)" "$STATUS/containers/h1/c-b.json"
	same "status" "RUNNING RUNNING" "$(status c-a .code) $(status c-b .code)"
	[[ $(row a .reason) = "$same b (port p-b)"* ]]
	logged 'level=WARN msg="addresses of two containers are the same" .*portId=p-a'
	logged 'level=WARN msg="addresses of two containers are the same" .*portId=p-b'

	unbind p-b
	eventually 10 not grep -F "$same" "$STATUS/containers/h1/c-a.json"
	eventually 10 runs a
	not grep DEL <<<"$(calls '.name == "a"')"
}
