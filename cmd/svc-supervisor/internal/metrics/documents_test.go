package metrics

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var metricName = regexp.MustCompile(`\bsvc_[a-z_]+`)

// documented returns the names of metrics in a file of the project. A histogram has the name of its family.
func documented(t *testing.T, path string, pattern *regexp.Regexp) (names []string) {
	t.Helper()
	content, err := os.ReadFile("../../../../" + path)
	if err != nil {
		t.Fatal(err)
	}
	for _, match := range pattern.FindAllStringSubmatch(string(content), -1) {
		name := match[len(match)-1]
		for _, suffix := range []string{"_count", "_bucket", "_sum"} {
			name = strings.TrimSuffix(name, suffix)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// exported returns the names of the project's own metrics.
func exported() (names []string) {
	names = []string{"svc_verb_duration_seconds"}
	for _, d := range all {
		names = append(names, metricName.FindString(d.String()))
	}
	slices.Sort(names)
	return names
}

func TestEveryMetricIsDocumented(t *testing.T) {
	row := regexp.MustCompile("(?m)^\\| `(svc_[a-z_]+)` \\|")
	if got, want := documented(t, "docs/metrics.md", row), exported(); !slices.Equal(got, want) {
		t.Errorf("docs/metrics.md has\n%q, exported are\n%q", got, want)
	}
}

func TestAlertsAndDashboardUseMetricsThatExist(t *testing.T) {
	for _, path := range []string{
		"contrib/prometheus/svc-supervisor.rules.yml", "contrib/grafana/svc-supervisor.json",
		"test/prometheus/alerts.yml",
	} {
		names := documented(t, path, metricName)
		for _, name := range names {
			if !slices.Contains(exported(), name) {
				t.Errorf("%s: %s does not exist", path, name)
			}
		}
		if len(names) < 5 {
			t.Errorf("%s: only %q found", path, names)
		}
	}
}
