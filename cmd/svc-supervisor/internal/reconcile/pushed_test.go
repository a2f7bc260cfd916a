package reconcile

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/decide"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/observe"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// healthOf returns a health with one connection per status. Their ids are a, b, c and so on.
func healthOf(statuses ...spec.ConnectionStatus) *spec.Health {
	h := &spec.Health{Code: spec.Running}
	for i, status := range statuses {
		pair := spec.Pair{Local: "10.1.0.0/24", Peer: "10.2.0.0/24", Status: status, BytesIn: 7}
		h.Connections = append(
			h.Connections,
			spec.Connection{ID: string(rune('a' + i)), Status: status, Pairs: []spec.Pair{pair}},
		)
	}
	return h
}

// answer returns the output of ADD with the given health.
func answer(h *spec.Health) string {
	text, _ := json.Marshal(
		map[string]any{"cniVersion": spec.CNIVersion, "units": []string{"svc-vpn1.service"}, "health": h},
	)
	return string(text)
}

// push returns a pushed health with one connection of vpn1.
func push(id string, status spec.ConnectionStatus) *spec.Health {
	pairs := []spec.Pair{{Local: "10.1.0.0/24", Peer: "10.2.0.0/24", Status: status}}
	return &spec.Health{
		InterfaceName: "vpn1", Code: spec.Running,
		Connections: []spec.Connection{{ID: id, Status: status, Pairs: pairs}},
	}
}

// statuses returns the statuses of the connections as published and as shown by ps.
func (w *world) statuses() (published, shown string) {
	for _, c := range w.status("c1").Connections {
		published += c.ID + ":" + string(c.Status) + " "
	}
	for _, row := range w.current.r.Rows() {
		if row.Name == "vpn1" && row.Health != nil {
			for _, c := range row.Health.Connections {
				shown += c.ID + ":" + string(c.Status) + " "
			}
		}
	}
	return strings.TrimSpace(published), strings.TrimSpace(shown)
}

func (w *world) expectStatuses(when, want string) {
	w.t.Helper()
	if published, shown := w.statuses(); published != want || shown != want {
		w.t.Errorf("%s: published %q, shown %q, want %q", when, published, shown, want)
	}
}

func withConnections(t *testing.T, test func(w *world)) {
	inWorld(t, func(w *world) {
		w.on(spec.Add, "vpn1", behaviour{prints: answer(healthOf(spec.Down, spec.Down))})
		check := behaviour{prints: string(must(json.Marshal(healthOf(spec.Down, spec.Down))))}
		w.on(spec.Check, "vpn1", slices.Repeat([]behaviour{check}, 8)...)
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start()
		w.untilSettled(5 * time.Second)
		w.expectStatuses("after ADD", "a:DOWN b:DOWN")
		w.after(time.Minute + 5*time.Second) // until the additional CHECKs for connections that are down have ended
		w.on(spec.Check, "vpn1")
		w.forgetCalls()
		test(w)
	})
}

func TestPushedHealthIsShownAndPublishedWithoutAVerb(t *testing.T) {
	withConnections(t, func(w *world) {
		for i, status := range []spec.ConnectionStatus{spec.Active, spec.Down, spec.Active, spec.Down, spec.Active} {
			w.current.r.ApplyPushedHealth(push("a", status))
			w.expectStatuses("at once", "a:"+string(status)+" b:DOWN")
			w.after(time.Duration(i) * 100 * time.Millisecond)
			w.expectStatuses("and later", "a:"+string(status)+" b:DOWN")
		}
		if ran := w.verbs("vpn1"); ran != "" {
			t.Errorf("%s ran", ran)
		}
		if published := w.history("c1"); published != "STARTING, RUNNING" {
			t.Errorf("published %s", published)
		}
	})
}

func TestPushDuringAVerbOverridesItsOlderAnswer(t *testing.T) {
	withConnections(t, func(w *world) {
		w.on(spec.Add, "vpn1", behaviour{takes: 10 * time.Second, prints: answer(healthOf(spec.Down, spec.Active))})
		edited := vpn("p1", "vpn1", "c1")
		edited.Configuration = json.RawMessage(`{"edited":true}`)
		w.bind(edited)
		w.after(5 * time.Second) // ADD has read the state of the daemon, and returns it later
		w.current.r.ApplyPushedHealth(push("a", spec.Active))
		w.expectStatuses("during the verb", "a:ACTIVE b:DOWN")
		w.after(6 * time.Second) // ADD returned 1 s ago, and no CHECK has run since
		w.expectStatuses("after the verb", "a:ACTIVE b:ACTIVE")
	})
}

func TestPushWithoutAChangeKeepsTheCounters(t *testing.T) {
	withConnections(t, func(w *world) {
		w.current.r.ApplyPushedHealth(push("a", spec.Down))
		w.after(time.Second)
		for _, row := range w.current.r.Rows() {
			if row.Health.Connections[0].Pairs[0].BytesIn != 7 {
				t.Error("a counter is lost")
			}
		}
	})
}

