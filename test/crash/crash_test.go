package main

import (
	"errors"
	"os"
	"strings"
	"testing"
)

func TestEveryPointOnTheListIsAPoint(t *testing.T) {
	points, err := parsePoints(list)
	if err != nil {
		t.Fatal(err)
	}
	if len(points) < 100 {
		t.Errorf("%d points", len(points))
	}
	for name, text := range map[string]string{
		"too few columns": "svc-ipsec\tADD\tmkdirat\t1\tx",
		"no ordinal":      "svc-ipsec\tADD\tmkdirat\t0\tx\ty",
		"no expression":   "svc-ipsec\tADD\tmkdirat\t1\t(\ty",
		"no action":       "svc-ipsec\tHOP\tmkdirat\t1\tx\ty",
		"twice":           "svc-ipsec\tADD\tmkdirat\t1\tx\ty\nsvc-ipsec\tADD\tunlinkat\t1\tx\ty",
	} {
		if _, err := parsePoints(text); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestEveryPointIsHitByEveryKindOfKillAndMind(t *testing.T) {
	points := []point{{process: "svc-ipsec", name: "a"}, {process: "svc-ipsec", name: "b"}, {process: "supervisor", name: "c"}}
	if n := len(jobs(points, false)); n != 2+2+1 {
		t.Errorf("%d jobs", n)
	}
	if n := len(jobs(points, true)); n != (2+2+1)*len(minds) {
		t.Errorf("%d jobs of all", n)
	}
}

func TestAMissingDELIsSeen(t *testing.T) {
	for _, row := range []struct {
		name   string
		ran    string
		cut    int
		phase  string
		wanted bool
		lost   bool
	}{
		{"an ADD that was cut is undone and made again", "ADD record,DEL record,ADD record", 1, "adding", true, false},
		{"an ADD that was cut is followed by another", "ADD record,ADD record", 1, "adding", true, true},
		{"an ADD that was cut is followed by nothing", "ADD record", 1, "adding", false, true},
		{"a DEL that was cut is run again", "DEL record,DEL record", 1, "deleting", false, false},
		{"a DEL that was cut is not run again", "DEL record", 1, "deleting", false, true},
		{"what ran before the supervisor was killed is adopted", "ADD record", 1, "added", true, false},
		{"a record that was lost leaves DEL with a name", "DEL name", 0, "", false, true},
		{"and so if it is wanted again", "DEL name,ADD record", 0, "", true, true},
		{"a leftover of another type is asked for by name too", "DEL record,DEL name,ADD record", 0, "added", true, false},
		{"an ADD that was cut before it was given its configuration", "ADD name,DEL record,ADD record", 0, "adding", true, false},
		{"and was not undone", "ADD name,ADD record", 0, "adding", true, true},
		{"an edit that was cut is made again", "ADD record,ADD record", 1, "changing", true, false},
		{"nothing ran and nothing is wanted", "", 0, "", false, false},
	} {
		var ran []string
		if row.ran != "" {
			ran = strings.Split(row.ran, ",")
		}
		if lost := missing(ran, row.cut, row.phase, row.wanted); (lost != "") != row.lost {
			t.Errorf("%s: %q", row.name, lost)
		}
	}
}

func TestACallIsHeldOnItsEntryOrNotAtAll(t *testing.T) {
	p := point{pattern: `"/run/NAME"`}
	for name, text := range map[string]string{
		"over at once":  "7 mkdirat(AT_FDCWD, \"/run/vpn\", 0700) = 0\n",
		"another's":     "7 mkdirat(AT_FDCWD, \"/run/vpn-1\", 0700",
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
		if held, err := trace.await(p.of("vpn"), 1, func() bool { return true }); held != nil || !errors.Is(err, errMissed) {
			t.Errorf("%s: %v %v", name, held, err)
		}
		trace.close()
		if _, err := os.Stat(trace.path); err == nil {
			t.Errorf("%s: the pipe stays", name)
		}
	}
}
