#!/usr/bin/env bats
# Which executable serves a type, and what a bad one can do: nothing but hold
# its own containers.

load helpers

# selected TYPE prints the file and version that serves new containers.
selected() { sup plugins -o json 2>/dev/null | jq -r --arg type "$1" '.executables[] | select(.type == $type and .selected) | .path + " " + .version'; }

# refusal FILE prints why a file is refused.
refusal() { sup plugins -o json 2>/dev/null | jq -r --arg path "$BIN/$1" '.refused[] | select(.path == $path) | .reason'; }

refused() { [[ "$(refusal "$1")" =~ $2 ]] || { echo "refusal of $1: $(refusal "$1")"; return 1; }; }

# versions prints which version ran each verb of a name.
versions() { jq -r --arg name "$1" 'select(.name == $name) | .verb + " " + .version' "$CALLS" | uniq | xargs; }

@test "of 1.9.0, 1.10.0 and 1.10.0-rc1 the highest is selected, and runs" {
	rm "$BIN/echo"
	executable echo-1.9.0 1.9.0
	executable echo-1.10.0-rc1 1.10.0-rc1
	executable echo-1.10.0 1.10.0
	want a
	start
	eventually 10 runs a
	same "selected" "$BIN/echo-1.10.0 1.10.0" "$(selected ECHO)"
	same "executables listed" 3 "$(sup plugins -o json | jq '.executables | length')"
	same "file that ran" "ADD echo-1.10.0" "$(jq -r 'select(.name == "a") | .verb + " " + .self' "$CALLS")"
	same "record" "$BIN/echo-1.10.0 1.10.0" "$(record a '.executable.path + " " + .executable.version')"
	[[ "$(sup plugins)" =~ echo-1.10.0\ +ECHO\ +1.10.0\ +selected ]]

	# The same without a supervisor.
	stop
	same "selected" "$BIN/echo-1.10.0 1.10.0" "$(selected ECHO)"
}

@test "of two files of one version the first on the path is selected" {
	mkdir "$T/second"
	cp "$BIN/echo" "$T/second/echo"
	cp "$BIN/echo" "$BIN/also"
	want a
	start SVC_PLUGIN_PATH="$T/second:$BIN"
	eventually 10 runs a
	same "file that ran" "$T/second/echo" "$(record a .executable.path)"
}

@test "a 2.0.0 dropped in serves the next ADD; what runs keeps its version for CHECK and DEL" {
	want a
	start SVC_CHECK_INTERVAL=500ms
	eventually 10 runs a
	executable echo-2 2.0.0
	eventually 5 is "$BIN/echo-2 2.0.0" selected ECHO
	want b
	eventually 10 runs b
	: >"$CALLS"
	eventually 10 is "CHECK 1.0.0" versions a
	eventually 10 is "CHECK 2.0.0" versions b
	same "rows" "1.0.0 2.0.0" "$(sup ps -o json | jq -r '.containers[].version' | xargs)"
	unbind p-a
	unbind p-b
	eventually 10 gone a
	eventually 10 gone b
	same "a" "CHECK 1.0.0 DEL 1.0.0" "$(versions a)"
	same "b" "CHECK 2.0.0 DEL 2.0.0" "$(versions b)"
}

@test "an edit goes to the highest version of the recorded major" {
	want a
	start
	eventually 10 runs a
	executable echo-2 2.0.0
	executable echo-1.1 1.1.0
	eventually 5 is "$BIN/echo-2 2.0.0" selected ECHO
	echo '{id: f-a, text: edited}' | object configurations/f-a
	eventually 10 is 1.1.0 record a .executable.version
	eventually 10 runs a
	same "a" "ADD 1.0.0 ADD 1.1.0" "$(versions a)"
}

@test "an edit that no version of the recorded major can make in place is DEL by the old and ADD by the highest" {
	executable echo 1.0.0 ECHO false
	want a
	start
	eventually 10 runs a
	executable echo-2 2.0.0
	eventually 5 is "$BIN/echo-2 2.0.0" selected ECHO
	echo '{id: f-a, text: edited}' | object configurations/f-a
	eventually 10 is 2.0.0 record a .executable.version
	eventually 10 runs a
	same "a" "ADD 1.0.0 DEL 1.0.0 ADD 2.0.0" "$(versions a)"
}

