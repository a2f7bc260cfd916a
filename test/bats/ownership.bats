#!/usr/bin/env bats
# Whose a network namespace and a user id are, whatever the programs in the
# namespace do and whatever a crash leaves.

load helpers

# registered TAG prints the user ids that are registered with an owner tag.
registered() { grep -lxsF "$1" /run/svc-user-ids/[0-9]* | xargs -r -n1 basename; }

checks() { outcomes CHECK left | wc -l; }
more_checks() { [ "$(checks)" -gt "$1" ]; }

# inside COMMAND…: as root of the user namespace of the container, in its network namespace.
inside() { nsenter --target "$(main_pid left)" --user --net "$@"; }

# untouched LIFE: the supervisor has looked at the container after now, and it runs on.
untouched() {
	local checks
	restart
	checks=$(checks)
	eventually 60 more_checks $((checks + 1))
	same "row" RUNNING "$(PLUGIN_PATH=$LIBEXEC row left .status)"
	same "status" RUNNING "$(status c-left .code)"
	same "life of the unit" "$1" "$(life left)"
}

@test "a container stays its supervisor's when its daemon changes lo, and unbinding removes it" {
	vpn left 1
	start SVC_PLUGIN_PATH="$LIBEXEC" SVC_CHECK_INTERVAL=1s
	eventually 20 runs left c-left IPSEC
	[ -n "$(registered svc-supervisor:left:c-left)" ]
	local life
	life=$(life left)
	inside ip link set dev lo alias svc-supervisor:other:c-other
	same "alias of lo" svc-supervisor:other:c-other "$(tag_of left)"
	untouched "$life"
	inside ip link set dev lo down
	inside ip link set dev lo name renamed
	untouched "$life"
	unbind p-left
	eventually 20 gone left
	same "user id" "" "$(registered svc-supervisor:left:c-left)"
}

@test "a user id without anything else is given back, unless a plugin or another network has it" {
	install -d -m 700 /run/svc-user-ids
	mkdir -p /run/svc-bats-plugin/kept
	echo svc-supervisor:ghost:c-ghost >/run/svc-user-ids/2100060000
	echo svc-supervisor:kept:c-kept >/run/svc-user-ids/2100060001
	echo other-network:ghost:c-ghost >/run/svc-user-ids/2100060002
	start
	eventually 10 is "" registered svc-supervisor:ghost:c-ghost
	same "id of a container with a directory" 2100060001 "$(registered svc-supervisor:kept:c-kept)"
	same "id of another network" 2100060002 "$(registered other-network:ghost:c-ghost)"
	rm -r /run/svc-bats-plugin
	restart
	eventually 10 is "" registered svc-supervisor:kept:c-kept
	rm /run/svc-user-ids/2100060002
}

@test "a lock on /run/netns that any user holds keeps no container from being made and removed" {
	want a
	start
	eventually 10 runs a
	setpriv --reuid=65534 --regid=65534 --clear-groups flock /run/netns sleep 86395 3>&- &
	eventually 5 not flock --nonblock /run/netns true
	want b
	unbind p-a
	eventually 30 runs b
	eventually 30 gone a
	unbind p-b
	eventually 30 gone b
	# The lock of the supervisor's own is closed to that user.
	not setpriv --reuid=65534 --regid=65534 --clear-groups flock --nonblock /run/.svc-netns-lock true
	not flock --nonblock /run/netns true
	pkill -f 'sleep 8639[5]'
	journal | grep -q 'lock of iproute2 is held by another program'
}
