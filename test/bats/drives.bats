#!/usr/bin/env bats
# What drives a container (docs: the NSDB), row by row.

load helpers

@test "a binding that appears with a container makes it" {
	start
	want a
	eventually 10 runs a
	same "verbs" "ADD a" "$(verbs)"
	same "records" a.ECHO "$(records)"
	same "mode of the record" 600 "$(stat -c %a "$STATE/containers/a.ECHO")"
	same "namespace of the process" "$(stat -Lc %i /run/netns/a)" \
		"$(stat -Lc %i "/proc/$(systemctl show -P MainPID svc-a.service)/ns/net")"
	same "host id in the status" h1 "$(status c-a .hostId)"
	eventually 5 is 1 jq .count "$STATUS/hosts/h1.json"
}

@test "a binding that gets a container makes it; as a plain port it was ignored" {
	want seen
	bind p-a a ""
	start
	eventually 10 runs seen
	same "row of a plain port" "" "$(row a .status)"
	same "verbs" "ADD seen" "$(verbs)"
	not test -e /run/netns/a

	want a
	eventually 10 runs a
}

@test "a binding that goes takes its container along" {
	want a
	want b
	start
	eventually 10 runs a
	eventually 10 runs b
	unbind p-a
	eventually 10 gone a
	runs b
	same "verbs of a" "ADD a DEL a" "$(verbs a)"
	same "verbs of b" "ADD b" "$(verbs b)"
}

@test "a binding that loses its container loses it alone" {
	want a
	start
	eventually 10 runs a
	bind p-a a ""
	eventually 10 gone a
	same "verbs" "ADD a DEL a" "$(verbs)"
}

@test "a binding that moves to another host takes its container along" {
	want a
	start
	eventually 10 runs a
	sed "s/hostId: h1/hostId: h2/" "$NSDB/bindings/h1/p-a.yaml" | object bindings/h2/p-a
	unbind p-a
	eventually 10 gone a
	same "verbs" "ADD a DEL a" "$(verbs)"
}

@test "the bindings of other hosts are ignored" {
	container c-other ECHO f1
	configuration f1
	bind p-other other c-other
	mkdir "$NSDB/bindings/h2"
	sed "s/hostId: h1/hostId: h2/" "$NSDB/bindings/h1/p-other.yaml" >"$NSDB/bindings/h2/p-other.yaml"
	unbind p-other
	want a
	start
	eventually 10 runs a
	gone other
	same "verbs" "ADD a" "$(verbs)"
}

@test "another interface name: the new one waits until the old record is gone" {
	want a
	start
	eventually 10 runs a
	mood DEL 'while [ ! -e "$moods/go" ]; do sleep 0.05; done'
	bind p-a b c-a
	eventually 10 waits b 'held by a'
	eventually 5 is "ADD a DEL a" verbs
	same "record of a" deleting "$(record a .phase)"
	not test -e /run/netns/b
	touch "$MOODS/go"
	eventually 10 runs b c-a
	same "verbs" "ADD a DEL a ADD b" "$(verbs)"
	same "records" b.ECHO "$(records)"
	not test -e /run/netns/a
	same "row of a" "" "$(row a .status)"
}

@test "a binding that names another container: the old one goes, the new one comes" {
	want a
	start
	eventually 10 runs a
	container c-new ECHO f-a
	bind p-a a c-new
	eventually 10 runs a c-new
	same "verbs" "ADD a DEL a ADD a" "$(verbs)"
	same "ids" "c-a c-a c-new" "$(calls '.verb == "ADD" or .verb == "DEL"' | jq -r .id | xargs)"
	eventually 5 not test -e "$STATUS/containers/h1/c-a.json"
}

@test "another service type: the old type's executable removes, the new one's makes" {
	executable other 2.0.0 OTHER
	want a
	start
	eventually 10 runs a
	container c-a OTHER f-a
	eventually 10 runs a c-a OTHER
	same "executables" "ADD:echo DEL:echo ADD:other" \
		"$(jq -r 'select(.verb == "ADD" or .verb == "DEL") | .verb + ":" + .self' "$CALLS" | xargs)"
	same "records" a.OTHER "$(records)"
}

@test "an edit reconfigures the container if its plugin can, and touches no other container" {
	want a
	want b
	start
	eventually 10 runs a
	eventually 10 runs b
	local life
	life=$(life a)
	echo '{id: f-a, text: edited, more: ["\"; rm -rf /", "$(id)"]}' | object configurations/f-a
	eventually 10 is edited record a .conf.configuration.text
	eventually 10 runs a
	same "verbs" "ADD a ADD a" "$(verbs a)"
	same "verbs of b" "ADD b" "$(verbs b)"
	same "daemon of a" "$life" "$(life a)"
	same "configuration that ADD got" '{"id":"f-a","text":"edited","more":["\"; rm -rf /","$(id)"]}' \
		"$(calls '.name == "a"' | tail -n 1 | jq -c .conf.configuration)"
	same "records" "a.ECHO b.ECHO" "$(records | xargs)"
}

