package unit

import (
	"context"
	"fmt"
	"strings"

	systemd "github.com/coreos/go-systemd/v22/dbus"
)

// unitOf returns a Unit with copies of the strings. The D-Bus library takes all strings of a message from one buffer of
// 4 KiB, which stays in memory as long as one of the strings does.
func unitOf(s systemd.UnitStatus) Unit {
	return Unit{
		Name:        strings.Clone(s.Name),
		LoadState:   strings.Clone(s.LoadState),
		ActiveState: strings.Clone(s.ActiveState),
		SubState:    strings.Clone(s.SubState),
		JobQueued:   s.JobId != 0,
	}
}

// List returns the units that systemd has loaded and whose name matches one of the patterns (as in fnmatch, for
// example svc-*.service). It makes one call, which loads no unit. A unit that is not in the list is gone.
func (b *Bus) List(ctx context.Context, patterns ...string) ([]Unit, error) {
	statuses, err := b.statuses(ctx, patterns)
	if err != nil {
		return nil, fmt.Errorf("list units: %w", err)
	}
	units := make([]Unit, len(statuses))
	for i, s := range statuses {
		units[i] = unitOf(s)
	}
	return units, nil
}

func (b *Bus) statuses(ctx context.Context, patterns []string) ([]systemd.UnitStatus, error) {
	return read(ctx, b, func(ctx context.Context, conn *systemd.Conn) ([]systemd.UnitStatus, error) {
		return conn.ListUnitsByPatternsContext(ctx, []string{}, patterns)
	})
}

// status returns the status of a unit. If systemd does not know the unit, only the name is set.
func (b *Bus) status(ctx context.Context, unit string) (systemd.UnitStatus, error) {
	statuses, err := b.statuses(ctx, []string{unit})
	for _, s := range statuses {
		if s.Name == unit {
			return s, nil
		}
	}
	return systemd.UnitStatus{Name: unit}, err
}

// ShuttingDown reports whether the whole system is shutting down, which is then the reason why units stop.
func (b *Bus) ShuttingDown(ctx context.Context) (bool, error) {
	state, err := read(ctx, b, func(ctx context.Context, conn *systemd.Conn) (*systemd.Property, error) {
		return conn.SystemStateContext(ctx)
	})
	if err != nil {
		return false, fmt.Errorf("read system state: %w", err)
	}
	return state.Value.Value() == "stopping", nil
}
