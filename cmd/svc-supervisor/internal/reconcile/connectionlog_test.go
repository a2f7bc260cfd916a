package reconcile

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// expectLogged compares the log lines about connections since the last call.
func (w *world) expectLogged(when string, want ...string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	got := slices.DeleteFunc(w.logged, func(line string) bool { return !strings.HasPrefix(line, "connection ") })
	if !slices.Equal(got, want) {
		w.t.Errorf("%s: logged %q, want %q", when, got, want)
	}
	w.logged = nil
}

// runCheck makes CHECK report a health and waits until one has run.
func (w *world) runCheck(h *spec.Health) {
	w.on(spec.Check, "vpn1", behaviour{prints: string(must(json.Marshal(h)))})
	w.after(70 * time.Second)
}

func withReason(h *spec.Health, reason string) *spec.Health {
	h.Connections[0].Reason = reason
	return h
}

func TestConnectionChangeIsLoggedOnceFromPushOrCHECK(t *testing.T) {
	withConnections(t, func(w *world) {
		w.expectLogged("after an ADD that reports no connection that is up")
		w.current.r.ApplyPushedHealth(push("a", spec.Active))
		w.expectLogged("pushed", "connection up container=vpn1 connection=a")
		w.current.r.ApplyPushedHealth(push("a", spec.Active))
		w.runCheck(healthOf(spec.Active, spec.Down))
		w.expectLogged("pushed again, and reported by CHECK")
		w.runCheck(withReason(healthOf(spec.Down, spec.Active), "no answer"))
		w.expectLogged(
			"reported by CHECK",
			"connection down container=vpn1 connection=a reason=no answer",
			"connection up container=vpn1 connection=b",
		)
		w.current.r.ApplyPushedHealth(push("a", spec.Down))
		w.runCheck(withReason(healthOf(spec.Down, spec.Active), "no answer"))
		w.expectLogged("down as before, pushed without the reason")
		w.runCheck(withReason(healthOf(spec.Down, spec.Active), "refused"))
		w.expectLogged("down for another reason", "connection down container=vpn1 connection=a reason=refused")
		w.current.r.ApplyPushedHealth(push("z", spec.Active))
		w.expectLogged("a connection of an earlier configuration")
	})
}

func TestNameAndPeerOfAConnectionAreLoggedIfKnown(t *testing.T) {
	withConnections(t, func(w *world) {
		h := healthOf(spec.Down, spec.Down)
		h.Connections[0].Name, h.Connections[0].Peer = "to-peer", "192.0.2.1"
		w.runCheck(h)
		w.current.r.ApplyPushedHealth(push("a", spec.Active))
		w.expectLogged("pushed", "connection up container=vpn1 connection=a name=to-peer peer=192.0.2.1")
	})
}

func TestPushDuringAVerbIsNotLoggedAgainWithItsOlderAnswer(t *testing.T) {
	withConnections(t, func(w *world) {
		w.on(
			spec.Add,
			"vpn1",
			behaviour{takes: 10 * time.Second, prints: answer(healthOf(spec.Down, spec.Down, spec.Active))},
		)
		w.bind(edited(vpn("p1", "vpn1", "c1"), 2))
		w.after(5 * time.Second)
		w.current.r.ApplyPushedHealth(push("a", spec.Active))
		w.expectLogged("during the verb", "connection up container=vpn1 connection=a")
		w.after(10 * time.Second)
		w.expectLogged("after the verb, the connection that it created", "connection up container=vpn1 connection=c")
	})
}

func TestConnectionsOfARecreatedContainerAreLoggedAgain(t *testing.T) {
	withConnections(t, func(w *world) {
		w.current.r.ApplyPushedHealth(push("a", spec.Active))
		w.expectLogged("up", "connection up container=vpn1 connection=a")
		w.on(spec.Add, "vpn1", behaviour{prints: answer(healthOf(spec.Active, spec.Down))})
		w.systemd("svc-vpn1.service", "failed")
		w.after(10 * time.Second)
		w.expectLogged("after it was recreated", "connection up container=vpn1 connection=a")
	})
}

func TestAfterARestartOnlyChangesOfConnectionsAreLogged(t *testing.T) {
	withConnections(t, func(w *world) {
		w.current.r.ApplyPushedHealth(push("a", spec.Active))
		w.current.stop()
		w.expectLogged("up", "connection up container=vpn1 connection=a")
		w.start()
		w.runCheck(healthOf(spec.Active, spec.Active))
		w.expectLogged("unchanged since the start")
		w.current.stop()
		w.start()
		w.untilSettled(time.Second)
		w.on(spec.Check, "vpn1", behaviour{prints: string(must(json.Marshal(healthOf(spec.Down, spec.Active))))})
		w.current.r.ApplyPushedHealth(push("a", spec.Down))
		w.after(time.Second)
		w.expectLogged("down before the first CHECK", "connection down container=vpn1 connection=a")
	})
}

// changes counts the log lines about connections, and reports whether a line states that changes were not logged.
func (w *world) changes() (lines int, omitted bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, line := range w.logged {
		switch {
		case strings.HasPrefix(line, "connection changes not logged"):
			omitted = true
		case strings.HasPrefix(line, "connection "):
			lines++
		}
	}
	return lines, omitted
}

