package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// group is a named measurement that produces several rows.
type group struct {
	name    string
	measure func(*host) ([]Row, error)
}

var groups = []group{
	{"ipsec20", func(h *host) ([]Row, error) { return upAndDown(h, ipsec, 20, true) }},
	{"ipsec100", func(h *host) ([]Row, error) { return upAndDown(h, ipsec, 100, true) }},
	{"ipsec300", func(h *host) ([]Row, error) { return upAndDown(h, ipsec, 300, false) }},
	{"minimal100", func(h *host) ([]Row, error) { return upAndDown(h, minimal, 100, false) }},
	{"minimal500", func(h *host) ([]Row, error) { return upAndDown(h, minimal, 500, false) }},
	{"foreign", besideForeign},
	{"idle", idle},
	{"restart", restart},
	{"latency", latency},
	{"connections", connections},
	{"overload", overload},
}

var (
	ipsec   = containers{"ipsec", "IPSEC", 1}
	minimal = containers{"mini", "BENCH", 0}
)

// targets has the highest accepted ratios to the floor with the same number of containers.
var targets = map[string]float64{
	"100 IPSEC up": 1.75, "300 IPSEC up": 1.8, "100 IPSEC down": 2.5, "300 IPSEC down": 2.5, "500 BENCH up": 2.5,
}

// upAndDown measures how long it takes to make and remove containers. In each run it measures the floor, then MidoNet's
// sequence of commands if midonet is set, then the supervisor.
func upAndDown(h *host, c containers, count int, midonet bool) ([]Row, error) {
	kind := map[string]string{"IPSEC": "ipsec", "BENCH": "sleep"}[c.serviceType]
	if err := c.define(count); err != nil {
		return nil, err
	}
	if err := h.start(); err != nil {
		return nil, err
	}
	defer h.stop()
	if err := warm(c); err != nil {
		return nil, err
	}
	costs := map[string][]cost{}
	once := func(name string, do func() error) error {
		taken, err := h.measure(do)
		costs[name] = append(costs[name], taken)
		time.Sleep(500 * time.Millisecond) // until asynchronous work has ended
		return err
	}
	floor := func(step string) func() error {
		return func() error {
			return run(filepath.Join(h.binaries, "bench", "floor"), step, kind, strconv.Itoa(count),
				strconv.Itoa(parallel))
		}
	}
	script := func(step string) func() error {
		return func() error { return run("bench/midonet", step, strconv.Itoa(count), strconv.Itoa(parallel)) }
	}
	for range h.runs {
		for _, step := range []string{"up", "down"} {
			if err := once("floor "+step, floor(step)); err != nil {
				return nil, err
			}
		}
		for _, step := range []string{"up", "down"} {
			if !midonet {
				break
			}
			if err := once("midonet "+step, script(step)); err != nil {
				return nil, err
			}
		}
		if err := once("ours up", func() error { return c.bind(count) }); err != nil {
			return nil, err
		}
		if err := once("ours down", func() error { return c.unbind(count) }); err != nil {
			return nil, err
		}
	}
	var rows []Row
	for _, step := range []string{"up", "down"} {
		ours, least := medianCost(costs["ours "+step]), medianCost(costs["floor "+step])
		name := fmt.Sprintf("%d %s %s", count, c.serviceType, step)
		wall := ratio(name+": wall", "s", ours.wall.Seconds(), least.wall.Seconds(), targets[name])
		cpuTarget := targets[name]
		if step == "down" {
			cpuTarget = 0
		}
		cpu := ratio(name+": CPU", "s", ours.cpu.Seconds(), least.cpu.Seconds(), cpuTarget)
		cpu.Note = ours.shares(count) + "\n    floor: " + least.shares(count)
		rows = append(rows, wall, cpu)
		if !midonet {
			continue
		}
		theirs := medianCost(costs["midonet "+step])
		target := map[string]float64{"up": 0.5, "down": 1 / 1.5}[step]
		against := ratio(name+": wall, against MidoNet's commands", "s", ours.wall.Seconds(), theirs.wall.Seconds(),
			target)
		rows = append(rows, against)
	}
	return rows, nil
}

// warm makes and removes one container. After that, everything exists that is made only once per host: the mount view,
// the template of the key database, and the directory of the statuses.
func warm(c containers) error {
	if err := c.bind(1); err != nil {
		return err
	}
	return c.unbind(1)
}

