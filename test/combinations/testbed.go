package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// settleTimeout is how long it may take until all rows of an edit have their associations. Libreswan retransmits after
// 0.5, 1, 2, 4… s.
const settleTimeout = 60 * time.Second

// testbed consists of the two sites, their routers, and the namespaces of the two containers.
type testbed struct {
	executable string                     // the path of svc-ipsec
	handles    map[string]*netlink.Handle // handles for the containers' namespaces, by side
	edits      int                        // the number of edits so far
	pings      int                        // the number of pings so far
	nat        bool                       // whether the left router has NAT
}

func newTestbed(executable string) (*testbed, error) {
	w := &testbed{executable: executable, handles: map[string]*netlink.Handle{}}
	place, _ := command("", "systemd-detect-virt") // its exit status is not 0 if it prints "none"
	if place = strings.TrimSpace(place); place != "uml" && place != "container-other" && os.Getenv("HOST") != "1" {
		return nil, fmt.Errorf(
			"this test makes namespaces and bridges on the host: run test/combinations/run, or set HOST=1")
	}
	if _, err := os.Stat("/run/svc-ipsec/vpn-left"); err == nil {
		return nil, fmt.Errorf("a container vpn-left exists already")
	}
	if err := networkUp(); err != nil {
		return w, err
	}
	for _, s := range sides {
		if _, err := command("", "ip", "netns", "add", "vpn-"+s.name); err != nil {
			return w, err
		}
		namespace, err := netns.GetFromName("vpn-" + s.name)
		if err != nil {
			return w, err
		}
		if w.handles[s.name], err = netlink.NewHandleAt(namespace); err != nil {
			return w, err
		}
	}
	return w, nil
}

// checkDaemonVersions returns an error unless the status of both daemons contains this version of Libreswan.
func (w *testbed) checkDaemonVersions(libreswan string) error {
	for _, s := range sides {
		status, err := command("", "ipsec", "whack", "--ctlsocket", "/run/svc-ipsec/vpn-"+s.name+"/run/pluto.ctl",
			"--status")
		if err == nil {
			_, output, _ := strings.Cut(status, "pluto_version=")
			output, _, _ = strings.Cut(output, ",")
			err = checkVersion(output, libreswan)
		}
		if err != nil {
			return fmt.Errorf("the daemon of %s: %w", s.name, err)
		}
	}
	return nil
}

// daemons returns the process ids and the invocation ids of the two daemons. They change if a daemon is restarted.
func (w *testbed) daemons() string {
	output, err := command("", "systemctl", "show", "-P", "MainPID", "-P", "InvocationID",
		"svc-vpn-left.service", "svc-vpn-right.service")
	if err != nil {
		return err.Error()
	}
	return strings.Join(strings.Fields(output), " ")
}

// removeContainers runs DEL for the two containers. It returns errors and everything that is left of the containers.
func (w *testbed) removeContainers() (left []string) {
	for _, s := range sides {
		if _, err := w.verb("DEL", s, nil); err != nil {
			left = append(left, err.Error())
		}
		for _, path := range []string{"/run/svc-ipsec/vpn-" + s.name, "/sys/class/net/vpn-" + s.name} {
			if _, err := os.Lstat(path); err == nil {
				left = append(left, path)
			}
		}
		states, err := w.handles[s.name].XfrmStateList(netlink.FAMILY_ALL)
		if err != nil || len(states) > 0 {
			left = append(left, fmt.Sprintf("%d associations of %s, %v", len(states), s.name, err))
		}
	}
	units, err := command("", "systemctl", "list-units", "--all", "--plain", "--no-legend", "svc-vpn-*")
	if err != nil || units != "" {
		left = append(left, fmt.Sprint("units: ", units, err))
	}
	return left
}

// close removes the containers and the network.
func (w *testbed) close() {
	for _, s := range sides {
		if _, err := os.Lstat("/run/svc-ipsec/vpn-" + s.name); err == nil {
			_, _ = w.verb("DEL", s, nil)
		}
		if handle := w.handles[s.name]; handle != nil {
			handle.Close()
		}
	}
	networkDown()
}

