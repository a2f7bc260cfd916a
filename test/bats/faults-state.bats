#!/usr/bin/env bats
# The supervisor's own disk and its files NSDB, when they are full, closed, cut
# short or away: what cannot be read or written costs nothing that runs, is
# said in one line, and goes on from where it was when it is mended.

# shellcheck disable=SC2030,SC2031 # each test is a subshell
load helpers

# The containers' records are in what a test mounts or moves: it is mended
# before the supervisor winds up, and unmounted after.
teardown() {
	local failed=0
	mend
	usual_teardown || failed=1
	! mountpoint -q "$STATE" || umount -l "$STATE"
	return "$failed"
}

# mend undoes what the tests below do to the state directory.
mend() {
	! mountpoint -q "$STATE/containers" || umount "$STATE/containers"
	rm -f "$STATE/filler"
	if [ -d "$STATE/away" ]; then
		rm -rf "$STATE/containers"
		mv "$STATE/away" "$STATE/containers"
	fi
	[ -d "$STATE/containers" ] || return 0
	find "$STATE/containers" -name '*.ECHO' -type f -exec sed -i 's/"version": 99/"version": 1/' {} +
	find "$STATE/containers" -mindepth 1 ! -name '*.ECHO' ! -name '*.IPSEC' -delete
	find "$STATE/containers" -mindepth 1 ! -type f -delete
}

edit() { echo "{id: f-$1, text: edited}" | object "configurations/f-$1"; }

# row_is NAME STATUS REASON
row_is() {
	local said
	said=$(row "$1" '.status + " " + .reason')
	[[ "$said" =~ ^$2\ .*($3) ]] || { echo "row of $1: $said"; return 1; }
}

# spoil NAME: its record is from now on what is on standard input.
spoil() { cat >"$T/record" && cat "$T/record" >"$STATE/containers/$1.ECHO"; }

@test "a disk that is full holds what must be written, touches nothing, says so, and changes no status" {
	local life
	mkdir -p "$STATE"
	mount -t tmpfs -o size=128k,mode=700 tmpfs "$STATE"
	want a
	want c
	start
	eventually 10 runs a
	eventually 10 runs c
	life="$(life a) $(life c)"
	dd if=/dev/zero of="$STATE/filler" bs=4k status=none 2>/dev/null || true
	same "room" 0 "$(df --output=avail "$STATE" | tail -n 1 | xargs)"

	want b
	edit a
	unbind p-c
	eventually 10 row_is b HELD 'ADD failed, will be retried: write record b.ECHO: .*no space left on device'
	eventually 10 row_is a RUNNING 'reconfigure failed, will be retried: write record a.ECHO: .*no space left on device'
	eventually 10 row_is c RUNNING 'DEL failed, will be retried: write record c.ECHO: .*no space left on device'
	same "daemons" "$life" "$(life a) $(life c)"
	same "verbs" "ADD ADD" "$(verbs | xargs -n 2 | cut -d' ' -f1 | xargs)"
	same "status of b" "" "$(status c-b .code 2>/dev/null)"
	same "status of a" "RUNNING " "$(status c-a '.code + " " + .message')"
	same "records" "added hello, added hello" \
		"$(record a '.phase + " " + .conf.configuration.text'), $(record c '.phase + " " + .conf.configuration.text')"
	not test -e /run/netns/b

	# So it is for one that starts now.
	kill -KILL "$(supervisor_pid)"
	eventually 10 row_is a RUNNING 'no space left on device'
	eventually 10 row_is c RUNNING 'no space left on device'
	same "daemons" "$life" "$(life a) $(life c)"
	same "status of a" "RUNNING " "$(status c-a '.code + " " + .message')"

	rm "$STATE/filler"
	eventually 10 runs b
	eventually 10 is "added edited" record a '.phase + " " + .conf.configuration.text'
	eventually 10 gone c
	runs a
	same "daemon" "${life% *}" "$(life a)"
	unbind p-a
	unbind p-b
	eventually 10 is "" records
}

