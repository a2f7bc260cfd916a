package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// step is an action in a row after its tunnel is up, with the checks of its result.
type step struct {
	name string
	do   func(b *testbed, r row) error
}

// base is the connection of our end, and baseConf the configuration of the peer, before the changes of a row.
var base = object{"peerAddress": "200.200.200.2", "mtu": 1400,
	"localCidrs": []string{"10.1.0.0/24"}, "peerCidrs": []string{"10.2.0.0/24"}}

const baseConf = `connections {
	ours {
		version = 2
		local_addrs = 200.200.200.2
		remote_addrs = 100.100.100.2
		proposals = aes256-sha256-modp2048
		local {
			auth = psk
			id = 200.200.200.2
		}
		remote {
			auth = psk
			id = 100.100.100.2
		}
		children {
			net {
				local_ts = 10.2.0.0/24
				remote_ts = 10.1.0.0/24
				esp_proposals = aes256-sha256-modp2048
			}
		}
	}
}
secrets {
	ike-1 {
		secret = "%s"
	}
}
# The following settings of the row are merged with those above.
connections {
	ours {
%s
	}
%s
}
`

// runRow configures both ends for a row, waits for its tunnel, and runs its steps.
func (b *testbed) runRow(number int, r row) error {
	b.notes, b.number, b.key = nil, number, "key "+rand.Text()
	connections, err := b.connections(r)
	if err != nil {
		return err
	}
	b.conf = fmt.Sprintf(baseConf, b.key, r.peer, r.peerConnections)
	// The connection of the previous row has another key, so it cannot come up while it is being replaced.
	if err := b.killCharon(); err != nil {
		return err
	}
	_ = os.Remove(charonLog)
	if err := b.setNAT(r.nat); err != nil {
		return err
	}
	if err := b.startCharon(); err != nil {
		return err
	}
	if err := b.edit(connections...); err != nil {
		return err
	}
	if r.initiate != nil {
		if err := r.initiate.do(b, r); err != nil {
			return fmt.Errorf("%s: %w", r.initiate.name, err)
		}
	}
	if !r.down {
		if err := until(stepTimeout, func() error { return b.isUp(r) }); err != nil {
			return err
		}
		if err := checkTraffic(r); err != nil {
			return err
		}
	}
	for _, s := range r.steps {
		b.markLog()
		start := time.Now()
		if err := s.do(b, r); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		b.note("%s: %.1f s", s.name, time.Since(start).Seconds())
	}
	return nil
}

// id returns the id of the n-th connection of the row. It is unique among all rows.
func (b *testbed) id(n int) string { return fmt.Sprintf("c%d%c", b.number, 'a'+n) }

// connections returns the connections of our end in a row.
func (b *testbed) connections(r row) (all []object, err error) {
	texts := r.ours
	if texts == nil {
		texts = []string{"{}"}
	}
	for i, text := range texts {
		var over object
		if err := json.Unmarshal([]byte(text), &over); err != nil {
			return nil, fmt.Errorf("ours %q: %w", text, err)
		}
		c := merge(merge(base, object{"id": b.id(i)}), over)
		if c["authMode"] != "certificate" && c["psk"] == nil {
			c["psk"] = b.key
		}
		for key, value := range c {
			if value == nil { // null in a row removes a key, for example the networks in transport mode
				delete(c, key)
			}
		}
		all = append(all, c)
	}
	return all, nil
}

// isUp returns an error unless the tunnel of the row is up: the peer has an established IKE SA with the fields of the
// row and enough installed Child SAs with their fields, and `ip xfrm state` of the container contains the texts of the
// row.
func (b *testbed) isUp(r row) error {
	all, err := peerSAs()
	if err != nil {
		return err
	}
	children := 0
	var seen []string
	for _, ike := range all {
		seen = append(seen, ike.text())
		if !ike.has("state=ESTABLISHED " + r.ike) {
			continue
		}
		for _, child := range ike.children {
			if child.has("state=INSTALLED " + r.child) {
				children++
			}
		}
	}
	if want := max(r.children, 1); children < want {
		return fmt.Errorf("the peer has %d Child SAs of IKE SA {%s}, child {%s}, want %d; its SAs are: %s",
			children, r.ike, r.child, want, strings.Join(seen, "; "))
	}
	states, err := command("", "ip", "-n", container, "xfrm", "state")
	if err != nil {
		return err
	}
	for _, want := range strings.Split(r.kernel, "; ") {
		if !strings.Contains(states, want) {
			return fmt.Errorf("ip xfrm state of the container does not contain %q", want)
		}
	}
	return nil
}

