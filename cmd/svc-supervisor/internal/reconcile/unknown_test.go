package reconcile

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/statedir"
)

// TestNoStepIsTakenWhileTheStateIsUnknown checks that no step is taken and no status is published while anything cannot
// be read, in every phase of a container.
func TestNoStepIsTakenWhileTheStateIsUnknown(t *testing.T) {
	no := errors.New("no answer")
	unknown := func(reading spec.Reading) func(*world) {
		return func(w *world) {
			b := w.bindings["p1"]
			b.Reading, b.Fault = reading, "file is incomplete"
			if reading == spec.Unread {
				b.Container = spec.Container{}
			}
			w.bind(b)
		}
	}
	rows := []struct {
		sentence string
		fail     func(*world)
		repair   func(*world)
	}{
		{
			"no Host object", func(w *world) { w.setHost(1, -1, "no Host object") },
			func(w *world) { w.setHost(1, -1, "") },
		},
		{"a binding that is unread", unknown(spec.Unread), func(w *world) { w.bind(vpn("p1", "vpn1", "c1")) }},
		{"a configuration that is missing", unknown(spec.Unknown), func(w *world) { w.bind(vpn("p1", "vpn1", "c1")) }},
		{
			"systemd",
			func(w *world) { w.change(func() { w.faults.systemd = no }) },
			func(w *world) { w.change(func() { w.faults.systemd = nil }) },
		},
		{
			"namespaces",
			func(w *world) { w.change(func() { w.faults.namespaces = no }) },
			func(w *world) { w.change(func() { w.faults.namespaces = nil }) },
		},
		{
			"interfaces",
			func(w *world) { w.change(func() { w.faults.links = no }) },
			func(w *world) { w.change(func() { w.faults.links = nil }) },
		},
		{
			"the record",
			func(w *world) { w.change(func() { w.faults.read = no }) },
			func(w *world) { w.change(func() { w.faults.read = nil }) },
		},
	}
	phases := []struct {
		sentence string
		prepare  func(*world)
	}{
		{"settled", func(w *world) {
			w.start()
			w.untilSettled(time.Second)
		}},
		{"an edit that waits", func(w *world) {
			w.start()
			w.untilSettled(time.Second)
			w.on(spec.Add, "vpn1", behaviour{fails: code(spec.CodeIO)}, behaviour{})
			w.bind(edited(vpn("p1", "vpn1", "c1"), 2))
			w.after(500 * time.Millisecond)
		}},
		{"deleted, to be recreated", func(w *world) {
			w.on(spec.Add, "vpn1", behaviour{fails: code(spec.CodeIO)}, behaviour{})
			w.start()
			w.until(5*time.Second, "deleted", func() bool { return w.phase("vpn1") == statedir.Deleted })
		}},
		{"half removed", func(w *world) {
			w.start()
			w.untilSettled(time.Second)
			w.on(spec.Del, "vpn1", behaviour{fails: code(spec.CodeIO)}, behaviour{})
			w.systemd("svc-vpn1.service", "failed")
			w.after(500 * time.Millisecond)
		}},
	}
	for _, row := range rows {
		for _, phase := range phases {
			t.Run(row.sentence+", "+phase.sentence, func(t *testing.T) {
				inWorld(t, func(w *world) {
					w.bind(vpn("p1", "vpn1", "c1"))
					phase.prepare(w)
					row.fail(w)
					w.systemd("svc-vpn1.service", "failed")
					effects, published := w.effects(), w.history("c1")
					w.after(10 * time.Minute)
					if w.effects() != effects {
						t.Errorf("effects: %q", w.trace[effects:])
					}
					if got := w.history("c1"); got != published {
						t.Errorf("published %q after %q", got, published)
					}
					row.repair(w)
					w.untilSettled(3 * time.Minute)
				})
			})
		}
	}
}

