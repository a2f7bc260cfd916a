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

// settleWithin is how long the rows of an edit may take until all of them have their associations: Libreswan asks again
// after 0.5, 1, 2, 4… s.
const settleWithin = 60 * time.Second

// world is the two sites, the routers, and the namespaces of the two containers.
type world struct {
	executable string
	handles    map[string]*netlink.Handle
	edits      int
	pings      int
	nat        bool
}

func newWorld(executable string) (*world, error) {
	w := &world{executable: executable, handles: map[string]*netlink.Handle{}}
	place, _ := command("", "systemd-detect-virt") // it fails where it prints "none"
	if place = strings.TrimSpace(place); place != "uml" && place != "container-other" && os.Getenv("HOST") != "1" {
		return nil, fmt.Errorf("this makes namespaces and bridges of its own: run test/combinations/run, or set HOST=1")
	}
	if _, err := os.Stat("/run/svc-ipsec/vpn-left"); err == nil {
		return nil, fmt.Errorf("a container vpn-left is there already")
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

// runs wants both daemons to be of a version of Libreswan, by their own words.
func (w *world) runs(libreswan string) error {
	for _, s := range sides {
		status, err := command("", "ipsec", "whack", "--ctlsocket", "/run/svc-ipsec/vpn-"+s.name+"/run/pluto.ctl", "--status")
		if err == nil {
			_, says, _ := strings.Cut(status, "pluto_version=")
			says, _, _ = strings.Cut(says, ",")
			err = isOf(says, libreswan)
		}
		if err != nil {
			return fmt.Errorf("the daemon of %s: %w", s.name, err)
		}
	}
	return nil
}

// daemons are the two daemons' processes and lives.
func (w *world) daemons() string {
	output, err := command("", "systemctl", "show", "-P", "MainPID", "-P", "InvocationID", "svc-vpn-left.service", "svc-vpn-right.service")
	if err != nil {
		return err.Error()
	}
	return strings.Join(strings.Fields(output), " ")
}

// take removes the two containers and lists what they left.
func (w *world) take() (left []string) {
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

// remove takes everything away, whatever is there.
func (w *world) remove() {
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

// apply brings both ends to an edit, first the one that waits.
func (w *world) apply(e edit) error {
	w.edits++
	if nat := e.rows[0].way == "nat"; nat != w.nat {
		if err := setNAT(nat); err != nil {
			return err
		}
		w.nat = nat
	}
	for _, s := range []side{sides[1], sides[0]} {
		health, err := w.verb("ADD", s, e.configuration(s, w.key()))
		if err != nil {
			return err
		}
		for _, c := range health.Connections {
			// A reason may also be that the peer has not answered yet.
			if loaded, err := filepath.Glob(fmt.Sprintf("/run/svc-ipsec/vpn-%s/conns/%s-*.conf", s.name, c.ID)); err != nil || len(loaded) == 0 {
				return fmt.Errorf("%s, connection %s: %s", s.name, c.ID, c.Reason)
			}
		}
	}
	return nil
}

// key is another one for every edit.
func (w *world) key() string { return fmt.Sprintf("the key of edit %d", w.edits) }

// try brings an edit about and proves its rows, one by one.
func (w *world) try(e edit, r *run) {
	err := w.apply(e)
	var faults [][]string
	for deadline := time.Now().Add(settleWithin); err == nil; time.Sleep(50 * time.Millisecond) {
		if faults = w.installed(e); !slices.ContainsFunc(faults, func(f []string) bool { return len(f) > 0 }) {
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
				why = append(why, w.carries(row, i)...)
			}
		}
		why = slices.DeleteFunc(why, func(s string) bool { return s == "" })
		r.tell(row.name(), why)
		if len(why) > 0 {
			w.explain(i)
		}
	}
}

// carries is crosses, again until it is so where both ask: two that ask at once may each drop its own half of what the other
// end keeps (svc-ipsec(8), initiator), and its dead peer detection finds that out.
func (w *world) carries(r row, i int) []string {
	begin := time.Now()
	faults := w.crosses(r, i)
	for r.way == "both" && len(faults) > 0 && time.Since(begin) < settleWithin {
		time.Sleep(time.Second)
		if faults = w.crosses(r, i); len(faults) == 0 {
			fmt.Printf("# the two crossed, and were mended after %.0f s\n", time.Since(begin).Seconds())
		}
	}
	return faults
}

// negotiated says what is wrong with the IKE association of an edit's, as the daemons show it. Where both ask, their two may
// cross, and one end delete what the other one uses: the pairs stay, and the daemon that is left without an IKE association
// asks for the next one when it needs it.
func (w *world) negotiated(r row) (string, error) {
	var all []string
	for _, s := range sides {
		status, err := command("", "ipsec", "whack", "--ctlsocket", "/run/svc-ipsec/vpn-"+s.name+"/run/pluto.ctl", "--status")
		if err != nil {
			return "", err
		}
		var found []string
		for _, line := range strings.Split(status, "\n") {
			if _, words, ok := strings.Cut(line, "   IKEv"); ok && strings.Contains(words, " algorithm newest: ") {
				found = append(found, "IKEv"+words)
			}
		}
		want := r.wantIKE()
		if slices.ContainsFunc(found, func(s string) bool { return s != want }) || len(found) == 0 && r.way != "both" {
			return fmt.Sprintf("the daemon of %s shows %q, want %q", s.name, found, want), nil
		}
		all = append(all, found...)
	}
	if len(all) == 0 {
		return "no daemon shows an IKE association", nil
	}
	return "", nil
}

// explain prints what the daemons logged last of a connection.
func (w *world) explain(i int) {
	output, _ := command("", "journalctl", "--no-pager", "--output=short-monotonic", "--lines=60", "--unit=svc-vpn-*", "--grep="+name(i)+"-")
	fmt.Println("#   " + strings.ReplaceAll(strings.TrimSpace(output), "\n", "\n#   "))
}
