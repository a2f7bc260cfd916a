// Combinations tests combinations of IPsec parameters. It reconfigures a pair of IPSEC containers, left and right, from
// one row of a table to the next. The rows differ in IKE version, cipher, integrity, group, ESP or AH, tunnel or
// transport mode, inner and outer address family, networks, identities, and in whether there is a router with NAT
// between the containers. For each row it sends pings through the tunnel, and checks the associations in the kernel:
// they must have the protocol, mode, algorithms and networks of the row, and their packet counters must grow at both
// ends.
//
//	combinations [-all] [-only TEXT] [-libreswan VERSION] [-from PATH] SVC-IPSEC TABLE REFUSED
//
// Consecutive rows that differ only in the Child SA are combined into one edit, because edits are slow in a guest. All
// of its connections have the same IKE policy, because there is one IKE policy for each peer address. The containers
// are made at the first edit and removed after the last; in between they and their daemons keep running. The
// connections in the table REFUSED are added beside the tunnels of the first edit, which must not be affected.
//
// With -from, the containers of each edit are made by another version of svc-ipsec. In addition there are containers
// with some configurations that earlier versions accepted. CHECK and ADD of SVC-IPSEC must not affect their tunnels.
//
// It needs systemd and ESP. The script run starts it in a suitable environment. It prints `ok` or `not ok` for each
// row. If Libreswan has another version than -libreswan requires, it fails, because the result would be that of the
// wrong version.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"time"
)

func main() {
	all := flag.Bool("all", false, "run all rows, not only those of make test")
	only := flag.String("only", "", "run only the rows whose name contains `TEXT`")
	libreswan := flag.String("libreswan", "", "the required `VERSION` of Libreswan, such as 4.10; empty: any version")
	from := flag.String("from", "", "do not edit, but upgrade the containers of each edit from the svc-ipsec at `PATH`")
	flag.Parse()
	if flag.NArg() != 3 {
		fmt.Fprintln(os.Stderr,
			"usage: combinations [-all] [-only TEXT] [-libreswan VERSION] [-from PATH] SVC-IPSEC TABLE REFUSED")
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

// run counts and prints the results.
type run struct {
	number, failed int
}

func (r *run) report(name string, faults []string) {
	r.number++
	if len(faults) == 0 {
		fmt.Printf("ok %d %s\n", r.number, name)
		return
	}
	r.failed++
	fmt.Printf("not ok %d %s\n# %s\n", r.number, name, strings.Join(faults, "\n# "))
}

func combinations(executable, table, refused, libreswan, from string, selected func(row) bool) (failed int, err error) {
	rows, err := readTable(table)
	if err != nil {
		return 0, err
	}
	refusals, err := readRefusals(refused)
	if err != nil {
		return 0, err
	}
	edits := group(rows, selected)
	if len(edits) == 0 {
		return 0, fmt.Errorf("-only selects no row of %s", table)
	}
	version, err := command("", "ipsec", "--version")
	if err != nil {
		return 0, err
	}
	fmt.Println("#", strings.TrimSpace(version))
	if err := checkVersion(version, libreswan); err != nil {
		return 0, err
	}
	w, err := newTestbed(executable)
	if w != nil {
		defer w.close()
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
		w.test(e, r)
		tried += len(e.rows)
		if i == 0 {
			daemons = w.daemons()
			// The connections in REFUSED and their messages presume that the first connection has this IKE policy.
			if e.rows[0].ike == (ike{"v2", "main", "aes-256", "sha256", "group14"}) {
				w.tryRefusals(e, refusals, r)
			}
		}
		fmt.Printf("# edit %d of %d, %d rows: %.1f s\n", i+1, len(edits), len(e.rows), time.Since(start).Seconds())
	}
	var faults []string
	if now := w.daemons(); now != daemons {
		faults = append(faults, fmt.Sprintf("daemons were %s, are %s", daemons, now))
	}
	if err := w.checkDaemonVersions(libreswan); err != nil {
		faults = append(faults, err.Error())
	}
	r.report(fmt.Sprintf("the two daemons were not restarted by %d edits", len(edits)), faults)
	r.report("after DEL, nothing is left of the containers", w.removeContainers())
	fmt.Printf("# %d rows in %.0f s\n", tried, time.Since(began).Seconds())
	return r.failed, nil
}