func TestMarkDoesNotDelayTheNextAttemptToRead(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bind(vpn("p1", "vpn1", "c1"))
		w.change(func() { w.faults.systemd = errors.New("no answer") })
		w.start()
		for range 10 {
			w.current.r.Mark("vpn1")
			w.after(10 * time.Millisecond)
		}
		w.change(func() { w.faults.systemd = nil })
		w.untilSettled(firstDelay * 3 / 2)
	})
}

func TestNoStepIsTakenBeforeTheNSDBIsRead(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start()
		w.untilSettled(time.Second)
		w.reboot()
		w.current.stop()
		effects := w.effects()
		w.startWithoutDesired()
		w.current.r.MarkAll()
		w.after(10 * time.Minute)
		if w.effects() != effects {
			t.Errorf("effects: %q", w.trace[effects:])
		}
		w.sendDesired()
		w.untilSettled(2 * time.Second)
	})
}

func TestErrorOfCHECKDoesNotCountWhileSystemdDoesNotAnswer(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start()
		w.untilSettled(time.Second)
		w.change(func() { w.faults.systemd = errors.New("no answer") })
		w.on(spec.Check, "vpn1", behaviour{fails: code(spec.CodeUnknownContainer)})
		w.after(10 * time.Minute)
		if len(w.times(spec.Check, "vpn1")) == 0 {
			t.Error("no CHECK ran")
		}
		w.on(spec.Check, "vpn1")
		w.change(func() { w.faults.systemd = nil })
		w.after(10 * time.Minute)
		if got := w.verbs("vpn1"); strings.Contains(got, "DEL") {
			t.Errorf("%q ran", got)
		}
	})
}

// corrupt changes the content of a record file.
func (w *world) corrupt(name spec.Name, t spec.ServiceType, change func([]byte) []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.disk[name][t] = change(w.disk[name][t])
}

// TestRecordThatIsReadableLateKeepsItsContainer has a record that cannot be read when the supervisor starts, and in
// half of the rows a binding that cannot be read until the record was.
func TestRecordThatIsReadableLateKeepsItsContainer(t *testing.T) {
	good := vpn("p1", "vpn1", "c1")
	unread := spec.Binding{PortID: "p1", Reading: spec.Unread, Fault: "bindings/h/p1: is not YAML"}
	for _, row := range []struct {
		sentence string
		only     func(*Settings)
		first    spec.Binding
	}{
		{"all types, binding unread", func(*Settings) {}, unread},
		{"all types", func(*Settings) {}, good},
		{"its type is not listed, binding unread", only(haproxy), unread},
		{"its type is not listed", only(haproxy), good},
		{"its type is listed, binding unread", only(ipsec), unread},
		{"its type is listed", only(ipsec), good},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.bind(good)
				w.start()
				w.untilSettled(time.Second)
				w.current.stop()
				w.change(func() { w.faults.read = errors.New("read record: input/output error") })
				w.bind(row.first)
				w.start(row.only)
				w.after(10 * time.Second)
				w.change(func() { w.faults.read = nil })
				w.after(3 * time.Minute)
				w.bind(good)
				w.after(time.Minute)
				if got := w.verbs("vpn1"); strings.Contains(got, "DEL") || strings.Count(got, "ADD") != 1 {
					t.Errorf("verbs: %s", got)
				}
				w.unbind("p1")
				w.untilSettled(time.Minute)
			})
		})
	}
}

func truncate(content []byte) []byte { return content[:len(content)/2] }

