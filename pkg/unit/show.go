package unit

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Details is the state of one service with some of its properties.
type Details struct {
	Unit
	Owner       spec.Owner    // zero if it has no owner tag
	MainPID     int           // 0 if there is no main process
	Invocation  string        // systemd's id of this run, 32 hex digits; the journal's _SYSTEMD_INVOCATION_ID
	ActiveSince time.Time     // by the wall clock at that time; zero if it is not active
	ActiveFor   time.Duration // by the monotonic clock; 0 if it is not active
	Restarts    int           // restarts because of Restart= since it was started
	Exit        Exit          // how it ended the last time
}

// Show reads the state of one service. For a service that systemd does not know it returns Details that are Gone and
// have only the name. Show does not make systemd load the unit, because loading would send the signals that Follow
// reports.
func (b *Bus) Show(ctx context.Context, unit string) (Details, error) {
	d, err := b.show(ctx, unit)
	if err != nil {
		return Details{}, fmt.Errorf("show %s: %w", unit, err)
	}
	return d, nil
}

func (b *Bus) show(ctx context.Context, unit string) (Details, error) {
	s, err := b.status(ctx, unit)
	d := Details{Unit: unitOf(s)}
	if err != nil || s.Path == "" {
		return d, err
	}
	var pid, restarts uint32
	var code, status int32
	var since, sinceMonotonic uint64
	var environment []string
	var invocation []byte
	for _, property := range []struct {
		of, name string
		into     any
	}{
		{"Service", "MainPID", &pid},
		{"Service", "NRestarts", &restarts},
		{"Service", "Environment", &environment},
		{"Service", "Result", &d.Exit.Result},
		{"Service", "ExecMainCode", &code},
		{"Service", "ExecMainStatus", &status},
		{"Unit", "ActiveEnterTimestamp", &since},
		{"Unit", "ActiveEnterTimestampMonotonic", &sinceMonotonic},
		{"Unit", "InvocationID", &invocation},
	} {
		if err := b.get(ctx, unit, property.of, property.name, property.into); err != nil {
			return Details{}, err
		}
	}
	d.MainPID, d.Restarts, d.Exit.Code, d.Exit.Status = int(pid), int(restarts), int(code), int(status)
	d.Owner, _ = ownerOf(environment)
	d.Invocation = hex.EncodeToString(invocation)
	if d.ActiveState == "active" {
		d.ActiveSince = time.UnixMicro(int64(since))
		var now unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
			return Details{}, err
		}
		d.ActiveFor = time.Duration(now.Nano()) - time.Duration(sinceMonotonic)*time.Microsecond
	}
	return d, nil
}

// Restarts returns how often systemd has restarted a service because of Restart= since it was started. It is 0 for a
// service that systemd does not know.
func (b *Bus) Restarts(ctx context.Context, unit string) (int, error) {
	var restarts uint32
	err := b.getIfLoaded(ctx, unit, "NRestarts", &restarts)
	return int(restarts), wrap("restarts of", unit, err)
}

// Owner reads the owner tag of one service. It returns false if the service has none, or if systemd does not know the
// service.
func (b *Bus) Owner(ctx context.Context, unit string) (spec.Owner, bool, error) {
	var environment []string
	if err := b.getIfLoaded(ctx, unit, "Environment", &environment); err != nil {
		return spec.Owner{}, false, wrap("owner of", unit, err)
	}
	owner, ok := ownerOf(environment)
	return owner, ok, nil
}

// getIfLoaded reads one property of a service, unless systemd does not know the service: then systemd would load it.
func (b *Bus) getIfLoaded(ctx context.Context, unit, name string, into any) error {
	s, err := b.status(ctx, unit)
	if err != nil || s.Path == "" {
		return err
	}
	return b.get(ctx, unit, "Service", name, into)
}

// get reads one property. Reading the few properties that are needed one by one takes a third of the time of reading
// all properties of a service, of which there are about three hundred.
func (b *Bus) get(ctx context.Context, unit, unitType, name string, into any) error {
	p, err := read(ctx, b, func(ctx context.Context, conn *systemd.Conn) (*systemd.Property, error) {
		return conn.GetUnitTypePropertyContext(ctx, unit, unitType, name)
	})
	if err != nil {
		return fmt.Errorf("property %s: %w", name, err)
	}
	return p.Value.Store(into)
}

func ownerOf(environment []string) (spec.Owner, bool) {
	for _, variable := range environment {
		if tag, ok := strings.CutPrefix(variable, spec.OwnerEnvironment+"="); ok {
			return spec.ParseOwner(tag)
		}
	}
	return spec.Owner{}, false
}

func wrap(operation, object string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", operation, object, err)
}
