package unit

import (
	"context"
	"fmt"
	"strings"

	"github.com/godbus/dbus/v5"
)

// entry is one element of the result of ListUnitsByPatterns. The fields have the order of systemd's structure.
type entry struct {
	Name, Description, LoadState, ActiveState, SubState, Following string

	Path    dbus.ObjectPath
	JobID   uint32
	JobType string
	JobPath dbus.ObjectPath
}

// unit returns a Unit with copies of the strings. The D-Bus library takes all strings of a message from one buffer of
// 4 KiB, which stays in memory as long as one of the strings does.
func (e entry) unit() Unit {
	return Unit{
		Name:        strings.Clone(e.Name),
		LoadState:   strings.Clone(e.LoadState),
		ActiveState: strings.Clone(e.ActiveState),
		SubState:    strings.Clone(e.SubState),
		JobQueued:   e.JobID != 0,
	}
}

// List returns the units that systemd has loaded and whose name matches one of the patterns (as in fnmatch, for
// example svc-*.service). It makes one call, which loads no unit. A unit that is not in the list is gone.
func (b *Bus) List(ctx context.Context, patterns ...string) ([]Unit, error) {
	entries, err := b.entries(ctx, patterns)
	if err != nil {
		return nil, fmt.Errorf("list units: %w", err)
	}
	units := make([]Unit, len(entries))
	for i, e := range entries {
		units[i] = e.unit()
	}
	return units, nil
}

func (b *Bus) entries(ctx context.Context, patterns []string) ([]entry, error) {
	var entries []entry
	err := b.read(ctx, managerPath, manager+".ListUnitsByPatterns", []any{[]string{}, patterns}, &entries)
	return entries, err
}

// entry returns the entry of a unit. If systemd does not know the unit, only the name is set.
func (b *Bus) entry(ctx context.Context, unit string) (entry, error) {
	entries, err := b.entries(ctx, []string{unit})
	for _, e := range entries {
		if e.Name == unit {
			return e, nil
		}
	}
	return entry{Name: unit}, err
}

// ShuttingDown reports whether the whole system is shutting down, which is then the reason why units stop.
func (b *Bus) ShuttingDown(ctx context.Context) (bool, error) {
	var state string
	if err := b.get(ctx, managerPath, manager, "SystemState", &state); err != nil {
		return false, fmt.Errorf("read system state: %w", err)
	}
	return state == "stopping", nil
}
