// Crash tests recovery from crashes. It kills the supervisor, svc-ipsec and the launcher of its daemons right before
// each of their side effects. The programs are the release builds, without test hooks. Then it changes the desired
// state in the NSDB, starts the supervisor again, and checks the result: each desired container runs and is equal to a
// container without a kill, nothing is left of containers that are not desired, no DEL is missing, and a reconfigure
// that was killed has neither restarted the daemon nor replaced a conn that was not edited.
//
// points.tsv lists the points at which a process is killed. A point that is never hit fails, so that the list stays in
// agreement with the code.
//
//	crash [-full] supervisor|svc-ipsec BINARIES
//
// It runs in a sandbox only. The script run starts it there.
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

// maxParallel is the number of executables that are held at the same time, for one restart of the supervisor.
const maxParallel = 8

func main() {
	full := flag.Bool("full", false, "run every point with every kind of kill and every change of the desired state")
	only := flag.String("only", "", "run only the points whose line contains this text")
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
	for i := range maxParallel {
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
	fmt.Printf("all jobs done after %v; the state stays as desired: ", time.Since(began).Round(time.Second))
	time.Sleep(time.Second)
	last := h.awaitDesired()
	fmt.Println(last == nil)
	passed := h.report(points)
	return passed && last == nil, last
}

// report prints one line for each point, and the totals. It reports whether every point was hit and none failed.
func (h *harness) report(points []point) bool {
	passed, failed := 0, 0
	for _, p := range points {
		result := "ok  "
		if h.hits[p.String()] == 0 {
			result = "MISS"
		} else if h.failed[p.String()] > 0 {
			result = "FAIL"
		}
		if result == "ok  " {
			passed++
		} else {
			failed++
		}
		fmt.Printf("%s %d× before %s\n", result, h.hits[p.String()], p)
	}
	fmt.Printf("%d passed, %d failed, %d leaks, %d lost\n", passed, failed, h.leaks, h.lost)
	return failed == 0
}
