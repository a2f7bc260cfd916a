package unit

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

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
func (t *Transient) values() ([]property, error) {
	if !t.Owner.Name.OwnsUnit(t.Name) {
		return nil, fmt.Errorf("not a unit name of container %s", spec.Quote(string(t.Owner.Name)))
	}
	for _, c := range slices.Concat([]Command{t.ExecStart}, t.ExecStartPre, t.ExecStartPost, t.ExecStopPost) {
		if err := c.check(); err != nil {
			return nil, err
		}
	}
	l := propertyList{}
	l.text("Description", t.Description)
	l.text("Slice", t.Slice)
	l.text("Type", string(t.Type))
	l.commands("ExecStartPre", t.ExecStartPre)
	l.commands("ExecStart", []Command{t.ExecStart})
	l.commands("ExecStartPost", t.ExecStartPost)
	l.commands("ExecStopPost", t.ExecStopPost)
	l.text("Restart", t.Restart)
	l.duration("RestartUSec", t.RestartSec)
	l.duration("WatchdogUSec", t.WatchdogSec)
	l.duration("TimeoutStartUSec", t.TimeoutStart)
	l.duration("TimeoutStopUSec", t.TimeoutStop)
	l.duration("StartLimitIntervalUSec", t.limitInterval())
	l.add("StartLimitBurst", uint32(startLimitBurst))
	l.add("Environment", append([]string{spec.OwnerEnvironment + "=" + t.Owner.String()}, t.Environment...))
	l.logFields(t.LogExtraFields)
	l.text("NetworkNamespacePath", t.NetworkNamespacePath)
	l.binds("BindPaths", t.BindPaths)
	l.binds("BindReadOnlyPaths", t.BindReadOnlyPaths)
	l.temporaryFileSystems(t.TemporaryFileSystem)
	l.capabilities(t.CapabilityBoundingSet)
	l.text("ProtectSystem", t.ProtectSystem)
	l.text("ProtectHome", t.ProtectHome)
	l.flag("PrivateTmp", t.PrivateTmp)
	l.flag("NoNewPrivileges", t.NoNewPrivileges)
	l.flag("CPUAccounting", true)
	l.flag("MemoryAccounting", true)
	l.flag("TasksAccounting", true)
	for _, p := range t.Properties {
		l.add(p.Name, p.Value)
	}
	return l, nil
}
