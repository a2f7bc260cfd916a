package reconcile

import (
	"testing"
	"time"
)

func TestWhenCHECKIsDueBecauseOfEvents(t *testing.T) {
	begin := time.Now()
	rows := []struct {
		sentence string
		do       func(p *eventPace, at func(seconds float64) time.Time)
		want     float64 // in seconds after the start; negative: never
	}{
		{"without an event it is not due", func(*eventPace, func(float64) time.Time) {}, -1},
		{"an event makes it due", func(p *eventPace, at func(float64) time.Time) { p.event(at(3)) }, 3},
		{
			"a second event changes nothing",
			func(p *eventPace, at func(float64) time.Time) { p.event(at(3)); p.event(at(4)) },
			3,
		},
		{"a verb covers the events before it", func(p *eventPace, at func(float64) time.Time) {
			p.event(at(3))
			p.begin(at(4))
			p.end(at(5), eventGap)
		}, -1},
		{"an event during a verb makes it due a moment after its end", func(p *eventPace, at func(float64) time.Time) {
			p.begin(at(3))
			p.event(at(4))
			p.end(at(5), eventGap)
		}, 5.25},
		{
			"an event soon after a verb makes it due a moment after its end",
			func(p *eventPace, at func(float64) time.Time) {
				p.begin(at(3))
				p.end(at(5), eventGap)
				p.event(at(5.125))
			},
			5.25,
		},
		{"an event later makes it due at once", func(p *eventPace, at func(float64) time.Time) {
			p.begin(at(3))
			p.end(at(5), eventGap)
			p.event(at(8))
		}, 8},
		{"after 50 CHECKs in a row it is due 10 s after the last one", func(p *eventPace, at func(float64) time.Time) {
			checkAtEachDue(p, at, 78)
		}, 80},
		{"CHECKs at the interval do not use up the allowance", func(p *eventPace, at func(float64) time.Time) {
			for i := range 1000 {
				p.begin(at(float64(10 * i)))
				p.end(at(float64(10*i)+1), eventGap)
			}
			p.event(at(20000))
		}, 20000},
		{
			"the allowance is full again after ten minutes without events",
			func(p *eventPace, at func(float64) time.Time) {
				checkAtEachDue(p, at, 68)
				for i := range 10 {
					p.event(at(700 + float64(i)))
					p.begin(at(700 + float64(i)))
					p.end(at(700+float64(i)), eventGap)
				}
				p.event(at(710))
			},
			710,
		},
	}
	for _, row := range rows {
		t.Run(row.sentence, func(t *testing.T) {
			p := new(eventPace)
			row.do(p, func(seconds float64) time.Time {
				return begin.Add(time.Duration(seconds * float64(time.Second)))
			})
			got := -1.0
			if due := p.due(); !due.IsZero() {
				got = due.Sub(begin).Seconds()
			}
			if got != row.want {
				t.Errorf("due after %v s, want %v s", got, row.want)
			}
		})
	}
}

// checkAtEachDue causes events without end for the given time, and runs a CHECK of zero duration whenever one is due.
func checkAtEachDue(p *eventPace, at func(float64) time.Time, seconds float64) {
	now := at(0)
	for p.event(now); now.Before(at(seconds)); p.event(now) {
		p.begin(now)
		p.end(now, eventGap)
		p.event(now)
		now = p.due()
	}
}
