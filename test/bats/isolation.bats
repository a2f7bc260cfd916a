#!/usr/bin/env bats
# What a daemon reaches that an attacker controls. A program with exactly the daemon's rights (test/isolation/attack) is the
# main process of the unit of container left. It tries everything; root tries the same, to show that the attempt would
# succeed with more rights.
# shellcheck disable=SC2030,SC2031 # each test is a subshell

load helpers

ATTACK=$TOOLS/attack
PLUTO=/usr/libexec/ipsec/pluto
DROP_INS=(/run/systemd/system/svc-supervisor.service.d/no-user-namespaces.conf /run/systemd/system/svc-left.service.d)

eval "usual_$(declare -f setup)"

setup() {
	usual_setup
	mv "$PLUTO" "$PLUTO.real"
	install -m 755 "$ATTACK" "$PLUTO"
	echo left >"$PLUTO.captured"
	HELPERS=()
	ETC=$(content_of /etc)
}

teardown() {
	local failed=0
	[ "${#HELPERS[@]}" = 0 ] || kill "${HELPERS[@]}" 2>/dev/null || true
	usual_teardown || failed=1
	mv "$PLUTO.real" "$PLUTO"
	rm -rf "$PLUTO.captured" /run/attack-was-executed "${DROP_INS[@]}"
	systemctl daemon-reload
	same "what /etc has" "$ETC" "$(content_of /etc)" || failed=1
	return "$failed"
}

# content_of DIRECTORY prints names, kinds, sizes and times of all that is in it.
content_of() { find "$1" -printf '%p %M %U %s %T@\n' | sort | md5sum; }

# begin [NAME=VALUE…] starts the supervisor with containers left, which is captured, and right, which is not.
begin() {
	vpn left 1
	vpn right 2
	start SVC_PLUGIN_PATH="$LIBEXEC" SVC_CHECK_INTERVAL=1s "$@"
	eventually 30 runs left c-left IPSEC
	eventually 30 runs right c-right IPSEC
	eventually 10 is ok captive nothing
	USER_ID=$(stat -c %g /run/svc-ipsec/left)
	RIGHT=$(main_pid right)
	# A process of the host that is nobody's daemon.
	sleep 1000 3>&- &
	HOST_PROCESS=$!
	HELPERS+=("$HOST_PROCESS")
}

# captive WORD… makes the captured daemon of container left try something.
captive() { "$ATTACK" ask left "$@"; }

# attempts: lines of standard input are "sentence | words | outcome for the captured daemon | outcome for root [| words of
# root]". An outcome is a pattern; root's attempt is left out where it is "-".
attempts() {
	local sentence words wanted control words_of_root got failed=0 number=0
	while IFS='|' read -r sentence words wanted control words_of_root; do
		number=$((number + 1))
		wanted=$(xargs <<<"$wanted") control=$(xargs <<<"$control")
		# shellcheck disable=SC2086 # the words of the table
		got=$(captive $words)
		# shellcheck disable=SC2053 # patterns
		[[ $got == $wanted ]] || {
			echo "the captured daemon $sentence: $got, want $wanted"
			failed=1
		}
		[ "$control" != - ] || continue
		# shellcheck disable=SC2086
		got=$("${AS_ROOT[@]}" "$ATTACK" try ${words_of_root:-$words})
		# shellcheck disable=SC2053
		[[ $got == $control ]] || {
			echo "root $sentence: $got, want $control"
			failed=1
		}
	done
	[ "$number" -gt 0 ] && [ "$failed" = 0 ]
}
AS_ROOT=()