func TestFlappingConnectionIsLoggedAtALimitedRateWithItsFinalState(t *testing.T) {
	withConnections(t, func(w *world) {
		w.flood(30*time.Second, func(i int) *spec.Health {
			return push("a", map[bool]spec.ConnectionStatus{true: spec.Active, false: spec.Down}[i%2 == 0])
		})
		lines, omitted := w.changes()
		if lines < 10 || lines > 20+2*2+10+1 {
			t.Errorf("%d lines", lines)
		}
		if !omitted {
			t.Error("no line states that changes were not logged")
		}
		w.current.r.ApplyPushedHealth(push("a", spec.Active))
		w.runCheck(healthOf(spec.Active, spec.Down))
		w.mu.Lock()
		defer w.mu.Unlock()
		final := ""
		for _, line := range w.logged {
			if strings.HasPrefix(line, "connection up") || strings.HasPrefix(line, "connection down") {
				final = line
			}
		}
		if final != "connection up container=vpn1 connection=a" {
			t.Errorf("the last line is %q", final)
		}
	})
}

func TestManyConnectionsThatChangeTogetherAreAllLogged(t *testing.T) {
	const many = 256
	all := func(status spec.ConnectionStatus) *spec.Health {
		h := &spec.Health{InterfaceName: "vpn1", Code: spec.Running}
		for i := range many {
			h.Connections = append(h.Connections, spec.Connection{ID: fmt.Sprint(i), Status: status})
		}
		return h
	}
	inWorld(t, func(w *world) {
		w.on(spec.Add, "vpn1", behaviour{prints: answer(all(spec.Down))})
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start()
		w.untilSettled(5 * time.Second)
		w.current.r.ApplyPushedHealth(all(spec.Active))
		w.current.r.ApplyPushedHealth(all(spec.Down))
		if lines, omitted := w.changes(); lines != 2*many || omitted {
			t.Errorf("%d lines, omitted: %v", lines, omitted)
		}
	})
}

func TestPushedUnknownConnectionsCostFewLinesAndNoMemory(t *testing.T) {
	withConnections(t, func(w *world) {
		w.current.stop()
		w.start()
		w.untilSettled(time.Second)
		w.on(spec.Check, "vpn1", behaviour{hangs: true})
		pushed := push("a", spec.Active)
		for i := range pushedLimit {
			pushed.Connections = append(pushed.Connections, spec.Connection{ID: fmt.Sprint(i), Status: spec.Active})
		}
		w.current.r.ApplyPushedHealth(pushed)
		if lines, _ := w.changes(); lines > 20 {
			t.Errorf("%d lines", lines)
		}
		w.current.r.memories.mu.Lock()
		defer w.current.r.memories.mu.Unlock()
		if kept := len(w.current.r.memories.byName["vpn1"].shared.logged); kept > 20 {
			t.Errorf("%d connections are kept", kept)
		}
	})
}

func TestLongFieldIsShortenedInTheLog(t *testing.T) {
	withConnections(t, func(w *world) {
		pushed := push("a", spec.Active)
		pushed.Connections[0].Name = strings.Repeat("ä", fieldLimit)
		w.current.r.ApplyPushedHealth(pushed)
		w.expectLogged(
			"pushed", "connection up container=vpn1 connection=a name="+strings.Repeat("ä", fieldLimit/2)+"…",
		)
	})
}

func TestFailuresOfConnectionsAndContainersAreWarnings(t *testing.T) {
	expectWarned := func(w *world, when string, want ...string) {
		w.t.Helper()
		w.mu.Lock()
		defer w.mu.Unlock()
		if !slices.Equal(w.warned, want) {
			w.t.Errorf("%s: warned %q, want %q", when, w.warned, want)
		}
		w.warned = nil
	}
	inWorld(t, func(w *world) {
		w.offerAllIPSEC()
		made := healthOf(spec.Down, spec.Down, spec.Down)
		made.Connections[1].Reason = "pskFile /etc/x: no such file"
		made.Connections[2].Reason, made.Connections[2].Disabled = "adminStateUp is false", true
		w.on(spec.Add, "vpn1", behaviour{prints: answer(made)})
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start()
		w.untilSettled(time.Second)
		expectWarned(
			w,
			"a refused connection",
			"connection down container=vpn1 connection=b reason=pskFile /etc/x: no such file",
		)
		w.current.r.ApplyPushedHealth(push("a", spec.Active))
		expectWarned(w, "a connection that comes up")
		w.current.r.ApplyPushedHealth(push("a", spec.Down))
		expectWarned(w, "a connection that goes down", "connection down container=vpn1 connection=a")
		w.on(spec.Add, "vpn1", behaviour{prints: answer(healthOf(spec.Active))})
		w.systemd("svc-vpn1.service", "failed")
		w.after(5 * time.Second)
		expectWarned(
			w,
			"a container that is healed",
			"delete container for port binding portId=p1 hostId=host-1 interfaceName=vpn1 containerId=c1"+
				" type=IPSEC groupId=group-1 configurationId=configuration-1 rule=5 reason=svc-vpn1.service failed",
		)
		w.unbind("p1")
		w.untilSettled(5 * time.Second)
		expectWarned(w, "a container that is unbound")
	})
}
