// Package decide holds the decision table: from the facts about one container it selects the next step. It is pure. It
// reads no clock and no state of the host, and it imports no other package of the supervisor. docs/design.md prints the
// table and explains its reasons.
package decide

// Step is the action that is taken for one container before it is observed again.
type Step int

// The steps in the order of their numbers, from no action to ADD. StepCount is their number.
const (
	None Step = iota
	RunCheck
	Rewrite     // of the record, because the group changed
	Delete      // DEL, then remove units, namespace and record
	Reconfigure // reconfigure a running container
	Clean       // remove resources with our owner tag that have no record
	Add
	StepCount
)

var stepNames = [StepCount]string{
	"none", "CHECK", "rewrite the record", "DEL", "reconfigure", "remove the leftover", "ADD",
}

func (s Step) String() string { return stepNames[s] }

// Hold is the reason why a container differs from its desired state although no step changes that. A due CHECK may
// still run.
type Hold int

// The reasons why a container is held. The first group means that nothing is known about the container.
const (
	NotHeld              Hold = iota
	HeldUnread                // the NSDB could not be read for this container
	HeldNewer                 // the record is of a newer version
	HeldRecordUnreadable      // the record could not be read
	HeldDamaged               // the record is damaged, and a binding that could not be read may be the one of this name
	HeldHostUnreadable        // systemd or the namespaces could not be read
	HeldShutdown              // the host shuts down

	HeldNoExecutable
	HeldExecutableUnknown // the plugin path was not read completely: see ExecutableUnknown
	HeldNotReady
	HeldTaken
	HeldLeftover
	HeldSlot
	HeldBackOff
)

// Unknown reports whether the container is held because its state is not known.
func (h Hold) Unknown() bool { return h >= HeldUnread && h <= HeldShutdown }

// WantedState is the desired state of a name, compared with its record if it has one.
type WantedState int

// The zero value means that nothing is known, so that no step is taken by mistake.
const (
	WantedUnread WantedState = iota // the host, the binding or an object that it refers to could not be read
	NotWanted
	Wanted       // equal to the record, or there is no record
	WantedGroup  // only the group differs from the record
	WantedEdited // the digest differs from the record
	WantedOther  // container id, port id or service type differs from the record
)

// RecordState is the state of a name's record in the state directory.
type RecordState int

// A record of phase `deleted` counts as NoRecord.
const (
	NoRecord RecordState = iota
	Damaged
	RecordUnreadable // reading it failed; it is neither damaged nor absent
	Newer
	IsAdding
	IsAdded
	IsChanging
	IsDeleting
)

// NamespaceState is the state of the container's name in /run/netns.
type NamespaceState int

// A stale file, on which no namespace is mounted, counts as NoNamespace.
const (
	NoNamespace NamespaceState = iota
	NamespaceOurs
	NamespaceForeign
)

// UnitsState summarizes the units that the record names.
type UnitsState int

// UnitsMoving means activating, deactivating or a queued job. No rule treats it as good or as broken.
const (
	UnitsGood UnitsState = iota
	UnitsMoving
	UnitsGone
	UnitsFailed
)

// ExecutableState tells whether the service type can be served now.
type ExecutableState int

// An executable whose STATUS is bad is still used for CHECK, DEL and reconfigure, but not for a new ADD.
// ExecutableUnknown means that an executable serves the type, but the plugin path was not read completely, and an
// executable that can reconfigure the recorded container may still be found. No verb runs then, because another version
// would be used.
const (
	NoExecutable ExecutableState = iota
	ExecutableUnknown
	ExecutableNotReady
	ExecutableReady
)

// Facts is everything that the decision for one container depends on.
type Facts struct {
	Wanted    WantedState
	AnyUnread bool // at least one binding of the host could not be read
	Record    RecordState
	OtherBoot bool // the record was written before the last reboot
	Readable  bool // systemd and the namespaces could be read
	// HostShuttingDown is set if the host shuts down. It is known only if a unit of a wanted container is gone or
	// failed.
	HostShuttingDown bool
	Namespace        NamespaceState
	Units            UnitsState
	Leftover         bool // a unit, namespace or veth of this name has our owner tag
	CheckFailed      bool // CHECK returned two errors in a row
	CheckDue         bool
	ReconfigureDue   bool // a reconfigure is due that ADD, CHECK or a push requested
	PluginsUnscanned bool // the plugin path was not read completely, so more executables may be found
	Executable       ExecutableState
	Reconfigures     bool // an executable can reconfigure the container in place
	Taken            bool // something else has the name, the port or the container id
	// Slot is set if the name counts among the containers that weight and limit of the host permit, or can be added.
	Slot    bool
	Waiting [StepCount]bool // the back-off of a failed step has not passed
}

func (f *Facts) recorded() bool {
	return f.Record == IsAdding || f.Record == IsAdded || f.Record == IsChanging || f.Record == IsDeleting
}

// Runs reports whether the record says that the container runs.
func (f *Facts) Runs() bool { return f.Record == IsAdded || f.Record == IsChanging }

