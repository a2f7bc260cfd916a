// Bench measures the cost of svc-supervisor and svc-ipsec, and compares it with the floor: the lowest cost of the same
// work on the same machine in the same run (see bench/floor). It requires a host with systemd as PID 1 and without
// other load.
//
//	bench [-rows REGEXP] [-runs N] [-o FILE] [-plot FILE] BINARIES
//
// The directory BINARIES contains svc-supervisor and svc-ipsec, and floor and svc-bench below bench/. The result is a
// table on standard output and, with -o and -plot, a JSON file and a plot. "make bench" builds everything and runs it
// in the sandbox.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"regexp"
	"time"
)

// Row is one line of the table: the measured value, the floor, and the target.
type Row struct {
	Name   string  `json:"name"`
	Unit   string  `json:"unit"`
	Ours   float64 `json:"ours"`
	Floor  float64 `json:"floor,omitempty"`  // 0 if there is no floor
	Ratio  float64 `json:"ratio,omitempty"`  // Ours divided by Floor
	Target float64 `json:"target,omitempty"` // highest accepted Ratio, or Ours if there is no floor; 0: no target
	Note   string  `json:"note,omitempty"`
}

// met reports whether the target is met.
func (r Row) met() bool {
	if r.Target == 0 {
		return true
	}
	if r.Floor == 0 {
		return r.Ours <= r.Target
	}
	return r.Ratio <= r.Target
}

// ratio returns a row with a floor.
func ratio(name, unit string, ours, floor, target float64) Row {
	return Row{Name: name, Unit: unit, Ours: ours, Floor: floor, Ratio: ours / floor, Target: target}
}

func main() {
	rows := flag.String("rows", ".", "measure the groups whose name matches `REGEXP`")
	runs := flag.Int("runs", 3, "`N` runs of each measurement; the median counts")
	output := flag.String("o", "", "write the results to `FILE`")
	plot := flag.String("plot", "", "draw the ratios into `FILE`, as SVG")
	flag.Parse()
	match, err := regexp.Compile(*rows)
	if err != nil || flag.NArg() != 1 || *runs < 1 {
		fmt.Fprintln(os.Stderr, "usage: bench [-rows REGEXP] [-runs N] [-o FILE] [-plot FILE] BINARIES")
		os.Exit(2)
	}
	results, err := bench(flag.Arg(0), match, *runs)
	printTable(results)
	if err == nil && *output != "" {
		err = writeJSON(*output, results)
	}
	if err == nil && *plot != "" {
		err = writePlot(*plot, results)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench(binaries string, match *regexp.Regexp, runs int) ([]Row, error) {
	h, err := newHost(binaries, runs)
	if err != nil {
		return nil, err
	}
	defer h.close()
	var results []Row
	for _, g := range groups {
		if !match.MatchString(g.name) {
			continue
		}
		began := time.Now()
		rows, err := g.measure(h)
		results = append(results, rows...)
		if err != nil {
			return results, fmt.Errorf("%s: %w", g.name, err)
		}
		fmt.Fprintf(os.Stderr, "bench: %s measured in %v\n", g.name, time.Since(began).Round(time.Second))
	}
	return results, nil
}

func printTable(rows []Row) {
	fmt.Printf("%-58s %10s %10s %8s %8s\n", "", "ours", "floor", "ratio", "target")
	for _, r := range rows {
		floor, times, target := "", "", ""
		if r.Floor != 0 {
			floor, times = fmt.Sprintf("%.2f", r.Floor), fmt.Sprintf("%.2f", r.Ratio)
		}
		if r.Target != 0 {
			target = fmt.Sprintf("%.2f", r.Target)
		}
		missed := ""
		if !r.met() {
			missed = " missed"
		}
		fmt.Printf("%-58s %10.2f %10s %8s %8s%s\n", r.Name+", "+r.Unit, r.Ours, floor, times, target, missed)
		if r.Note != "" {
			fmt.Println("    " + r.Note)
		}
	}
}

func writeJSON(path string, rows []Row) error {
	text, err := json.MarshalIndent(rows, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}
