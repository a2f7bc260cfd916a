// Crash kills the supervisor, svc-ipsec and the launcher of its daemons right before each of their side effects, as they are built and without a hook
// in them, has the NSDB change its mind, starts the supervisor again, and requires the end that should be: what is wanted
// runs and is in every part like a container that nothing happened to, of what is not wanted nothing is left anywhere,
// no DEL is missing, and an edit that was cut short cost neither the daemon nor a conn that was not edited.
//
// points.tsv lists the points. Each must be hit: one that never comes fails, so the list cannot outlive the code.
//
//	crash [-full] supervisor|svc-ipsec BINARIES
//
// It runs in a sandbox: see the script run.
package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/test/crash/lab"
)

// together is how many executables are held at once, for one restart of the supervisor.
const together = 8

func main() {
	full := flag.Bool("full", false, "every point with every kill and every change of mind")
	only := flag.String("only", "", "points whose line contains this")
	flag.Parse()
	if flag.NArg() != 2 {
		fmt.Fprintln(os.Stderr, "usage: crash [-full] [-only TEXT] supervisor|svc-ipsec BINARIES")
		os.Exit(2)
	}
	ok, err := crash(flag.Arg(0), flag.Arg(1), *full, *only)
	if err != nil {
		fmt.Fprintln(os.Stderr, "crash:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

func crash(process, binaries string, full bool, only string) (bool, error) {
	points, err := parsePoints(list)
	if err != nil {
		return false, fmt.Errorf("points.tsv: %w", err)
	}
	points = slices.DeleteFunc(points, func(p point) bool {
		return (p.process == "supervisor") != (process == "supervisor") || !strings.Contains(p.String(), only)
	})
	l, err := lab.Open(binaries)
	if err != nil {
		return false, err
	}
	h := &harness{Lab: l, hits: map[string]int{}, failed: map[string]int{}}
	for i := range together {
		h.slots = append(h.slots, &slot{name: fmt.Sprintf("vpn-%d", i), kind: "IPSEC"})
	}
	if process == "supervisor" {
		h.slots = []*slot{{name: "vpn-0", kind: "IPSEC"}, {name: "lazy-0", kind: "LAZY"}}
	}
	if err := h.open(); err != nil {
		return false, err
	}
	began := time.Now()
	if err := h.run(jobs(points, full)); err != nil {
		return false, err
	}
	fmt.Printf("settled again after %v; nothing changes any more: ", time.Since(began).Round(time.Second))
	time.Sleep(time.Second)
	last := h.settle()
	fmt.Println(last == nil)
	passed := h.report(points)
	return passed && last == nil, last
}

// report prints one line a point, and the sums.
func (h *harness) report(points []point) bool {
	passed, failed := 0, 0
	for _, p := range points {
		word := "ok  "
		if h.hits[p.String()] == 0 {
			word = "MISS"
		} else if h.failed[p.String()] > 0 {
			word = "FAIL"
		}
		if word == "ok  " {
			passed++
		} else {
			failed++
		}
		fmt.Printf("%s %d× before %s\n", word, h.hits[p.String()], p)
	}
	fmt.Printf("%d passed, %d failed, %d leaks, %d lost\n", passed, failed, h.leaks, h.lost)
	return failed == 0
}
