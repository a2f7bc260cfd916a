package native

import "log/slog"

// FaultLog logs the faults of NSDB objects. It logs each fault once, logs again if the fault changes, and logs one line
// when an object has no faults any more.
type FaultLog struct {
	log    *slog.Logger
	logged map[Fault]bool
}

// NewFaultLog returns an empty FaultLog.
func NewFaultLog(log *slog.Logger) *FaultLog {
	return &FaultLog{log: log, logged: map[Fault]bool{}}
}

// Update logs the faults that are new in the list of current faults, and the objects whose faults have ended. complete
// must be false if the host could not be read: the list then lacks the faults of the other objects, and they do not
// count as ended.
func (l *FaultLog) Update(faults []Fault, complete bool) {
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
		case !complete && !faulty[fault.Key]:
			now[fault] = true
		case !faulty[fault.Key]:
			l.log.Info("NSDB object readable again", "key", string(fault.Key))
			faulty[fault.Key] = true // one line for one object
		}
	}
	l.logged = now
}