// checkTraffic pings between all pairs of addresses of a row, in both directions.
func checkTraffic(r row) error {
	for _, pair := range r.pairs() {
		for _, p := range [][2]string{pair, {pair[1], pair[0]}} {
			if err := ping(p[0], p[1], 15*time.Second); err != nil {
				return err
			}
		}
	}
	return nil
}

// spis returns the SPIs of the peer's established IKE SAs and of their installed Child SAs.
func spis() (ike, child map[string]bool, err error) {
	all, err := peerSAs()
	ike, child = map[string]bool{}, map[string]bool{}
	for _, s := range all {
		if s.has("state=ESTABLISHED") {
			ike[s.fields["initiator-spi"]] = true
		}
		for _, c := range s.children {
			if c.has("state=INSTALLED") {
				child[c.fields["spi-in"]] = true
			}
		}
	}
	return ike, child, err
}

// checkNew returns an error if now has no SPI that is not in old.
func checkNew(what string, now, old map[string]bool) error {
	for spi := range now {
		if !old[spi] {
			return nil
		}
	}
	return fmt.Errorf("no new %s: the SPIs are %v, before %v", what, now, old)
}

// whilePinging calls change, which changes SAs, while a ping is sent every 50 ms. It returns an error if there was no
// answer for longer than limit; with a limit of 0 no packet may be lost. The time without an answer is derived from the
// number of lost packets, so that the result does not depend on the speed of the machine. The returned text describes
// the losses.
func whilePinging(limit time.Duration, change func() error, r row) (string, error) {
	pair := r.pairs()[0]
	f, err := startFlow(pair[0], pair[1])
	if err != nil {
		return "", err
	}
	err = f.awaitAnswers(20, stepTimeout)
	if err == nil {
		err = change()
	}
	if err == nil {
		err = f.awaitAnswers(40, 2*stepTimeout)
	}
	sent, lost, series := f.stop()
	if gap := time.Duration(series) * interval; err == nil && gap > limit {
		err = fmt.Errorf("%d of %d packets lost, no answer for %.1f s", lost, sent, gap.Seconds())
	}
	return fmt.Sprintf("%d of %d packets lost, longest gap %.2f s", lost, sent, float64(series)*interval.Seconds()), err
}

// rekey calls how, which makes an end rekey its "Child SA" or "IKE SA", while a ping runs.
func rekey(end, what string, limit time.Duration, how func(b *testbed) error) step {
	name := end + " rekeys the " + what
	return step{name, func(b *testbed, r row) error {
		losses, err := whilePinging(limit, func() error {
			oldIKE, oldChild, err := spis()
			if err != nil {
				return err
			}
			if err := how(b); err != nil {
				return err
			}
			return until(stepTimeout, func() error {
				ike, child, err := spis()
				if err != nil {
					return err
				}
				if what == "IKE SA" {
					return checkNew(what, ike, oldIKE)
				}
				return checkNew(what, child, oldChild)
			})
		}, r)
		b.note("%s: %s", name, losses)
		return err
	}}
}

// ctl runs `svc-ipsec ctl`, which runs whack, for a connection of our daemon.
func ctl(option, name string) error {
	_, err := command("", "timeout", "60", plugin, "ctl", container, option, "--name", name, "--asynchronous")
	return err
}

// runSwanctl returns a function that runs swanctl at the peer.
func runSwanctl(args ...string) func(*testbed) error {
	return func(*testbed) error {
		_, err := swanctl(args...)
		return err
	}
}

// lossless and shortGap are limits of whilePinging.
const lossless, shortGap = 0, 2 * time.Second

func localRekeysChild(limit time.Duration) step {
	return rekey("our end", "Child SA", limit, func(b *testbed) error { return ctl("rekey-ipsec", b.id(0)+"-0-0") })
}

// localRekeysIKE runs whack for each pair of networks. The IKE SA belongs to one of them, and whack fails for the
// others.
func localRekeysIKE(limit time.Duration) step {
	return rekey("our end", "IKE SA", limit, func(b *testbed) error {
		paths, err := filepath.Glob(loadedConf + "/*.conf")
		for _, path := range paths {
			_ = ctl("rekey-ike", strings.TrimSuffix(filepath.Base(path), ".conf"))
		}
		return err
	})
}