# files_and_processes makes the attempts whose outcome does not depend on who owns the network namespace.
files_and_processes() {
	local own=/run/svc-ipsec/left run=/run/svc-ipsec/left/run other=/run/svc-ipsec/right pids
	mkdir -p "$T/root" "$T/mounted"
	echo "files that are the host's, the supervisor's, another container's or only read by the daemon"
	attempts <<-END
		reads the host's passwords             | read /etc/shadow                              | ENOENT | ok
		reads the state of its own container   | read $own/state.json                          | EACCES | ok
		reads the keys of another container    | read $other/etc/ipsec.secrets                 | EACCES | ok
		reads a record of the supervisor       | read $STATE/containers/right.IPSEC            | ENOENT | ok
		reads the registry of user ids         | list /run/svc-user-ids                        | ENOENT | has:*
		lists the network namespaces           | list /run/netns                               | ENOENT | has:*
		lists the containers                   | list /run/svc-ipsec                           | EACCES | has:*
		lists its own directory                | list $own                                     | EACCES | has:*
		locks its own directory, as verbs do   | lock $own                                     | EACCES | ok     | lock $T/root
		locks the directory of all containers  | lock /run/svc-ipsec                           | EACCES | ok
		locks its directory run                | lock $run                                     | ok     | -
		lists /                                | list /                                        | has: bin dev etc lib* proc run sbin sys tmp usr var | has:*home*root*
		lists homes                            | list /root                                    | ENOENT | has:*
		lists /dev                             | list /dev                                     | has: full null random urandom zero | has:*pts*
		lists /run                             | list /run                                     | has: svc-ipsec svc-ipsec-launch systemd | has:*dbus*
		lists /sys                             | list /sys                                     | has: | has:*kernel*
		lists /tmp                             | list /tmp                                     | has: | has:*
		lists /var                             | list /var                                     | has: | has:*lib*
		reads the kernel's log                 | read /proc/kmsg                               | EACCES | ok
		reads the environment of PID 1         | read /proc/1/environ                          | ENOENT | ok
		changes the pattern of core files      | open-to-write /proc/sys/kernel/core_pattern   | EACCES | -
		changes any other kernel setting       | open-all /proc/sys                            | has:   | has:*/proc/sys/net/*
		changes what is below /proc            | writable /proc                                | has:*( /proc/pressure/+([a-z])) | has:*/proc/kmsg*
		changes its key database               | open-to-write $own/nss/pkcs11.txt             | EACCES | ok
		puts a file into its key database      | create $own/nss/new                           | EACCES | ok
		replaces a file of its key database    | rename $own/nss/pkcs11.txt $own/nss/moved     | EACCES | -
		changes its configuration              | open-to-write $own/etc/ipsec.conf             | EACCES | ok
		puts a file into its configuration     | create $own/conns/new.conf                    | EACCES | ok
		puts a file into its directory         | create $own/new                               | EACCES | ok
		makes a container's directory          | create /run/svc-ipsec/new                     | EACCES | ok
		puts a file into run                   | create $run/new                               | ok     | ok
		writes to /usr                         | create /usr/bin/new                           | EROFS  | ok
		writes to /tmp                         | create /tmp/new                               | EROFS  | ok
		writes to /var                         | create /var/new                               | EROFS  | ok
		writes to /dev                         | create /dev/new                               | EROFS  | ok
		writes to the launcher                 | open-to-write /run/svc-ipsec-launch           | EACCES | [oE][kT]* | open-to-write $LIBEXEC/svc-ipsec
	END
	echo "what it makes below run"
	attempts <<-END
		makes a directory                      | make-directory $run/up                        | EEXIST | ok   | make-directory $T/root/up
		makes a symbolic link                  | make-link /etc $run/up                        | SIGSYS | ok   | make-link /etc $T/root/link
		makes a hard link                      | make-hard-link $own/etc/ipsec.conf $run/hard  | SIGSYS | ok   | make-hard-link $T/conf.json $T/root/hard
		makes a FIFO                           | make-pipe $run/push                           | SIGSYS | ok   | make-pipe $T/root/pipe
		makes a device                         | make-device $run/device                       | SIGSYS | ok   | make-device $T/root/device
		makes a set-user-ID program            | make-setuid $run/program                      | EPERM  | ok   | make-setuid $T/root/program
		makes a socket                         | listen $run/up                                | ok     | -
		executes a file                        | execute $run/program                          | EACCES | ok   | execute $T/root/program
		executes a file of memory              | execute-memory                                | ok     | ok
		writes a file of 1 MiB                 | write $run/large 1048576                      | ok     | ok   | write $T/root/large 1048576
		writes a larger one                    | write $run/large 1048577                      | EFBIG  | ok   | write $T/root/large 1048577
		removes a socket                       | remove $run/up                                | ok     | -
	END
	echo "sockets"
	attempts <<-END
		connects to D-Bus                      | connect /run/dbus/system_bus_socket           | ENOENT | ok
		connects to systemd                    | connect /run/systemd/private                  | ENOENT | ok
		connects to the journal's streams      | connect /run/systemd/journal/stdout           | ENOENT | ok
		connects to the journal                | connect-packet /run/systemd/journal/socket    | ENOENT | ok
		connects to the notify socket          | connect-packet /run/systemd/notify            | ok     | ok
		connects to the supervisor             | connect /run/svc-supervisor/api.sock          | ENOENT | ok
		connects to the supervisor's health    | connect-packet /run/svc-supervisor/health.sock | ENOENT | ok
		connects to another daemon             | connect $other/run/pluto.ctl                  | EACCES | ok
		connects to an abstract socket of the host | connect @attack-test                      | ECONNREFUSED | ok
	END
	echo "processes and namespaces"
	pids=$(xargs <"/sys/fs/cgroup$(systemctl show -P ControlGroup svc-left.service)/cgroup.procs")
	attempts <<-END
		sees processes                         | processes                                     | has: $pids | has: 1 *
		signals another daemon                 | signal $RIGHT                                 | EPERM  | ok
		signals PID 1                          | signal 1                                      | EPERM  | ok
		reads another's environment            | read /proc/$RIGHT/environ                     | ENOENT | ok
		reads another's files                  | list /proc/$RIGHT/root                        | ENOENT | has:*
		opens another's memory                 | write-memory $RIGHT                           | ENOENT | ok
		traces another                         | trace $RIGHT                                  | SIGSYS | ok
		reads another's memory                 | read-memory $RIGHT                            | SIGSYS | EFAULT
		takes another's files                  | take-file $RIGHT                              | SIGSYS | ok
		changes another's limits               | limit $RIGHT                                  | EPERM  | ok   | limit $HOST_PROCESS
		changes another's priority             | priority $RIGHT                               | EPERM  | ok
		enters a namespace of PID 1            | enter /proc/1/ns/net                          | ENOENT | ok
		enters that of another container       | enter /run/netns/right                        | ENOENT | ok
		enters its own user namespace anew     | enter /proc/self/ns/user                      | EPERM  | -
		enters its own network namespace anew  | enter /proc/self/ns/net                       | EPERM  | ok
		enters it by its kind                  | enter-kind net /proc/self/ns/net              | EPERM  | ok
		enters its mount view by its kind      | enter-kind mnt /proc/self/ns/mnt              | EPERM  | -
		enters its user namespace by its kind  | enter-kind user /proc/self/ns/user            | EINVAL | -
		unshares a mount namespace             | unshare mnt                                   | SIGSYS | ok
		unshares a network namespace           | unshare net                                   | SIGSYS | ok
		unshares a user namespace              | unshare user                                  | SIGSYS | -
		makes a user namespace                 | clone user                                    | EPERM  | ok
		makes a mount namespace                | clone mnt                                     | EPERM  | ok
		makes a network namespace              | clone net                                     | EPERM  | ok
		makes a process id namespace           | clone pid                                     | EPERM  | ok
		makes a user namespace by clone3       | clone3 user                                   | ENOSYS | ok
		replaces its /proc/self/exe            | replace-exe /bin/true                         | EPERM  | -
		mounts                                 | mount /tmp                                    | SIGSYS | ok   | mount $T/mounted
		unmounts                               | unmount /dev/null                             | SIGSYS | ok   | unmount $T/mounted
		changes its root                       | change-root /tmp                              | SIGSYS | ok
	END
	echo "interfaces of the kernel"
	attempts <<-END
		uses io_uring                          | io-uring                                      | SIGSYS | ok
		uses userfaultfd                       | userfault                                     | SIGSYS | ok
		loads a BPF program                    | bpf                                           | SIGSYS | ok
		uses performance events                | perf                                          | SIGSYS | ok
		uses keyrings                          | keys                                          | SIGSYS | ok
		makes shared memory                    | shared-memory                                 | SIGSYS | ok
		makes a message queue                  | message-queue                                 | SIGSYS | ok
		makes a semaphore                      | semaphores                                    | SIGSYS | ok
		makes a POSIX message queue            | posix-queue                                   | SIGSYS | ok
		maps memory that is code and writable  | writable-code                                 | E[AP]* | ok
		gets a real-time priority              | real-time                                     | EPERM  | -
		changes its personality                | personality                                   | EPERM  | ok
		sets the clock                         | set-time                                      | SIGSYS | EFAULT
		loads a module                         | load-module                                   | SIGSYS | -
		opens a packet socket                  | packet-socket                                 | EAFNOSUPPORT | ok
		opens a socket of the crypto API       | alg-socket                                    | EAFNOSUPPORT | -
		opens a vsock                          | vsock-socket                                  | EAFNOSUPPORT | -
		opens a raw socket                     | raw-socket                                    | EPERM  | ok
		opens netlink for routes               | netlink-socket 0                              | ok     | ok
		opens netlink for sockets              | netlink-socket 4                              | EPROTONOSUPPORT | ok
		opens netlink for XFRM                 | netlink-socket 6                              | ok     | ok
		opens netlink for audit                | netlink-socket 9                              | EPROTONOSUPPORT | ok
		opens netlink for nf_tables            | netlink-socket 12                             | EPROTONOSUPPORT | ok
		opens netlink for device events        | netlink-socket 15                             | EPROTONOSUPPORT | ok
		opens generic netlink                  | netlink-socket 16                             | EPROTONOSUPPORT | ok
	END
	ipcrm -M 0x5c0ffee -Q 0x5c0ffee -S 0x5c0ffee
}

