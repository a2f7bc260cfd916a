// Strongswan tests a real IPSEC container against strongSwan. svc-supervisor makes the container from an NSDB of files,
// with svc-ipsec and Libreswan; this is our end. The peer is charon in a network namespace, configured by swanctl. The
// table in rows.go has the configurations of both ends and the expected results. Each row is checked by pings through
// the tunnel, by `swanctl --list-sas --raw`, by `ip xfrm state` in the container, and by charon's log.
//
//	strongswan [-all] [-only TEXT] [-list] PROJECT ROOT
//
// PROJECT is the directory of this project, and ROOT the directory that test/ground/strongswan made. The program
// requires systemd and a kernel with ESP: see the script run. It prints `ok` or `not ok` for each row. A row with a
// known fault must fail. If such a row passes, the run fails, so that the mark of the fault is removed.
package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

func main() {
	all := flag.Bool("all", false, "all rows, not just those of make test")
	only := flag.String("only", "", "rows whose name contains `TEXT`; several texts are separated by |")
	list := flag.Bool("list", false, "print the names of the rows and exit")
	flag.Parse()
	var rows []row
	for _, r := range table {
		if (*all || r.always || *only != "") && containsAny(r.name, strings.Split(*only, "|")) {
			rows = append(rows, r)
		}
	}
	// Rows with NAT come last: after the NAT rule is removed, the router still translates packets of known flows.
	slices.SortStableFunc(rows, func(a, b row) int { return b2i(a.nat) - b2i(b.nat) })
	if *list {
		for _, r := range rows {
			fmt.Println(r.name)
		}
		return
	}
	if flag.NArg() != 2 {
		fmt.Fprintln(os.Stderr, "usage: strongswan [-all] [-only TEXT] [-list] PROJECT ROOT")
		os.Exit(2)
	}
	failed, err := run(flag.Arg(0), flag.Arg(1), rows)
	if err != nil {
		fmt.Println("strongswan:", err)
	}
	if err != nil || failed > 0 {
		os.Exit(1)
	}
}

func containsAny(s string, texts []string) bool {
	return slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(s, text) })
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// run runs the rows and returns the number of rows with an unexpected result.
func run(project, root string, rows []row) (failed int, err error) {
	if len(rows) == 0 {
		return 0, fmt.Errorf("no row matches")
	}
	b, err := newTestbed(project, root)
	if b != nil {
		defer b.remove()
	}
	if err != nil {
		return 0, err
	}
	fmt.Println("#", versions())
	began := time.Now()
	number := 0
	report := func(name, fault string, err error, took time.Duration) {
		number++
		switch {
		case err == nil && fault == "":
			fmt.Printf("ok %d %s in %.1f s\n", number, name, took.Seconds())
		case err == nil:
			failed++
			fmt.Printf("not ok %d %s in %.1f s\n# the row passes: remove the mark of the known fault %s\n",
				number, name, took.Seconds(), fault)
		case fault != "":
			fmt.Printf("not ok %d %s in %.1f s # TODO known fault %s\n# %v\n", number, name, took.Seconds(), fault, err)
		default:
			failed++
			fmt.Printf("not ok %d %s in %.1f s\n# %v\n", number, name, took.Seconds(), err)
		}
	}
	for i, r := range rows {
		start := time.Now()
		err := b.runRow(i+1, r)
		took := time.Since(start)
		report(r.name, r.fault, err, took)
		for _, note := range b.notes {
			fmt.Println("#  ", note)
		}
		if err != nil && r.fault == "" {
			b.explain(start)
		}
	}
	start := time.Now()
	report("with its binding removed, the container leaves nothing", "", b.unbind(), time.Since(start))
	fmt.Printf("# %d rows in %.0f s\n", len(rows), time.Since(began).Seconds())
	return failed, nil
}