@test "where the recorded file is gone, the highest version removes" {
	want a
	start
	eventually 10 runs a
	executable echo-2 2.0.0
	rm "$BIN/echo"
	eventually 5 is "$BIN/echo-2 2.0.0" selected ECHO
	unbind p-a
	eventually 10 gone a
	same "a" "ADD 1.0.0 DEL 2.0.0" "$(versions a)"
}

@test "no executable at all: what runs goes on, DEL is held, and both heal when it is back" {
	want a
	start
	eventually 10 runs a
	local life
	life=$(life a)
	rm "$BIN/echo"
	eventually 5 is "" selected ECHO
	want b
	eventually 10 held b 'no executable serves type ECHO'
	unbind p-a
	eventually 10 is "no executable serves type ECHO" row a .reason
	same "daemon" "$life" "$(life a)"
	executable echo 1.0.0
	eventually 10 gone a
	eventually 10 runs b
}

@test "a file that cannot be trusted or does not answer holds its own type alone, and serves when it is mended" {
	local file type
	for file in noexec writable folder garbage silent hanging plain binary; do
		type=${file^^}
		executable "$file" 1.0.0 "$type"
		want "$file" "$type"
	done
	chmod 644 "$BIN/noexec"
	chmod 757 "$BIN/writable"
	mkdir -m 777 "$T/open"
	chmod 777 "$T/open"
	mv "$BIN/folder" "$T/open/folder"
	printf '#!/bin/sh\necho nonsense\n' >"$BIN/garbage"
	printf '#!/bin/sh\n' >"$BIN/silent"
	cp "$BIN/hanging" "$T/good-hanging"
	printf '#!/bin/sh\nsetsid sleep 86399 &\nsleep 86398\n' >"$BIN/hanging"
	printf '#!/bin/sh\necho "{\\"cniVersion\\": \\"1.1.0\\", \\"supportedVersions\\": [\\"1.1.0\\"]}"\n' >"$BIN/plain"
	printf '\177ELF nonsense' >"$BIN/binary"
	want a
	start SVC_PLUGIN_PATH="$BIN:$T/open"
	eventually 15 runs a
	# What is not found is held when the whole path was read: the file that hangs has up to 25 s on a busy machine.
	for file in noexec writable folder garbage silent hanging plain binary; do
		eventually 40 held "$file" "no executable serves type ${file^^}"
	done
	refused noexec 'not executable'
	refused writable 'writable by others than root'
	BIN=$T/open refused folder 'its directory .* is writable by others than root'
	refused garbage VERSION
	refused silent VERSION
	refused hanging 'deadline of 5s'
	refused plain 'serviceType'
	refused binary 'VERSION: start .*: exec format error'
	same "verbs" "ADD a" "$(verbs)"

	chmod 755 "$BIN/noexec" "$BIN/writable" "$T/open"
	for file in garbage silent plain binary; do
		executable "$file" 1.0.0 "${file^^}"
	done
	mv "$T/good-hanging" "$BIN/hanging"
	for file in noexec writable folder garbage silent hanging plain binary; do
		eventually 40 runs "$file" "c-$file" "${file^^}"
	done
	runs a
	eventually 5 is "" pgrep -f 'sleep 8639[89]'
}

@test "an executable whose path another user can change is refused, and what runs goes on" {
	local life
	mkdir -p "$T/owned/bin" "$T/sticky/bin"
	PATHS=$BIN:$T/owned/bin:$T/sticky/bin
	executable other 1.0.0 OTHER
	mv "$BIN/other" "$T/owned/bin/other"
	executable third 1.0.0 THIRD
	mv "$BIN/third" "$T/sticky/bin/third"
	want a OTHER
	start SVC_PLUGIN_PATH="$PATHS"
	eventually 10 runs a c-a OTHER
	life=$(life a)

	chown nobody "$T/owned"
	chmod 1777 "$T/sticky"
	want b OTHER
	want c THIRD
	eventually 10 held b 'no executable serves type OTHER'
	eventually 10 held c 'no executable serves type THIRD'
	BIN=$T/owned/bin refused other "its directory $T/owned is writable by others than root"
	BIN=$T/sticky/bin refused third "its directory $T/sticky is writable by others than root"
	# What the owner of the directory puts there is not run.
	rm "$T/owned/bin/other"
	printf '#!/bin/sh\ntouch %s/ran\n' "$T" >"$T/owned/bin/other"
	chmod 755 "$T/owned/bin/other"
	sleep 3 # two looks at the plugin path
	not test -e "$T/ran"
	same "daemon" "$life" "$(life a)"

	executable other 1.0.0 OTHER
	mv "$BIN/other" "$T/owned/bin/other"
	chown root "$T/owned"
	chmod 755 "$T/sticky"
	eventually 10 runs b c-b OTHER
	eventually 10 runs c c-c THIRD
	same "daemon" "$life" "$(life a)"
}

