package main

import (
	"errors"
	"os"
	"strings"
	"testing"
)

func TestParsePoints(t *testing.T) {
	points, err := parsePoints(list)
	if err != nil {
		t.Fatal(err)
	}
	if len(points) < 100 {
		t.Errorf("points.tsv has only %d points", len(points))
	}
	for name, text := range map[string]string{
		"too few columns": "svc-ipsec\tADD\tmkdirat\t1\tx",
		"not an ordinal":  "svc-ipsec\tADD\tmkdirat\t0\tx\ty",
		"not a regexp":    "svc-ipsec\tADD\tmkdirat\t1\t(\ty",
		"unknown action":  "svc-ipsec\tHOP\tmkdirat\t1\tx\ty",
		"twice":           "svc-ipsec\tADD\tmkdirat\t1\tx\ty\nsvc-ipsec\tADD\tunlinkat\t1\tx\ty",
	} {
		if _, err := parsePoints(text); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestJobsCoverEveryKindOfKillAndChange(t *testing.T) {
	points := []point{
		{process: "svc-ipsec", name: "a"}, {process: "svc-ipsec", name: "b"}, {process: "supervisor", name: "c"},
	}
	if n := len(jobs(points, false)); n != 2+2+1 {
		t.Errorf("%d jobs", n)
	}
	if n := len(jobs(points, true)); n != (2+2+1)*len(changes) {
		t.Errorf("%d jobs with full", n)
	}
}

func TestMissingDEL(t *testing.T) {
	for _, row := range []struct {
		name    string
		ran     string
		cut     int
		phase   string
		desired bool
		lost    bool
	}{
		{"a killed ADD is followed by DEL and ADD", "ADD record,DEL record,ADD record", 1, "adding", true, false},
		{"a killed ADD is followed by another ADD", "ADD record,ADD record", 1, "adding", true, true},
		{"a killed ADD is followed by nothing", "ADD record", 1, "adding", false, true},
		{"a killed DEL is run again", "DEL record,DEL record", 1, "deleting", false, false},
		{"a killed DEL is not run again", "DEL record", 1, "deleting", false, true},
		{"a container from before the kill is adopted", "ADD record", 1, "added", true, false},
		{"after the record was lost, DEL gets only the name", "DEL name", 0, "", false, true},
		{"after the record was lost, DEL gets only the name, then ADD runs", "DEL name,ADD record", 0, "", true, true},
		{"DEL gets the record, and DEL of another type the name", "DEL record,DEL name,ADD record", 0, "added", true,
			false},
		{"an ADD killed before it got its configuration is undone",
			"ADD name,DEL record,ADD record", 0, "adding", true, false},
		{"an ADD killed before it got its configuration is not undone", "ADD name,ADD record", 0, "adding", true, true},
		{"a killed reconfigure is run again", "ADD record,ADD record", 1, "changing", true, false},
		{"no verb ran and nothing is desired", "", 0, "", false, false},
	} {
		var ran []string
		if row.ran != "" {
			ran = strings.Split(row.ran, ",")
		}
		if lost := missingDEL(ran, row.cut, row.phase, row.desired); (lost != "") != row.lost {
			t.Errorf("%s: %q", row.name, lost)
		}
	}
}

func TestACallThatIsOverIsNotHeld(t *testing.T) {
	p := point{pattern: `"/run/NAME"`}
	for name, text := range map[string]string{
		"over at once":  "7 mkdirat(AT_FDCWD, \"/run/vpn\", 0700) = 0\n",
		"another name":  "7 mkdirat(AT_FDCWD, \"/run/vpn-1\", 0700",
		"no such call":  "7 unlinkat(3, \"x\", 0) = 0\n",
		"a second call": "7 <... mkdirat resumed>, \"/run/vpn\") = 0\n",
	} {
		trace, err := newTrace(t.TempDir() + "/pipe")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := trace.pipe.WriteString(text); err != nil {
			t.Fatal(err)
		}
		if held, err := trace.await(p.of("vpn"), 1, func() bool { return true }); held != nil ||
			!errors.Is(err, errMissed) {
			t.Errorf("%s: %v %v", name, held, err)
		}
		trace.close()
		if _, err := os.Stat(trace.path); err == nil {
			t.Errorf("%s: the pipe still exists", name)
		}
	}
}