# abstract_socket listens at an abstract address of the host.
abstract_socket() {
	# shellcheck disable=SC2016 # Perl's variables
	perl -MSocket -e 'socket(my $s, AF_UNIX, SOCK_STREAM, 0); bind($s, pack_sockaddr_un("\0attack-test")) && listen($s, 5) or die "$!"; sleep 1000' 3>&- &
	HELPERS+=("$!")
	eventually 10 is ok "$ATTACK" try connect @attack-test
}

@test "with a user namespace: no file, process, socket or other interface of the host or of another container" {
	begin
	abstract_socket
	echo "{}" >"$T/conf.json"
	[[ $(captive identity) == "Uid=0,0,0,0 Gid=0,0,0,0 Groups= CapInh=0000000000000000 CapPrm=0000000000001400 CapEff=0000000000001400 CapBnd=0000000000001400 CapAmb=0000000000000000 NoNewPrivs=1 Seccomp=2" ]]
	same "user on the host" "$USER_ID $USER_ID" "$(stat -c '%u %g' "/proc/$(main_pid left)")"
	same "number of user namespaces that it may make" 0 "$(nsenter --target "$(main_pid left)" --user cat /proc/sys/user/max_user_namespaces)"
	files_and_processes
}

@test "without a user namespace: no file, process, socket or other interface of the host or of another container" {
	without_user_namespaces
	begin
	abstract_socket
	echo "{}" >"$T/conf.json"
	local ids="$USER_ID,$USER_ID,$USER_ID,$USER_ID"
	same "rights" "Uid=$ids Gid=$ids Groups= CapInh=0000000000001400 CapPrm=0000000000001400 CapEff=0000000000001400 CapBnd=0000000000001400 CapAmb=0000000000001400 NoNewPrivs=1 Seccomp=2" "$(captive identity)"
	files_and_processes
	attempts <<-END
		becomes root         | become-root   | EPERM | ok
		becomes another user | become-nobody | EPERM | ok
	END
}

