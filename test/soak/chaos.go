package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/test/crash/lab"
)

// binding is one port of the host, bound or not.
type binding struct {
	lab.Wanted
	bound bool
}

// chaos is a lab and what is done to it.
type chaos struct {
	*lab.Lab
	random   *rand.Rand
	bindings []*binding
	counter  int
	done     map[string]int
}

// operation is one kind of harm; it returns whether there was something to do.
type operation struct {
	name   string
	weight int
	do     func(*chaos) (bool, error)
}

var operations = []operation{
	{"bind", 30, (*chaos).bind},
	{"unbind", 14, (*chaos).unbind},
	{"edit", 16, (*chaos).edit},
	{"group", 4, (*chaos).group},
	{"rename", 6, (*chaos).rename},
	{"move", 6, (*chaos).move},
	{"swap", 6, (*chaos).swap},
	{"kill supervisor", 4, (*chaos).killSupervisor},
	{"restart supervisor", 2, (*chaos).restartSupervisor},
	{"kill executable", 16, func(c *chaos) (bool, error) { return c.signalExecutable(unix.SIGKILL) }},
	{"hang executable", 2, func(c *chaos) (bool, error) { return c.signalExecutable(unix.SIGSTOP) }},
	{"kill daemon", 4, (*chaos).killDaemon},
	{"stop unit", 3, (*chaos).stopUnit},
	{"NSDB away", 3, (*chaos).moveAway},
	{"NSDB half written", 4, (*chaos).halfWrite},
	{"daemon-reexec", 1, (*chaos).reexec},
}

// operate does one thing at random.
func (c *chaos) operate() error {
	sum := 0
	for _, o := range operations {
		sum += o.weight
	}
	at := c.random.IntN(sum)
	for _, o := range operations {
		if at -= o.weight; at < 0 {
			done, err := o.do(c)
			if done {
				c.done[o.name]++
			}
			if err != nil {
				return fmt.Errorf("%s: %w", o.name, err)
			}
			return nil
		}
	}
	return nil
}

func (c *chaos) wanted() []lab.Wanted {
	var list []lab.Wanted
	for _, b := range c.bindings {
		if b.bound {
			list = append(list, b.Wanted)
		}
	}
	return list
}

func (c *chaos) bindAll() error {
	for _, w := range c.wanted() {
		if err := lab.Bind(w); err != nil {
			return err
		}
	}
	return nil
}

// pick returns one of the bindings that are bound, or of those that are not; nil if there is none.
func (c *chaos) pick(bound bool) *binding {
	var list []*binding
	for _, b := range c.bindings {
		if b.bound == bound {
			list = append(list, b)
		}
	}
	if len(list) == 0 {
		return nil
	}
	return list[c.random.IntN(len(list))]
}

func (c *chaos) bind() (bool, error) {
	b := c.pick(false)
	if b == nil {
		return false, nil
	}
	b.bound = true
	return true, lab.Bind(b.Wanted)
}

func (c *chaos) unbind() (bool, error) {
	b := c.pick(true)
	if b == nil {
		return false, nil
	}
	b.bound = false
	return true, lab.Unbind(b.Port)
}

// rebind changes a binding that is bound.
func (c *chaos) rebind(change func(*binding)) (bool, error) {
	b := c.pick(true)
	if b == nil {
		return false, nil
	}
	port := b.Port
	change(b)
	if b.Port == port {
		return true, lab.Bind(b.Wanted)
	}
	first, second := func() error { return lab.Unbind(port) }, func() error { return lab.Bind(b.Wanted) }
	if c.random.IntN(2) == 0 {
		first, second = second, first
	}
	if err := first(); err != nil {
		return true, err
	}
	c.pause(700)
	return true, second()
}

func (c *chaos) edit() (bool, error) {
	return c.rebind(func(b *binding) { b.Shape = b.Shape.Other() })
}

