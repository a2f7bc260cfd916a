# shellcheck shell=bash
# What a reboot leaves of a machine: the NSDB and the state directory, on /keep.

export NSDB=/keep/nsdb
load ../guest/helpers

disk_up() {
	mountpoint -q /keep || {
		echo "no machine's disk is at /keep: test/reboot/run makes one" >&2
		return 1
	}
	mkdir -p /keep/state "${STATE%/*}"
	mount --bind /keep/state "${STATE%/*}"
}
