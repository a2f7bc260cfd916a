# shellcheck shell=bash
# Three IPSEC containers that are observed every second.

three_containers() {
	local name
	ipsec_executable
	vpn left 1
	vpn middle 2
	vpn right 3
	start SVC_CHECK_INTERVAL=1s SVC_RESYNC=5s
	for name in left middle right; do eventually 240 runs "$name" "c-$name" IPSEC; done
}

# untouched LIVES WHEN: the daemons are those of before, and no verb but the first ADD and CHECK ran.
untouched() {
	same "daemons $2" "$1" "$(lives left middle right)"
	same "DELs $2" "" "$(verbs | grep -o 'DEL [a-z]*' | xargs)"
	same "daemons that run $2" "active active active" \
		"$(systemctl show -P ActiveState svc-left.service svc-middle.service svc-right.service | xargs)"
}
