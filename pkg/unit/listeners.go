package unit

import (
	"encoding/hex"
	"strings"
	"sync"

	"github.com/godbus/dbus/v5"
)

const unitPath = "/org/freedesktop/systemd1/unit/"

// listeners receives the signals of one connection. It is called in the order in which systemd sent them, on the
// goroutine that reads the connection. So there is no queue that could overflow or change the order. Its methods must
// not block.
type listeners struct {
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
			j.removedLocked(path, name, result)
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
	var name strings.Builder
	for i := 0; i < len(escaped); i++ {
		if escaped[i] != '_' {
			name.WriteByte(escaped[i])
			continue
		}
		if i+2 >= len(escaped) {
			return "", false
		}
		b, err := hex.DecodeString(escaped[i+1 : i+3])
		if err != nil {
			return "", false
		}
		name.Write(b)
		i += 2
	}
	return name.String(), true
}