@test "a disk that is read-only holds what must be written; a start waits for it, and nothing is touched" {
	local life
	want a
	want c
	start
	eventually 10 runs a
	eventually 10 runs c
	life="$(life a) $(life c)"
	# Not the whole directory: its lock is open for writing, and keeps a person from it.
	mount --bind "$STATE/containers" "$STATE/containers"
	mount -o remount,bind,ro "$STATE/containers"
	want b
	edit a
	unbind p-c
	eventually 10 row_is b HELD 'ADD failed, will be retried: .*read-only file system'
	eventually 10 row_is a RUNNING 'reconfigure failed, will be retried: .*read-only file system'
	eventually 10 row_is c RUNNING 'DEL failed, will be retried: .*read-only file system'
	same "status of b" "" "$(status c-b .code 2>/dev/null)"
	same "status of a" "RUNNING " "$(status c-a '.code + " " + .message')"

	kill -KILL "$(supervisor_pid)"
	eventually 10 logged 'state directory.*read-only file system'
	same "daemons" "$life" "$(life a) $(life c)"
	same "verbs" "ADD ADD" "$(verbs | xargs -n 2 | cut -d' ' -f1 | xargs)"
	same "status of a" "RUNNING " "$(status c-a '.code + " " + .message')"
	not test -e /run/netns/b

	umount "$STATE/containers"
	eventually 10 runs b
	eventually 10 is "added edited" record a '.phase + " " + .conf.configuration.text'
	eventually 10 gone c
	runs a
	same "daemon" "${life% *}" "$(life a)"
}

logged() { journal | grep -qE "$1"; }

@test "records that are cut in half, emptied, garbage or another's: what is wanted and stands gets a new one in place" {
	local name life
	declare -A lives
	for name in half empty garbage anothers good; do
		want "$name"
	done
	start
	for name in half empty garbage anothers good; do
		eventually 10 runs "$name"
		lives[$name]=$(life "$name")
	done
	cp "$STATE/containers/good.ECHO" "$T/good"
	stop
	head -c $(($(stat -c %s "$STATE/containers/half.ECHO") / 2)) "$STATE/containers/half.ECHO" | spoil half
	spoil empty </dev/null
	head -c 700 /dev/urandom | spoil garbage
	spoil anothers <"$T/good"
	start
	for name in half empty garbage anothers; do
		eventually 10 runs "$name"
		same "daemon of $name" "${lives[$name]}" "$(life "$name")"
		same "verbs of $name" "ADD $name ADD $name" "$(verbs "$name")"
	done
	same "verbs of the good one" "ADD good" "$(verbs good)"
	runs good

	# The same under the eyes of a supervisor, which is not told of it.
	spoil half </dev/null
	edit half
	eventually 10 is "added edited" record half '.phase + " " + .conf.configuration.text'
	runs half
	same "daemon of half" "${lives[half]}" "$(life half)"

	# Where no executable can do it in place it is DEL by name alone, and ADD.
	stop
	executable echo 1.0.0 ECHO false
	spoil empty </dev/null
	: >"$CALLS"
	start
	eventually 10 is "DEL empty ADD empty" verbs
	eventually 10 runs empty
	same "configuration that DEL got" "null empty c-empty" \
		"$(calls '.verb == "DEL"' | jq -r '(.conf.configuration | tojson) + " " + .conf.container.interfaceName + " " + .id')"

	# A disk that loses what it holds is worth a line.
	for name in half empty garbage anothers; do
		eventually 1 logged "record $name.ECHO: damaged record"
	done
}

@test "a damaged record of a name that is not wanted is DEL by name alone, but not while a binding is unread" {
	local life
	want a
	want other
	start
	eventually 10 runs a
	eventually 10 runs other
	life=$(life a)
	stop
	unbind p-a
	cp "$NSDB/bindings/h1/p-other.yaml" "$T/good"
	printf '{id: [broken' | object bindings/h1/p-other
	echo '{"version": 1, "phase"' | spoil a
	start
	eventually 10 row_is a UNKNOWN 'record a.ECHO: damaged record'
	same "warnings" 1 "$(journal | grep -c 'msg="container held".*container=a .*damaged record')"
	same "daemon" "$life" "$(life a)"
	same "verbs" "ADD a" "$(verbs a)"
	same "status" RUNNING "$(status c-a .code)"
	mv "$T/good" "$NSDB/bindings/h1/p-other.yaml"
	eventually 10 gone a
	same "verbs" "ADD a DEL a" "$(verbs a)"
	same "what DEL got" "null a c-a /run/netns/a" \
		"$(calls '.verb == "DEL"' | jq -r '(.conf.configuration | tojson) + " " + .conf.container.interfaceName + " " + .id + " " + .netns')"
	runs other
	same "verbs of the other" "ADD other" "$(verbs other)"
}