@test "an edited configuration is DEL and ADD where the executable cannot change in place" {
	executable echo 1.0.0 ECHO false
	want a
	start
	eventually 10 runs a
	local life
	life=$(life a)
	echo '{id: f-a, text: edited}' | object configurations/f-a
	eventually 10 is "ADD a DEL a ADD a" verbs
	eventually 10 runs a
	not same "daemon" "$life" "$(life a)"
}

@test "code 100 of a reconfigure leads to DEL and ADD" {
	want a
	start
	eventually 10 runs a
	mood ADD 'systemctl is-active --quiet "$unit" && fail 100 "cannot be done in place"'
	echo '{id: f-a, text: edited}' | object configurations/f-a
	eventually 10 is "ADD a ADD a DEL a ADD a" verbs
	eventually 10 runs a
}

@test "a failed reconfigure leaves the container running, shows the reason and is retried" {
	want a
	start
	eventually 10 runs a
	local life
	life=$(life a)
	mood ADD 'fail 7 "text: not liked"'
	echo '{id: f-a, text: edited}' | object configurations/f-a
	eventually 10 is "RUNNING change failed: text: not liked (code 7)" status c-a '.code + " " + .message'
	same "record" changing "$(record a .phase)"
	same "configuration before" hello "$(record a .previous.configuration.text)"
	same "daemon" "$life" "$(life a)"
	mood ADD
	eventually 10 runs a
	eventually 5 is "RUNNING " status c-a '.code + " " + .message'
	same "daemon" "$life" "$(life a)"
	same "deletions" "" "$(calls '.verb == "DEL"')"
}

@test "edited addresses, MAC and bridge of the port are an update each" {
	want a
	start
	eventually 10 runs a
	local life
	life=$(life a)
	bind p-a a c-a "addresses: [169.254.7.1/30]"
	eventually 10 is 169.254.7.1/30 record a '.conf.port.addresses[0]'
	eventually 10 runs a
	bind p-a a c-a "addresses: [169.254.7.1/30, 'fd00::1/126']" "mac: '02:00:00:00:00:07'"
	eventually 10 is 02:00:00:00:00:07 record a '.conf.port.mac'
	eventually 10 runs a
	bind p-a a c-a "addresses: [169.254.7.1/30, 'fd00::1/126']" "mac: '02:00:00:00:00:07'" "bridge: br7"
	eventually 10 is br7 record a '.conf.port.bridge'
	eventually 10 runs a
	same "verbs" "ADD a ADD a ADD a ADD a" "$(verbs)"
	same "port that the last ADD got" '{"addresses":["169.254.7.1/30","fd00::1/126"],"mac":"02:00:00:00:00:07","bridge":"br7"}' \
		"$(calls '.verb == "ADD"' | tail -n 1 | jq -c .conf.port)"
	same "daemon" "$life" "$(life a)"
}

@test "a change of the group alone rewrites the record and runs nothing" {
	want a
	start
	eventually 10 runs a
	local life ran
	life=$(life a)
	ran=$(calls '.name != ""')
	container c-a ECHO f-a g-new
	eventually 10 is g-new record a .container.groupId
	same "group in the recorded conf" g-new "$(record a .conf.container.groupId)"
	runs a
	# An edit that follows it is still one update, so nothing was missed.
	same "calls" "$ran" "$(calls '.name != ""')"
	same "daemon" "$life" "$(life a)"
	echo '{id: f-a, text: edited}' | object configurations/f-a
	eventually 10 is "ADD a ADD a" verbs
	eventually 10 runs a
	same "group that ADD got" g-new "$(calls '.verb == "ADD"' | tail -n 1 | jq -r .conf.container.groupId)"
}

@test "objects that are written again as they were, or only in another form, run nothing" {
	want a
	start
	eventually 10 runs a
	local ran
	ran=$(calls '.name != ""')
	want a
	printf 'text:   "hello"   # a comment\nid: f-a\n' | object configurations/f-a
	want b # by whose life we know that all of it was read
	eventually 10 runs b
	runs a
	same "calls" "$ran" "$(calls '.name != "" and .name != "b"')"
}

@test "the limit of the host holds new containers alone, and lets them in when it is raised" {
	host 1 1
	want a
	start
	eventually 10 runs a
	want b
	eventually 10 held b LIMIT_EXCEEDED
	eventually 5 is '{"weight":1,"quota":0,"count":1}' jq -c . "$STATUS/hosts/h1.json"
	host 1 2
	eventually 10 runs b
	host 0 2
	want c
	eventually 10 held c 'WEIGHT_ZERO'
	runs a
	echo '{id: f-a, text: edited}' | object configurations/f-a
	eventually 10 is edited record a .conf.configuration.text
	eventually 10 runs a
}

@test "a daemon that systemd gave up is healed by DEL and ADD" {
	want a
	start
	eventually 10 runs a
	local life
	life=$(life a)
	systemctl kill --signal=KILL svc-a.service
	eventually 10 is "ADD a DEL a ADD a" verbs
	eventually 10 runs a
	not same "daemon" "$life" "$(life a)"
	journal | grep -q 'msg="delete container for port binding" .*containerId=c-a .*rule=5 reason="svc-a.service failed: signal: SIGKILL"'
}
