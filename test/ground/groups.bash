# shellcheck shell=bash disable=SC2154 # work is the ground's that sources it
# Control groups of a ground's own, one in every mounted hierarchy: what a
# ground starts can be found and killed by them whatever it forks, and nothing
# that a systemd does in its hierarchy touches the caller's.
# Sourced; $work/groups lists the folders, for the janitor too.

# parent_group CONTROLLERS PATH prints the folder of the caller's control
# group in that hierarchy. In version 2 (no CONTROLLERS), where a group with
# processes of its own hands no controllers down, it is the next one above
# that does, or else the caller's.
parent_group() {
	local root mount group above
	# 4 and 5: what of the hierarchy is mounted, and where.
	read -r root mount < <(awk -v id="$1" '{
		for (i = 7; $i != "-"; i++);
		if (id == "" ? $(i + 1) == "cgroup2" \
		    : $(i + 1) == "cgroup" && index("," $NF ",", "," id ",")) { print $4, $5; exit }
	}' /proc/self/mountinfo) || return 0
	[ "$root" = / ] && root=""
	group=$mount${2#"$root"}
	group=${group%/}
	[ -d "$group" ] || group=$mount
	above=$group
	while [ -z "$1" ] && [ "$above" != "$mount" ] && [ -z "$(<"$above/cgroup.subtree_control")" ]; do
		above=${above%/*}
	done
	[ -n "$1" ] || [ -z "$(<"$above/cgroup.subtree_control")" ] || group=$above
	echo "$group"
}

# make_groups NAME makes a control group NAME in every hierarchy. It fails if
# none of them is of version 2.
make_groups() {
	local controllers path parent group file unified=""
	: >"$work/groups"
	while IFS=: read -r _ controllers path; do
		parent=$(parent_group "$controllers" "$path")
		[ -n "$parent" ] || continue
		group=$parent/$1
		echo "$group" >>"$work/groups"
		mkdir "$group"
		[ -n "$controllers" ] || unified=$group
		# A version 1 cpuset takes no process before it has processors and memory.
		for file in cpuset.cpus cpuset.mems; do
			[ -z "$controllers" ] || [ ! -e "$group/$file" ] || cat "$parent/$file" >"$group/$file"
		done
	done </proc/self/cgroup
	[ -n "$unified" ]
}

# enter_groups BELOW puts the calling shell into them. BELOW is "" or a child
# group in version 2, where a group that hands controllers down takes no process.
enter_groups() {
	local group
	while read -r group; do
		[ ! -e "$group/cgroup.controllers" ] || group=$group$1
		echo "$BASHPID" >"$group/cgroup.procs"
	done <"$work/groups"
}