// medianCost returns the median of each field.
func medianCost(costs []cost) cost {
	of := func(figure func(cost) time.Duration) time.Duration {
		var all []time.Duration
		for _, c := range costs {
			all = append(all, figure(c))
		}
		return median(all)
	}
	middle := cost{
		wall: of(func(c cost) time.Duration { return c.wall }),
		cpu:  of(func(c cost) time.Duration { return c.cpu }),
		own:  of(func(c cost) time.Duration { return c.own }),
	}
	for i := range parts {
		middle.parts = append(middle.parts, of(func(c cost) time.Duration { return c.parts[i] }))
	}
	return middle
}

// besideForeign measures how long it takes to make one container on a host with many foreign network namespaces.
func besideForeign(h *host) ([]Row, error) {
	if err := ipsec.define(1); err != nil {
		return nil, err
	}
	if err := h.start(); err != nil {
		return nil, err
	}
	defer h.stop()
	var rows []Row
	var none float64
	for _, foreign := range []int{0, 300, 1000} {
		if err := h.setForeign(foreign); err != nil {
			return rows, err
		}
		if err := warm(ipsec); err != nil {
			return rows, err
		}
		var walls []time.Duration
		for range h.runs {
			taken, err := h.measure(func() error { return ipsec.bind(1) })
			if err != nil {
				return rows, err
			}
			walls = append(walls, taken.wall)
			if err := ipsec.unbind(1); err != nil {
				return rows, err
			}
		}
		wall := median(walls).Seconds() * 1000
		if foreign == 0 {
			none = wall
		}
		row := ratio(fmt.Sprintf("1 IPSEC up beside %d foreign namespaces", foreign), "ms", wall, none, 1.3)
		row.Note = "the floor is the time without foreign namespaces"
		rows = append(rows, row)
	}
	return rows, h.setForeign(0)
}

// idle measures the cost of 100 containers while nothing changes.
func idle(h *host) ([]Row, error) {
	// A CHECK can be delayed up to ten intervals of a minute.
	const count, started, period = 100, time.Minute, 10*time.Minute + 10*time.Second
	if err := ipsec.define(count); err != nil {
		return nil, err
	}
	if err := h.start(); err != nil {
		return nil, err
	}
	defer h.stop()
	if err := ipsec.bind(count); err != nil {
		return nil, err
	}
	time.Sleep(started) // until the CHECKs after the start of each container have run
	taken, err := h.measure(func() error {
		time.Sleep(period)
		return nil
	})
	if err != nil {
		return nil, err
	}
	percent := func(used time.Duration) float64 { return 100 * used.Seconds() / taken.wall.Seconds() }
	note := fmt.Sprintf("the process of the supervisor %.2f %%", percent(taken.own))
	for i, p := range parts {
		note += fmt.Sprintf(", %s %.2f %%", p.name, percent(taken.parts[i]))
	}
	row := Row{Name: "100 IPSEC idle", Unit: "% of a core", Ours: percent(taken.cpu), Target: 1, Note: note}
	return []Row{row}, ipsec.unbind(count)
}

// overload binds 100 containers at once while four other processes use processor time. All containers must become
// RUNNING without a failed ADD and without a published ERROR.
func overload(h *host) ([]Row, error) {
	const count, others = 100, 4
	if err := ipsec.define(count); err != nil {
		return nil, err
	}
	if err := h.start(); err != nil {
		return nil, err
	}
	defer h.stop()
	if err := warm(ipsec); err != nil {
		return nil, err
	}
	for range others {
		busy := exec.Command("sh", "-c", "while :; do :; done")
		if err := busy.Start(); err != nil {
			return nil, err
		}
		defer func() { _ = busy.Process.Kill(); _ = busy.Wait() }()
	}
	began := time.Now()
	taken, err := h.measure(func() error { return ipsec.bind(count) })
	if err != nil {
		return nil, err
	}
	log, err := exec.Command("journalctl", "--quiet", "--no-pager", "--output=cat", "--unit="+unitName,
		fmt.Sprintf("--since=@%d", began.Unix())).Output()
	if err != nil {
		return nil, err
	}
	failed := float64(strings.Count(string(log), `msg="ADD failed"`))
	rows := []Row{
		{Name: "100 IPSEC up beside 4 busy processes: wall", Unit: "s", Ours: taken.wall.Seconds()},
		{
			Name: "100 IPSEC up beside 4 busy processes: failed ADDs", Unit: "",
			Ours: failed, Target: 0.5, Note: "no failed ADD is allowed",
		},
	}
	return rows, ipsec.unbind(count)
}

