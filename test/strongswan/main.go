// Strongswan tries a real IPSEC container against strongSwan. Our end is made by svc-supervisor from a file NSDB, with svc-ipsec
// and Libreswan. The other end is charon in a network namespace, configured by swanctl. The table in rows.go has the
// configurations of both ends and what is expected. Every row is judged by pings through the tunnel, by
// `swanctl --list-sas --raw`, by `ip xfrm state` of the container, and by what charon logged.
//
//	strongswan [-all] [-only TEXT] [-list] PROJECT ROOT
//
// PROJECT is the directory of this project, ROOT the directory that test/ground/strongswan made. It runs where there are
// systemd and ESP: see the script run. It prints `ok` or `not ok` for each row. A row with a known fault must fail: if it
// passes, the run fails, so that the mark is removed.
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
	// The router keeps translating packets of known flows after its NAT rule is gone.
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

// run tries the rows and returns the number of those that did not end as expected.
func run(project, root string, rows []row) (failed int, err error) {
	if len(rows) == 0 {
		return 0, fmt.Errorf("no row matches")
	}
	w, err := newWorld(project, root)
	if w != nil {
		defer w.remove()
	}
	if err != nil {
		return 0, err
	}
	fmt.Println("#", versions())
	began := time.Now()
	number := 0
	tell := func(name, fault string, err error, took time.Duration) {
		number++
		switch {
		case err == nil && fault == "":
			fmt.Printf("ok %d %s in %.1f s\n", number, name, took.Seconds())
		case err == nil:
			failed++
			fmt.Printf("not ok %d %s in %.1f s\n# it passes: remove the mark of the known fault %s\n", number, name, took.Seconds(), fault)
		case fault != "":
			fmt.Printf("not ok %d %s in %.1f s # TODO known fault %s\n# %v\n", number, name, took.Seconds(), fault, err)
		default:
			failed++
			fmt.Printf("not ok %d %s in %.1f s\n# %v\n", number, name, took.Seconds(), err)
		}
	}
	for i, r := range rows {
		start := time.Now()
		err := w.try(i+1, r)
		took := time.Since(start)
		tell(r.name, r.fault, err, took)
		for _, note := range w.notes {
			fmt.Println("#  ", note)
		}
		if err != nil && r.fault == "" {
			w.explain(start)
		}
	}
	start := time.Now()
	tell("with its binding removed, the container leaves nothing", "", w.unbind(), time.Since(start))
	fmt.Printf("# %d rows in %.0f s\n", len(rows), time.Since(began).Seconds())
	return failed, nil
}
