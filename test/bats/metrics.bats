#!/usr/bin/env bats
# The metrics, as a real Prometheus scrapes them, and the alerts of contrib/prometheus. The alerts' delays are shortened
# here; test/prometheus/alerts.yml has them as they are.

load helpers

eval "usual_$(declare -f teardown)"

teardown() {
	if [ -n "${SCRAPER:-}" ]; then
		kill "$SCRAPER"
		wait "$SCRAPER" || true
	fi
	usual_teardown
}

ADDRESS=127.0.0.1:9469
PROMETHEUS=127.0.0.1:9470

# scraped begins a Prometheus that scrapes the supervisor each second.
scraped() {
	mkdir -p "$T/prometheus"
	sed -E '/alert: SvcContainerRestarts/,/labels:/ s/\[15m\]/[3m]/; s/^( *)for: .*/\1for: 1s/; s/\[15m\]/[30s]/; s/> 120$/> 3/' \
		"$PROJECT/contrib/prometheus/svc-supervisor.rules.yml" >"$T/prometheus/rules.yml"
	cat >"$T/prometheus/prometheus.yml" <<-END
		global: {scrape_interval: 1s, evaluation_interval: 1s}
		rule_files: [rules.yml]
		scrape_configs:
		  - job_name: svc-supervisor
		    static_configs: [{targets: ['$ADDRESS']}]
	END
	prometheus --config.file="$T/prometheus/prometheus.yml" --storage.tsdb.path="$T/prometheus/data" \
		--web.listen-address="$PROMETHEUS" >"$T/prometheus/log" 2>&1 3>&- &
	SCRAPER=$!
	eventually 30 curl -sSf "http://$PROMETHEUS/-/ready"
	eventually 30 samples 'svc_supervisor_info{version=~".+"}'
}

# samples QUERY prints the values; it fails if there is none.
samples() {
	curl -sSf --data-urlencode "query=$1" "http://$PROMETHEUS/api/v1/query" | jq -er '.data.result[] | .value[1]'
}

# alerts prints the names of the alerts that fire.
alerts() {
	curl -sSf "http://$PROMETHEUS/api/v1/alerts" |
		jq -r '.data.alerts[] | select(.state == "firing") | .labels.alertname' | sort -u | xargs
}
fires() { [[ " $(alerts) " == *" $1 "* ]] || { echo "fires: $(alerts)"; return 1; }; }
# No other alert than the listed ones fires.
fires_only() { same "alerts" "$*" "$(alerts)"; }

# reports STATUS FIELD: from now on each CHECK reports a connection with this status and field.
reports() {
	mood CHECK "echo '{\"code\": \"RUNNING\", \"connections\": [{\"id\": \"1\", \"name\": \"x\", \"status\": \"$1\", $2}]}'; exit"
}

another_life_of() { runs "$1" && [ "$(life "$1")" != "$2" ]; }

@test "promtool accepts the alerts, and each fires after its delay and is silent otherwise" {
	promtool check rules "$PROJECT/contrib/prometheus/svc-supervisor.rules.yml"
	promtool test rules "$PROJECT/test/prometheus/alerts.yml"
}

@test "Prometheus scrapes the supervisor; each alert fires under its fault, and none on a healthy host" {
	want a
	want b
	start SVC_METRICS_LISTEN="$ADDRESS" SVC_CHECK_INTERVAL=1s
	eventually 10 runs a
	eventually 10 runs b
	curl -sSf --unix-socket /run/svc-supervisor/api.sock http://svc-supervisor/metrics | promtool check metrics
	scraped
	same "containers" 2 "$(samples 'svc_containers{type="ECHO", status="RUNNING"}')"
	same "ADDs" 2 "$(samples 'svc_verb_duration_seconds_count{type="ECHO", verb="ADD", outcome="ok"}')"
	eventually 10 samples 'svc_verb_duration_seconds_count{verb="CHECK"} > 2'
	eventually 20 fires_only

	reports DOWN '"reason": "the peer sent TS_UNACCEPTABLE"'
	eventually 20 fires SvcConnectionsDown
	eventually 10 is 2 samples 'svc_connections{status="down", cause="TS_UNACCEPTABLE"}'
	eventually 20 fires_only SvcConnectionsDown
	reports ACTIVE '"peer": "192.0.2.2"'
	eventually 20 fires_only
	eventually 10 is 2 samples 'svc_connections{status="up"}'

	mood STATUS 'fail 50 "tool missing"'
	executable echo 1.0.0 # STATUS of a plugin that is ready runs again when its file changes
	eventually 20 fires SvcPluginNotReady
	eventually 20 fires_only SvcNoPlugin SvcPluginNotReady
	mood STATUS
	eventually 20 fires_only

	mv "$NSDB/hosts/$HOST_ID.yaml" "$T/host.yaml"
	eventually 20 fires SvcHostUnknown
	eventually 20 fires SvcContainersHeld # with the status UNKNOWN
	sleep 4 # SvcContainerNotRunning would fire by now; they run
	eventually 20 fires_only SvcContainersHeld SvcHostUnknown
	mv "$T/host.yaml" "$NSDB/hosts/$HOST_ID.yaml"
	eventually 20 fires_only

	mood ADD 'fail 101 "no room"'
	want c
	# The delays of ADD grow, and the rule counts the last 30 s only.
	eventually 40 fires SvcVerbsFail
	eventually 30 fires SvcContainerNotRunning
	eventually 20 fires SvcContainersHeld
	mood ADD
	unbind p-c
	eventually 90 fires_only

	local n life
	for n in 1 2 3 4; do
		life=$(life a)
		systemctl kill --signal=KILL svc-a.service
		eventually 30 another_life_of a "$life"
		eventually 10 samples "svc_container_restarts_total{container=\"a\"} == $n"
	done
	eventually 30 fires SvcContainerRestarts

	stop
	eventually 20 fires SvcSupervisorDown
}
