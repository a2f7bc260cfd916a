package reconcile

// Step is the action that is taken for one container before it is observed again.
type Step int

// The steps in the order of their numbers, from no action to ADD.
const (
	None Step = iota
	RunCheck
	Rewrite  // of the record, because the group changed
	Delete   // DEL, then remove units, namespace and record
	AddAgain // reconfigure a running container
	Clean    // remove resources with our owner tag that have no record
	Add
	stepCount
)

var stepNames = [stepCount]string{
	"none", "CHECK", "rewrite the record", "DEL", "ADD again", "remove the leftover", "ADD",
}

func (s Step) String() string { return stepNames[s] }

// Hold is the reason why a container differs from its desired state although no step is taken.
type Hold int

// The reasons why a container is held.
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

// An executable whose STATUS is bad is still used for CHECK and DEL, but not for a new ADD.
const (
	NoExecutable ExecutableState = iota
	ExecutableNotReady
	ExecutableReady
)

// Facts is everything that the decision for one container depends on.
type Facts struct {
	Wanted       WantedState
	AnyUnread    bool // at least one binding of the host could not be read
	Record       RecordState
	OtherBoot    bool // the record was written before the last reboot
	Readable     bool // systemd and the namespaces could be read
	Namespace    NamespaceState
	Units        UnitsState
	Leftover     bool // a unit, namespace or veth of this name has our owner tag
	CheckFailed  bool // CHECK returned two errors in a row
	CheckDue     bool
	AgainDue     bool
	Executable   ExecutableState
	Reconfigures bool            // an executable can reconfigure the container in place
	Taken        bool            // another record, binding, namespace, interface or unit has name, port or container id
	Slot         bool            // weight and limit of the host permit another container, or the name has a slot
	Waiting      [stepCount]bool // the back-off of a failed step has not passed
}

func (f *Facts) recorded() bool {
	return f.Record == IsAdding || f.Record == IsAdded || f.Record == IsChanging || f.Record == IsDeleting
}
func (f *Facts) runs() bool   { return f.Record == IsAdded || f.Record == IsChanging }
func (f *Facts) wanted() bool { return f.Wanted >= Wanted }

// Decision is the step, the number of the rule that selected it, and why the container is held if the step is None.
type Decision struct {
	Step Step
	Rule int
	Hold Hold
}

// ruleBroken is the number of the rule for a running container that is broken. The ADD after its DEL waits for a
// back-off.
const ruleBroken = 5

// rule is one row of the decision table in docs/design.md. A test compares code and document.
type rule struct {
	number int
	when   string
	step   string
	fits   func(*Facts) bool
	decide func(*Facts) (Step, Hold)
}

// rules is the decision table. The first rule that fits wins.
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
		ruleBroken, "record `added` or `changing`: its namespace or a unit of it is gone, a unit failed for good, or CHECK" +
			" answered with an error twice in a row and STATUS is good", "DEL",
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
				return dueCheck(f), HeldNotReady // the ADD after the DEL would fail
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

// dueCheck returns RunCheck if a CHECK is due and can run, otherwise None.
func dueCheck(f *Facts) Step {
	if f.CheckDue && f.runs() && f.Executable != NoExecutable {
		return RunCheck
	}
	return None
}

// next decides on the next step for one container. It is a pure function. A step is not taken while its own back-off
// runs, whichever rule selected it. A verb that no executable serves is held.
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