# without_user_namespaces starts supervisors on what looks like a host that does not allow them.
without_user_namespaces() {
	printf '[Service]\nRestrictNamespaces=~user\n' >"${DROP_INS[0]}"
	systemctl daemon-reload
}

# with_bridge makes a bridge on the host, and a veth of a tenant.
with_bridge() {
	ip link add br-host type bridge
	ip link add tenant type veth peer name tenant-end
	BRIDGE=$(cat /sys/class/net/br-host/ifindex)
	AS_ROOT=(ip netns exec left)
}

@test "with a user namespace: no link outside of the container is listed, made, changed or deleted" {
	begin
	with_bridge
	local links
	links=$(ip -o link)
	# The kernel lets it name any network namespace, which is of no use: each request that carries the name is refused.
	AS_ROOT=(true)
	attempts <<-END
		names the network namespace of the host           | name-namespace $HOST_PROCESS                | ok     | -
		names that of another container                   | name-namespace $RIGHT                       | ok     | -
		lists the links of the host                       | list-links $HOST_PROCESS                    | EACCES | -
		lists the links of another container              | list-links $RIGHT                           | EACCES | -
		lists the addresses of the host                   | list-addresses $HOST_PROCESS                | EACCES | -
		finds a link of the host                          | find-link $HOST_PROCESS br-host             | EACCES | -
		adds a link to the host by the namespace's id     | add-link-by-id $HOST_PROCESS attack1        | EPERM  | -
		adds a link to the host by a process id           | add-link-by-pid $HOST_PROCESS attack2       | EPERM  | -
		adds a link to the host by the namespace's file   | add-link-by-file $HOST_PROCESS attack3      | ENOENT | -
		adds a port to a bridge of the host               | add-port-by-id $HOST_PROCESS attack4 $BRIDGE | EPERM | -
		adds a link to another container                  | add-link-by-id $RIGHT attack5               | EPERM  | -
		adds a link to another container by a process id  | add-link-by-pid $RIGHT attack6              | EPERM  | -
		moves its interface to the host                   | move-link-by-pid $HOST_PROCESS svc0         | EPERM  | -
		moves its interface to another container          | move-link-by-pid $RIGHT svc0                | EPERM  | -
		deletes a link of the host                        | delete-link-by-id $HOST_PROCESS tenant      | EACCES | -
		deletes the other end of its own interface        | delete-link-by-id $HOST_PROCESS left        | EACCES | -
		deletes a link of another container               | delete-link-by-id $RIGHT svc0               | EACCES | -
		changes a link of its own                         | set-alias lo attack                         | ok     | -
	END
	same "links of the host" "$links" "$(ip -o link)"
	eventually 10 runs right c-right IPSEC
	ip link delete br-host
	ip link delete tenant
}