func peerRekeysChild(limit time.Duration) step {
	return rekey("strongSwan", "Child SA", limit, runSwanctl("--rekey", "--child", "net"))
}
func peerRekeysIKE(limit time.Duration) step {
	return rekey("strongSwan", "IKE SA", limit, runSwanctl("--rekey", "--ike", "ours"))
}
func peerReauthenticates(limit time.Duration) step {
	return rekey("strongSwan", "IKE SA", limit, runSwanctl("--rekey", "--ike", "ours", "--reauth"))
}

// peerInitiates makes the peer initiate, for rows in which our end is response-only.
var peerInitiates = &step{"strongSwan initiates", func(*testbed, row) error {
	return until(stepTimeout, func() error {
		_, err := swanctl("--initiate", "--child", "net", "--timeout", "30")
		return err
	})
}}

// peerTraffic sends a packet from the peer's network. The trap policy makes charon initiate.
var peerTraffic = &step{"a packet of the peer's network makes strongSwan initiate", func(_ *testbed, r row) error {
	return ping(r.pairs()[0][1], r.pairs()[0][0], stepTimeout)
}}

// pingFor sends pings for a time in which the lifetimes of SAs end. The kinds of SAs in rekeyed must be rekeyed in that
// time.
func pingFor(duration, limit time.Duration, rekeyed ...string) step {
	return step{fmt.Sprintf("a ping for %.0f s", duration.Seconds()), func(b *testbed, r row) error {
		losses, err := whilePinging(limit, func() error {
			oldIKE, oldChild, err := spis()
			if err != nil {
				return err
			}
			time.Sleep(duration)
			ike, child, err := spis()
			for _, what := range rekeyed {
				if what == "IKE SA" {
					err = errors.Join(err, checkNew(what, ike, oldIKE))
				} else {
					err = errors.Join(err, checkNew(what, child, oldChild))
				}
			}
			return err
		}, r)
		b.note("%s", losses)
		return err
	}}
}

// awaitLog waits until charon has logged a text in this step.
func (b *testbed) awaitLog(text string) error {
	return until(stepTimeout/3, func() error {
		if !strings.Contains(b.log(), text) {
			return fmt.Errorf("charon did not log %q", text)
		}
		return nil
	})
}

// setAdminState changes adminStateUp of the first connection.
func (b *testbed) setAdminState(up bool) error {
	changed := merge(b.ours[0], object{"adminStateUp": up})
	return b.edit(append([]object{changed}, b.ours[1:]...)...)
}

// adminDownUp disables the connection for 30 seconds. The peer must receive a DELETE, because SAs that it keeps can
// delay the new ones. After the connection is enabled, traffic must return within 5 seconds, plus the time that an
// emulated or busy machine needs to start the daemon, which is derived from the time of a CHECK.
var adminDownUp = step{"admin down for 30 s, and up", func(b *testbed, r row) error {
	start := time.Now()
	if _, err := command("", "svc-supervisor", "exec", "CHECK", container); err != nil {
		return err
	}
	limit := 5*time.Second + 3*time.Since(start)
	if err := b.setAdminState(false); err != nil {
		return err
	}
	down := time.Now()
	deleted := b.awaitLog("received DELETE")
	if err := ping(r.pairs()[0][0], r.pairs()[0][1], 2*time.Second); err == nil {
		return errors.New("a connection that is administratively down carries traffic")
	}
	time.Sleep(time.Until(down.Add(30 * time.Second)))
	if err := b.setAdminState(true); err != nil {
		return err
	}
	up := time.Now()
	err := ping(r.pairs()[0][0], r.pairs()[0][1], 150*time.Second)
	took := time.Since(up)
	b.note("traffic returned %.1f s after the connection was loaded, the limit is %.1f s", took.Seconds(),
		limit.Seconds())
	if err == nil && took > limit {
		err = fmt.Errorf("traffic returned after %.1f s, the limit is %.1f s", took.Seconds(), limit.Seconds())
	}
	return errors.Join(deleted, err)
}}

// removeConnection removes the n-th connection of our end. charon must log the text deleted, and traffic through the
// other connections must not be interrupted for longer than limit.
func removeConnection(n int, deleted string, limit time.Duration) step {
	return step{"one of two connections is removed", func(b *testbed, r row) error {
		losses, err := whilePinging(limit, func() error {
			if err := b.edit(append(b.ours[:n:n], b.ours[n+1:]...)...); err != nil {
				return err
			}
			return b.awaitLog(deleted)
		}, r)
		b.note("the other connection: %s", losses)
		return err
	}}
}

// changePeerAddress changes the peer's address of the first connection.
func changePeerAddress(address string) step {
	return step{"the peer's address is changed", func(b *testbed, r row) error {
		if err := b.edit(merge(b.ours[0], object{"peerAddress": address})); err != nil {
			return err
		}
		err := b.awaitLog("received DELETE for IKE_SA ours")
		return errors.Join(err, checkTraffic(r))
	}}
}

