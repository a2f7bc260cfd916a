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

// Type is how systemd tells that a service is up.
type Type string

// Notify: the program says so (sd_notify). Exec: its file was executed, which proves little.
const (
	Notify Type = "notify"
	Exec   Type = "exec"
)

// The limit of restarts after which systemd gives a unit up (StartLimitBurst=), in a minute, or longer (see limitInterval).
const (
	startLimitBurst       = 5
	startLimitIntervalMin = time.Minute
	defaultTimeout        = 90 * time.Second // systemd's, for a start and for a stop
)

// Command is a program by its absolute path and its arguments, which reach the program as they are. With '-' before the
// path its failure counts for nothing (systemd.service(5)).
//
// An argument with '$' or ';' is refused: systemd expands the one, and systemd 252 puts a backslash before both when it
// reads its own unit file back after a daemon-reload. (The properties ExecStartEx, ExecStartPreEx, … have a flag against
// expanding, but 252 writes them under those names, which it does not read back: the commands are lost at the reload.)
type Command []string

func (c Command) path() string { return strings.TrimPrefix(c[0], "-") }

func (c Command) mayFail() bool { return c[0][0] == '-' }

func (c Command) check() error {
	if len(c) == 0 || !filepath.IsAbs(c.path()) {
		return fmt.Errorf("command %q: not an absolute path", []string(c))
	}
	for _, arg := range c {
		if strings.ContainsAny(arg, "$;\x00") || !utf8.ValidString(arg) {
			return fmt.Errorf("command %s: argument %s: allowed: text without '$' and ';'", c.path(), spec.Quote(arg))
		}
	}
	return nil
}

// Bind makes Source visible at Destination ("": the same path) in the unit's own view of the file system, with what is
// mounted below it. One that MayMiss is left out where there is no Source, at each start anew.
type Bind struct {
	Source, Destination string
	MayMiss             bool
}

// Transient is a service that exists as long as it runs, or has failed. Fields are called as in systemd.service(5),
// systemd.exec(5) and systemd.resource-control(5) and mean the same; a zero field is systemd's default. Always set: the
// owner tag in the environment, 5 restarts in 60 s or in the time that they take, accounting of CPU, memory and tasks.
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

	Restart string // on-failure, always, …; "": no
	//lint:ignore ST1011 systemd calls them so
	RestartSec, WatchdogSec   time.Duration
	TimeoutStart, TimeoutStop time.Duration

	Environment    []string // NAME=value
	LogExtraFields []string // FIELD=value, on every line that the unit logs

	NetworkNamespacePath  string
	BindPaths             []Bind
	BindReadOnlyPaths     []Bind
	TemporaryFileSystem   []string // paths that are empty for the unit
	CapabilityBoundingSet []int    // unix.CAP_…; nil: all
	ProtectSystem         string   // yes, full, strict
	ProtectHome           string   // yes, read-only, tmpfs
	PrivateTmp            bool
	NoNewPrivileges       bool

	Properties []Property // what has no field here
}

// Property is a property of systemd by its D-Bus name, its value of the D-Bus type (MemoryMax: uint64).
type Property struct {
	Name  string
	Value any
}

// limitInterval has room for as many starts as the limit allows when each of them hangs to its end: with fewer systemd would
// start such a unit for ever, and never call it failed. A stop has its time twice: for SIGTERM, and for SIGKILL.
func (t *Transient) limitInterval() time.Duration {
	start, stop := cmp.Or(t.TimeoutStart, defaultTimeout), cmp.Or(t.TimeoutStop, defaultTimeout)
	return max(startLimitIntervalMin, (startLimitBurst+1)*(start+2*stop+t.RestartSec))
}

// values is the unit as the argument of StartTransientUnit.
func (t *Transient) values() ([]property, error) {
	if !t.Owner.Name.OwnsUnit(t.Name) {
		return nil, fmt.Errorf("the name is not one of container %s", spec.Quote(string(t.Owner.Name)))
	}
	for _, c := range slices.Concat([]Command{t.ExecStart}, t.ExecStartPre, t.ExecStartPost, t.ExecStopPost) {
		if err := c.check(); err != nil {
			return nil, err
		}
	}
	l := list{}
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
	l.emptied(t.TemporaryFileSystem)
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