@test "without a user namespace: the links of the host are in reach, and health and ps say so" {
	without_user_namespaces
	begin
	with_bridge
	local reason="the daemon has CAP_NET_ADMIN on the host"
	[[ $(PLUGIN_PATH=$LIBEXEC row left .health.message) == *"$reason"* ]]
	[[ $(status c-left .message) == *"$reason"* ]]
	[[ $(PLUGIN_PATH=$LIBEXEC sup ps | grep '^left ') == *"$reason"* ]]
	attempts <<-END
		names the network namespace of the host           | name-namespace $HOST_PROCESS                | ok     | ok
		lists the links of the host                       | list-links $HOST_PROCESS                    | has:*br-host*tenant* | has:*br-host*tenant*
		lists the addresses of the host                   | list-addresses $HOST_PROCESS                | ok     | ok
		finds a link of the host                          | find-link $HOST_PROCESS br-host             | ok     | ok
		adds a link to the host by the namespace's id     | add-link-by-id $HOST_PROCESS attack1        | ok     | EEXIST
		adds a link to the host by a process id           | add-link-by-pid $HOST_PROCESS attack2       | ok     | EEXIST
		adds a link to the host by the namespace's file   | add-link-by-file $HOST_PROCESS attack3      | ENOENT | ok
		adds a port to a bridge of the host               | add-port-by-id $HOST_PROCESS attack4 $BRIDGE | ok    | EEXIST
		deletes a link of the host                        | delete-link-by-id $HOST_PROCESS tenant      | ok     | ENODEV
	END
	same "master of the port" br-host "$(ip -j link show dev attack4 | jq -r '.[0].master')"
	local link
	for link in attack1 attack2 attack3 attack4 br-host; do
		ip link delete "$link"
	done
}

# more_checks N: the supervisor has run N more CHECKs of left since checked was called.
checked() { CHECKED=$(outcomes CHECK left | wc -l); }
more_checks() { [ "$(outcomes CHECK left | wc -l)" -ge $((CHECKED + $1)) ]; }

# edit [KEY…] gives container left a second connection, which is named passwd.
edit() {
	site 100.100.1.2 200.200.1.2 10.1.1.0/24 10.2.1.0/24 '.connections[0].initiator = "response-only"' \
		'.connections += [.connections[0] * {id: "passwd", name: "passwd", peerCidrs: ["10.5.1.0/24"]}]' "$@" |
		with_id f-left | object configurations/f-left
}
has_conns() { [ "$(conns left | wc -w)" = "$1" ]; }

