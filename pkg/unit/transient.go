package unit

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	systemd "github.com/coreos/go-systemd/v22/dbus"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Type determines when systemd considers a service started (Type=).
type Type string

const (
	Notify Type = "notify" // when the program reports it (sd_notify)
	Exec   Type = "exec"   // when the file of the program was executed, which does not show that the program works
)

// systemd gives a unit up after startLimitBurst restarts (StartLimitBurst=) within an interval of at least
// startLimitIntervalMin (see limitInterval).
const (
	startLimitBurst       = 5
	startLimitIntervalMin = time.Minute
	defaultTimeout        = 90 * time.Second // systemd's default for a start and for a stop
)

// Command is the absolute path of a program, followed by its arguments, which the program receives unchanged. A '-'
// before the path means that a failure of the program is ignored (systemd.service(5)).
//
// An argument that contains '$' or ';' is rejected. systemd expands '$', and systemd 252 puts a backslash before both
// characters when it reads back its own unit file after a daemon-reload. The properties ExecStartEx, ExecStartPreEx,
// … have a flag that disables the expansion. But systemd 252 writes them to the unit file under names that it does
// not read back, so that the commands are lost at a daemon-reload.
type Command []string

func (c Command) path() string { return strings.TrimPrefix(c[0], "-") }

func (c Command) mayFail() bool { return c[0][0] == '-' }

func (c Command) check() error {
	if len(c) == 0 || !filepath.IsAbs(c.path()) {
		return fmt.Errorf("command %q: must be an absolute path", []string(c))
	}
	for _, arg := range c {
		if strings.ContainsAny(arg, "$;\x00") || !utf8.ValidString(arg) {
			return fmt.Errorf("command %s: argument %s: allowed: text without '$' and ';'", c.path(), spec.Quote(arg))
		}
	}
	return nil
}

// Bind makes Source, with the mounts below it, visible at Destination in the mount namespace of the unit. An empty
// Destination means the path of Source. If MayMiss is set, a Source that does not exist is skipped. systemd checks
// this at each start.
type Bind struct {
	Source, Destination string
	MayMiss             bool
}

// Transient describes a transient service, which exists as long as it runs or is failed. The fields have the names
// and meanings of systemd.service(5), systemd.exec(5) and systemd.resource-control(5). A zero field means systemd's
// default. The unit always has: the owner tag in its environment; a limit of 5 restarts in 60 s, or in the longer
// time that they may take; accounting of CPU, memory and tasks.
type Transient struct {
	Name        string // svc-<name>.service or svc-<name>:<role>.service of the owner
	Owner       spec.Owner
	Description string
	Slice       string

	Type         Type
	ExecStartPre []Command
	ExecStart    Command
	ExecStopPost []Command
	// ExecStartPost runs when the service is ready; systemd's job lasts until it ends.
	ExecStartPost []Command

	Restart string // on-failure, always, …; "" means no
	//lint:ignore ST1011 the names are those of systemd
	RestartSec, WatchdogSec   time.Duration
	TimeoutStart, TimeoutStop time.Duration

	Environment    []string // NAME=value
	LogExtraFields []string // FIELD=value, added to every journal entry of the unit

	NetworkNamespacePath  string
	BindPaths             []Bind
	BindReadOnlyPaths     []Bind
	TemporaryFileSystem   []string // paths at which the unit sees an empty file system
	CapabilityBoundingSet []int    // unix.CAP_…; nil means all
	ProtectSystem         string   // yes, full, strict
	ProtectHome           string   // yes, read-only, tmpfs
	PrivateTmp            bool
	NoNewPrivileges       bool

	Properties []Property // properties for which this struct has no field
}

// Property is a systemd property with its D-Bus name. The value must have the D-Bus type of the property, for example
// uint64 for MemoryMax.
type Property struct {
	Name  string
	Value any
}

// limitInterval returns the interval of the start limit. It is long enough for as many starts as the limit allows,
// even if each of them hangs until its time-out. With a shorter interval, systemd would start such a unit forever and
// never consider it failed. A stop can take its time-out twice: once for SIGTERM and once for SIGKILL.
func (t *Transient) limitInterval() time.Duration {
	start, stop := cmp.Or(t.TimeoutStart, defaultTimeout), cmp.Or(t.TimeoutStop, defaultTimeout)
	return max(startLimitIntervalMin, (startLimitBurst+1)*(start+2*stop+t.RestartSec))
}

// values returns the unit as the properties argument of StartTransientUnit.
func (t *Transient) values() ([]systemd.Property, error) {
	if !t.Owner.Name.OwnsUnit(t.Name) {
		return nil, fmt.Errorf("not a unit name of container %s", spec.Quote(string(t.Owner.Name)))
	}
	for _, c := range slices.Concat([]Command{t.ExecStart}, t.ExecStartPre, t.ExecStartPost, t.ExecStopPost) {
		if err := c.check(); err != nil {
			return nil, err
		}
	}
	l := propertyList{}
	addSet(&l, "Description", t.Description)
	addSet(&l, "Slice", t.Slice)
	addSet(&l, "Type", string(t.Type))
	addAll(&l, "ExecStartPre", t.ExecStartPre, Command.value)
	addAll(&l, "ExecStart", []Command{t.ExecStart}, Command.value)
	addAll(&l, "ExecStartPost", t.ExecStartPost, Command.value)
	addAll(&l, "ExecStopPost", t.ExecStopPost, Command.value)
	addSet(&l, "Restart", t.Restart)
	addSet(&l, "RestartUSec", microseconds(t.RestartSec))
	addSet(&l, "WatchdogUSec", microseconds(t.WatchdogSec))
	addSet(&l, "TimeoutStartUSec", microseconds(t.TimeoutStart))
	addSet(&l, "TimeoutStopUSec", microseconds(t.TimeoutStop))
	addSet(&l, "StartLimitIntervalUSec", microseconds(t.limitInterval()))
	l.add("StartLimitBurst", uint32(startLimitBurst))
	l.add("Environment", append([]string{spec.OwnerEnvironment + "=" + t.Owner.String()}, t.Environment...))
	addAll(&l, "LogExtraFields", t.LogExtraFields, func(field string) []byte { return []byte(field) })
	addSet(&l, "NetworkNamespacePath", t.NetworkNamespacePath)
	addAll(&l, "BindPaths", t.BindPaths, Bind.value)
	addAll(&l, "BindReadOnlyPaths", t.BindReadOnlyPaths, Bind.value)
	addAll(&l, "TemporaryFileSystem", t.TemporaryFileSystem, func(p string) pairValue { return pairValue{Path: p} })
	l.capabilities(t.CapabilityBoundingSet)
	addSet(&l, "ProtectSystem", t.ProtectSystem)
	addSet(&l, "ProtectHome", t.ProtectHome)
	addSet(&l, "PrivateTmp", t.PrivateTmp)
	addSet(&l, "NoNewPrivileges", t.NoNewPrivileges)
	addSet(&l, "CPUAccounting", true)
	addSet(&l, "MemoryAccounting", true)
	addSet(&l, "TasksAccounting", true)
	for _, p := range t.Properties {
		l.add(p.Name, p.Value)
	}
	return l, nil
}
