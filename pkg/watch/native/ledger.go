package native

import "log/slog"

// Ledger logs the faults of NSDB objects. It logs each fault once, logs again if the fault changes, and logs one line
// when an object has no faults any more.
type Ledger struct {
	log    *slog.Logger
	logged map[Fault]bool
}

// NewLedger returns an empty Ledger.
func NewLedger(log *slog.Logger) *Ledger {
	return &Ledger{log: log, logged: map[Fault]bool{}}
}

// Tell logs the new faults in the complete list of current faults, and the objects whose faults have ended. whole must
// be false if the host could not be read: the list then lacks the faults of the other objects, and they do not count as
// ended.
func (l *Ledger) Tell(faults []Fault, whole bool) {
	now := map[Fault]bool{}
	faulty := map[Key]bool{}
	for _, fault := range faults {
		if !l.logged[fault] && !now[fault] {
			l.log.Warn("NSDB object unreadable", "key", string(fault.Key), "fault", fault.Text)
		}
		now[fault], faulty[fault.Key] = true, true
	}
	for fault := range l.logged {
		switch {
		case now[fault]:
		case !whole && !faulty[fault.Key]:
			now[fault] = true
		case !faulty[fault.Key]:
			l.log.Info("NSDB object readable again", "key", string(fault.Key))
			faulty[fault.Key] = true // one line for one object
		}
	}
	l.logged = now
}
