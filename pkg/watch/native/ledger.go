package native

import "log/slog"

// Ledger logs what is wrong with the NSDB's objects: each fault once, again only if it is another one, and one line when
// an object is well again.
type Ledger struct {
	log  *slog.Logger
	told map[Fault]bool
}

// NewLedger makes an empty ledger.
func NewLedger(log *slog.Logger) *Ledger {
	return &Ledger{log: log, told: map[Fault]bool{}}
}

// Tell logs what is new in the complete list of faults. While the host itself could not be read, the list knows nothing of
// the other objects: whole is false, and none of them counts as well again.
func (l *Ledger) Tell(faults []Fault, whole bool) {
	now := map[Fault]bool{}
	ill := map[Key]bool{}
	for _, fault := range faults {
		if !l.told[fault] && !now[fault] {
			l.log.Warn("object of the NSDB cannot be used", "key", string(fault.Key), "fault", fault.Text)
		}
		now[fault], ill[fault.Key] = true, true
	}
	for fault := range l.told {
		switch {
		case now[fault]:
		case !whole && !ill[fault.Key]:
			now[fault] = true
		case !ill[fault.Key]:
			l.log.Info("object of the NSDB is well again", "key", string(fault.Key))
			ill[fault.Key] = true // one line for one object
		}
	}
	l.told = now
}