@test "an ADD that says nothing, nonsense, 1 GB, another's unit, or hangs holds its own container alone, and heals" {
	local name pid
	# shellcheck disable=SC2016 # expanded there
	mood ADD 'case $name in
		silent) exit 0 ;;
		garbage) echo "this is fine"; exit 0 ;;
		flood) head -c 1000000000 /dev/zero | tr "\0" " "; exit 0 ;;
		stderr) head -c 100000000 /dev/zero | tr "\0" "x" >&2; fail 7 "enough said" ;;
		hanging) setsid sleep 86399 & sleep 86398 ;;
		killed) kill -9 $$ ;;
		mute) exit 5 ;;
		thief) printf "%s" "{\"cniVersion\": \"1.1.0\", \"interfaces\": [], \"units\": [\"svc-a.service\"]}"; exit 0 ;;
		child) sleep 86397 & ;;
	esac'
	for name in silent garbage flood stderr hanging killed mute thief child a; do
		want "$name"
	done
	start SVC_VERB_TIMEOUT=10s SVC_PARALLEL=16
	pid=$(supervisor_pid)
	eventually 15 runs a
	eventually 15 runs child
	eventually 5 is "" pgrep -f 'sleep 86397'
	eventually 15 error_is stderr 'enough said \(code 7\)'
	eventually 30 error_is silent 'result'
	eventually 30 error_is garbage 'result'
	eventually 30 error_is flood 'more than 1048576 bytes on stdout'
	eventually 60 error_is hanging 'deadline of 10s'
	eventually 30 error_is killed 'killed'
	eventually 30 error_is mute 'exit status 5 without an error object'
	eventually 30 error_is thief 'units "svc-a.service": allowed: svc-thief.service'
	same "supervisor" "$pid" "$(supervisor_pid)"
	# A gigabyte went by, and some of it was looked at.
	[ "$(awk '/^VmHWM/ { print $2 }' "/proc/$pid/status")" -lt 150000 ]

	mood ADD
	executable echo 1.0.1 # another executable ends every back-off
	for name in silent garbage flood stderr hanging killed mute thief; do
		eventually 60 runs "$name"
	done
	runs a
	eventually 5 is "" pgrep -f 'sleep 8639[89]'
	same "verbs of a" "ADD a" "$(verbs a)"
}

# error_is NAME REASON: the status of its container is ERROR, with this reason.
error_is() {
	local said
	said=$(status "c-$1" '.code + " " + .message')
	[[ "$said" =~ ^ERROR\ .*$2 ]] || { echo "status of $1: $said"; return 1; }
}

@test "an error object is an error whatever the exit status, and malformed output is quoted in one line" {
	local name
	# shellcheck disable=SC2016 # expanded there
	mood ADD 'case $name in
		polite) echo "{\"cniVersion\": \"1.1.0\", \"code\": 7, \"msg\": \"key x\"}"; exit 0 ;;
		noisy) printf "debug: one\ntwo\n"; result; exit 0 ;;
		quoted) echo "{\"cniVersion\": \"1.1.0\", \"code\": \"7\"}"; exit 0 ;;
	esac'
	for name in polite noisy quoted a; do
		want "$name"
	done
	start
	eventually 15 runs a
	eventually 15 error_is polite 'key x \(code 7\)$'
	eventually 30 error_is noisy 'result "debug: one\\ntwo\\n\{.*\(the first 64 of [0-9]+ bytes\): allowed: a JSON object and nothing else$'
	eventually 30 error_is quoted 'key code: a JSON string does not fit: printed "\{.*"$'

	# DEL that fails in the same way keeps the record, so that it is repeated.
	mood DEL 'echo "{\"cniVersion\": \"1.1.0\", \"code\": 101, \"msg\": \"still there\"}"; exit 0'
	unbind p-a
	eventually 15 is deleting record a .phase
	eventually 15 matches a 'DEL failed, will be retried: still there \(code 101\)'
	mood DEL
	mood ADD
	eventually 20 gone a
}