@test "D1: nothing is executed of a file that the daemon has put in the place of its executable" {
	# The program that the daemon becomes is larger than what it could write otherwise.
	mkdir "${DROP_INS[1]}"
	printf '[Service]\nLimitFSIZE=infinity\n' >"${DROP_INS[1]}/limit.conf"
	systemctl daemon-reload
	begin
	local pid life
	pid=$(main_pid left) life=$(life left)
	captive replace
	eventually 10 is ok captive nothing
	same "main process" "$pid" "$(main_pid left)"
	[[ $(readlink "/proc/$pid/exe") == /memfd:attack* ]]
	"/proc/$pid/exe" --version
	[ -e /run/attack-was-executed ] # so whoever executes it is seen
	rm /run/attack-was-executed

	edit
	eventually 20 has_conns 2
	checked
	eventually 60 more_checks 2
	whack left --status | grep -q passwd
	same "daemon" "$life" "$(life left)"
	unbind p-left
	eventually 20 gone left
	not test -e /run/attack-was-executed
}

# traps fills the directory run of container left with what might mislead a verb. The unit keeps a daemon from making most of it;
# root makes it, to test that nothing depends on that.
traps() {
	local run=/run/svc-ipsec/left/run
	rm -f "$run/pluto.pid"
	ln -s /etc "$run/up"
	ln -s /etc "$run/conns"
	ln -s /etc/passwd "$run/pluto.pid"
	ln -s /etc/passwd "$run/passwd"
	ln -s . "$run/loop"
	mkfifo "$run/push" "$run/state.json" "$run/.new-1"
	mkdir -m 0 "$run/closed"
	# Deeper than a path can be long.
	perl -e 'chdir $ARGV[0] or die; for (1 .. 2500) { mkdir "deep" or die "$_: $!"; chdir "deep" or die "$_: $!" }' "$run"
	chown -hR "$USER_ID:$USER_ID" "$run"
}

@test "D4: links, FIFOs and deep trees in run lead no verb outside and make none wait" {
	begin
	local pid
	pid=$(main_pid left)
	traps
	edit
	eventually 20 has_conns 2
	checked
	eventually 60 more_checks 2
	edit 'del(.connections[1])'
	eventually 20 has_conns 1
	eventually 20 runs left c-left IPSEC # ADD has ended
	[ -L /run/svc-ipsec/left/run/up ]

	# The next daemon begins with an empty directory.
	kill -KILL "$pid"
	eventually 20 is ok captive nothing
	not same "daemon" "$pid" "$(main_pid left)"
	same "what is left" "" "$(find /run/svc-ipsec/left/run -mindepth 1 ! -name 'pluto.*' ! -name orders)"
	eventually 10 runs left c-left IPSEC

	traps
	unbind p-left
	eventually 20 gone left
	not test -e /run/svc-ipsec/left
	same "outcomes" ok "$(for verb in ADD CHECK DEL; do outcomes "$verb" left; done | sort -u | xargs)"
}

# fails VERB: a run of the verb for container left has failed.
fails() { outcomes "$1" left | grep -qv '^ok'; }

@test "D5: no verb is led to another container's daemon, and none waits for a silent one" {
	begin
	local socket=/run/svc-ipsec/left/run/pluto.ctl life
	life=$(life right)
	whack right --status | grep -q 10.1.2.0/24
	mv "$socket" "$socket.real"
	ln -s /run/svc-ipsec/right/run/pluto.ctl "$socket"
	chown -h "$USER_ID:$USER_ID" "$socket"
	/usr/libexec/ipsec/whack --ctlsocket "$socket" --status | grep -q 10.1.2.0/24 # root is led there
	run --separate-stderr whack left --status
	# shellcheck disable=SC2154 # of run
	same "status and output of whack" "33 " "$status $output" # no daemon in reach
	edit
	eventually 80 fails CHECK # and then the container is made anew
	same "conns of the other" 1 "$(conns right | wc -w)"

	eventually 180 has_conns 2
	eventually 180 runs left c-left IPSEC
	eventually 10 is ok captive nothing
	checked
	rm "$socket"
	same "silent daemon" ok "$(captive silent "$socket")"
	edit 'del(.connections[1])'
	eventually 180 has_conns 1
	eventually 180 runs left c-left IPSEC
	# Each verb ended by itself, and not at the supervisor's time limit.
	same "verbs without an answer" "" "$(for verb in ADD CHECK DEL; do outcomes "$verb" left; done | grep -v '^ok$\|(code [0-9]*)"$')"
	same "life of the other" "$life" "$(life right)"
}

