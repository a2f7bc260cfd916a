package lab

// ipsecScript is on the plugin path in the place of svc-ipsec. It appends the verb to the file Verbs, with the word
// record if it got the full configuration (as every DEL of a container with a record does), and name otherwise. Then it
// executes svc-ipsec in the same process with the same environment. If there is a breakpoint file for the container and
// the verb, that file contains arguments for strace, which then traces svc-ipsec from a process of its own (-D).
const ipsecScript = `#!/bin/sh
breakpoint=/run/lab/breakpoints/$CNI_CONTAINERID.$CNI_COMMAND
case $CNI_COMMAND in
ADD | DEL)
	conf=/run/lab/breakpoints/.conf.$$
	# The configuration contains keys. They are written to an unlinked file, so that a kill leaves no file with keys.
	exec 3>"$conf" 4<"$conf" 5<"$conf"
	rm "$conf"
	cat >&3
	source=name
	case $(cat <&4) in *'"portId":"p-'*) source=record ;; esac
	exec <&5 3>&- 4<&- 5<&-
	echo "$CNI_CONTAINERID $CNI_COMMAND $source" >>/run/lab/verbs
	;;
esac
if [ -e "$breakpoint" ]; then
	mv "$breakpoint" "$breakpoint.taken"
	echo $$ >"$breakpoint.pid.new"
	mv "$breakpoint.pid.new" "$breakpoint.pid"
	exec env -i strace -D -f --seccomp-bpf -y -s 250 $(cat "$breakpoint.taken") \
		-E CNI_COMMAND="$CNI_COMMAND" -E CNI_CONTAINERID="$CNI_CONTAINERID" -E CNI_NETNS="$CNI_NETNS" \
		-E CNI_IFNAME="$CNI_IFNAME" -E CNI_PATH="$CNI_PATH" -E PATH="$PATH" -E LC_ALL=C -- @SVC_IPSEC@
fi
exec @SVC_IPSEC@
`

// lazyScript is an executable whose DEL does nothing, so that the supervisor has to remove everything. It cannot
// reconfigure, so an edit is DEL and ADD.
const lazyScript = `#!/bin/sh
set -eu
conf=$(cat)
name=${CNI_NETNS##*/}
tag=svc-supervisor:$name:$CNI_CONTAINERID
case $CNI_COMMAND in
VERSION)
	echo '{"cniVersion": "1.1.0", "supportedVersions": ["1.0.0", "1.1.0"], "serviceType": "LAZY",
		"serviceVersion": "1.0.0", "contractVersion": 1, "reconfigure": false}'
	;;
ADD)
	echo "$CNI_CONTAINERID ADD record" >>/run/lab/verbs
	ip -n "$name" link add svc-outside type veth peer name svc0
	ip -n "$name" link set svc-outside alias "$tag"
	ip -n "$name" link set svc-outside netns 1 name "$name"
	systemd-run --quiet --unit="svc-$name.service" --slice=svc-lazy.slice --property=Type=exec \
		--property=NetworkNamespacePath="$CNI_NETNS" --setenv=SVC_OWNER="$tag" sleep infinity
	printf '{"cniVersion": "1.1.0", "interfaces": [], "units": ["svc-%s.service"]}\n' "$name"
	;;
DEL)
	source=name
	case $conf in *'"portId":"p-'*) source=record ;; esac
	echo "$CNI_CONTAINERID DEL $source" >>/run/lab/verbs
	;;
esac
`

// nsenterScript replaces nsenter, which is the first program of a daemon's unit. If there is a breakpoint file for the
// daemon of the container, it writes its process id to a file, and waits until the breakpoint file is removed. Then it
// executes nsenter.
const nsenterScript = `#!/bin/sh
case " $* " in
*" launch /run/svc-ipsec/"*)
	for argument; do
		case $argument in /run/svc-ipsec/*) breakpoint=/run/lab/breakpoints/${argument##*/}.launch ;; esac
	done
	if [ -e "$breakpoint" ]; then
		echo $$ >"$breakpoint.pid.new"
		mv "$breakpoint.pid.new" "$breakpoint.pid"
		while [ -e "$breakpoint" ]; do sleep 0.02; done
	fi
	;;
esac
exec @NSENTER@ "$@"
`
