package main

import (
	"fmt"
	"testing"
)

func TestMisspeltVariableIsFound(t *testing.T) {
	for variable, want := range map[string]string{
		"SVC_NSBD=x": "[variable SVC_NSBD is unknown and ignored; the nearest known one is SVC_NSDB]",
		"SVC_LOGLEVEL=debug": "[variable SVC_LOGLEVEL is unknown and ignored; the nearest known one is " +
			"SVC_LOG_LEVEL]",
		"svc_nsdb=x": "[variable svc_nsdb is unknown and ignored; the nearest known one is SVC_NSDB]",
		"SVC_CHECK_INTERVALL=": "[variable SVC_CHECK_INTERVALL is unknown and ignored; the nearest known one is " +
			"SVC_CHECK_INTERVAL]",
		"SVC_NSDB=x":           "[]",
		"SVC_STOP_CONTAINERS=": "[]",
		"SVC_OWNER=x":          "[]",
		"MYSVC_NSBD=x":         "[]",
		"PATH=SVC_NSBD":        "[]",
	} {
		if got := fmt.Sprint(unknownVariables(newApp().Commands, []string{variable})); got != want {
			t.Errorf("%s: %s, want %s", variable, got, want)
		}
	}
}

func TestDistanceCountsEdits(t *testing.T) {
	for _, r := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "ab", 2}, {"ab", "ba", 1}, {"SVC_NSBD", "SVC_NSDB", 1}, {"abc", "axc", 1}, {"abc", "abcd", 1},
		{"kitten", "sitting", 3}} {
		if got := distance(r.a, r.b); got != r.want || distance(r.b, r.a) != r.want {
			t.Errorf("%s, %s: %d, want %d", r.a, r.b, got, r.want)
		}
	}
}
