package unit

import (
	"cmp"
	"time"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

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

// propertyList is a list of properties.
type propertyList []systemd.Property

func (l *propertyList) add(name string, value any) {
	*l = append(*l, systemd.Property{Name: name, Value: dbus.MakeVariant(value)})
}

// addSet appends a property unless its value is the zero value.
func addSet[T comparable](l *propertyList, name string, value T) {
	var zero T
	if value != zero {
		l.add(name, value)
	}
}

// addAll appends a property with the D-Bus values of a list, unless the list is empty.
func addAll[T, V any](l *propertyList, name string, list []T, value func(T) V) {
	if len(list) == 0 {
		return
	}
	values := make([]V, len(list))
	for i, element := range list {
		values[i] = value(element)
	}
	l.add(name, values)
}

func microseconds(d time.Duration) uint64 { return uint64(max(d, 0).Microseconds()) }

func (c Command) value() execValue {
	return execValue{c.path(), append([]string{c.path()}, c[1:]...), c.mayFail()}
}

func (b Bind) value() bindValue {
	return bindValue{b.Source, cmp.Or(b.Destination, b.Source), b.MayMiss, recursive}
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