func TestPushesForUnknownConnectionsAndContainersAreDropped(t *testing.T) {
	withConnections(t, func(w *world) {
		w.current.r.ApplyPushedHealth(push("z", spec.Active)) // a connection of an earlier configuration
		stranger := push("a", spec.Active)
		stranger.InterfaceName = "other"
		w.current.r.ApplyPushedHealth(stranger)
		w.after(time.Second)
		w.expectStatuses("afterwards", "a:DOWN b:DOWN")
		w.unbind("p1")
		w.untilSettled(5 * time.Second)
		w.current.r.ApplyPushedHealth(push("a", spec.Active))
		w.after(time.Minute)
		if status := w.status("c1"); status.Code != "" {
			t.Errorf("published %+v for a removed container", status)
		}
	})
}

func TestPushWhileTheHealthIsUnknownLeadsToCHECK(t *testing.T) {
	withConnections(t, func(w *world) {
		w.current.stop()
		w.start()
		w.untilSettled(time.Second)
		w.on(spec.Check, "vpn1", behaviour{prints: string(must(json.Marshal(healthOf(spec.Active, spec.Down))))})
		w.current.r.ApplyPushedHealth(push("a", spec.Active))
		w.after(time.Second)
		w.expectStatuses("after the push", "a:ACTIVE b:DOWN")
		if ran := w.verbs("vpn1"); ran != "CHECK" {
			t.Errorf("%s ran", ran)
		}
	})
}

// TestHealthOfCHECKIsPublishedWhileAnEditFails checks that the health from CHECK is published although the container is
// not settled. It may stay unsettled for days.
func TestHealthOfCHECKIsPublishedWhileAnEditFails(t *testing.T) {
	withConnections(t, func(w *world) {
		w.on(spec.Add, "vpn1", behaviour{fails: code(spec.CodeIO)})
		w.on(spec.Check, "vpn1", behaviour{prints: string(must(json.Marshal(healthOf(spec.Active, spec.Down))))})
		w.bind(edited(vpn("p1", "vpn1", "c1"), 2))
		w.after(70 * time.Second)
		w.expectStatuses("after a CHECK", "a:ACTIVE b:DOWN")
		w.current.r.ApplyPushedHealth(push("b", spec.Active))
		w.expectStatuses("after a push", "a:ACTIVE b:ACTIVE")
		w.current.stop()
		w.start()
		w.after(70 * time.Second)
		w.expectStatuses("after a restart", "a:ACTIVE b:DOWN")
		if message := w.status("c1").Message; !strings.HasPrefix(message, "change failed: ") {
			t.Errorf("the message is %q", message)
		}
	})
}

func TestContainerThatIsUnknownSinceTheStartIsChecked(t *testing.T) {
	withConnections(t, func(w *world) {
		w.current.stop()
		w.setHost(1, -1, "no Host object")
		w.start()
		w.after(70 * time.Second)
		if ran := w.verbs("vpn1"); !strings.HasPrefix(ran, "CHECK") {
			t.Errorf("ran %q", ran)
		}
	})
}

func TestDroppedPushesLeadToCHECK(t *testing.T) {
	withConnections(t, func(w *world) {
		w.on(spec.Add, "vpn1", behaviour{takes: 10 * time.Second, prints: answer(healthOf(spec.Down, spec.Down))})
		w.on(spec.Check, "vpn1", behaviour{prints: string(must(json.Marshal(healthOf(spec.Down, spec.Active))))})
		w.bind(edited(vpn("p1", "vpn1", "c1"), 2))
		w.after(5 * time.Second)
		for range pushedLimit {
			w.current.r.ApplyPushedHealth(push("z", spec.Active))
		}
		w.current.r.ApplyPushedHealth(push("b", spec.Active))
		w.expectStatuses("during the verb", "a:DOWN b:ACTIVE")
		w.after(6 * time.Second)
		w.expectStatuses("after the verb", "a:DOWN b:ACTIVE")
		if ran := w.verbs("vpn1"); ran != "ADD CHECK" && ran != "ADD, CHECK" {
			t.Errorf("ran %q", ran)
		}
	})
}

// TestCHECKForAPushIsDueInTheSameObservation uses the real clock. In a synctest bubble the time does not change within
// an observation.
func TestCHECKForAPushIsDueInTheSameObservation(t *testing.T) {
	w := &worker{memories: new(memories), checks: new(checkSchedule)}
	m := &memory{shared: shared{pushed: pushedHealth{received: true, lost: true}}}
	s := &snapshot{Snapshot: &observe.Snapshot{Name: "vpn1"}}
	w.addDue(s, m)
	if !s.Facts.CheckDue {
		t.Error("CHECK is not due")
	}
}