func (c *chaos) group() (bool, error) {
	return c.rebind(func(b *binding) { b.Group = c.fresh("g") })
}

func (c *chaos) rename() (bool, error) {
	return c.rebind(func(b *binding) { b.Name = c.fresh("c") })
}

func (c *chaos) move() (bool, error) {
	return c.rebind(func(b *binding) { b.Port = c.fresh("p") })
}

// swap lets two bindings change their containers, types and all.
func (c *chaos) swap() (bool, error) {
	a, b := c.pick(true), c.pick(true)
	if a == nil || a == b {
		return false, nil
	}
	a.ID, b.ID = b.ID, a.ID
	a.Type, b.Type = b.Type, a.Type
	a.Group, b.Group = b.Group, a.Group
	a.Shape, b.Shape = b.Shape, a.Shape
	return true, errors.Join(lab.Bind(a.Wanted), lab.Bind(b.Wanted))
}

func (c *chaos) fresh(prefix string) string {
	c.counter++
	return fmt.Sprintf("%s-x%d", prefix, c.counter)
}

func (c *chaos) pause(milliseconds int) {
	time.Sleep(time.Duration(c.random.IntN(milliseconds)) * time.Millisecond)
}

func (c *chaos) killSupervisor() (bool, error) {
	if err := c.Kill(); err != nil {
		return true, err
	}
	c.pause(1500)
	return true, c.Start()
}

func (c *chaos) restartSupervisor() (bool, error) {
	if err := c.Terminate(); err != nil {
		return true, err
	}
	c.pause(1500)
	return true, c.Start()
}

// signalExecutable sends a signal to one of the verbs that run, which are the supervisor's children.
func (c *chaos) signalExecutable(signal unix.Signal) (bool, error) {
	children := c.Children()
	if len(children) == 0 {
		return false, nil
	}
	return true, gone(unix.Kill(children[c.random.IntN(len(children))], signal))
}

// gone makes a success of a process that has ended by itself.
func gone(err error) error {
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

func (c *chaos) killDaemon() (bool, error) {
	b := c.pick(true)
	if b == nil {
		return false, nil
	}
	pid, err := lab.MainPID(b.Name)
	if err != nil || pid == 0 {
		return false, nil // it has none at the moment, or systemd executes itself
	}
	return true, gone(unix.Kill(pid, unix.SIGKILL))
}

func (c *chaos) stopUnit() (bool, error) {
	b := c.pick(true)
	if b == nil {
		return false, nil
	}
	_, err := lab.Run("systemctl", "stop", "svc-"+b.Name+".service")
	return err == nil, nil // one that is not loaded cannot be stopped
}

// moveAway has the whole NSDB missing for a while, over a start of the supervisor at times.
func (c *chaos) moveAway() (bool, error) {
	away := lab.NSDB + ".away"
	if err := os.Rename(lab.NSDB, away); err != nil {
		return true, err
	}
	c.pause(1500)
	if c.random.IntN(3) == 0 {
		if _, err := c.killSupervisor(); err != nil {
			return true, err
		}
		c.pause(1500)
	}
	return true, os.Rename(away, lab.NSDB)
}

// halfWrite cuts one file of the NSDB, as a careless writer does, and writes it whole later.
func (c *chaos) halfWrite() (bool, error) {
	var files []string
	err := filepath.WalkDir(lab.NSDB, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			files = append(files, path)
		}
		return err
	})
	if err != nil || len(files) == 0 {
		return false, err
	}
	path := files[c.random.IntN(len(files))]
	text, err := os.ReadFile(path)
	if err != nil {
		return false, err
	}
	if err := os.WriteFile(path, text[:c.random.IntN(len(text))], 0o600); err != nil {
		return true, err
	}
	c.pause(1500)
	return true, os.WriteFile(path, text, 0o600)
}

func (c *chaos) reexec() (bool, error) {
	_, err := lab.Run("systemctl", "daemon-reexec")
	return err == nil, nil
}
