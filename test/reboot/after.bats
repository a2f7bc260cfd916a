#!/usr/bin/env bats
# The second life. While the machine was off, one of its two containers was
# unbound, and another one bound.

load disk

setup_file() {
	disk_up
	same "records" "vpn-left.IPSEC vpn-spare.IPSEC" "$(contents "$STATE")"
	[ "$(boots)" != "$(boot)" ]
	rm "$NSDB/bindings/host-1/port-spare.yaml"
	bind_port right
	sites_up
	witness "$PROJECT/build/svc-ipsec"
	systemctl start svc-supervisor.service
}

teardown_file() { sites_down; }

boot() { cat /proc/sys/kernel/random/boot_id; }
# boots prints those of the records.
boots() { jq -r .bootId "$STATE"/* | uniq; }

@test "after the reboot every container that is wanted runs, and the sites reach each other" {
	within 90 is_running left
	within 90 is_running right
	within 30 ping_from left 10.1.0.10 10.2.0.10
	within 10 ping_from right 10.2.0.10 10.1.0.10
}

@test "nothing else is there" {
	within 30 test ! -e "$STATE/vpn-spare.IPSEC"
	within 30 test ! -e "$STATUS/spare.json"
	same "records" "vpn-left.IPSEC vpn-right.IPSEC" "$(contents "$STATE")"
	same "containers" "$(
		cat <<-END
			namespace vpn-left
			namespace vpn-right
			interface vpn-left
			interface vpn-right
			unit svc-vpn-left.service active
			unit svc-vpn-right.service active
		END
	)" "$(containers)"
	same "statuses" "left.json right.json" "$(contents "$STATUS")"
	same "folders of svc-ipsec" "vpn-left vpn-right" "$(contents /run/svc-ipsec)"
}

@test "what the other boot left of a container was removed by DEL, and only then it was added" {
	[[ "$(ran left)" == "DEL left ADD left"* ]]
	[[ "$(ran right)" == "ADD right"* ]]
	[[ "$(ran spare | xargs -n 2 | uniq)" == "DEL spare" ]]
	same "boots of the records" "$(boot)" "$(boots)"
}
