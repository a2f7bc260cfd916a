package unit

import (
	"context"
	"net/url"
	"strings"
	"sync"

	"github.com/godbus/dbus/v5"
)

const unitPath = "/org/freedesktop/systemd1/unit/"

// listeners receives the signals of one connection. It is called in the order in which systemd sent them, on the
// goroutine that reads the connection. So there is no queue that could overflow or change the order. Its methods must
// not block.
//
// go-systemd has two subscriptions. Both drop changes when a channel is full. The one to properties reports neither a
// daemon-reload nor a lost connection (TestGoSystemdReportsNoReload). The one to sub-states reads all properties of
// each unit of the host at each change (TestGoSystemdReadsForeignUnits).
type listeners struct {
	ended         context.Context // of the connection
	mu            sync.Mutex
	jobs          map[*jobListener]struct{}
	subscriptions map[*subscription]struct{}
}

// handleHeader processes the header of a signal. It returns true if the body is not needed, so that the signal can be
// dropped.
func (l *listeners) handleHeader(s signalHeader) (dropped bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case s.iface == manager && (s.member == "UnitNew" || s.member == "UnitRemoved"):
		l.changedLocked(s.first)
		return true
	case s.iface == manager && s.member == "JobNew":
		return true
	case s.iface == properties && s.member == "PropertiesChanged":
		name, ok := unitOfPath(s.path)
		if !ok {
			return true
		}
		l.changedLocked(name)
		if s.first != service {
			return true
		}
		for j := range l.jobs {
			if j.unit == name {
				return false
			}
		}
		return true
	}
	return false
}

// AddSignal implements dbus.SignalRegistrar for go-systemd. Its channel gets no signal. It is closed when the
// connection ends, so that the goroutine that reads it ends.
func (l *listeners) AddSignal(ch chan<- *dbus.Signal) {
	context.AfterFunc(l.ended, func() { close(ch) })
}

// RemoveSignal does nothing, because go-systemd does not call it.
func (l *listeners) RemoveSignal(chan<- *dbus.Signal) {}

// DeliverSignal implements dbus.SignalHandler. It receives the signals that were not dropped.
func (l *listeners) DeliverSignal(iface, member string, signal *dbus.Signal) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case iface == manager && member == "JobRemoved":
		var id uint32
		var path dbus.ObjectPath
		var name, result string
		if dbus.Store(signal.Body, &id, &path, &name, &result) != nil {
			return
		}
		for j := range l.jobs {
			j.removedLocked(id, name, result)
		}
		l.changedLocked(name)
	case iface == manager && member == "Reloading":
		// A daemon-reload can change any unit. On the system bus this signal is also the only sign of a daemon-reexec.
		if len(signal.Body) > 0 && signal.Body[0] == false {
			for sub := range l.subscriptions {
				sub.addLocked("")
			}
		}
	case iface == properties && member == "PropertiesChanged":
		name, ok := unitOfPath(signal.Path)
		if !ok || len(signal.Body) < 2 {
			return
		}
		if changed, ok := signal.Body[1].(map[string]dbus.Variant); ok {
			for j := range l.jobs {
				j.changedLocked(name, changed)
			}
		}
	}
}

func (l *listeners) changedLocked(unit string) {
	for sub := range l.subscriptions {
		sub.changedLocked(unit)
	}
}

// unitOfPath returns the name of the unit with an object path. In such a path every byte of the name that is no
// letter or digit is written as _ and two hex digits.
func unitOfPath(path dbus.ObjectPath) (string, bool) {
	escaped, ok := strings.CutPrefix(string(path), unitPath)
	if !ok {
		return "", false
	}
	name, err := url.PathUnescape(strings.ReplaceAll(escaped, "_", "%"))
	return name, err == nil
}