// IsWanted reports whether a binding asks for a container of this name.
func (f *Facts) IsWanted() bool { return f.Wanted >= Wanted }

// unserved reports whether no executable can run DEL, CHECK or ADD on a running container now.
func (f *Facts) unserved() bool {
	return f.Executable == NoExecutable || f.Executable == ExecutableUnknown
}

// stoppedByShutdown reports whether the units of a wanted container stopped because the host shuts down. Such a
// container is not healed.
func (f *Facts) stoppedByShutdown() bool {
	return f.HostShuttingDown && f.IsWanted() && (f.Units == UnitsGone || f.Units == UnitsFailed)
}

// HostKnown reports whether the state of the host was read, and whether it is not that of a host which shuts down and
// stops the units.
func (f *Facts) HostKnown() bool { return f.Readable && !f.stoppedByShutdown() }

// RecordKnown reports whether a record was read or does not exist. A damaged record counts as known: a step follows.
func (f *Facts) RecordKnown() bool { return f.Record != RecordUnreadable && f.Record != Newer }

// Decision is the step, and why the container is held if no step changes it.
type Decision struct {
	Step      Step
	Waits     Step // the step that waits for its back-off, if that is why the container is held; otherwise None
	Rule      int  // the number of the rule that selected the step; only for the log
	Hold      Hold
	Condition Condition
}

// DoesNotRun reports whether the container does not run, is to be removed, or is broken.
func (d Decision) DoesNotRun() bool { return d.Condition == Down || d.Condition == Broken }

// Settled reports whether the container runs as it is wanted, so that no step follows.
func (d Decision) Settled(f *Facts) bool {
	return d.Step == None && d.Hold == NotHeld && f.Runs() && f.IsWanted()
}

// HeldDown reports whether the container is wanted, does not run and is held, so that its status may become ERROR. A
// container that waits for the removal of a leftover does not count.
func (d Decision) HeldDown(f *Facts) bool {
	return d.Step == None && f.IsWanted() && d.DoesNotRun() && d.Hold != HeldLeftover
}

// PluginMayBeFound reports whether the container is held because no plugin serves it, although the plugin path was not
// read completely. This is normal at every start.
func (d Decision) PluginMayBeFound(f *Facts) bool {
	return d.Hold == HeldExecutableUnknown || d.Hold == HeldNoExecutable && f.PluginsUnscanned
}

// Condition is the condition of the container that a decision is based on.
type Condition int

// The zero value stands for rule 1 and for a damaged record.
const (
	Unknown Condition = iota // it may run or not
	Down                     // it has no record, or DEL follows for another reason than a broken container
	Broken                   // it ran and is broken, so it is recreated; the ADD after its DEL waits for a back-off
	Running                  // its record is of phase `added` or `changing`, and it is not broken
)

// rule is one row of the decision table in docs/design.md. A test compares code and document.
type rule struct {
	number    int
	when      string
	step      string
	fits      func(*Facts) bool
	decide    func(*Facts) (Step, Hold)
	condition func(*Facts) Condition
}

func is(c Condition) func(*Facts) Condition { return func(*Facts) Condition { return c } }

// byRecord returns the condition of a container that no rule considers unknown or broken.
func byRecord(f *Facts) Condition {
	switch {
	case f.Record == NoRecord:
		return Down
	case f.Runs():
		return Running
	}
	return Unknown
}