func TestUnknownAnswerOfCHECKDoesNotLeadToDEL(t *testing.T) {
	for name, answer := range map[string]behaviour{
		"code 11":         {fails: code(spec.CodeAgain)},
		"code 999":        {fails: code(spec.CodeInternal)},
		"no error object": {prints: "fork/exec /usr/libexec/ipsec/whack: resource temporarily unavailable"},
		"the deadline":    {hangs: true},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.bind(vpn("p1", "vpn1", "c1"))
				w.start()
				w.untilSettled(time.Second)
				w.on(spec.Check, "vpn1", answer)
				w.after(3 * time.Minute)
				if reason := w.current.r.Rows()[0].Reason; reason != "" {
					t.Errorf("reason within five minutes: %q", reason)
				}
				w.after(7 * time.Minute)
				if got := w.verbs("vpn1"); strings.Count(got, "ADD") != 1 || strings.Contains(got, "DEL") {
					t.Errorf("%q ran", got)
				}
				if row := w.current.r.Rows()[0]; !strings.HasPrefix(row.Reason, "state unknown to CHECK since ") ||
					row.Status != "RUNNING" {
					t.Errorf("shown: %+v", row)
				}
				w.on(spec.Check, "vpn1", behaviour{})
				w.after(2 * time.Minute)
				if reason := w.current.r.Rows()[0].Reason; reason != "" {
					t.Errorf("reason after a good CHECK: %q", reason)
				}
			})
		})
	}
}

func TestDamagedRecords(t *testing.T) {
	rows := []struct {
		sentence string
		also     func(*world)
		verbs    string // that run after the restart
	}{
		{"is healed in place", func(*world) {}, "ADD"},
		{"is healed in place after a crash", func(w *world) {
			w.on(spec.Add, "vpn1", behaviour{takes: 2 * time.Second}, behaviour{})
			w.start()
			w.after(time.Second)
			w.current.kill()
		}, "ADD ADD"},
		{"is healed in place after the disk was full", func(w *world) {
			w.change(func() { w.faults.write = errors.New("no space left on device") })
			w.start()
			w.after(10 * time.Minute)
			if strings.Contains(w.history("c1"), "ERROR") || w.units["svc-vpn1.service"] == nil {
				w.t.Errorf("published %q", w.history("c1"))
			}
			w.change(func() { w.faults.write = nil })
			w.current.stop()
		}, "ADD"},
		{"waits for an executable, and no ERROR is published in between", func(w *world) {
			w.uninstall("/opt/svc/bin/svc-ipsec")
			w.start()
			w.after(10 * time.Minute)
			if strings.Contains(w.history("c1"), "ERROR") {
				w.t.Errorf("published %q", w.history("c1"))
			}
			w.install("/opt/svc/bin/svc-ipsec", ipsec, "1.0.0", true)
			w.after(time.Second)
			w.current.stop()
		}, "ADD"},
		{"of an edited binding is healed with the edit", func(w *world) { w.bind(edited(w.bindings["p1"], 2)) }, "ADD"},
		{"without a namespace leads to DEL and ADD", func(w *world) { w.reboot() }, "DEL ADD"},
		{"of another type leads to DEL and ADD", func(w *world) {
			w.bind(changed(w.bindings["p1"], func(b *spec.Binding) { b.Container.ServiceType = haproxy }))
		}, "DEL ADD"},
		{"of another container leads to DEL and ADD", func(w *world) { w.bind(vpn("p1", "vpn1", "c2")) }, "DEL ADD"},
		{"that is not wanted is removed", func(w *world) { w.unbind("p1") }, "DEL"},
		{"that is not wanted stays while a binding is unread", func(w *world) {
			w.unbind("p1")
			w.bind(spec.Binding{PortID: "p2", Reading: spec.Unread, Fault: "file is incomplete"})
			w.start()
			w.after(5 * time.Minute)
			if got := w.verbs("vpn1"); got != "" {
				w.t.Errorf("%q ran", got)
			}
			w.unbind("p2")
			w.after(time.Second)
			w.current.stop()
		}, "DEL"},
	}
	for _, row := range rows {
		t.Run(row.sentence, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.bind(vpn("p1", "vpn1", "c1"))
				w.start()
				w.untilSettled(time.Second)
				w.current.stop()
				w.forgetCalls()
				w.corrupt("vpn1", ipsec, truncate)
				row.also(w)
				w.start()
				w.untilSettled(2 * time.Minute)
				if got := w.verbs("vpn1"); got != row.verbs {
					t.Errorf("%q ran, want %q", got, row.verbs)
				}
			})
		})
	}
}

