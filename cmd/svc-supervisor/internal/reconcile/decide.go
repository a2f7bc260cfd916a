package reconcile

// Step is what is done for one container before it is looked at again.
type Step int

// The steps, from doing nothing to making a container.
const (
	None Step = iota
	RunCheck
	Rewrite  // the record, for a change of the group
	Delete   // DEL, units, namespace, record
	AddAgain // reconfiguration of a running container
	Clean    // what carries our tag and has no record
	Add
	stepCount
)

var stepNames = [stepCount]string{"none", "CHECK", "rewrite the record", "DEL", "ADD again", "remove the leftover", "ADD"}

func (s Step) String() string { return stepNames[s] }

// Hold says why a container is not what is wanted though no step is taken.
type Hold int

// What a container can wait for.
const (
	NotHeld Hold = iota
	HeldUnread
	HeldNewer
	HeldNoExecutable
	HeldNotReady
	HeldTaken
	HeldLeftover
	HeldSlot
	HeldBackOff
)

// WantedState is what the NSDB says of a name, compared with its record if there is one.
type WantedState int

// The zero value is the safe one: nothing is known.
const (
	WantedUnread WantedState = iota // the host, the binding or what it refers to could not be read
	NotWanted
	Wanted       // as recorded; or there is no record to compare with
	WantedGroup  // as recorded but for the group
	WantedEdited // another digest
	WantedOther  // another container id, port id or service type
)

// RecordState is what the state directory says of a name.
type RecordState int

// `deleted` reads as no record.
const (
	NoRecord RecordState = iota
	Damaged
	Newer
	IsAdding
	IsAdded
	IsChanging
	IsDeleting
)

// NamespaceState is what stands under the container's name in /run/netns.
type NamespaceState int

// A stale file is no namespace.
const (
	NoNamespace NamespaceState = iota
	NamespaceOurs
	NamespaceForeign
)

// UnitsState sums up the units that the record names.
type UnitsState int

// Moving units (activating, deactivating, a job queued) are neither good nor bad.
const (
	UnitsGood UnitsState = iota
	UnitsMoving
	UnitsGone
	UnitsFailed
)

// ExecutableState is whether the service type can be served now.
type ExecutableState int

// An executable whose STATUS is bad serves CHECK and DEL, but no new ADD.
const (
	NoExecutable ExecutableState = iota
	ExecutableNotReady
	ExecutableReady
)

// Facts are everything that the decision for one container depends on.
type Facts struct {
	Wanted       WantedState
	AnyUnread    bool // some binding of the host could not be read
	Record       RecordState
	OtherBoot    bool // the record was written before the last reboot
	Readable     bool // systemd and the namespaces could be read
	Namespace    NamespaceState
	Units        UnitsState
	Leftover     bool // our tag on a unit, a namespace or a veth of this name
	CheckFailed  bool // CHECK answered with an error twice in a row
	CheckDue     bool
	AgainDue     bool
	Executable   ExecutableState
	Reconfigures bool            // an executable can bring the container to its configuration in place
	Taken        bool            // another's record, binding, namespace, interface or unit has the name, the port or the container id
	Slot         bool            // weight and limit of the host leave room, or the name has its slot already
	Waiting      [stepCount]bool // the step failed and its back-off runs
}

func (f *Facts) recorded() bool {
	return f.Record == IsAdding || f.Record == IsAdded || f.Record == IsChanging || f.Record == IsDeleting
}
func (f *Facts) runs() bool   { return f.Record == IsAdded || f.Record == IsChanging }
func (f *Facts) wanted() bool { return f.Wanted >= Wanted }

// Decision is the step, the number of the rule that asked for it, and what holds the container if the step is None.
type Decision struct {
	Step Step
	Rule int
	Hold Hold
}

// ruleBroken is the rule that finds a running container broken: what follows it is tried again with back-off.
const ruleBroken = 5

// rule is one row of the table in docs/design.md; a test compares the two.
type rule struct {
	number int
	when   string
	step   string
	fits   func(*Facts) bool
	decide func(*Facts) (Step, Hold)
}