func TestTimesDueDuringAnObservationAreNotMissed(t *testing.T) {
	rows := []struct {
		sentence string
		at       func(*memory) *time.Time
	}{
		{"a CHECK", func(m *memory) *time.Time { return &m.checks.at }},
		{"reconfigure", func(m *memory) *time.Time { return &m.requests.fromVerb }},
		{"the end of a back-off", func(m *memory) *time.Time { return &m.retries.backOff[decide.Add].until }},
		{"the next attempt to read", func(m *memory) *time.Time { return &m.retries.unreadable.until }},
	}
	for _, row := range rows {
		t.Run(row.sentence, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &snapshot{&observe.Snapshot{Name: "vpn1"}, time.Now()}
				queue, memories := newQueue(), new(memories)
				m := new(memory)
				*row.at(m) = s.now.Add(time.Millisecond)
				time.Sleep(2 * time.Millisecond)
				memories.forgetOrWake(s, m, s.now, queue.mark)
				synctest.Wait()
				if queue.idle() {
					t.Error("the name is not marked")
				}
			})
		})
	}
}

func TestPushCanAskForAReconfigure(t *testing.T) {
	withConnections(t, func(w *world) {
		w.after(pushedGap)
		pushed := push("a", spec.Down)
		pushed.Again = &spec.Again{After: 2}
		w.current.r.ApplyPushedHealth(pushed)
		w.after(1900 * time.Millisecond)
		if ran := w.verbs("vpn1"); ran != "" {
			t.Errorf("%s ran too early", ran)
		}
		w.after(time.Second)
		if ran := w.verbs("vpn1"); ran != "ADD" {
			t.Errorf("%q ran, want ADD", ran)
		}
	})
}

func TestLaterPushCancelsTheReconfigureOfAnEarlierOne(t *testing.T) {
	withConnections(t, func(w *world) {
		pushed := push("a", spec.Down)
		pushed.Again = &spec.Again{After: 2}
		w.current.r.ApplyPushedHealth(pushed)
		w.after(time.Second)
		w.current.r.ApplyPushedHealth(push("a", spec.Active))
		w.after(10 * time.Second)
		if ran := w.verbs("vpn1"); ran != "" {
			t.Errorf("%s ran", ran)
		}
	})
}

// flood sends ten pushes per second, the rate that the health socket accepts.
func (w *world) flood(duration time.Duration, pushed func(i int) *spec.Health) {
	for i := range int(duration / (100 * time.Millisecond)) {
		w.current.r.ApplyPushedHealth(pushed(i))
		w.after(100 * time.Millisecond)
	}
}

func TestPushesReconfigureAtMostEveryThreeSecondsAndDoNotDelayCHECK(t *testing.T) {
	withConnections(t, func(w *world) {
		w.bind(vpn("p2", "vpn2", "c2"))
		w.untilSettled(5 * time.Second)
		w.forgetCalls()
		w.on(spec.Add, "vpn1", behaviour{takes: 300 * time.Millisecond, prints: answer(healthOf(spec.Down, spec.Down))})
		w.flood(time.Minute+10*time.Second, func(int) *spec.Health {
			pushed := push("a", spec.Down)
			pushed.Again = &spec.Again{}
			return pushed
		})
		adds := w.times(spec.Add, "vpn1")
		if len(adds) < 10 {
			t.Errorf("only %d ADDs ran", len(adds))
		}
		for i := 1; i < len(adds); i++ {
			if gap := adds[i].Sub(adds[i-1]); gap < 3*time.Second {
				t.Errorf("an ADD follows %v after another", gap)
			}
		}
		if ran := w.verbs("vpn1"); !strings.Contains(ran, "CHECK") || strings.Contains(ran, "DEL") {
			t.Errorf("ran %q", ran)
		}
		if ran := w.verbs("vpn2"); strings.Contains(ran, "ADD") {
			t.Errorf("verbs of another container: %q", ran)
		}
	})
}

func TestPushesWhileTheHealthIsUnknownCHECKAtMostEveryThreeSeconds(t *testing.T) {
	inWorld(t, func(w *world) {
		w.on(spec.Check, "vpn1", behaviour{prints: "{}"})
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start()
		w.untilSettled(5 * time.Second)
		w.forgetCalls()
		w.flood(30*time.Second, func(int) *spec.Health { return push("a", spec.Active) })
		checks := w.times(spec.Check, "vpn1")
		if len(checks) < 5 {
			t.Errorf("%d CHECKs ran", len(checks))
		}
		for i := 1; i < len(checks); i++ {
			if gap := checks[i].Sub(checks[i-1]); gap < 3*time.Second {
				t.Errorf("a CHECK follows %v after another", gap)
			}
		}
	})
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
