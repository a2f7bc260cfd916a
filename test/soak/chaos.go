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

// binding is a binding that may be in the NSDB.
type binding struct {
	lab.Binding
	bound bool // whether it is in the NSDB
}

// chaos runs the operations on a lab.
type chaos struct {
	*lab.Lab
	random   *rand.Rand
	bindings []*binding
	counter  int
	done     map[string]int // the number of operations by name
}

// operation is one kind of operation. do returns false if it could not be applied, for example to a process that does
// not exist.
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

// operate runs one operation, chosen at random by weight.
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

func (c *chaos) desired() []lab.Binding {
	var list []lab.Binding
	for _, b := range c.bindings {
		if b.bound {
			list = append(list, b.Binding)
		}
	}
	return list
}

func (c *chaos) bindAll() error {
	for _, w := range c.desired() {
		if err := lab.Bind(w); err != nil {
			return err
		}
	}
	return nil
}

// pick returns a random binding that is bound or not bound, or nil if there is no such binding.
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
	return true, lab.Bind(b.Binding)
}

func (c *chaos) unbind() (bool, error) {
	b := c.pick(true)
	if b == nil {
		return false, nil
	}
	b.bound = false
	return true, lab.Unbind(b.Port)
}

// rebind changes a random bound binding. If its port id changes, the old binding is removed and the new one added, in
// random order.
func (c *chaos) rebind(change func(*binding)) (bool, error) {
	b := c.pick(true)
	if b == nil {
		return false, nil
	}
	port := b.Port
	change(b)
	if b.Port == port {
		return true, lab.Bind(b.Binding)
	}
	first, second := func() error { return lab.Unbind(port) }, func() error { return lab.Bind(b.Binding) }
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

// swap exchanges the containers of two bindings, with type, group and shape.
func (c *chaos) swap() (bool, error) {
	a, b := c.pick(true), c.pick(true)
	if a == nil || a == b {
		return false, nil
	}
	a.ID, b.ID = b.ID, a.ID
	a.Type, b.Type = b.Type, a.Type
	a.Group, b.Group = b.Group, a.Group
	a.Shape, b.Shape = b.Shape, a.Shape
	return true, errors.Join(lab.Bind(a.Binding), lab.Bind(b.Binding))
}

// fresh returns a new name or id.
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

// signalExecutable sends a signal to one of the running verbs, which are child processes of the supervisor.
func (c *chaos) signalExecutable(signal unix.Signal) (bool, error) {
	children := c.Children()
	if len(children) == 0 {
		return false, nil
	}
	return true, ignoreEnded(unix.Kill(children[c.random.IntN(len(children))], signal))
}

// ignoreEnded returns nil for the error of a signal to a process that has already ended.
func ignoreEnded(err error) error {
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
		return false, nil // the unit has no process at the moment, or systemd is re-executing itself
	}
	return true, ignoreEnded(unix.Kill(pid, unix.SIGKILL))
}

func (c *chaos) stopUnit() (bool, error) {
	b := c.pick(true)
	if b == nil {
		return false, nil
	}
	_, err := lab.Run("systemctl", "stop", "svc-"+b.Name+".service")
	return err == nil, nil // systemctl returns an error if the unit is not loaded
}

// moveAway moves the whole NSDB away for a while. In a third of the cases it also kills and starts the supervisor
// meanwhile.
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

// halfWrite truncates one file of the NSDB, as a writer without an atomic rename does, and later writes it completely.
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