// rules is the decision. The first rule that fits wins.
var rules = []rule{
	{
		1, "the NSDB, systemd or the namespaces could not be read for this container; or its record is of a newer version;" +
			" or it is damaged, the name is not wanted, and some binding of the host is unread",
		"none (a due CHECK may run)",
		func(f *Facts) bool {
			return f.Wanted == WantedUnread || !f.Readable || f.Record == Newer ||
				f.Record == Damaged && !f.wanted() && f.AnyUnread
		},
		func(f *Facts) (Step, Hold) {
			if f.Record == Newer {
				return None, HeldNewer
			}
			return dueCheck(f), HeldUnread
		},
	},
	{
		2, "record `adding` or `deleting`", "DEL",
		func(f *Facts) bool { return f.Record == IsAdding || f.Record == IsDeleting }, always(Delete),
	},
	{
		3, "record (a damaged one too), not wanted", "DEL",
		func(f *Facts) bool { return f.Record != NoRecord && !f.wanted() }, always(Delete),
	},
	{
		4, "record of another boot, container id, port id or service type; or damaged, and no namespace of ours", "DEL",
		func(f *Facts) bool {
			return f.recorded() && f.OtherBoot || f.Record != NoRecord && f.Wanted == WantedOther ||
				f.Record == Damaged && f.Namespace != NamespaceOurs
		}, always(Delete),
	},
	{
		ruleBroken, "record `added` or `changing`: its namespace or a unit of it is gone, a unit failed for good, or CHECK answered" +
			" with an error twice in a row and STATUS is good", "DEL",
		func(f *Facts) bool {
			return f.runs() && (f.Namespace != NamespaceOurs || f.Units == UnitsGone || f.Units == UnitsFailed ||
				f.CheckFailed && f.Executable != ExecutableNotReady)
		}, always(Delete),
	},
	{
		6, "record `changing` or damaged; or `added` with another digest, or ADD again is due (`again`) and an" +
			" executable can reconfigure",
		"ADD again if an executable can reconfigure, DEL if none can; held (a due CHECK may run) while no executable" +
			" serves the type, while none can reconfigure and STATUS is bad, or while the back-off of ADD again runs",
		func(f *Facts) bool {
			return f.Record == IsChanging || f.Record == Damaged ||
				f.Record == IsAdded && (f.Wanted == WantedEdited || f.AgainDue && f.Reconfigures)
		},
		func(f *Facts) (Step, Hold) {
			switch {
			case f.Executable == NoExecutable:
				return None, HeldNoExecutable
			case !f.Reconfigures && f.Executable == ExecutableNotReady:
				return dueCheck(f), HeldNotReady // the ADD after the DEL is known to fail
			case !f.Reconfigures:
				return Delete, NotHeld
			case f.Waiting[AddAgain]:
				return dueCheck(f), HeldBackOff
			}
			return AddAgain, NotHeld
		},
	},
	{
		7, "record `added`, only the group differs", "rewrite the record",
		func(f *Facts) bool { return f.Record == IsAdded && f.Wanted == WantedGroup }, always(Rewrite),
	},
	{
		8, "record `added`, a CHECK is due", "CHECK",
		func(f *Facts) bool { return f.Record == IsAdded && f.CheckDue }, always(RunCheck),
	},
	{
		9, "no record, every binding of the host read, our owner tag on a unit, namespace or veth of this name",
		"remove the leftover",
		func(f *Facts) bool { return f.Record == NoRecord && !f.AnyUnread && f.Leftover }, always(Clean),
	},
	{
		10, "wanted, no record: nothing left under the name; neither name, port nor container id taken; an executable" +
			" selected and its STATUS good; a slot", "ADD",
		func(f *Facts) bool {
			return f.Record == NoRecord && f.wanted() && !f.Leftover && !f.Taken && f.Executable == ExecutableReady && f.Slot
		}, always(Add),
	},
	{
		11, "otherwise", "none: settled, or held",
		func(*Facts) bool { return true },
		func(f *Facts) (Step, Hold) {
			switch {
			case f.Record != NoRecord || !f.wanted():
				return None, NotHeld
			case f.Taken:
				return None, HeldTaken
			case f.Leftover:
				return None, HeldLeftover
			case f.Executable == NoExecutable:
				return None, HeldNoExecutable
			case f.Executable == ExecutableNotReady:
				return None, HeldNotReady
			default:
				return None, HeldSlot
			}
		},
	},
}

func always(s Step) func(*Facts) (Step, Hold) {
	return func(*Facts) (Step, Hold) { return s, NotHeld }
}

// dueCheck is CHECK where it is due and can be run.
func dueCheck(f *Facts) Step {
	if f.CheckDue && f.runs() && f.Executable != NoExecutable {
		return RunCheck
	}
	return None
}

// next decides on the next step for one container. It is a pure function. Whatever rule asks for a step, the step waits
// while its own back-off runs, and a verb that no executable serves is held.
func next(f Facts) Decision {
	for _, r := range rules {
		if !r.fits(&f) {
			continue
		}
		step, hold := r.decide(&f)
		if (step == Delete || step == RunCheck) && f.Executable == NoExecutable {
			step, hold = None, HeldNoExecutable
		}
		if step != None && f.Waiting[step] {
			step, hold = None, HeldBackOff
		}
		return Decision{step, r.number, hold}
	}
	panic("reconcile: the last rule fits everything")
}
