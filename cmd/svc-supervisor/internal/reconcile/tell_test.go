package reconcile

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// expectTold compares what was logged of connections since it was asked last.
func (w *world) expectTold(when string, want ...string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	got := slices.DeleteFunc(w.told, func(line string) bool { return !strings.HasPrefix(line, "connection ") })
	if !slices.Equal(got, want) {
		w.t.Errorf("%s: logged %q, want %q", when, got, want)
	}
	w.told = nil
}

// checks makes CHECK tell a health, and lets one run.
func (w *world) checks(h *spec.Health) {
	w.on(spec.Check, "vpn1", behaviour{prints: string(must(json.Marshal(h)))})
	w.after(70 * time.Second)
}

func because(h *spec.Health, reason string) *spec.Health {
	h.Connections[0].Reason = reason
	return h
}

func TestAConnectionThatComesUpOrGoesDownIsLoggedOnceWhicheverWayItIsHeard(t *testing.T) {
	withConnections(t, func(w *world) {
		w.expectTold("after an ADD that tells of none that is up")
		w.now.r.Heard(push("a", spec.Active))
		w.expectTold("pushed", "connection up container=vpn1 connection=a")
		w.now.r.Heard(push("a", spec.Active))
		w.checks(healthOf(spec.Active, spec.Down))
		w.expectTold("pushed again, and told by CHECK too")
		w.checks(because(healthOf(spec.Down, spec.Active), "no answer"))
		w.expectTold("by CHECK", "connection down container=vpn1 connection=a reason=no answer", "connection up container=vpn1 connection=b")
		w.now.r.Heard(push("a", spec.Down))
		w.checks(because(healthOf(spec.Down, spec.Active), "no answer"))
		w.expectTold("down as before, pushed without the reason")
		w.checks(because(healthOf(spec.Down, spec.Active), "refused"))
		w.expectTold("down for another reason", "connection down container=vpn1 connection=a reason=refused")
		w.now.r.Heard(push("z", spec.Active))
		w.expectTold("of a configuration before this one")
	})
}

func TestNameAndPeerOfAConnectionAreLoggedWhereTheyAreKnown(t *testing.T) {
	withConnections(t, func(w *world) {
		h := healthOf(spec.Down, spec.Down)
		h.Connections[0].Name, h.Connections[0].Peer = "to-peer", "192.0.2.1"
		w.checks(h)
		w.now.r.Heard(push("a", spec.Active))
		w.expectTold("pushed", "connection up container=vpn1 connection=a name=to-peer peer=192.0.2.1")
	})
}

func TestWhatComesUpDuringAVerbIsLoggedThenAndNotAgainWithItsOlderAnswer(t *testing.T) {
	withConnections(t, func(w *world) {
		w.on(spec.Add, "vpn1", behaviour{takes: 10 * time.Second, prints: answer(healthOf(spec.Down, spec.Down, spec.Active))})
		w.bind(edited(vpn("p1", "vpn1", "c1"), 2))
		w.after(5 * time.Second)
		w.now.r.Heard(push("a", spec.Active))
		w.expectTold("during the verb", "connection up container=vpn1 connection=a")
		w.after(10 * time.Second)
		w.expectTold("after the verb: the one that it made", "connection up container=vpn1 connection=c")
	})
}

func TestAContainerThatIsMadeAnewTellsWhatIsUpAgain(t *testing.T) {
	withConnections(t, func(w *world) {
		w.now.r.Heard(push("a", spec.Active))
		w.expectTold("up", "connection up container=vpn1 connection=a")
		w.on(spec.Add, "vpn1", behaviour{prints: answer(healthOf(spec.Active, spec.Down))})
		w.systemd("svc-vpn1.service", "failed")
		w.after(10 * time.Second)
		w.expectTold("anew", "connection up container=vpn1 connection=a")
	})
}

func TestAStartOfTheSupervisorIsNoNewsOfAConnectionButAPushIs(t *testing.T) {
	withConnections(t, func(w *world) {
		w.now.r.Heard(push("a", spec.Active))
		w.now.stop()
		w.expectTold("up", "connection up container=vpn1 connection=a")
		w.start()
		w.checks(healthOf(spec.Active, spec.Active))
		w.expectTold("as it was found")
		w.now.stop()
		w.start()
		w.untilSettled(time.Second)
		w.on(spec.Check, "vpn1", behaviour{prints: string(must(json.Marshal(healthOf(spec.Down, spec.Active))))})
		w.now.r.Heard(push("a", spec.Down))
		w.after(time.Second)
		w.expectTold("down before the first CHECK", "connection down container=vpn1 connection=a")
	})
}
