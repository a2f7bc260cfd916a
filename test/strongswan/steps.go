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

// step is something that happens after the tunnel of a row is up, and what is expected of it.
type step struct {
	name string
	do   func(w *world, r row) error
}

// base is our end's connection, and baseConf the peer's configuration, before a row changes them.
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
# What follows is merged with the above.
connections {
	ours {
%s
	}
%s
}
`

// try brings both ends to a row, waits for its tunnel and takes its steps.
func (w *world) try(number int, r row) error {
	w.notes, w.number, w.key = nil, number, "key "+rand.Text()
	connections, err := w.connections(r)
	if err != nil {
		return err
	}
	w.conf = fmt.Sprintf(baseConf, w.key, r.theirs, r.also)
	// The connection of the row before has another key, so that it does not disturb this row while it is being replaced.
	if err := w.killCharon(); err != nil {
		return err
	}
	_ = os.Remove(charonLog)
	if err := w.setNAT(r.nat); err != nil {
		return err
	}
	if err := w.startCharon(); err != nil {
		return err
	}
	if err := w.edit(connections...); err != nil {
		return err
	}
	if r.begin != nil {
		if err := r.begin.do(w, r); err != nil {
			return fmt.Errorf("%s: %w", r.begin.name, err)
		}
	}
	if !r.down {
		if err := until(settled, func() error { return w.isUp(r) }); err != nil {
			return err
		}
		if err := carries(r); err != nil {
			return err
		}
	}
	for _, s := range r.then {
		w.markLog()
		start := time.Now()
		if err := s.do(w, r); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		w.note("%s: %.1f s", s.name, time.Since(start).Seconds())
	}
	return nil
}

// id returns the id of the row's n-th connection. No two rows have the same.
func (w *world) id(n int) string { return fmt.Sprintf("c%d%c", w.number, 'a'+n) }

func (w *world) connections(r row) (all []object, err error) {
	texts := r.ours
	if texts == nil {
		texts = []string{"{}"}
	}
	for i, text := range texts {
		var over object
		if err := json.Unmarshal([]byte(text), &over); err != nil {
			return nil, fmt.Errorf("ours %q: %w", text, err)
		}
		c := merge(merge(base, object{"id": w.id(i)}), over)
		if c["authMode"] != "certificate" && c["psk"] == nil {
			c["psk"] = w.key
		}
		for key, value := range c {
			if value == nil { // transport mode has no networks
				delete(c, key)
			}
		}
		all = append(all, c)
	}
	return all, nil
}

// isUp returns what is missing: an established IKE SA at the peer with the row's fields, installed Child SAs with theirs, and
// what the kernel of the container is to show.
func (w *world) isUp(r row) error {
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
	if wanted := max(r.children, 1); children < wanted {
		return fmt.Errorf("the peer has %d Child SAs of IKE SA {%s}, child {%s}, want %d; it has: %s",
			children, r.ike, r.child, wanted, strings.Join(seen, "; "))
	}
	states, err := command("", "ip", "-n", container, "xfrm", "state")
	if err != nil {
		return err
	}
	for _, wanted := range strings.Split(r.kernel, "; ") {
		if !strings.Contains(states, wanted) {
			return fmt.Errorf("ip xfrm state of the container does not show %q", wanted)
		}
	}
	return nil
}

// carries pings between all addresses of a row, from our end to the peer and from the peer to our end.
func carries(r row) error {
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

// hasNew returns an error if each element is an old one.
func hasNew(what string, now, old map[string]bool) error {
	for spi := range now {
		if !old[spi] {
			return nil
		}
	}
	return fmt.Errorf("no new %s: %v, before %v", what, now, old)
}

// underPing does something that changes SAs while a ping runs every 50 ms. At most so much time may pass without an answer;
// 0 means that no packet may be lost. The time is counted in lost packets, so that a slow machine makes no difference.
func underPing(limit time.Duration, change func() error, r row) (string, error) {
	pair := r.pairs()[0]
	f, err := startFlow(pair[0], pair[1])
	if err != nil {
		return "", err
	}
	err = f.settle(20, settled)
	if err == nil {
		err = change()
	}
	if err == nil {
		err = f.settle(40, 2*settled)
	}
	sent, lost, series := f.stop()
	if gap := time.Duration(series) * interval; err == nil && gap > limit {
		err = fmt.Errorf("%d of %d packets lost, no answer for %.1f s", lost, sent, gap.Seconds())
	}
	return fmt.Sprintf("%d of %d packets lost, longest gap %.2f s", lost, sent, float64(series)*interval.Seconds()), err
}

// rekey makes an end rekey what, "Child SA" or "IKE SA", while a ping runs.
func rekey(end, what string, limit time.Duration, how func(w *world) error) step {
	name := end + " rekeys the " + what
	return step{name, func(w *world, r row) error {
		said, err := underPing(limit, func() error {
			oldIKE, oldChild, err := spis()
			if err != nil {
				return err
			}
			if err := how(w); err != nil {
				return err
			}
			return until(settled, func() error {
				ike, child, err := spis()
				if err != nil {
					return err
				}
				if what == "IKE SA" {
					return hasNew(what, ike, oldIKE)
				}
				return hasNew(what, child, oldChild)
			})
		}, r)
		w.note("%s: %s", name, said)
		return err
	}}
}

// ctl runs whack for a connection of our daemon.
func ctl(option, name string) error {
	_, err := command("", "timeout", "60", plugin, "ctl", container, option, "--name", name, "--asynchronous")
	return err
}

func theyRun(args ...string) func(*world) error {
	return func(*world) error {
		_, err := swanctl(args...)
		return err
	}
}

const lossless, shortGap = 0, 2 * time.Second

func weRekeyChild(limit time.Duration) step {
	return rekey("our end", "Child SA", limit, func(w *world) error { return ctl("rekey-ipsec", w.id(0)+"-0-0") })
}

// weRekeyIKE asks for each pair of networks: the IKE SA belongs to one of them, and whack refuses the others.
func weRekeyIKE(limit time.Duration) step {
	return rekey("our end", "IKE SA", limit, func(w *world) error {
		paths, err := filepath.Glob(loadedConf + "/*.conf")
		for _, path := range paths {
			_ = ctl("rekey-ike", strings.TrimSuffix(filepath.Base(path), ".conf"))
		}
		return err
	})
}

func theyRekeyChild(limit time.Duration) step {
	return rekey("strongSwan", "Child SA", limit, theyRun("--rekey", "--child", "net"))
}
func theyRekeyIKE(limit time.Duration) step {
	return rekey("strongSwan", "IKE SA", limit, theyRun("--rekey", "--ike", "ours"))
}
func theyReauthenticate(limit time.Duration) step {
	return rekey("strongSwan", "IKE SA", limit, theyRun("--rekey", "--ike", "ours", "--reauth"))
}

// theyInitiate makes the peer initiate: our end waits for it.
var theyInitiate = &step{"strongSwan initiates", func(*world, row) error {
	return until(settled, func() error {
		_, err := swanctl("--initiate", "--child", "net", "--timeout", "30")
		return err
	})
}}

// theirTraffic sends a packet at the peer, whose policy makes charon initiate.
var theirTraffic = &step{"a packet of the peer's network makes strongSwan initiate", func(_ *world, r row) error {
	return ping(r.pairs()[0][1], r.pairs()[0][0], settled)
}}

// pings lets a ping run for a time, in which the SAs are rekeyed because their lifetimes end.
func pings(duration, limit time.Duration, rekeyed ...string) step {
	return step{fmt.Sprintf("a ping for %.0f s", duration.Seconds()), func(w *world, r row) error {
		said, err := underPing(limit, func() error {
			oldIKE, oldChild, err := spis()
			if err != nil {
				return err
			}
			time.Sleep(duration)
			ike, child, err := spis()
			for _, what := range rekeyed {
				if what == "IKE SA" {
					err = errors.Join(err, hasNew(what, ike, oldIKE))
				} else {
					err = errors.Join(err, hasNew(what, child, oldChild))
				}
			}
			return err
		}, r)
		w.note("%s", said)
		return err
	}}
}

// theyReceive waits until charon has logged something in this step.
func (w *world) theyReceive(text string) error {
	return until(settled/3, func() error {
		if !strings.Contains(w.log(), text) {
			return fmt.Errorf("charon did not log %q", text)
		}
		return nil
	})
}

// setAdminState edits the first connection's adminStateUp.
func (w *world) setAdminState(up bool) error {
	changed := merge(w.ours[0], object{"adminStateUp": up})
	return w.edit(append([]object{changed}, w.ours[1:]...)...)
}

// adminDownUp takes the connection down for 30 seconds. The peer must have learnt that, because SAs that it keeps can delay the
// new ones. Traffic must return within 5 seconds, and what an emulated or busy machine needs to start the daemon: that is
// derived from the time of a CHECK.
var adminDownUp = step{"admin down for 30 s, and up", func(w *world, r row) error {
	start := time.Now()
	if _, err := command("", "svc-supervisor", "exec", "CHECK", container); err != nil {
		return err
	}
	limit := 5*time.Second + 3*time.Since(start)
	if err := w.setAdminState(false); err != nil {
		return err
	}
	down := time.Now()
	deleted := w.theyReceive("received DELETE")
	if err := ping(r.pairs()[0][0], r.pairs()[0][1], 2*time.Second); err == nil {
		return errors.New("a connection that is administratively down carries traffic")
	}
	time.Sleep(time.Until(down.Add(30 * time.Second)))
	if err := w.setAdminState(true); err != nil {
		return err
	}
	up := time.Now()
	err := ping(r.pairs()[0][0], r.pairs()[0][1], 150*time.Second)
	took := time.Since(up)
	w.note("traffic returned %.1f s after the connection was loaded, allowed are %.1f s", took.Seconds(), limit.Seconds())
	if err == nil && took > limit {
		err = fmt.Errorf("traffic returned after %.1f s, allowed are %.1f s", took.Seconds(), limit.Seconds())
	}
	return errors.Join(deleted, err)
}}

// removeConnection removes our n-th connection. The peer receives a DELETE, and traffic of the others goes on.
func removeConnection(n int, deleted string, limit time.Duration) step {
	return step{"one of two connections is removed", func(w *world, r row) error {
		said, err := underPing(limit, func() error {
			if err := w.edit(append(w.ours[:n:n], w.ours[n+1:]...)...); err != nil {
				return err
			}
			return w.theyReceive(deleted)
		}, r)
		w.note("the other connection: %s", said)
		return err
	}}
}

// changePeerAddress gives the first connection another peer.
func changePeerAddress(address string) step {
	return step{"the peer's address is changed", func(w *world, r row) error {
		if err := w.edit(merge(w.ours[0], object{"peerAddress": address})); err != nil {
			return err
		}
		err := w.theyReceive("received DELETE for IKE_SA ours")
		return errors.Join(err, carries(r))
	}}
}

// back waits for traffic after an end was started again.
func (w *world) back(r row, limit time.Duration) error {
	start := time.Now()
	err := ping(r.pairs()[0][0], r.pairs()[0][1], limit)
	w.note("traffic returned after %.1f s", time.Since(start).Seconds())
	if err == nil {
		err = carries(r)
	}
	return err
}

// killPeer makes the peer disappear without a DELETE, as a reboot does, and start again. Our end finds out by its DPD.
func killPeer(limit time.Duration) step {
	return step{"strongSwan is killed and started", func(w *world, r row) error {
		if err := w.killCharon(); err != nil {
			return err
		}
		if err := w.startCharon(); err != nil {
			return err
		}
		return w.back(r, limit)
	}}
}

// stopPeer stops the peer with a DELETE and starts it after some seconds.
var stopPeer = step{"strongSwan is stopped for 10 s and started", func(w *world, r row) error {
	if err := w.stopCharon(); err != nil {
		return err
	}
	time.Sleep(10 * time.Second)
	if err := w.startCharon(); err != nil {
		return err
	}
	return w.back(r, settled)
}}

// killDaemon kills our daemon. Its successor sends INITIAL_CONTACT, so the peer does not keep the SAs of before.
var killDaemon = step{"our daemon is killed and started by systemd", func(w *world, r row) error {
	old, _, err := spis()
	if err != nil {
		return err
	}
	if _, err := command("", "systemctl", "kill", "--signal=KILL", unit); err != nil {
		return err
	}
	if err := until(settled, func() error {
		now, _, err := spis()
		if err != nil {
			return err
		}
		for spi := range old {
			if now[spi] {
				return errors.New("the peer keeps the IKE SA of the daemon that was killed")
			}
		}
		return hasNew("IKE SA", now, old)
	}); err != nil {
		return err
	}
	return w.back(r, settled)
}}

// removeAll removes the only connection.
var removeAll = step{"the only connection is removed", func(w *world, _ row) error {
	if err := w.edit(); err != nil {
		return err
	}
	return w.theyReceive("received DELETE for IKE_SA ours")
}}

// staysDown expects a reason in the status, and no traffic.
func staysDown(reason string) step {
	return step{"the status has the reason " + reason, func(_ *world, r row) error {
		if err := until(settled, func() error { return hasReason(reason) }); err != nil {
			return err
		}
		if err := ping(r.pairs()[0][0], r.pairs()[0][1], 2*time.Second); err == nil {
			return errors.New("a connection that is down carries traffic")
		}
		return nil
	}}
}

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

// isActive expects all connections of the published status to be up.
var isActive = step{"the status is ACTIVE", func(*world, row) error {
	return until(settled, func() error {
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

// reaches pings between all addresses of the row again.
var reaches = step{"all networks are still reached", func(_ *world, r row) error { return carries(r) }}

// reachesAlso pings between two more addresses.
func reachesAlso(from, to string) step {
	return step{from + " reaches " + to, func(*world, row) error { return ping(from, to, settled) }}
}

// allUpOrReason expects traffic between all addresses, or a status that explains why there is none.
var allUpOrReason = step{"all networks are reached, or the status has a reason", func(w *world, r row) error {
	err := until(settled/2, func() error { return carries(r) })
	if err == nil {
		return nil
	}
	_, connections, _ := published()
	w.note("the status is %+v", connections)
	if hasReason("") == nil {
		return nil
	}
	return fmt.Errorf("%w; the status is %+v", err, connections)
}}