# matches NAME REASON: ps shows this reason.
matches() {
	local said
	said=$(row "$1" .reason)
	[[ "$said" =~ $2 ]] || { echo "reason of $1: $said"; return 1; }
}

@test "code 11 is not a failure: the status is kept, and ADD is retried soon" {
	mood ADD '[ -e "$moods/go" ] || fail 11 "try again later"'
	want a
	start
	eventually 10 waits a 'try again later'
	same "status" STARTING "$(status c-a .code)"
	touch "$MOODS/go"
	eventually 30 runs a
}

@test "CHECK counts only as an answer, and only twice: then it is DEL and ADD" {
	want a
	start SVC_CHECK_INTERVAL=300ms SVC_VERB_TIMEOUT=5s
	eventually 10 runs a
	local life
	life=$(life a)
	mood CHECK 'kill -9 $$'
	: >"$CALLS"
	eventually 15 at_least 3 CHECK
	mood CHECK 'sleep 86398'
	: >"$CALLS"
	eventually 60 at_least 2 CHECK
	mood CHECK
	: >"$CALLS"
	eventually 15 at_least 1 CHECK
	same "daemon" "$life" "$(life a)"
	same "deletions" "" "$(calls '.verb == "DEL"')"

	mood DEL 'touch "$moods/well"'
	mood CHECK '[ -e "$moods/well" ] || { echo >>"$moods/unwell"; fail 102 "not well"; }'
	: >"$CALLS"
	eventually 15 at_least 1 DEL
	eventually 10 runs a
	same "CHECKs that answered with an error" 2 "$(wc -l <"$MOODS/unwell")"
}

at_least() { [ "$(calls ".verb == \"$2\"" | wc -l)" -ge "$1" ]; }

@test "a STATUS that is not good holds new containers alone, says what is missing, and heals" {
	want a
	start
	eventually 10 runs a
	mood STATUS 'fail 50 "no ipsec installed"'
	executable echo 1.0.1 # STATUS is asked again when a file changes
	eventually 5 is "no ipsec installed (code 50)" unready
	want b
	eventually 10 held b 'no ipsec installed'
	echo '{id: f-a, text: edited}' | object configurations/f-a
	eventually 10 is edited record a .conf.configuration.text
	mood STATUS
	eventually 10 runs b
	same "unready" "" "$(unready)"
}

unready() { sup plugins -o json | jq -r '.executables[0].unready // ""'; }

@test "a type that nobody serves is an ERROR, until somebody does" {
	want a NOBODY
	start
	eventually 10 held a 'no executable serves type NOBODY'
	same "records" "" "$(records)"
	executable nobody 0.1.0 NOBODY
	eventually 10 runs a c-a NOBODY
}

@test "a verb gets exactly CNI's variables, PATH and LC_ALL, and no file of the supervisor's" {
	mood ADD 'tr "\0" "\n" </proc/$$/environ | sort >"$moods/environment"; readlink /proc/$$/fd/* >"$moods/files"; cat /proc/$$/cgroup >"$moods/group"'
	want a
	start SVC_PLUGIN_PATH="$BIN:/opt/svc/bin"
	eventually 10 runs a
	diff - "$MOODS/environment" <<-END
		CNI_COMMAND=ADD
		CNI_CONTAINERID=c-a
		CNI_IFNAME=svc0
		CNI_NETNS=/run/netns/a
		CNI_PATH=$BIN:/opt/svc/bin
		LC_ALL=C
		PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
	END
	# The three pipes, and what the shell itself reads.
	same "other files" "" "$(grep -v -e '^pipe:' -e "^$BIN/echo" -e "^$MOODS/" "$MOODS/files")"
	grep -q svc-supervisor.service "$MOODS/group"
}
