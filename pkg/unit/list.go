package unit

import (
	"context"
	"fmt"
	"strings"

	"github.com/godbus/dbus/v5"
)

// entry is one element of ListUnitsByPatterns, in its order.
type entry struct {
	Name, Description, LoadState, ActiveState, SubState, Following string

	Path    dbus.ObjectPath
	JobID   uint32
	JobType string
	JobPath dbus.ObjectPath
}

// unit copies the strings. The D-Bus library cuts all strings of a message out of one buffer of 4 KiB, which stays in memory as long
// as one of them does.
func (e entry) unit() Unit {
	return Unit{
		Name:        strings.Clone(e.Name),
		LoadState:   strings.Clone(e.LoadState),
		ActiveState: strings.Clone(e.ActiveState),
		SubState:    strings.Clone(e.SubState),
		JobQueued:   e.JobID != 0,
	}
}

// List lists the units that systemd has loaded and whose name matches one of the patterns (fnmatch: svc-*.service), all
// in one call that loads nothing. A unit that is not in the list is gone.
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

// entry is the one of that name; its other fields are zero if systemd does not know it.
func (b *Bus) entry(ctx context.Context, unit string) (entry, error) {
	entries, err := b.entries(ctx, []string{unit})
	for _, e := range entries {
		if e.Name == unit {
			return e, nil
		}
	}
	return entry{Name: unit}, err
}

// ShuttingDown says whether the whole system is on its way down: whatever stops now stops for that.
func (b *Bus) ShuttingDown(ctx context.Context) (bool, error) {
	var state string
	if err := b.get(ctx, managerPath, manager, "SystemState", &state); err != nil {
		return false, fmt.Errorf("state of the system: %w", err)
	}
	return state == "stopping", nil
}
