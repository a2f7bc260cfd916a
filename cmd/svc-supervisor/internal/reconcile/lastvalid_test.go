package reconcile

import (
	"strings"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/statedir"
)

// offerLastValid makes the IPSEC executable ask for the last valid configuration.
func (w *world) offerLastValid() {
	w.change(func() {
		for i := range w.programs {
			w.programs[i].LastValid = w.programs[i].Type == ipsec
		}
	})
}

// refusing is an ADD that succeeds and returns this last valid configuration.
func refusing(lastValid string) behaviour {
	return behaviour{prints: `{"cniVersion":"1.1.0","units":["svc-vpn1.service"],"lastValid":` + lastValid + `}`}
}

func TestLastValidConfigurationIsPassedToEachADD(t *testing.T) {
	inWorld(t, func(w *world) {
		w.offerLastValid()
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start()
		w.untilSettled(time.Second)
		given := func(step, want string) {
			t.Helper()
			if got := w.lastValid["vpn1"]; got != want {
				t.Errorf("%s: ADD was given %s, want %s", step, got, want)
			}
		}
		given("the first ADD", "{}")
		w.on(spec.Add, "vpn1", refusing(`{"edition":1,"kept":true}`))
		w.bind(edited(vpn("p1", "vpn1", "c1"), 2))
		w.untilSettled(time.Second)
		given("an edit", `{"edition":1}`)
		record := w.readLocked("vpn1")[0].Record
		if got := string(record.LastValid().Configuration); got != `{"edition":1,"kept":true}` ||
			string(record.Conf.Configuration) != `{"edition":2}` {
			t.Errorf("the record has %s and %s", record.Conf.Configuration, got)
		}
		if strings.Contains(string(record.Result), "lastValid") {
			t.Errorf("the result contains it, too: %s", record.Result)
		}
		w.bind(edited(vpn("p1", "vpn1", "c1"), 3))
		w.untilSettled(time.Second)
		given("another edit", `{"edition":1,"kept":true}`)

		// The container is healed, and one ADD fails in between.
		w.on(spec.Add, "vpn1", behaviour{fails: code(spec.CodeIO)}, refusing(`{"edition":1,"kept":true}`))
		w.systemd("svc-vpn1.service", "failed")
		w.until(time.Minute, "healed", w.settled)
		given("healing", `{"edition":1,"kept":true}`)

		w.current.stop()
		w.reboot()
		w.start()
		w.untilSettled(time.Minute)
		given("a reboot", `{"edition":1,"kept":true}`)

		// A valid edit discards the last valid configuration, and so does another container under the name.
		w.on(spec.Add, "vpn1")
		w.bind(edited(vpn("p1", "vpn1", "c1"), 4))
		w.untilSettled(time.Second)
		if record := w.readLocked("vpn1")[0].Record; record.Previous != nil {
			t.Errorf("the last valid configuration is kept: %s", record.Previous.Configuration)
		}
		w.bind(vpn("p1", "vpn1", "c2"))
		w.untilSettled(time.Minute)
		given("another container", "{}")
	})
}

func TestLastValidConfigurationIsPassedOnlyOnRequest(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start()
		w.untilSettled(time.Second)
		w.bind(edited(vpn("p1", "vpn1", "c1"), 2))
		w.untilSettled(time.Second)
		if got := w.lastValid["vpn1"]; got != "" {
			t.Errorf("ADD was given %s", got)
		}
	})
}

// TestUnreadableConfigurationKeepsTheLastOneRunning checks that an unreadable configuration counts as a refused edit.
// The last readable one stays in use, also after healing and a reboot.
func TestUnreadableConfigurationKeepsTheLastOneRunning(t *testing.T) {
	misconfigured := func(b spec.Binding) spec.Binding {
		b.Reading, b.Fault = spec.Unknown, "configurations/k: is not YAML"
		b.ConfigurationUnreadable, b.Configuration = true, nil
		return b
	}
	inWorld(t, func(w *world) {
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start()
		w.untilSettled(time.Second)
		w.bind(misconfigured(vpn("p1", "vpn1", "c1")))
		w.after(2 * time.Second)
		runs := func(step string, adds int) {
			t.Helper()
			w.after(2 * time.Minute) // until a CHECK has reported the health
			var added []verbCall
			for _, call := range w.calls {
				if call.verb == spec.Add {
					added = append(added, call)
				}
			}
			if len(added) != adds || added[adds-1].configuration != `{"edition":1}` {
				t.Errorf("%s: %+v", step, added)
			}
			if phase := w.phase("vpn1"); phase != statedir.Added {
				t.Errorf("%s: record %s", step, phase)
			}
			status := w.published["c1"]
			row := w.current.r.Rows()[0]
			if status.Code != spec.Running || row.Status != "UNKNOWN" ||
				!strings.Contains(row.Reason, "edit refused: configurations/k: is not YAML") {
				t.Errorf("%s: status %+v, row %+v", step, status, row)
			}
			if !strings.Contains(status.Message, "edit refused: configurations/k: is not YAML") {
				t.Errorf("%s: the message of the status is missing: %+v", step, status)
			}
		}
		runs("after the edit", 1)
		w.systemd("svc-vpn1.service", "failed")
		runs("after healing", 2)
		w.current.stop()
		w.reboot()
		w.start()
		runs("after a reboot", 3)
		w.bind(edited(vpn("p1", "vpn1", "c1"), 5))
		w.untilSettled(time.Second)
		if held := w.held["vpn1"].configuration; held != `{"edition":5}` {
			t.Errorf("the container runs with %s", held)
		}

		// A container that never ran is held.
		w.bind(misconfigured(vpn("p2", "vpn2", "c2")))
		w.after(time.Minute)
		recorded := false
		w.change(func() { recorded = w.disk["vpn2"] != nil })
		if row := w.current.r.Rows()[1]; row.Status != "UNKNOWN" || row.Reason != "configurations/k: is not YAML" ||
			recorded {
			t.Errorf("row %+v", row)
		}
		w.unbind("p1", "p2")
		w.until(time.Minute, "gone", func() (gone bool) {
			w.change(func() { gone = len(w.disk) == 0 })
			return gone
		})
	})
}
