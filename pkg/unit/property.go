package unit

import (
	"time"

	"github.com/godbus/dbus/v5"
)

// property is one element of StartTransientUnit's a(sv), auxiliary of its a(sa(sv)), which systemd does not use yet.
type property struct {
	Name  string
	Value dbus.Variant
}

type auxiliary struct {
	Name       string
	Properties []property
}

// The D-Bus forms of commands, binds and pairs: a(sasb), a(ssbt), a(ss).
type (
	execValue struct {
		Path    string
		Args    []string
		MayFail bool
	}
	bindValue struct {
		Source, Destination string
		IgnoreMissing       bool
		Flags               uint64
	}
	pairValue struct{ Path, Options string }
)

// recursive is MS_REC, for a bind.
const recursive = 0x4000

// list is a growing argument; each method leaves out a zero value.
type list []property

func (l *list) add(name string, value any) {
	*l = append(*l, property{name, dbus.MakeVariant(value)})
}

func (l *list) text(name, value string) {
	if value != "" {
		l.add(name, value)
	}
}

func (l *list) flag(name string, value bool) {
	if value {
		l.add(name, value)
	}
}

func (l *list) duration(name string, value time.Duration) {
	if value > 0 {
		l.add(name, uint64(value.Microseconds()))
	}
}

func (l *list) commands(name string, commands []Command) {
	if len(commands) == 0 {
		return
	}
	values := make([]execValue, len(commands))
	for i, c := range commands {
		values[i] = execValue{c.path(), append([]string{c.path()}, c[1:]...), c.mayFail()}
	}
	l.add(name, values)
}

func (l *list) logFields(fields []string) {
	if len(fields) == 0 {
		return
	}
	values := make([][]byte, len(fields))
	for i, f := range fields {
		values[i] = []byte(f)
	}
	l.add("LogExtraFields", values)
}

func (l *list) binds(name string, binds []Bind) {
	if len(binds) == 0 {
		return
	}
	values := make([]bindValue, len(binds))
	for i, b := range binds {
		if b.Destination == "" {
			b.Destination = b.Source
		}
		values[i] = bindValue{b.Source, b.Destination, b.MayMiss, recursive}
	}
	l.add(name, values)
}

func (l *list) emptied(paths []string) {
	if len(paths) == 0 {
		return
	}
	values := make([]pairValue, len(paths))
	for i, p := range paths {
		values[i] = pairValue{Path: p}
	}
	l.add("TemporaryFileSystem", values)
}

func (l *list) capabilities(set []int) {
	if set == nil {
		return
	}
	var mask uint64
	for _, c := range set {
		mask |= 1 << c
	}
	l.add("CapabilityBoundingSet", mask)
}
