#!/usr/bin/env bats
# svc-ipsec under the runtimes that people run: podman with its CNI backend,
# and containerd, by way of ctr. Each is given a root of a few files and a
# network of bridge and svc-ipsec.

load helpers

CIDR=10.2.0.0/24

# What runtimes keep, and bridge leaves, is not ours to remove, but the tests'.
teardown() {
	if [ -n "${CONTAINERS_CONF:-}" ]; then pod rm --all --force --time 0 >/dev/null || true; fi
	if [ -n "${CTR:-}" ]; then
		# What ctr could not give a network waits to be started.
		box tasks delete --force box >/dev/null 2>&1 || true
		systemctl stop bats-containerd.service || true
		rm -f "$NETD/00-test.conflist" "$PLUGINS"/{svc-ipsec,bridge,host-local}
	fi
	# A veth goes with the namespace, some time after its last process.
	eventually 10 is "" ip -brief link show master br-test || true
	ip link delete br-test 2>/dev/null || true
	forget_results
	usual_teardown
}

# needs FILE…: what a test cannot do without. In the sandbox make bats has installed it.
needs() {
	local file
	for file; do
		[ -x "$file" ] || command -v "$file" >/dev/null || {
			echo "$file is missing: make tools, and test/ground/packages runtimes" >&2
			return 1
		}
	done
}

# rootfs makes the root of a container: sleep, and what it is linked to.
rootfs() {
	mkdir -p "$T"/root/{dev,proc,sys,etc,run,tmp}
	# shellcheck disable=SC2046 # paths of libraries, split on purpose
	cp -L --parents /bin/sleep $(ldd /bin/sleep | grep -o '/[^ ]*') "$T/root"
}

# chain [KEY…] prints a network of bridge and svc-ipsec; a KEY is a jq assignment on the configuration.
# Podman 4 takes the version from cniVersion and cannot read a result of 1.1.0.
chain() {
	site 10.88.0.2 200.200.200.2 10.1.0.0/24 "$CIDR" '. | del(.externalIps, .externalMac)' "$@" |
		jq --arg data "$T/ipam" '{cniVersion: "1.0.0", cniVersions: ["0.4.0", "1.0.0", "1.1.0"], name: "test", plugins: [
			{type: "bridge", bridge: "br-test", isGateway: true,
				ipam: {type: "host-local", dataDir: $data, ranges: [[{subnet: "10.88.0.0/24"}]], routes: [{dst: "0.0.0.0/0"}]}},
			{type: "svc-ipsec", configuration: .}]}'
}

addresses_held() { find "$T/ipam" -type f -name '10.*' 2>/dev/null; }

