package unit

import (
	"time"

	"github.com/godbus/dbus/v5"
)

// property is one element of the properties of StartTransientUnit, a(sv).
type property struct {
	Name  string
	Value dbus.Variant
}

// auxiliary is one element of the auxiliary units of StartTransientUnit, a(sa(sv)), which systemd does not use yet.
type auxiliary struct {
	Name       string
	Properties []property
}

// The elements of the D-Bus types of commands, bind mounts and temporary file systems: a(sasb), a(ssbt) and a(ss).
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

// recursive is MS_REC, the flag of a recursive bind mount.
const recursive = 0x4000

// propertyList is a list of properties. Its methods append a property; all but add append nothing if the value is the
// zero value.
type propertyList []property

func (l *propertyList) add(name string, value any) {
	*l = append(*l, property{name, dbus.MakeVariant(value)})
}

func (l *propertyList) text(name, value string) {
	if value != "" {
		l.add(name, value)
	}
}

func (l *propertyList) flag(name string, value bool) {
	if value {
		l.add(name, value)
	}
}

func (l *propertyList) duration(name string, value time.Duration) {
	if value > 0 {
		l.add(name, uint64(value.Microseconds()))
	}
}

func (l *propertyList) commands(name string, commands []Command) {
	if len(commands) == 0 {
		return
	}
	values := make([]execValue, len(commands))
	for i, c := range commands {
		values[i] = execValue{c.path(), append([]string{c.path()}, c[1:]...), c.mayFail()}
	}
	l.add(name, values)
}

func (l *propertyList) logFields(fields []string) {
	if len(fields) == 0 {
		return
	}
	values := make([][]byte, len(fields))
	for i, f := range fields {
		values[i] = []byte(f)
	}
	l.add("LogExtraFields", values)
}

func (l *propertyList) binds(name string, binds []Bind) {
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

func (l *propertyList) temporaryFileSystems(paths []string) {
	if len(paths) == 0 {
		return
	}
	values := make([]pairValue, len(paths))
	for i, p := range paths {
		values[i] = pairValue{Path: p}
	}
	l.add("TemporaryFileSystem", values)
}

func (l *propertyList) capabilities(set []int) {
	if set == nil {
		return
	}
	var mask uint64
	for _, c := range set {
		mask |= 1 << c
	}
	l.add("CapabilityBoundingSet", mask)
}
