package reconcile

import (
	"context"
	"sync"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

// listingAge is how long a listing of all units is used.
const listingAge = 10 * time.Second

// unitListing holds one listing of all containers' units. After a start of the supervisor, and after a daemon-reload,
// every name is observed. Systemd compares the names of all its units to answer one query, so a query per name would
// cost in proportion to the square of the number of containers.
//
// The listing answers for a name once, and only if all its units are running, so nothing is ever done to a container
// because of it. A step, and a change that systemd signals, remove the name from the listing.
type unitListing struct {
	list func(ctx context.Context, patterns ...string) ([]unit.Unit, error)

	mu     sync.Mutex
	byName map[spec.Name][]unit.Unit
	until  time.Time
}

// read replaces the listing by a new one. It holds the lock meanwhile, so that a name that is forgotten during the call
// is not in the new listing either.
func (l *unitListing) read(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	units, err := l.list(ctx, "svc-*.service")
	if err != nil {
		return err
	}
	byName := make(map[spec.Name][]unit.Unit, len(units))
	for _, u := range units {
		if name, ok := spec.UnitOwner(u.Name); ok {
			byName[name] = append(byName[name], u)
		}
	}
	l.byName, l.until = byName, time.Now().Add(listingAge)
	return nil
}

// take returns the units of a name and removes them from the listing. It returns none if systemd must be asked.
func (l *unitListing) take(name spec.Name) []unit.Unit {
	l.mu.Lock()
	defer l.mu.Unlock()
	units := l.byName[name]
	delete(l.byName, name)
	if time.Now().After(l.until) {
		l.byName = nil
		return nil
	}
	for _, u := range units {
		if !u.Running() {
			return nil
		}
	}
	return units
}

// forget removes a name from the listing.
func (l *unitListing) forget(name spec.Name) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.byName, name)
}