# joined PID: the process of a container is in a namespace with bridge's interface and our routes, guard and daemon.
joined() {
	local unit daemon
	unit=$(container_unit)
	[[ "$unit" =~ ^svc-x[0-9a-f]{10}\.service$ ]] || { echo "units: $unit"; return 1; }
	same "slice and state of $unit" "svc-ipsec.slice active" "$(systemctl show -P Slice -P ActiveState "$unit" | xargs)"
	daemon=$(systemctl show -P MainPID "$unit")
	same "program of $unit" pluto "$(cat "/proc/$daemon/comm")"
	not same "namespace" "$(stat -Lc %i /proc/self/ns/net)" "$(stat -Lc %i "/proc/$1/ns/net")" >/dev/null
	same "namespace of the daemon" "$(stat -Lc %i "/proc/$1/ns/net")" "$(stat -Lc %i "/proc/$daemon/ns/net")"
	same "address" "$(basename "$(addresses_held)")/24" "$(inside_of "$1" ip -j -4 address show dev eth0 | jq -r '.[0].addr_info[] | "\(.local)/\(.prefixlen)"')"
	inside_of "$1" ip route show "$CIDR" | grep -q 'via 10.88.0.1 dev eth0 .*mtu 1400'
	inside_of "$1" nft list table inet svc-ipsec | grep -qF "ip daddr $CIDR rt ipsec missing"
	same "conns of the daemon" 1 "$(whack "${unit:4:11}" --status | grep -oE '^[^ ]* *"[^"]+"' | cut -d'"' -f2 | sort -u | wc -l)"
}

inside_of() {
	local pid=$1
	shift
	nsenter -n -t "$pid" "$@"
}

# nothing_of_it: no container is left that a runtime had.
nothing_of_it() {
	same "units" "" "$(systemctl list-units --all --plain --no-legend 'svc-x*')" &&
		same "folders" "" "$(folders)" &&
		same "addresses held" "" "$(addresses_held)"
}

# Podman.

podman_setup() {
	needs podman crun conmon "$TOOLS/bridge" "$TOOLS/host-local"
	mkdir "$T/net.d"
	rootfs
	cat >"$T/containers.conf" <<-END
		[network]
		network_backend = "cni"
		cni_plugin_dirs = ["$LIBEXEC", "$TOOLS"]
		network_config_dir = "$T/net.d"
		[engine]
		cgroup_manager = "cgroupfs"
		events_logger = "none"
		runtime = "crun"
	END
	export CONTAINERS_CONF=$T/containers.conf
}

# pod ARG…: podman with a storage of the test's own.
pod() { timeout 60 podman --root "$T/storage" --runroot "$T/runroot" --tmpdir "$T/tmp" --storage-driver vfs "$@" 3>&-; }

pod_run() { pod run --detach --name box --cgroups=disabled --log-driver=none --network test --rootfs "$T/root" /bin/sleep 600; }

@test "podman: a container that is run after bridge has its tunnel's daemon, and takes it along when it goes" {
	podman_setup
	chain >"$T/net.d/10-test.conflist"
	pod_run
	joined "$(pod inspect -f '{{.State.Pid}}' box)"
	pod rm --force --time 0 box
	nothing_of_it
	# Again, and this time its process ends by itself: podman's own process calls DEL.
	pod_run
	joined "$(pod inspect -f '{{.State.Pid}}' box)"
	kill -KILL "$(pod inspect -f '{{.State.Pid}}' box)"
	eventually 30 nothing_of_it
	pod rm box
}

@test "podman: a configuration that is refused is told to the user, and nothing is left" {
	podman_setup
	chain '.externalIps = ["nonsense"]' >"$T/net.d/10-test.conflist"
	run pod_run
	# shellcheck disable=SC2154 # of run
	[ "$status" -ne 0 ]
	# shellcheck disable=SC2154 # of run
	[[ "$output" == *'configuration.externalIps "nonsense": allowed'* ]] || { echo "$output"; return 1; }
	nothing_of_it
	pod rm --force --time 0 box
}

# containerd.

NETD=/etc/cni/net.d PLUGINS=/opt/cni/bin

# ctr_setup starts a containerd of the test's own. Where ctr finds networks and plugins is fixed: on a host where these
# folders are used already, the test would change what the host's own containers get.
ctr_setup() {
	local found
	found=$(find "$NETD" "$PLUGINS" -mindepth 1 ! -name 87-podman-bridge.conflist 2>/dev/null | head -n 1)
	[ -z "$found" ] || skip "ctr's folders are in use: $found"
	CTR=1
	needs containerd containerd-shim-runc-v2 ctr runc "$TOOLS/bridge" "$TOOLS/host-local"
	mkdir -p "$NETD" "$PLUGINS"
	ln -s "$LIBEXEC/svc-ipsec" "$TOOLS/bridge" "$TOOLS/host-local" "$PLUGINS"
	rootfs
	cat >"$T/containerd.toml" <<-END
		version = 2
		root = "$T/containerd"
		state = "$T/containerd.state"
		disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper"]
		[grpc]
		address = "$T/containerd.sock"
	END
	systemd-run --quiet --unit=bats-containerd --collect --property=Type=notify containerd --config "$T/containerd.toml"
}

# The first file of all is ctr's network.
ctr_network() { cat >"$NETD/00-test.conflist"; }

box() { timeout 60 ctr --address "$T/containerd.sock" "$@"; }
box_pid() { box tasks list | awk '$1 == "box" && $3 == "RUNNING" { print $2; found = 1 } END { exit !found }'; }
# Shares of a processor, which ctr gives otherwise, need a controller that not each machine has in version 2.
box_run() { box run --rm --cni --cpu-shares 0 --rootfs "$T/root" box /bin/sleep 600 3>&-; }

@test "containerd: ctr's container has its tunnel's daemon, and takes it along though ctr's DEL names no namespace" {
	ctr_setup
	chain | ctr_network
	local ctr
	box_run &
	ctr=$!
	eventually 30 container_runs
	joined "$(box_pid)"
	box tasks kill --signal KILL box
	wait "$ctr" || true
	nothing_of_it
}

container_runs() { box_pid && [ -n "$(container_unit)" ] && same "connections" 1 "$(find /run/svc-ipsec/x*/conns -name '*.conf' | wc -l)"; }

@test "containerd: a configuration that is refused is told to the user, and nothing is left" {
	ctr_setup
	chain '.externalIps = ["nonsense"]' | ctr_network
	run box_run
	[ "$status" -ne 0 ]
	[[ "$output" == *'configuration.externalIps "nonsense": allowed'* ]] || { echo "$output"; return 1; }
	nothing_of_it
}
