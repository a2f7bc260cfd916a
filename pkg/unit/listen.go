package unit

import (
	"encoding/hex"
	"strings"
	"sync"

	"github.com/godbus/dbus/v5"
)

const unitPath = "/org/freedesktop/systemd1/unit/"

// listeners gets the signals of one connection, in the order in which systemd sent them and on the goroutine that reads
// the connection: no queue that could overflow or reorder. Nothing here waits.
type listeners struct {
	mu   sync.Mutex
	jobs map[*jobs]struct{}
	ears map[*ear]struct{}
}

// seen takes what is needed from the header of a signal and reports whether the rest is not: whether the signal can be
// dropped.
func (l *listeners) seen(s signalHeader) (dropped bool) {
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

// DeliverSignal implements dbus.SignalHandler. It gets the signals that were not dropped.
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
		// After a daemon-reload a unit may be another; on the system bus nothing else tells of a daemon-reexec.
		if len(signal.Body) > 0 && signal.Body[0] == false {
			for e := range l.ears {
				e.addLocked("")
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
	for e := range l.ears {
		e.changedLocked(unit)
	}
}

// unitOfPath reads a unit's name back from its object path, where every byte but letters and digits is _ and two hex
// digits.
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