@test "a damaged record whose namespace is gone, or that tags another container id, is DEL and ADD" {
	want lost
	want swapped
	start
	eventually 10 runs lost
	eventually 10 runs swapped
	stop
	systemctl stop svc-lost.service
	ip netns delete lost
	spoil lost </dev/null
	container c-new ECHO f-swapped
	bind p-swapped swapped c-new
	spoil swapped </dev/null
	start
	eventually 10 runs lost
	eventually 10 runs swapped c-new
	same "verbs of lost" "ADD lost DEL lost ADD lost" "$(verbs lost)"
	same "ids of swapped" "ADD c-swapped DEL c-swapped ADD c-new" \
		"$(calls '.name == "swapped"' | jq -r '.verb + " " + .id' | xargs)"
	eventually 5 not test -e "$STATUS/containers/h1/c-swapped.json"
}

@test "a container that is given another name waits for the former one, though that one's record does not tell what it holds" {
	want newer
	want empty
	start
	eventually 10 runs newer
	eventually 10 runs empty
	stop
	jq '.version = 99' "$STATE/containers/newer.ECHO" | spoil newer
	spoil empty </dev/null
	bind p-newer newer2 c-newer
	bind p-empty empty2 c-empty
	# shellcheck disable=SC2016 # expanded there
	mood DEL 'sleep 1; touch "$moods/deleted"'
	# shellcheck disable=SC2016 # expanded there
	mood ADD '[ "$name" != empty2 ] || [ -e "$moods/deleted" ] || touch "$moods/early"'
	start
	eventually 10 runs empty2 c-empty
	not test -e "$MOODS/early"
	same "verbs" "ADD empty DEL empty ADD empty2" "$(calls '.id == "c-empty"' | jq -r '.verb + " " + .name' | xargs)"
	eventually 10 row_is newer UNKNOWN 'record of a newer version'
	eventually 10 row_is newer2 HELD 'container id c-newer is held by newer'
	same "verbs of the newer" "ADD newer" "$(calls '.id == "c-newer"' | jq -r '.verb + " " + .name' | xargs)"
	same "status" "RUNNING newer" "$(status c-newer '.code + " " + .namespaceName')"
	sed -i 's/"version": 99/"version": 1/' "$STATE/containers/newer.ECHO"
	# No event tells of it: the record is looked at with growing delays, and who waits for it every 30 s.
	eventually 60 runs newer2 c-newer
	same "verbs" "ADD newer DEL newer ADD newer2" "$(calls '.id == "c-newer"' | jq -r '.verb + " " + .name' | xargs)"
}

@test "a damaged record of a tunnel: in place while it is wanted, by its name alone when it is not" {
	local life
	ipsec_executable
	vpn a 1
	start
	eventually 15 runs a c-a IPSEC
	life="$(life a) $(main_pid a) $(conns a)"
	stop
	: >"$STATE/containers/a.IPSEC"
	start
	eventually 15 runs a c-a IPSEC
	same "daemon and conns" "$life" "$(life a) $(main_pid a) $(conns a)"
	same "verbs" "ADD a ADD a" "$(verbs a)"
	stop
	: >"$STATE/containers/a.IPSEC"
	unbind p-a
	start
	eventually 15 gone a
	same "verbs" "ADD a ADD a DEL a" "$(verbs a)"
	not test -e /run/svc-ipsec/a
}