// awaitTraffic waits for traffic after an end was restarted.
func (b *testbed) awaitTraffic(r row, limit time.Duration) error {
	start := time.Now()
	err := ping(r.pairs()[0][0], r.pairs()[0][1], limit)
	b.note("traffic returned after %.1f s", time.Since(start).Seconds())
	if err == nil {
		err = checkTraffic(r)
	}
	return err
}

// killPeer kills charon without a DELETE, as a reboot does, and starts it again. Our end detects that by DPD.
func killPeer(limit time.Duration) step {
	return step{"strongSwan is killed and started", func(b *testbed, r row) error {
		if err := b.killCharon(); err != nil {
			return err
		}
		if err := b.startCharon(); err != nil {
			return err
		}
		return b.awaitTraffic(r, limit)
	}}
}

// stopPeer stops charon, which sends a DELETE, and starts it again after 10 seconds.
var stopPeer = step{"strongSwan is stopped for 10 s and started", func(b *testbed, r row) error {
	if err := b.stopCharon(); err != nil {
		return err
	}
	time.Sleep(10 * time.Second)
	if err := b.startCharon(); err != nil {
		return err
	}
	return b.awaitTraffic(r, stepTimeout)
}}

// killDaemon kills our daemon. The new daemon sends INITIAL_CONTACT, so the peer must not keep the former SAs.
var killDaemon = step{"our daemon is killed and started by systemd", func(b *testbed, r row) error {
	old, _, err := spis()
	if err != nil {
		return err
	}
	if _, err := command("", "systemctl", "kill", "--signal=KILL", unit); err != nil {
		return err
	}
	if err := until(stepTimeout, func() error {
		now, _, err := spis()
		if err != nil {
			return err
		}
		for spi := range old {
			if now[spi] {
				return errors.New("the peer keeps the IKE SA of the killed daemon")
			}
		}
		return checkNew("IKE SA", now, old)
	}); err != nil {
		return err
	}
	return b.awaitTraffic(r, stepTimeout)
}}

// removeAll removes the only connection.
var removeAll = step{"the only connection is removed", func(b *testbed, _ row) error {
	if err := b.edit(); err != nil {
		return err
	}
	return b.awaitLog("received DELETE for IKE_SA ours")
}}

// staysDown checks that the published status has the reason, and that there is no traffic.
func staysDown(reason string) step {
	return step{"the status has the reason " + reason, func(_ *testbed, r row) error {
		if err := until(stepTimeout, func() error { return hasReason(reason) }); err != nil {
			return err
		}
		if err := ping(r.pairs()[0][0], r.pairs()[0][1], 2*time.Second); err == nil {
			return errors.New("a connection that is down carries traffic")
		}
		return nil
	}}
}

// hasReason returns an error unless the published status has a connection that is down with a reason which contains a
// text.
func hasReason(reason string) error {
	_, connections, err := published()
	if err != nil {
		return err
	}
	for _, c := range connections {
		if c.Status == "DOWN" && c.Reason != "" && strings.Contains(c.Reason, reason) {
			return nil
		}
	}
	return fmt.Errorf("the status is %+v", connections)
}

// isActive waits until all connections of the published status are ACTIVE.
var isActive = step{"the status is ACTIVE", func(*testbed, row) error {
	return until(stepTimeout, func() error {
		_, connections, err := published()
		if err != nil {
			return err
		}
		for _, c := range connections {
			if c.Status != "ACTIVE" {
				return fmt.Errorf("the status is %+v", connections)
			}
		}
		return nil
	})
}}

// stillReachable pings between all pairs of addresses of the row again.
var stillReachable = step{"all networks are still reached", func(_ *testbed, r row) error { return checkTraffic(r) }}

// reachable pings from one further address to another.
func reachable(from, to string) step {
	return step{from + " reaches " + to, func(*testbed, row) error { return ping(from, to, stepTimeout) }}
}

// allUpOrReason checks that there is traffic between all pairs of addresses, or that the published status has a reason.
var allUpOrReason = step{"all networks are reached, or the status has a reason", func(b *testbed, r row) error {
	err := until(stepTimeout/2, func() error { return checkTraffic(r) })
	if err == nil {
		return nil
	}
	_, connections, _ := published()
	b.note("the status is %+v", connections)
	if hasReason("") == nil {
		return nil
	}
	return fmt.Errorf("%w; the status is %+v", err, connections)
}}