// rules is the decision table. The first rule that fits wins.
var rules = []rule{
	{
		1, "the NSDB, systemd, the namespaces or the record could not be read for this container; or its record is of" +
			" a newer version; or it is damaged, the name is not wanted, and some binding of the host is unread; or" +
			" the name is wanted, a unit of it is gone or failed for good, and the host shuts down",
		"none (a due CHECK may run)",
		func(f *Facts) bool {
			return f.Wanted == WantedUnread || !f.Readable || !f.RecordKnown() ||
				f.Record == Damaged && !f.IsWanted() && f.AnyUnread || f.stoppedByShutdown()
		},
		func(f *Facts) (Step, Hold) {
			switch {
			case f.Record == Newer:
				return None, HeldNewer
			case f.Record == RecordUnreadable:
				return None, HeldRecordUnreadable
			case f.Wanted == WantedUnread:
				return dueCheck(f), HeldUnread
			case !f.Readable:
				return dueCheck(f), HeldHostUnreadable
			case f.stoppedByShutdown():
				return dueCheck(f), HeldShutdown
			default:
				return None, HeldDamaged
			}
		}, is(Unknown),
	},
	{
		2, "record `adding` or `deleting`", "DEL",
		func(f *Facts) bool { return f.Record == IsAdding || f.Record == IsDeleting }, always(Delete), is(Down),
	},
	{
		3, "record (a damaged one too), not wanted", "DEL",
		func(f *Facts) bool { return f.Record != NoRecord && !f.IsWanted() }, always(Delete), is(Down),
	},
	{
		4, "record of another boot, container id, port id or service type; or damaged, and no namespace of ours", "DEL",
		func(f *Facts) bool {
			return f.recorded() && f.OtherBoot || f.Record != NoRecord && f.Wanted == WantedOther ||
				f.Record == Damaged && f.Namespace != NamespaceOurs
		}, always(Delete), is(Down),
	},
	{
		5, "record `added` or `changing`: its namespace or a unit of it is gone, a unit failed for good, or CHECK" +
			" answered with an error twice and STATUS is not bad", "DEL",
		func(f *Facts) bool {
			return f.Runs() && (f.Namespace != NamespaceOurs || f.Units == UnitsGone || f.Units == UnitsFailed ||
				f.CheckFailed && f.Executable != ExecutableNotReady)
		}, always(Delete), is(Broken),
	},
	{
		6, "record `changing` or damaged; or `added` with another digest, or a reconfigure is due (`again`) and an" +
			" executable can reconfigure",
		"reconfigure if an executable can reconfigure, DEL if none can; held (a due CHECK may run)" +
			" while no executable serves the type or the plugin path was not read completely and one that can" +
			" reconfigure may still be found, while none can reconfigure and STATUS is bad," +
			" or while the back-off of the reconfigure runs",
		func(f *Facts) bool {
			return f.Record == IsChanging || f.Record == Damaged ||
				f.Record == IsAdded && (f.Wanted == WantedEdited || f.ReconfigureDue && f.Reconfigures)
		},
		func(f *Facts) (Step, Hold) {
			switch {
			case f.unserved():
				return None, heldUnserved(f)
			case !f.Reconfigures && f.Executable == ExecutableNotReady:
				return dueCheck(f), HeldNotReady // the ADD after the DEL would fail
			case !f.Reconfigures:
				return Delete, NotHeld
			case f.Waiting[Reconfigure]:
				return dueCheck(f), HeldBackOff
			}
			return Reconfigure, NotHeld
		}, byRecord,
	},
	{
		7, "record `added`, only the group differs", "rewrite the record",
		func(f *Facts) bool { return f.Record == IsAdded && f.Wanted == WantedGroup }, always(Rewrite), byRecord,
	},
	{
		8, "record `added`, a CHECK is due", "CHECK",
		func(f *Facts) bool { return f.Record == IsAdded && f.CheckDue }, always(RunCheck), byRecord,
	},
	{
		9, "no record, every binding of the host and the plugin path read, our owner tag on a unit, namespace or veth" +
			" of this name", "remove the leftover",
		func(f *Facts) bool {
			return f.Record == NoRecord && !f.AnyUnread && !f.PluginsUnscanned && f.Leftover
		}, always(Clean), byRecord,
	},
	{
		10, "wanted, no record: nothing left under the name; neither name, port nor container id taken; an executable" +
			" selected and its STATUS good; a slot", "ADD",
		func(f *Facts) bool {
			return f.Record == NoRecord && f.IsWanted() && !f.Leftover && !f.Taken &&
				f.Executable == ExecutableReady && f.Slot
		}, always(Add), byRecord,
	},
	{
		11, "otherwise", "none: settled, or held",
		func(*Facts) bool { return true },
		func(f *Facts) (Step, Hold) {
			switch {
			case f.Record != NoRecord || !f.IsWanted():
				return None, NotHeld
			case f.Taken:
				return None, HeldTaken
			case f.Leftover:
				return None, HeldLeftover
			case f.unserved():
				return None, heldUnserved(f)
			case f.Executable == ExecutableNotReady:
				return None, HeldNotReady
			default:
				return None, HeldSlot
			}
		}, byRecord,
	},
}

func always(s Step) func(*Facts) (Step, Hold) {
	return func(*Facts) (Step, Hold) { return s, NotHeld }
}

// heldUnserved returns why no executable can be used.
func heldUnserved(f *Facts) Hold {
	if f.Executable == ExecutableUnknown {
		return HeldExecutableUnknown
	}
	return HeldNoExecutable
}

// dueCheck returns RunCheck if a CHECK is due and can run, otherwise None.
func dueCheck(f *Facts) Step {
	if f.CheckDue && f.Runs() && !f.unserved() {
		return RunCheck
	}
	return None
}

// Next decides on the next step for one container. It is a pure function. A step is not taken while its own back-off
// runs, whichever rule selected it. A verb that no executable serves is held.
func Next(f Facts) Decision {
	for _, r := range rules {
		if !r.fits(&f) {
			continue
		}
		step, hold := r.decide(&f)
		if (step == Delete || step == RunCheck) && f.unserved() {
			step, hold = None, heldUnserved(&f)
		}
		waits := None
		switch {
		case step != None && f.Waiting[step]:
			step, waits, hold = None, step, HeldBackOff
		case hold == HeldBackOff:
			waits = Reconfigure
		}
		return Decision{step, waits, r.number, hold, r.condition(&f)}
	}
	panic("decide: the last rule fits everything")
}