// apply reconfigures both sides for an edit, first the right side, which is response-only for most edits.
func (w *testbed) apply(e edit) error {
	w.edits++
	for _, s := range []side{sides[1], sides[0]} {
		// NAT changes after the edit of the right side: the DELETE that the right side sends for its former connection
		// would otherwise be tracked as a flow without NAT.
		if nat := e.rows[0].way == "nat"; nat != w.nat && s.name == "left" {
			if err := setNAT(nat); err != nil {
				return err
			}
			w.nat = nat
		}
		health, err := w.verb("ADD", s, e.configuration(s, w.key()))
		if err != nil {
			return err
		}
		for _, c := range health.Connections {
			// A connection is refused if its conn is not loaded. Its reason alone does not show that, because it may
			// also be that the peer has not answered yet.
			loaded, err := filepath.Glob(fmt.Sprintf("/run/svc-ipsec/vpn-%s/conns/%s-*.conf", s.name, c.ID))
			if err != nil || len(loaded) == 0 {
				return fmt.Errorf("%s, connection %s: %s", s.name, c.ID, c.Reason)
			}
		}
	}
	return nil
}

// key returns the pre-shared key of the current edit.
func (w *testbed) key() string { return fmt.Sprintf("the key of edit %d", w.edits) }

// test applies an edit and checks each of its rows.
func (w *testbed) test(e edit, r *run) {
	err := w.apply(e)
	var faults [][]string
	for deadline := time.Now().Add(settleTimeout); err == nil; time.Sleep(50 * time.Millisecond) {
		if faults = w.wrongAssociations(e); !slices.ContainsFunc(faults, func(f []string) bool { return len(f) > 0 }) {
			break
		}
		if time.Now().After(deadline) {
			break
		}
	}
	ike := ""
	if err == nil {
		ike, err = w.negotiated(e.rows[0])
	}
	for i, row := range e.rows {
		var why []string
		switch {
		case err != nil:
			why = append(why, err.Error())
		default:
			why = append(why, ike)
			why = append(why, faults[i]...)
			if len(faults[i]) == 0 {
				why = append(why, w.checkTrafficEventually(row, i)...)
			}
		}
		why = slices.DeleteFunc(why, func(s string) bool { return s == "" })
		r.report(row.name(), why)
		if len(why) > 0 {
			w.printJournal(i)
		}
	}
}

// checkTrafficEventually works like checkTraffic. If both sides initiate, it repeats the check up to settleTimeout: two
// sides that initiate at the same time may each delete the SAs that the other one keeps (svc-ipsec(8), initiator),
// until dead peer detection notices it.
func (w *testbed) checkTrafficEventually(r row, i int) []string {
	begin := time.Now()
	faults := w.checkTraffic(r, i)
	for r.way == "both" && len(faults) > 0 && time.Since(begin) < settleTimeout {
		time.Sleep(time.Second)
		if faults = w.checkTraffic(r, i); len(faults) == 0 {
			fmt.Printf("# both sides initiated at the same time; traffic passed after %.0f s\n",
				time.Since(begin).Seconds())
		}
	}
	return faults
}

// negotiated returns the fault of the IKE SA of an edit in the status of the daemons, or "". If both sides initiate at
// the same time, one of them may delete the IKE SA that the other one uses. The Child SAs stay, and the daemon without
// an IKE SA initiates a new one when it needs it. So in this case one of the daemons may have no IKE SA.
func (w *testbed) negotiated(r row) (string, error) {
	var all []string
	for _, s := range sides {
		status, err := command("", "ipsec", "whack", "--ctlsocket", "/run/svc-ipsec/vpn-"+s.name+"/run/pluto.ctl",
			"--status")
		if err != nil {
			return "", err
		}
		var found []string
		for _, line := range strings.Split(status, "\n") {
			if _, rest, ok := strings.Cut(line, "   IKEv"); ok && strings.Contains(rest, " algorithm newest: ") {
				found = append(found, "IKEv"+rest)
			}
		}
		want := r.wantIKE()
		if slices.ContainsFunc(found, func(s string) bool { return s != want }) || len(found) == 0 && r.way != "both" {
			return fmt.Sprintf("the daemon of %s shows %q, want %q", s.name, found, want), nil
		}
		all = append(all, found...)
	}
	if len(all) == 0 {
		return "no daemon has an IKE SA", nil
	}
	return "", nil
}

// printJournal prints the last lines that the daemons logged about a connection.
func (w *testbed) printJournal(i int) {
	output, _ := command("", "journalctl", "--no-pager", "--output=short-monotonic", "--lines=60",
		"--unit=svc-vpn-*", "--grep="+name(i)+"-")
	fmt.Println("#   " + strings.ReplaceAll(strings.TrimSpace(output), "\n", "\n#   "))
}
