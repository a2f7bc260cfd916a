package lab

// doorScript stands on the plugin path where svc-ipsec would. It writes down which verb began, and whether DEL was told
// more than a name (every DEL of a container with a record is), then becomes svc-ipsec: same process, same environment.
// Where a file waits for the verb at the door, it holds the arguments for strace, which then watches, as a process of its
// own beside it (-D).
const doorScript = `#!/bin/sh
door=/run/lab/doors/$CNI_CONTAINERID.$CNI_COMMAND
case $CNI_COMMAND in
ADD | DEL)
	conf=/run/lab/doors/.conf.$$
	# The configuration has keys. The file has no name when they are written, so a kill leaves none.
	exec 3>"$conf" 4<"$conf" 5<"$conf"
	rm "$conf"
	cat >&3
	knows=name
	case $(cat <&4) in *'"portId":"p-'*) knows=record ;; esac
	exec <&5 3>&- 4<&- 5<&-
	echo "$CNI_CONTAINERID $CNI_COMMAND $knows" >>/run/lab/verbs
	;;
esac
if [ -e "$door" ]; then
	mv "$door" "$door.taken"
	echo $$ >"$door.pid.new"
	mv "$door.pid.new" "$door.pid"
	exec env -i strace -D -f --seccomp-bpf -y -s 250 $(cat "$door.taken") \
		-E CNI_COMMAND="$CNI_COMMAND" -E CNI_CONTAINERID="$CNI_CONTAINERID" -E CNI_NETNS="$CNI_NETNS" \
		-E CNI_IFNAME="$CNI_IFNAME" -E CNI_PATH="$CNI_PATH" -E PATH="$PATH" -E LC_ALL=C -- @SVC_IPSEC@
fi
exec @SVC_IPSEC@
`

// lazyScript is an executable whose DEL does nothing and which cannot reconfigure: what it leaves, the supervisor has to
// take away, and an edit is DEL and ADD.
const lazyScript = `#!/bin/sh
set -eu
conf=$(cat)
name=${CNI_NETNS##*/}
tag=svc-supervisor:$name:$CNI_CONTAINERID
case $CNI_COMMAND in
VERSION)
	echo '{"cniVersion": "1.1.0", "supportedVersions": ["1.0.0", "1.1.0"], "serviceType": "LAZY", "serviceVersion": "1.0.0", "contractVersion": 1, "reconfigure": false}'
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
	knows=name
	case $conf in *'"portId":"p-'*) knows=record ;; esac
	echo "$CNI_CONTAINERID DEL $knows" >>/run/lab/verbs
	;;
esac
`

// nsenterScript stands in the place of nsenter, which is the first program of a daemon's unit. Where a file waits for the daemon
// of a container, it writes down its process id and becomes nsenter when the file is gone.
const nsenterScript = `#!/bin/sh
case " $* " in
*" launch /run/svc-ipsec/"*)
	for word; do
		case $word in /run/svc-ipsec/*) door=/run/lab/doors/${word##*/}.launch ;; esac
	done
	if [ -e "$door" ]; then
		echo $$ >"$door.pid.new"
		mv "$door.pid.new" "$door.pid"
		while [ -e "$door" ]; do sleep 0.02; done
	fi
	;;
esac
exec @NSENTER@ "$@"
`