// restart measures the start of a supervisor with 1,000 recorded containers.
func restart(h *host) ([]Row, error) {
	const count = 1000
	if err := minimal.define(count); err != nil {
		return nil, err
	}
	if err := h.start(); err != nil {
		return nil, err
	}
	defer h.stop()
	if err := minimal.bind(count); err != nil {
		return nil, err
	}
	memory, err := h.resident()
	if err != nil {
		return nil, err
	}
	var walls, cpus []time.Duration
	for range h.runs {
		h.stop()
		taken, err := h.measure(func() error {
			return minimal.change(count, func(i int) error {
				if i > 0 {
					return nil
				}
				if err := run("sh", "-c", "rm -f "+statuses+"/*"); err != nil {
					return err
				}
				return h.start()
			}, true)
		})
		if err != nil {
			return nil, err
		}
		walls, cpus = append(walls, taken.wall), append(cpus, taken.cpu)
	}
	rows := []Row{
		{
			Name: "restart with 1,000 BENCH: wall per container", Unit: "ms",
			Ours: median(walls).Seconds() * 1000 / count, Target: 1,
		},
		{
			Name: "restart with 1,000 BENCH: CPU per container", Unit: "ms",
			Ours: median(cpus).Seconds() * 1000 / count, Target: 0.5,
		},
		{Name: "memory of the supervisor with 1,000 BENCH", Unit: "MB", Ours: memory, Target: 40},
	}
	return rows, minimal.unbind(count)
}

// connections measures CHECK and the edit of a connection, compared with one call of whack.
func connections(h *host) ([]Row, error) {
	var rows []Row
	for _, count := range []int{1, 50} {
		c := containers{fmt.Sprintf("conn%d-", count), "IPSEC", count}
		if err := c.define(1); err != nil {
			return rows, err
		}
		if err := h.start("SVC_CHECK_INTERVAL=1h"); err != nil {
			return rows, err
		}
		defer h.stop()
		if err := c.bind(1); err != nil {
			return rows, err
		}
		one, err := h.checkAndEdit(c)
		rows = append(rows, one...)
		if err != nil {
			return rows, err
		}
		if err := c.unbind(1); err != nil {
			return rows, err
		}
		h.stop()
	}
	return rows, nil
}

// checkAndEdit measures `whack --status`, CHECK and, if there are several connections, the edit of one of them.
func (h *host) checkAndEdit(c containers) ([]Row, error) {
	name := c.name(0)
	var called, checked, edited []time.Duration
	measurements := map[*[]time.Duration]func() error{
		&called:  func() error { return whackStatus(name).Run() },
		&checked: func() error { return h.check(name) },
	}
	for range 10 * h.runs {
		for into, do := range measurements {
			began := time.Now()
			if err := do(); err != nil {
				return nil, err
			}
			*into = append(*into, time.Since(began))
		}
	}
	call := median(called).Seconds() * 1000
	rows := []Row{ratio(fmt.Sprintf("CHECK of %d connections, against one whack --status", c.connections), "ms",
		median(checked).Seconds()*1000, call, 5)}
	if c.connections == 1 {
		return rows, nil
	}
	for i := range h.runs {
		network := fmt.Sprintf("10.9.%d.0/24", i)
		configuration := c.configuration(0)
		configuration["connections"].([]object)[0]["peerCidrs"] = []string{network}
		began := time.Now()
		if err := put("configurations/"+name, configuration); err != nil {
			return rows, err
		}
		if err := h.awaitLoaded(name, network); err != nil {
			return rows, err
		}
		edited = append(edited, time.Since(began))
		time.Sleep(2 * time.Second)
	}
	text := fmt.Sprintf("one connection of %d edited, until loaded, against one whack --status", c.connections)
	return append(rows, ratio(text, "ms", median(edited).Seconds()*1000, call, 15)), nil
}
