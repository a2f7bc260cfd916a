#!/usr/bin/env bats
# Objects of the NSDB that are broken, half there, missing or doubled: each is
# told by its key, keeps back only its own container, and never costs what runs.

# shellcheck disable=SC2030,SC2031 # each test is a subshell
load helpers

# spoil KEY [CONTENT] puts content into an object's file that is none.
spoil() { printf '%s' "${2-"{id: [broken"}" | object "$1"; }

@test "an object that breaks under a container that runs: it runs on, ps says why, and the next good word counts" {
	local key life
	want a
	want other
	start
	eventually 10 runs a
	life=$(life a)
	for key in configurations/f-a containers/c-a bindings/h1/p-a; do
		cp "$NSDB/$key.yaml" "$T/good"
		spoil "$key"
		eventually 10 waits a "$key: is not YAML"
		same "status meanwhile" RUNNING "$(status c-a .code)"
		mv "$T/good" "$NSDB/$key.yaml"
		eventually 10 runs a
	done
	same "daemon" "$life" "$(life a)"
	runs other
	same "verbs" "ADD a ADD other" "$(verbs | xargs -n 2 | sort | xargs)"
	echo '{id: f-a, text: edited}' | object configurations/f-a
	eventually 10 is edited record a .conf.configuration.text
}

@test "objects that are missing under a container that runs: it runs on" {
	local key life
	want a
	start
	eventually 10 runs a
	life=$(life a)
	for key in configurations/f-a containers/c-a; do
		mv "$NSDB/$key.yaml" "$T/good"
		eventually 10 waits a "$key: no such object"
		same "status meanwhile" RUNNING "$(status c-a .code)"
		same "daemon" "$life" "$(life a)"
		mv "$T/good" "$NSDB/$key.yaml"
		eventually 10 runs a
	done
	same "verbs" "ADD a" "$(verbs)"
}

@test "each kind of bad object holds its own new container alone, names its key, and heals" {
	want broken
	spoil configurations/f-broken
	want nothere
	rm "$NSDB/configurations/f-nothere.yaml"
	want nocontainer
	rm "$NSDB/containers/c-nocontainer.yaml"
	want half
	echo '{id: c-half, serviceType: ECHO, groupId: g1}' | object containers/c-half
	want otherid
	echo '{id: c-other, serviceType: ECHO, groupId: g1, configurationId: f-otherid}' | object containers/c-otherid
	want twofiles
	echo '{"id": "f-twofiles"}' >"$NSDB/configurations/f-twofiles.json"
	want key
	echo '{id: c-key, serviceType: ECHO, groupId: g1, configurationId: f-key, servicetype: X}' | object containers/c-key
	want link
	ln -sf /nowhere "$NSDB/configurations/f-link.yaml"
	want pipe
	rm "$NSDB/configurations/f-pipe.yaml"
	mkfifo "$NSDB/configurations/f-pipe.yaml"
	want a
	start
	eventually 10 runs a
	eventually 10 waits broken 'configurations/f-broken: is not YAML'
	eventually 10 waits nothere 'configurations/f-nothere: no such object, and containers/c-nothere names it'
	eventually 10 waits nocontainer 'containers/c-nocontainer: no such object, and bindings/h1/p-nocontainer names it'
	eventually 10 waits half 'containers/c-half: not set: configurationId'
	eventually 10 waits otherid 'containers/c-otherid: id "c-other": allowed: c-otherid'
	eventually 10 waits twofiles 'f-twofiles.yaml and f-twofiles.json are files of one object'
	eventually 10 waits key 'unknown key "servicetype"'
	eventually 10 waits link 'is a link to nothing'
	eventually 10 waits pipe 'is a named pipe'
	same "verbs" "ADD a" "$(verbs)"
	same "records" a.ECHO "$(records)"

	rm "$NSDB/configurations/f-twofiles.json" "$NSDB"/configurations/f-{broken,link,pipe}.yaml
	local name
	for name in broken nothere nocontainer half otherid twofiles key link pipe; do
		want "$name"
	done
	for name in broken nothere nocontainer half otherid twofiles key link pipe; do
		eventually 15 runs "$name"
	done
	runs a
}

@test "a binding that cannot be read: its container runs on, and no leftover is removed meanwhile" {
	want a
	want other
	start
	eventually 10 runs a
	eventually 10 runs other
	stop
	# What a supervisor of old may have left.
	ip netns add left
	ip -n left link set lo alias svc-supervisor:left:c-left
	cp "$NSDB/bindings/h1/p-a.yaml" "$T/good"
	spoil bindings/h1/p-a
	start
	eventually 10 waits a 'bindings/h1/p-a: is not YAML'
	eventually 10 runs other
	same "record" added "$(record a .phase)"
	test -e /run/netns/left
	# Another container comes and goes meanwhile, so all was looked at.
	want b
	eventually 10 runs b
	unbind p-b
	eventually 10 gone b
	test -e /run/netns/left
	same "record" added "$(record a .phase)"

	mv "$T/good" "$NSDB/bindings/h1/p-a.yaml"
	eventually 10 runs a
	eventually 10 not test -e /run/netns/left
	same "verbs of a" "ADD a" "$(verbs a)"
}

@test "no Host object, and a directory that is missing, empty or another one: nothing is touched" {
	local life
	want a
	start "SVC_NSDB=file://$NSDB?rescan=500ms" # no event tells of a mount
	eventually 10 runs a
	life=$(life a)

	mv "$NSDB/hosts/h1.yaml" "$T/good"
	eventually 10 unread 'hosts/h1: no Host object'
	untouched
	mv "$T/good" "$NSDB/hosts/h1.yaml"
	eventually 10 unread ''

	mv "$NSDB" "$T/away"
	eventually 10 unread 'does not exist'
	untouched
	mkdir "$NSDB"
	eventually 10 unread 'no Host object'
	untouched
	rmdir "$NSDB"
	mv "$T/away" "$NSDB"
	eventually 10 unread ''
	eventually 10 runs a

	mount -t tmpfs tmpfs "$NSDB"
	restart
	eventually 10 unread 'no Host object'
	untouched
	eventually 10 umount "$NSDB"
	eventually 10 unread ''
	eventually 10 runs a
	same "daemon" "$life" "$(life a)"
	same "verbs" "ADD a" "$(verbs)"

	# The whole directory replaced by a copy that wants less.
	cp -a "$NSDB" "$T/copy"
	rm "$T/copy/bindings/h1/p-a.yaml"
	mv "$NSDB" "$T/away"
	mv "$T/copy" "$NSDB"
	eventually 10 gone a
}

# unread REASON: the host is unknown because of that; '' for a host that is known.
unread() {
	local said
	said=$(sup ps -o json | jq -r '.host.unread // ""')
	[[ "$said" =~ $1 && -n "$1" || -z "$1$said" ]] || { echo "host unknown: $said"; return 1; }
}

# untouched: a, whose life is known, is as it was.
untouched() {
	same "daemon" "$life" "$(life a)" && same "record" added "$(record a .phase)" &&
		same "status" RUNNING "$(status c-a .code)" && same "verbs" "ADD a" "$(verbs)"
}

# writing COMMAND… goes on with writing the file, and runs the command.
writing() {
	printf '#' >&7
	"$@"
}

@test "a file that is being written counts when it is whole" {
	want a
	start
	eventually 10 runs a
	exec 7>"$NSDB/configurations/f-a.yaml"
	printf 'id: f-a\n#' >&7
	# Others are read meanwhile. A file in which nothing is written for ten seconds counts as whole.
	want b
	eventually 10 writing runs b
	runs a
	printf '\ntext: edited\n' >&7
	exec 7>&-
	eventually 10 is edited record a .conf.configuration.text
	eventually 10 is "ADD a ADD a" verbs a
	same "texts that ADD got" "hello edited" "$(calls '.name == "a"' | jq -r .conf.configuration.text | xargs)"
}

@test "the temporary files of editors and copy tools are no objects" {
	want a
	start
	eventually 10 runs a
	local name
	for name in .p-x.yaml.swp .p-x.yaml p-x.yaml~ '#p-x.yaml#' p-x.yaml.tmp p-x.yaml.dpkg-new .p-x.yaml.Qk3dTz 4913 p-x.txt; do
		sed 's/interfaceName: .*/interfaceName: x/; s/p-a/p-x/' "$NSDB/bindings/h1/p-a.yaml" >"$NSDB/bindings/h1/$name"
		echo '{id: f-a, text: wrong}' >"$NSDB/configurations/${name/p-x/f-a}"
	done
	want b
	eventually 10 runs b
	runs a
	same "rows" "a b" "$(sup ps -o json | jq -r '.containers[].name' | xargs)"
	same "verbs" "ADD a ADD b" "$(verbs)"
	same "text" hello "$(record a .conf.configuration.text)"
	echo '{id: g1, policy: leastContainers, hostIds: [h1]}' | object groups/g1
	rm "$NSDB/bindings/h1/p-x.txt" "$NSDB/configurations/f-a.txt"
	run -0 svc-supervisor validate "$NSDB"
}

@test "values that no container can have are refused with what is allowed" {
	want a
	start
	eventually 10 runs a
	local life
	life=$(life a)
	bind p-mac mac c-mac "mac: '01:00:00:00:00:01'"
	container c-mac ECHO f-a
	eventually 10 waits mac 'mac "01:00:00:00:00:01": allowed: a unicast MAC'
	bind p-address address c-address "addresses: [169.254.0.1]"
	container c-address ECHO f-a
	eventually 10 waits address 'addresses "169.254.0.1": allowed: an address with a prefix length'
	bind p-bridge bridge c-bridge "bridge: a/../b"
	container c-bridge ECHO f-a
	eventually 10 waits bridge 'bridge "a/../b": allowed: 1 to 15 bytes'
	# An edit of this kind costs nothing.
	bind p-a a c-a "mac: nonsense"
	eventually 10 waits a 'mac "nonsense"'
	same "daemon" "$life" "$(life a)"
	same "status" RUNNING "$(status c-a .code)"
	same "verbs" "ADD a" "$(verbs)"
	bind p-a a c-a
	eventually 10 runs a
}

@test "validate prints each fault with its file, its key and what is allowed" {
	want good
	echo '{id: g1, policy: leastContainers, hostIds: [h1]}' | object groups/g1
	run -0 --separate-stderr svc-supervisor validate "$NSDB"
	# shellcheck disable=SC2154 # of run
	same "output" "" "$output$stderr"

	want a
	want b
	spoil configurations/f-b
	want c
	bind p-c '../c' c-c
	want d
	echo '{id: c-d, serviceType: echo, groupId: g1, configurationId: f-none}' | object containers/c-d
	want e
	bind p-e a c-e
	echo '{id: g2, policy: roundRobin, hostIds: [h1, h9]}' | object groups/g2
	echo '{id: h2, containerLimit: -7}' | object hosts/h2
	echo '{}' >"$NSDB/configurations/f-a.json"
	echo '{id: lost}' >"$NSDB/lost.yaml"
	echo text >"$NSDB/containers/notes.txt"
	run -1 --separate-stderr svc-supervisor validate "$NSDB"
	local line
	while read -r line; do
		grep -Fq -- "$line" <<<"$output" || { printf 'no line with %s\n%s\n' "$line" "$output"; return 1; }
	done <<-'END'
		configurations/f-b.yaml: is not YAML
		bindings/h1/p-c.yaml: interfaceName "../c": allowed: a letter or digit, then up to 14
		containers/c-d.yaml: serviceType "echo": allowed: a capital letter
		containers/c-d.yaml: configurationId names configurations/f-none, which is not there
		bindings/h1/p-e.yaml: interfaceName "a" is also that of bindings/h1/p-a.yaml
		groups/g2.yaml: policy "roundRobin": allowed: leastContainers, weighted
		groups/g2.yaml: hostIds names hosts/h9, which is not there
		hosts/h2.yaml: containerLimit "-7": allowed: -1 (none), 0 or more
		configurations/f-a.json: f-a.yaml and f-a.json are files of one object
		configurations/f-a.yaml: f-a.yaml and f-a.json are files of one object
		lost.yaml: is in no folder: allowed: objects in hosts
		containers/notes.txt: is no object: allowed: files that end in .yaml
	END
	# shellcheck disable=SC2154 # of run
	[[ "$stderr" =~ ^svc-supervisor:\ validate\ .*faults$ ]]
	same "good objects that are complained of" "" "$(grep good <<<"$output")"

	run -1 svc-supervisor validate "$T/nowhere"
	[[ "$output" =~ no\ such\ file ]]
}

@test "a link that leads out of the NSDB directory is not followed, and nothing of the file is shown anywhere" {
	local life said
	want a
	start
	eventually 10 runs a
	life=$(life a)
	# As the first line of many a file, and as a file that a parser takes.
	printf 'root:hunter2:19000:0:99999:7:::\n' >"$T/lines"
	printf 'psk: [hunter2\n' >"$T/half"
	chmod 600 "$T/lines" "$T/half"
	want lines
	ln -sf "$T/lines" "$NSDB/configurations/f-lines.yaml"
	want half
	ln -sf ../../half "$NSDB/containers/c-half.yaml"
	want kmsg
	ln -sf /proc/kmsg "$NSDB/configurations/f-kmsg.yaml"
	for name in lines half kmsg; do
		eventually 10 waits "$name" 'leads out of the NSDB directory'
	done
	# The same content in files of the directory itself: each is refused, and not repeated.
	want plainlines
	cp "$T/lines" "$NSDB/containers/c-plainlines.yaml"
	want plainhalf
	cp "$T/half" "$NSDB/configurations/f-plainhalf.yaml"
	eventually 10 waits plainlines 'containers/c-plainlines: '
	eventually 10 waits plainhalf 'configurations/f-plainhalf: is not YAML'

	# What stays inside is followed.
	want inside
	mkdir "$NSDB/.store"
	mv "$NSDB/configurations/f-inside.yaml" "$NSDB/.store/"
	ln -s ../.store/f-inside.yaml "$NSDB/configurations/f-inside.yaml"
	eventually 10 runs inside

	# shellcheck disable=SC2016 # expanded there
	said=$(sup ps -o json; sup ps; cat "$STATUS"/containers/*/*; timeout 10 svc-supervisor validate "$NSDB" 2>&1; echo "validate: $?"; journal)
	grep -F 'validate: 1' <<<"$said"
	same "lines with the secret" "" "$(grep hunter2 <<<"$said")"
	runs a
	same "daemon" "$life" "$(life a)"
}

@test "a link to a folder outside makes the host unknown, and costs nothing that runs" {
	local life
	want a
	start
	eventually 10 runs a
	life=$(life a)
	mkdir "$T/elsewhere"
	cp "$NSDB/bindings/h1/"* "$T/elsewhere"
	mv "$NSDB/bindings/h1" "$T/away"
	ln -s "$T/elsewhere" "$NSDB/bindings/h1"
	eventually 10 unread 'bindings/h1: cannot be listed: .*leads out of the NSDB directory'
	untouched
	rm "$NSDB/bindings/h1"
	mv "$T/away" "$NSDB/bindings/h1"
	eventually 10 unread ''
	runs a
	same "daemon" "$life" "$(life a)"
}

@test "directories that others can write and keys that others can read are named once, in the log and by validate" {
	want a
	echo '{id: g1, policy: leastContainers, hostIds: [h1]}' | object groups/g1
	echo '{id: f-a, psk: hunter2}' | object configurations/f-a
	chmod 644 "$NSDB/configurations/f-a.yaml"
	chmod 775 "$NSDB/bindings"
	chown nobody "$NSDB/hosts"
	start
	eventually 10 runs a
	echo '{id: f-a, psk: hunter2, text: edited}' | object configurations/f-a
	chmod 644 "$NSDB/configurations/f-a.yaml"
	eventually 10 is edited record a .conf.configuration.text
	local path
	for path in bindings hosts configurations/f-a.yaml; do
		same "warnings of $path" 1 "$(journal | grep -F 'NSDB is exposed' | grep -cF "path=$NSDB/$path ")"
	done
	run -0 --separate-stderr svc-supervisor validate "$NSDB"
	# shellcheck disable=SC2154 # of run
	same "faults" "" "$output"
	# shellcheck disable=SC2154 # of run
	same "warnings" "$NSDB/bindings $NSDB/configurations/f-a.yaml $NSDB/hosts" \
		"$(sed -n 's/^svc-supervisor: warning: \([^:]*\): .*ch[a-z]* .*/\1/p' <<<"$stderr" | xargs)"
	same "lines with the key" "" "$(grep hunter2 <<<"$stderr"; journal | grep hunter2)"

	chmod 600 "$NSDB/configurations/f-a.yaml"
	chmod 755 "$NSDB/bindings"
	chown root "$NSDB/hosts"
	run -0 --separate-stderr svc-supervisor validate "$NSDB"
	same "output" "" "$output$stderr"
}

@test "no command waits for a pipe without a writer or for what the kernel generates" {
	local path
	want a
	mkfifo "$T/pipe"
	mkfifo "$NSDB/config.pipe"
	mkdir "$NSDB/config"
	mkfifo "$NSDB/config/default.yaml"
	ln -s /proc/kmsg "$T/kmsg"
	run -1 timeout 10 svc-supervisor validate "$NSDB"
	[[ "$output" =~ config/default.yaml:\ is\ a\ named\ pipe ]]
	run -1 timeout 10 svc-supervisor config get --nsdb "file://$NSDB" --template default log-level
	[[ "$output" =~ is\ a\ named\ pipe ]]
	for path in "$T/pipe" "$T/kmsg" /dev/zero "$T"; do
		run -1 timeout 10 svc-supervisor exec --plugin-path "$BIN" --host-id h1 -f "$path" ADD x
		run -1 timeout 10 svc-supervisor nsdb import --nsdb "file://$T/new" "$path"
		run -1 timeout 10 svc-supervisor validate "$path/x"
	done
	run -1 timeout 10 svc-supervisor validate "$T/pipe"
	[[ "$output" =~ "is not a directory" ]]
	not test -e "$T/new"
	# Text is not repeated, a number is not either.
	printf '{"container": {"interfaceName": "x"},\n "psk": hunter2}' >"$T/conf"
	run -1 svc-supervisor exec --plugin-path "$BIN" --host-id h1 -f "$T/conf" ADD x
	[[ "$output" =~ "line 2: is not JSON from here on" && ! "$output" =~ hunter2 ]]
	printf '{"container": 471123,\n "psk": "hunter2"}' >"$T/conf"
	run -1 svc-supervisor exec --plugin-path "$BIN" --host-id h1 -f "$T/conf" ADD x
	[[ "$output" =~ "does not fit" && ! "$output" =~ 471123|hunter2 ]]
}
