// Combinations edits a pair of IPSEC containers, left and right, from one row of a table to the next: IKE version, ciphers,
// integrity, group, ESP or AH, tunnel or transport, the families inside and outside, networks, identities, a router with
// NAT between. Of each row a ping crosses, and the kernel shows by which association: of the row's protocol, mode and
// algorithms, for the row's networks, with packets counted at both ends.
//
//	combinations [-all] [-only TEXT] [-libreswan VERSION] [-from PATH] SVC-IPSEC TABLE REFUSED
//
// Rows in sequence that differ only in the Child SA are one edit, since a guest is slow: a peer address has one IKE policy.
// The containers are made at the first edit and removed after the last; in between they and their daemons stay. What the
// table REFUSED lists is tried beside the first edit's tunnels, which must not notice.
//
// With -from the containers of each edit are made by another version of svc-ipsec, and those of some configurations that a version before
// accepted; CHECK and ADD of SVC-IPSEC must not touch a tunnel of theirs.
//
// It runs where there are systemd and ESP: see the script run. It prints `ok` or `not ok` for each row. Where the Libreswan
// is of another version than it is told, all is said of the wrong one: it proves nothing, and fails.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"time"
)

func main() {
	all := flag.Bool("all", false, "all rows, not just those of make test")
	only := flag.String("only", "", "rows whose name has `TEXT` in it")
	libreswan := flag.String("libreswan", "", "the `VERSION` of Libreswan that is tried: 4.10, …; any if it is empty")
	from := flag.String("from", "", "upgrade each edit from the svc-ipsec at `PATH` to SVC-IPSEC, in place of editing")
	flag.Parse()
	if flag.NArg() != 3 {
		fmt.Fprintln(os.Stderr, "usage: combinations [-all] [-only TEXT] [-libreswan VERSION] [-from PATH] SVC-IPSEC TABLE REFUSED")
		os.Exit(2)
	}
	failed, err := combinations(flag.Arg(0), flag.Arg(1), flag.Arg(2), *libreswan, *from, func(r row) bool {
		return (*all || r.always) && strings.Contains(r.name(), *only)
	})
	if err != nil {
		fmt.Println("combinations:", err)
	}
	if err != nil || failed > 0 {
		os.Exit(1)
	}
}

// run counts and prints.
type run struct {
	number, failed int
}

func (r *run) tell(name string, faults []string) {
	r.number++
	if len(faults) == 0 {
		fmt.Printf("ok %d %s\n", r.number, name)
		return
	}
	r.failed++
	fmt.Printf("not ok %d %s\n# %s\n", r.number, name, strings.Join(faults, "\n# "))
}

func combinations(executable, table, refused, libreswan, from string, wanted func(row) bool) (failed int, err error) {
	rows, err := readTable(table)
	if err != nil {
		return 0, err
	}
	refusals, err := readRefusals(refused)
	if err != nil {
		return 0, err
	}
	edits := group(rows, wanted)
	if len(edits) == 0 {
		return 0, fmt.Errorf("no row of %s is wanted", table)
	}
	version, err := command("", "ipsec", "--version")
	if err != nil {
		return 0, err
	}
	fmt.Println("#", strings.TrimSpace(version))
	if err := isOf(version, libreswan); err != nil {
		return 0, err
	}
	w, err := newWorld(executable)
	if w != nil {
		defer w.remove()
	}
	if err != nil {
		return 0, err
	}
	began, r := time.Now(), new(run)
	if from != "" {
		w.upgrades(from, edits, r)
		fmt.Printf("# %d upgrades in %.0f s\n", r.number, time.Since(began).Seconds())
		return r.failed, nil
	}
	daemons, tried := "", 0
	for i, e := range edits {
		start := time.Now()
		w.try(e, r)
		tried += len(e.rows)
		if i == 0 {
			daemons = w.daemons()
			if e.rows[0].ike == (ike{"v2", "main", "aes-256", "sha256", "group14"}) { // the refused ones are written for such a neighbour
				w.tryRefusals(e, refusals, r)
			}
		}
		fmt.Printf("# edit %d of %d, %d rows: %.1f s\n", i+1, len(edits), len(e.rows), time.Since(start).Seconds())
	}
	var faults []string
	if now := w.daemons(); now != daemons {
		faults = append(faults, fmt.Sprintf("daemons were %s, are %s", daemons, now))
	}
	if err := w.runs(libreswan); err != nil {
		faults = append(faults, err.Error())
	}
	r.tell(fmt.Sprintf("through %d edits in place the two daemons ran on", len(edits)), faults)
	r.tell("removed, the containers leave nothing", w.take())
	fmt.Printf("# %d rows in %.0f s\n", tried, time.Since(began).Seconds())
	return r.failed, nil
}
