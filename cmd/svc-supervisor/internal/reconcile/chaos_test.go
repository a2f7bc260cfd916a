package reconcile

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// chaos generates random events for three ports, three names and three container ids, which conflict with each other.
type chaos struct {
	*world
	rng    *rand.Rand
	events []string // the events so far, for the report
}

func (c *chaos) note(format string, values ...any) {
	c.events = append(c.events, fmt.Sprintf(format, values...))
}

func (c *chaos) port() spec.PortID { return spec.PortID(fmt.Sprint("p", c.rng.IntN(3))) }
func (c *chaos) name() spec.Name   { return spec.Name(fmt.Sprint("vpn", c.rng.IntN(3))) }

func (c *chaos) binding() spec.Binding {
	b := vpn(c.port(), c.name(), spec.ContainerID(fmt.Sprint("c", c.rng.IntN(3))))
	if c.rng.IntN(4) == 0 {
		b.Container.ServiceType = haproxy
	}
	return edited(b, 1+c.rng.IntN(2))
}

func draw[T any](c *chaos, all ...T) T { return all[c.rng.IntN(len(all))] }

// nextEvent causes one random event and lets a random time pass.
func (c *chaos) nextEvent() {
	no := errors.New("no answer")
	actions := []func(){
		func() { b := c.binding(); c.note("bind %v %s", b.Container, b.Configuration); c.bind(b) },
		func() { b := c.binding(); c.note("bind %v %s", b.Container, b.Configuration); c.bind(b) },
		func() { p := c.port(); c.note("unbind %s", p); c.unbind(p) },
		func() {
			b := spec.Binding{PortID: c.port(), Reading: spec.Unread, Fault: "file is incomplete"}
			c.note("unread %s", b.PortID)
			c.bind(b)
		},
		func() {
			weight, limit, unread := c.rng.IntN(2), c.rng.IntN(4)-1, draw(c, "", "no Host object")
			c.note("host weight %d, limit %d, %q", weight, limit, unread)
			c.setHost(weight, limit, unread)
		},
		func() {
			verb, name := draw(c, spec.Add, spec.Del, spec.Check), c.name()
			b := draw(
				c,
				behaviour{fails: code(spec.CodeIO)},
				behaviour{fails: code(spec.CodeNotInPlace)},
				behaviour{hangs: true},
				behaviour{hangs: true, late: true},
				behaviour{fails: code(spec.CodeAgain), late: true},
				behaviour{prints: "oops"},
			)
			c.note("the next %s of %s: %+v", verb, name, b)
			c.on(verb, name, b, behaviour{})
		},
		func() {
			unit, state := c.name().Unit(), draw(c, "", "failed", "inactive")
			c.note("%s becomes %q", unit, state)
			c.systemd(unit, state)
		},
		func() {
			f := draw(
				c,
				faults{},
				faults{systemd: no},
				faults{write: no},
				faults{owner: no},
				faults{remove: no},
				faults{namespaces: no},
			)
			c.note("faults %+v", f)
			c.change(func() { c.faults = f })
		},
		func() { n := 1 + c.rng.IntN(10); c.note("cut after %d effects", n); c.current.crashAfter(n) },
		func() { c.note("kill"); c.restart() },
		func() { c.note("reboot"); c.current.kill(); c.reboot(); c.start() },
	}
	draw(c, actions...)()
	if c.rng.IntN(5) == 0 {
		c.after(time.Duration(c.rng.IntN(90)) * time.Second)
	} else {
		c.after(time.Duration(c.rng.IntN(1500)) * time.Millisecond)
	}
	if c.current.isDead() {
		c.note("start")
		c.restart()
	}
}

func (c *chaos) restart() {
	c.current.kill()
	c.start()
}

// endFaults ends all faults and binds up to three containers that do not conflict.
func (c *chaos) endFaults() {
	c.note("calm")
	c.change(func() { c.faults, c.script, c.current.left = faults{}, map[scriptKey][]behaviour{}, -1 })
	c.unbind("p0", "p1", "p2")
	c.setHost(1, -1, "")
	if c.current.isDead() || c.rng.IntN(2) == 0 {
		c.note("restart")
		c.restart()
	}
	names, ids := c.rng.Perm(3), c.rng.Perm(3)
	for i := range c.rng.IntN(4) {
		b := vpn(
			spec.PortID(fmt.Sprint("p", i)),
			spec.Name(fmt.Sprint("vpn", names[i])),
			spec.ContainerID(fmt.Sprint("c", ids[i])),
		)
		c.note("bind %v", b.Container)
		c.bind(b)
	}
}

func TestRandomEventsEndInTheDesiredState(t *testing.T) {
	const schedules = 300
	for seed := range uint64(schedules) {
		inWorld(t, func(w *world) {
			c := &chaos{world: w, rng: rand.New(rand.NewPCG(seed, 0))}
			defer func() {
				if t.Failed() {
					t.Logf("seed %d", seed)
					for _, line := range c.events {
						t.Log(line)
					}
				}
			}()
			w.start()
			for range 5 + c.rng.IntN(15) {
				c.nextEvent()
			}
			c.endFaults()
			w.untilSettled(4 * time.Minute)
		})
		if t.Failed() {
			return
		}
	}
}