func TestRecordOfANewerVersionIsNotChanged(t *testing.T) {
	newer := func(content []byte) []byte {
		var record map[string]any
		if err := json.Unmarshal(content, &record); err != nil {
			panic(err)
		}
		record["version"] = statedir.FormatVersion + 1
		content, _ = json.Marshal(record)
		return content
	}
	for _, bound := range []bool{true, false} {
		inWorld(t, func(w *world) {
			w.bind(vpn("p1", "vpn1", "c1"))
			w.start()
			w.untilSettled(time.Second)
			w.current.stop()
			record := w.disk["vpn1"][ipsec]
			w.corrupt("vpn1", ipsec, newer)
			if !bound {
				w.unbind("p1")
			}
			effects, published := w.effects(), w.history("c1")
			w.start()
			w.after(10 * time.Minute)
			if w.effects() != effects {
				t.Errorf("bound %v: effects %q", bound, w.trace[effects:])
			}
			if got := w.history("c1"); bound && got != published {
				t.Errorf("published %q after %q", got, published)
			}
			// An operator restores the record, which causes no event.
			w.corrupt("vpn1", ipsec, func([]byte) []byte { return record })
			w.untilSettled(2 * time.Minute)
		})
	}
}

func TestTwoRecordsOfOneName(t *testing.T) {
	for _, bound := range []bool{true, false} {
		inWorld(t, func(w *world) {
			w.bind(vpn("p1", "vpn1", "c1"))
			w.start()
			w.untilSettled(time.Second)
			w.current.stop()
			other := changed(vpn("p1", "vpn1", "c1"), func(b *spec.Binding) { b.Container.ServiceType = haproxy })
			store := records{&instance{w: w, left: -1}}
			if err := store.Write(&statedir.Record{Phase: statedir.Deleted, Container: other.Container}); err != nil {
				t.Fatal(err)
			}
			if !bound {
				w.unbind("p1")
			}
			w.start()
			w.after(2 * time.Second)
			w.unbind("p1")
			w.untilSettled(2 * time.Second)
		})
	}
}

func TestReasonOfAnUnknownStateIsTrue(t *testing.T) {
	const unread, silent = "input/output error", "systemd does not answer"
	rows := []struct {
		sentence string
		fail     func(*world)
		want     string
	}{
		{
			"a record that could not be read",
			func(w *world) { w.change(func() { w.faults.read = errors.New(unread) }) },
			unread,
		},
		{
			"a record that could not be read, while systemd does not answer",
			func(w *world) {
				w.change(func() { w.faults.read, w.faults.systemd = errors.New(unread), errors.New(silent) })
			},
			unread,
		},
		{
			"systemd does not answer",
			func(w *world) { w.change(func() { w.faults.systemd = errors.New(silent) }) },
			silent,
		},
		{
			"the host shuts down",
			func(w *world) { w.change(func() { w.down, w.units = true, map[string]*process{} }) },
			"the host is shutting down",
		},
		{
			"a damaged record of a name whose binding may be unread",
			func(w *world) {
				w.corrupt("vpn1", ipsec, truncate)
				w.change(func() { w.bindings = map[spec.PortID]spec.Binding{} })
				w.bind(spec.Binding{PortID: "p2", Reading: spec.Unread, Fault: "file is incomplete"})
			},
			"damaged",
		},
	}
	for _, row := range rows {
		t.Run(row.sentence, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.bind(vpn("p1", "vpn1", "c1"))
				w.start()
				w.untilSettled(time.Second)
				row.fail(w)
				w.current.r.Mark("vpn1")
				w.after(time.Second)
				for _, shown := range w.current.r.Rows() {
					if shown.Name == "vpn1" &&
						(shown.Status != "UNKNOWN" || !strings.Contains(shown.Reason, row.want)) {
						t.Errorf("shown: %s %q", shown.Status, shown.Reason)
					}
				}
			})
		})
	}
}
