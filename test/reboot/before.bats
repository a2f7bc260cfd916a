#!/usr/bin/env bats
# The first life of the machine. It ends with the guest, while all runs.

load disk

setup_file() {
	disk_up
	sites_up
	previous_version
	systemctl start svc-supervisor.service
}

# spare binds a third container, to a peer that is nowhere.
spare() {
	local file
	for file in configurations containers; do
		sed 's/\bleft\b/spare/g; s/200\.200\.200\.2/192.0.2.99/' "$NSDB/$file/left.yaml" >"$NSDB/$file/spare.yaml"
	done
	sed '/^bridge/d; s/\bleft\b/spare/g; s/169\.254\.0\.1/169.254.0.9/; s/:01$/:09/' \
		"$EXAMPLE/nsdb/bindings/host-1/port-left.yaml" >"$NSDB/bindings/host-1/port-spare.yaml"
}

@test "two containers run when the machine goes down, one of the version before" {
	bind_port left
	within 90 is_running left
	present_version
	systemctl restart svc-supervisor.service
	spare
	within 90 is_running spare
	same "records" "vpn-left.IPSEC vpn-spare.IPSEC" "$(contents "$STATE")"
	same "versions" "$("$PREVIOUS/svc-supervisor" --version | awk '{ print $3 }') $(svc-supervisor --version | awk '{ print $3 }')" "$(jq -r .executable.version "$STATE"/* | xargs)"
}