@test "a record of a newer version, and one that cannot be read, are left alone; foreign files stay where they are" {
	local life name
	want newer
	want loop
	want new
	want a
	unbind p-new
	start
	for name in newer loop a; do
		eventually 10 runs "$name"
	done
	life="$(life newer) $(life loop) $(life a)"
	stop
	pushd "$STATE/containers" >/dev/null
	cp newer.ECHO loop.ECHO "$T"
	jq '.version = 99 | .novelty = {}' "$T/newer.ECHO" | spoil newer
	rm loop.ECHO
	ln -s loop.ECHO loop.ECHO
	mkdir new.ECHO old
	cp a.ECHO x.ECHO.bak
	cp a.ECHO .a.ECHO.swp
	cp a.ECHO README
	: >.new-a.ECHO-123 # of an interrupted write
	popd >/dev/null
	unbind p-newer
	edit loop
	bind p-new new c-new
	start
	eventually 10 row_is newer UNKNOWN 'record newer.ECHO: record of a newer version: version 99, this program reads up to 1'
	eventually 10 row_is loop UNKNOWN 'read record: .*too many levels of symbolic links'
	eventually 10 row_is new UNKNOWN 'read record: .*is a directory'
	eventually 10 runs a
	want b # by whose life we know that all of it was looked at
	eventually 10 runs b
	same "warnings" "1 1 1" "$(for name in newer loop new; do journal | grep -c "msg=\"container held\".*container=$name "; done | xargs)"
	same "daemons" "$life" "$(life newer) $(life loop) $(life a)"
	same "statuses" "RUNNING RUNNING" "$(status c-newer .code) $(status c-loop .code)"
	same "status of new" "" "$(status c-new .code 2>/dev/null)"
	same "verbs" "ADD a ADD b ADD loop ADD newer" "$(verbs | xargs -n 2 | sort | xargs)"

	rm "$STATE/containers/loop.ECHO"
	cp "$T/newer.ECHO" "$T/loop.ECHO" "$STATE/containers"
	rmdir "$STATE/containers/new.ECHO"
	eventually 60 gone newer
	eventually 60 is "added edited" record loop '.phase + " " + .conf.configuration.text'
	eventually 60 runs new
	same "daemons" "${life#* }" "$(life loop) $(life a)"
	for name in old x.ECHO.bak .a.ECHO.swp README; do
		test -e "$STATE/containers/$name"
		rm -r "$STATE/containers/${name:?}"
	done
	not test -e "$STATE/containers/.new-a.ECHO-123"
}

@test "without its folder of records nothing is known: while it is away, and where a start finds a file in its place" {
	local life
	want a
	want c
	start
	eventually 10 runs a
	eventually 10 runs c
	life="$(life a) $(life c)"
	mv "$STATE/containers" "$STATE/away"
	edit a
	unbind p-c
	want b
	eventually 10 row_is a UNKNOWN 'read record: .*no such file or directory'
	eventually 10 row_is c UNKNOWN 'read record: .*no such file or directory'
	eventually 10 row_is b HELD 'ADD failed, will be retried: write record b.ECHO: .*no such file or directory'
	same "daemons" "$life" "$(life a) $(life c)"
	same "statuses" "RUNNING RUNNING " "$(status c-a .code) $(status c-c .code) $(status c-b .code 2>/dev/null)"

	: >"$STATE/containers"
	kill -KILL "$(supervisor_pid)"
	eventually 10 logged 'state directory.*not a directory'
	same "daemons" "$life" "$(life a) $(life c)"
	same "verbs" "ADD ADD" "$(verbs | xargs -n 2 | cut -d' ' -f1 | xargs)"

	rm "$STATE/containers"
	mv "$STATE/away" "$STATE/containers"
	eventually 10 runs b
	eventually 10 is "added edited" record a '.phase + " " + .conf.configuration.text'
	eventually 10 gone c
	runs a
	same "daemon" "${life% *}" "$(life a)"
}

# host_is_unread REASON; '' for a host that is known.
host_is_unread() {
	local said
	said=$(sup ps -o json | jq -r '.host.unread // ""')
	[[ "$said" =~ $1 && -n "$1" || -z "$1$said" ]] || { echo "host unknown: $said"; return 1; }
}