@test "D3: nothing in the key database can be written by the daemon, with certificates" {
	local file keys
	keys=$(mktemp -d /srv/bats-keys.XXXXXX)
	"$ATTACK" try make-credentials "$keys"
	begin
	edit 'del(.connections[0]) | .connections[0] |= (del(.psk) * {peerId: "right.example.org", authMode: "certificate",
		certificate: {certificateFile: "'"$keys"'/left.pem", privateKeyFile: "'"$keys"'/left.key", caFile: "'"$keys"'/ca.pem"}})'
	eventually 20 is passwd-0-0 conns left
	certutil -K -d sql:/run/svc-ipsec/left/nss | grep ' ec '
	for file in /run/svc-ipsec/left/nss/*; do
		attempts <<-END
			reads $file | read $file | ok   | ok
			changes it | open-to-write $file | EACCES | ok
			removes it | remove $file | EACCES | -
			replaces it | rename /run/svc-ipsec/left/run/pluto.pid $file | EACCES | -
		END
	done
	same "files with other modes" "" "$(find /run/svc-ipsec/left/nss -type f ! -perm 640 -o ! -user 0 -o ! -group "$USER_ID")"
	same "libraries that the database names" "library=" "$(grep ^library= /run/svc-ipsec/left/nss/pkcs11.txt)"
	rm -r "$keys"
}

@test "a message to systemd concerns the unit alone, and the log has no level of the daemon's choice" {
	begin
	local pid
	pid=$(main_pid left)
	for foreign in "$HOST_PROCESS" "$RIGHT" 1; do
		same "message" ok "$(captive notify "MAINPID=$foreign")"
		same "message" ok "$(captive notify "STATUS=after $foreign")" # they are read in their order
		eventually 10 is "after $foreign" systemctl show -P StatusText svc-left.service
		same "main process" "$pid" "$(main_pid left)"
	done
	same "line" ok "$(captive print "<0>attack")"
	eventually 10 is 6 level_of "<0>attack"
	systemd-run --quiet --wait sh -c 'echo "<2>control"'
	eventually 10 is 2 level_of control
}

# level_of TEXT prints the level of a message in the journal.
level_of() { journalctl --quiet --after-cursor "$BEGAN" -o json | jq -r --arg text "$1" 'select(.MESSAGE == $text) | .PRIORITY'; }

@test "whack of an operator has no terminal, and the daemon's answers cannot control one" {
	begin
	mv "${PLUTO%/*}/whack" "${PLUTO%/*}/whack.real"
	cat >"${PLUTO%/*}/whack" <<-'END'
		#!/bin/sh
		printf 'red \033[31m\n'
		echo "terminal $(cut -d' ' -f7 /proc/self/stat)"
		for fd in 0 1 2; do [ -t "$fd" ] && echo "open at $fd"; done
		exit 7
	END
	chmod 755 "${PLUTO%/*}/whack"
	local said status=0
	said=$(script -qec "$LIBEXEC/svc-ipsec ctl left --status" /dev/null) || status=$?
	mv "${PLUTO%/*}/whack.real" "${PLUTO%/*}/whack"
	same "what it said" "red ?[31m terminal 0" "$(tr -d '\r' <<<"$said" | xargs)"
	same "status" 7 "$status"
}

# whack_waits makes the captured daemon silent, and an operator's whack wait for it: its process id is in WHACK.
whack_waits() {
	same "silent daemon" ok "$(captive silent /run/svc-ipsec/left/run/pluto.ctl)"
	whack left --status 3>&- &
	HELPERS+=("$!")
	eventually 10 whack_runs
	WHACK=$(pgrep -u "$USER_ID" -x whack | head -n 1)
}
whack_runs() { pgrep -u "$USER_ID" -x whack; }

# another_program makes the attempts on a program that a verb or an operator runs with the daemon's user id.
another_program() {
	whack_waits
	attempts <<-END
		signals whack           | signal $WHACK              | ok     | ok
		opens whack's memory    | write-memory $WHACK        | ENOENT | ok
		reads whack's variables | read /proc/$WHACK/environ  | ENOENT | ok
		opens whack's output    | read /proc/$WHACK/fd/1     | ENOENT | -
	END
}

@test "with a user namespace: no program that has the daemon's user id is taken over" {
	begin SVC_CHECK_INTERVAL=1h
	another_program
}

@test "without a user namespace: no program that has the daemon's user id is taken over" {
	without_user_namespaces
	begin SVC_CHECK_INTERVAL=1h
	another_program
}