@test "an NSDB that is missing at the start, comes by a mount, goes with it, and comes back with other content" {
	local life now
	want a
	want b
	want same
	start
	for name in a b same; do
		eventually 10 runs "$name"
	done
	life="$(life a) $(life b) $(life same)"
	untouched() {
		same "daemons" "$life" "$(life a) $(life b) $(life same)" &&
			same "records" "a.ECHO b.ECHO same.ECHO" "$(records | xargs)" &&
			same "statuses" "RUNNING RUNNING RUNNING" "$(status c-a .code) $(status c-b .code) $(status c-same .code)" &&
			same "verbs" 3 "$(calls '.verb == "ADD" or .verb == "DEL" or .verb == "CHECK"' | wc -l)"
	}
	stop
	mv "$NSDB" "$T/real"
	start "SVC_NSDB=file://$NSDB?rescan=300ms" # no event tells of a mount
	eventually 10 host_is_unread 'does not exist'
	eventually 10 row_is a UNKNOWN 'does not exist'
	untouched
	mkdir "$NSDB"
	eventually 10 host_is_unread 'no Host object'
	untouched
	mount --bind "$T/real" "$NSDB"
	eventually 10 host_is_unread ''
	for name in a b same; do
		eventually 10 runs "$name"
	done
	untouched

	eventually 10 umount "$NSDB"
	eventually 10 host_is_unread 'no Host object'
	untouched
	now=$NSDB NSDB=$T/real
	edit a
	unbind p-b
	want c
	NSDB=$now
	sleep 1
	untouched
	mount --bind "$T/real" "$NSDB"
	eventually 10 runs c
	eventually 10 gone b
	eventually 10 is "added edited" record a '.phase + " " + .conf.configuration.text'
	same "verbs since" "ADD a ADD c DEL b" "$(calls '.verb == "ADD" or .verb == "DEL" or .verb == "CHECK"' | tail -n +4 |
		jq -r '.verb + " " + .name' | sort | xargs)"
	same "daemons" "${life%% *} ${life##* }" "$(life a) $(life same)"

	# wind_up has no business with mounts.
	stop
	umount "$NSDB"
	rmdir "$NSDB"
	mv "$T/real" "$NSDB"
}

@test "of an NSDB that can be read in half the other half is left as it runs, and then caught up with" {
	local name
	declare -A lives was=([loop]=configurations/f-loop [folder]=containers/c-folder [pipe]=bindings/h1/p-pipe
		[binary]=configurations/f-binary)
	for name in "${!was[@]}" good; do
		want "$name"
	done
	start "SVC_NSDB=file://$NSDB?rescan=300ms" SVC_PARALLEL=8
	for name in "${!was[@]}" good; do
		eventually 10 runs "$name"
		lives[$name]=$(life "$name")
	done
	mkdir "$T/good"
	for name in "${!was[@]}"; do
		mv "$NSDB/${was[$name]}.yaml" "$T/good/$name"
	done
	ln -s f-loop.yaml "$NSDB/configurations/f-loop.yaml"
	mkdir "$NSDB/containers/c-folder.yaml"
	mkfifo "$NSDB/bindings/h1/p-pipe.yaml"
	head -c 4000 /dev/urandom >"$NSDB/configurations/f-binary.yaml"
	edit good
	eventually 10 waits loop 'configurations/f-loop: .*too many levels of symbolic links'
	eventually 10 waits folder 'containers/c-folder: .*is a directory'
	eventually 10 waits pipe 'bindings/h1/p-pipe: .*is a named pipe'
	eventually 10 waits binary 'configurations/f-binary: '
	eventually 10 is edited record good .conf.configuration.text
	unchanged() {
		for name in "${!was[@]}"; do
			same "daemon of $name" "${lives[$name]}" "$(life "$name")" && same "verbs of $name" "ADD $name" "$(verbs "$name")" &&
				same "status of $name" RUNNING "$(status "c-$name" .code)" || return
		done
	}
	unchanged

	# The half that lists them all is gone too: nobody is unbound by that.
	mv "$NSDB/bindings" "$T/bindings"
	ln -s bindings "$NSDB/bindings"
	eventually 10 host_is_unread 'bindings'
	unchanged
	same "daemon of good" "${lives[good]}" "$(life good)"
	rm "$NSDB/bindings"
	mv "$T/bindings" "$NSDB/bindings"
	eventually 10 host_is_unread ''

	# Mended, two of them edited and one unbound meanwhile.
	sed -i 's/hello/edited/' "$T/good/loop" "$T/good/binary"
	for name in "${!was[@]}"; do
		rm -r "$NSDB/${was[$name]:?}.yaml"
		[ "$name" = pipe ] || mv "$T/good/$name" "$NSDB/${was[$name]}.yaml"
	done
	eventually 10 gone pipe
	for name in loop binary; do
		eventually 10 is "added edited" record "$name" '.phase + " " + .conf.configuration.text'
	done
	for name in loop folder binary good; do
		eventually 10 runs "$name"
		same "daemon of $name" "${lives[$name]}" "$(life "$name")"
	done
	same "deletions" "DEL pipe" "$(calls '.verb == "DEL"' | jq -r '.verb + " " + .name' | xargs)"
}
