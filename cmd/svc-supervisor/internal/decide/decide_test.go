package decide

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// good returns the facts of a settled container.
func good() Facts {
	return Facts{
		Wanted: Wanted, Record: IsAdded, Readable: true, Namespace: NamespaceOurs, Units: UnitsGood, Leftover: true,
		Executable: ExecutableReady, Reconfigures: true, Slot: true,
	}
}

// fresh returns the facts of a wanted name that has no record and no resources.
func fresh() Facts {
	return Facts{Wanted: Wanted, Readable: true, Executable: ExecutableReady, Slot: true}
}

func with(f Facts, changes ...func(*Facts)) Facts {
	for _, change := range changes {
		change(&f)
	}
	return f
}

func waiting(steps ...Step) func(*Facts) {
	return func(f *Facts) {
		for _, s := range steps {
			f.Waiting[s] = true
		}
	}
}

// choice is a decision without the condition, which has a test of its own.
type choice struct {
	step Step
	rule int
	hold Hold
}

func (d Decision) choice() choice { return choice{d.Step, d.Rule, d.Hold} }

var decisionRows = []struct {
	sentence string
	facts    Facts
	want     choice
}{
	// 1
	{
		"no step before the desired state was read", with(fresh(), func(f *Facts) { f.Wanted = WantedUnread }),
		choice{None, 1, HeldUnread},
	},
	{
		"no step for a running container whose binding is unread",
		with(good(), func(f *Facts) { f.Wanted = WantedUnread }), choice{None, 1, HeldUnread},
	},
	{
		"a due CHECK runs for a running container whose binding is unread",
		with(good(), func(f *Facts) { f.Wanted, f.CheckDue = WantedUnread, true }), choice{RunCheck, 1, HeldUnread},
	},
	{
		"no CHECK without an executable",
		with(good(), func(f *Facts) { f.Readable, f.CheckDue, f.Executable = false, true, NoExecutable }),
		choice{None, 1, HeldHostUnreadable},
	},
	{
		"an interrupted ADD is not undone while systemd does not answer",
		with(good(), func(f *Facts) { f.Record, f.Readable = IsAdding, false }), choice{None, 1, HeldHostUnreadable},
	},
	{
		"units and namespaces that could not be read do not count as gone",
		with(good(), func(f *Facts) { f.Readable, f.Namespace, f.Units = false, NoNamespace, UnitsGone }),
		choice{None, 1, HeldHostUnreadable},
	},
	{
		"no step for a record of a newer version",
		with(good(), func(f *Facts) { f.Record, f.Wanted, f.CheckDue = Newer, NotWanted, true }),
		choice{None, 1, HeldNewer},
	},
	{
		"a damaged record stays while a binding is unread, which may be its own",
		with(good(), func(f *Facts) { f.Record, f.Wanted, f.AnyUnread = Damaged, NotWanted, true }),
		choice{None, 1, HeldDamaged},
	},
	{
		"no step for a record that could not be read",
		with(good(), func(f *Facts) { f.Record, f.Wanted, f.CheckDue = RecordUnreadable, NotWanted, true }),
		choice{None, 1, HeldRecordUnreadable},
	},
	{
		"an unreadable record is the reason although systemd does not answer",
		with(good(), func(f *Facts) { f.Record, f.Readable = RecordUnreadable, false }),
		choice{None, 1, HeldRecordUnreadable},
	},
	{
		"a unit that the shutdown of the host stopped is not started again",
		with(good(), func(f *Facts) { f.HostShuttingDown, f.Units = true, UnitsGone }), choice{None, 1, HeldShutdown},
	},
	{
		"a unit that failed during the shutdown is not started again",
		with(good(), func(f *Facts) { f.HostShuttingDown, f.Units = true, UnitsFailed }),
		choice{None, 1, HeldShutdown},
	},
	{
		"a due CHECK runs for a container whose unit the shutdown stopped",
		with(good(), func(f *Facts) { f.HostShuttingDown, f.Units, f.CheckDue = true, UnitsGone, true }),
		choice{RunCheck, 1, HeldShutdown},
	},
	// 2
	{"an interrupted ADD is undone", with(good(), func(f *Facts) { f.Record = IsAdding }), choice{Delete, 2, NotHeld}},
	{
		"an interrupted DEL is completed although the container is wanted again",
		with(good(), func(f *Facts) { f.Record = IsDeleting }), choice{Delete, 2, NotHeld},
	},
	{
		"a failed DEL waits for its back-off",
		with(good(), func(f *Facts) { f.Record = IsDeleting }, waiting(Delete)), choice{None, 2, HeldBackOff},
	},
	{
		"a DEL that no executable serves is held",
		with(good(), func(f *Facts) { f.Record, f.Executable = IsDeleting, NoExecutable }),
		choice{None, 2, HeldNoExecutable},
	},
	{
		"DEL does not need a good STATUS",
		with(good(), func(f *Facts) { f.Record, f.Executable = IsDeleting, ExecutableNotReady }),
		choice{Delete, 2, NotHeld},
	},
	{
		"the back-off of ADD does not delay undoing it",
		with(good(), func(f *Facts) { f.Record = IsAdding }, waiting(Add)), choice{Delete, 2, NotHeld},
	},
	{
		"an interrupted DEL waits for the scan, which may find the executable of the recorded version",
		with(good(), func(f *Facts) {
			f.Record, f.Executable, f.PluginsUnscanned, f.Reconfigures = IsDeleting, ExecutableUnknown, true, false
		}),
		choice{None, 2, HeldExecutableUnknown},
	},
	// 3
	{
		"a container that is no longer wanted is removed during a shutdown",
		with(good(), func(f *Facts) { f.Wanted, f.HostShuttingDown, f.Units = NotWanted, true, UnitsGone }),
		choice{Delete, 3, NotHeld},
	},
	{
		"a container that is no longer wanted is removed", with(good(), func(f *Facts) { f.Wanted = NotWanted }),
		choice{Delete, 3, NotHeld},
	},
	{
		"a container that is no longer wanted is removed while another binding is unread",
		with(good(), func(f *Facts) { f.Wanted, f.AnyUnread = NotWanted, true }), choice{Delete, 3, NotHeld},
	},
	{
		"a damaged record of an unwanted name is removed once every binding was read",
		with(good(), func(f *Facts) { f.Record, f.Wanted = Damaged, NotWanted }), choice{Delete, 3, NotHeld},
	},
	// 4
	{
		"a container is recreated after a reboot",
		with(good(), func(f *Facts) { f.OtherBoot, f.Namespace, f.Units = true, NoNamespace, UnitsGone }),
		choice{Delete, 4, NotHeld},
	},
	{
		"a binding with another container replaces the container",
		with(good(), func(f *Facts) { f.Wanted = WantedOther }), choice{Delete, 4, NotHeld},
	},
	{
		"a damaged record of another type is removed",
		with(good(), func(f *Facts) { f.Record, f.Wanted = Damaged, WantedOther }), choice{Delete, 4, NotHeld},
	},
	{
		"a damaged record without a namespace of ours is removed",
		with(good(), func(f *Facts) { f.Record, f.Namespace = Damaged, NoNamespace }), choice{Delete, 4, NotHeld},
	},
	// 5
	{
		"a container without its namespace is recreated", with(good(), func(f *Facts) { f.Namespace = NoNamespace }),
		choice{Delete, 5, NotHeld},
	},
	{
		"a container whose namespace is foreign is recreated",
		with(good(), func(f *Facts) { f.Namespace = NamespaceForeign }), choice{Delete, 5, NotHeld},
	},
	{
		"a container whose unit is gone is recreated", with(good(), func(f *Facts) { f.Units = UnitsGone }),
		choice{Delete, 5, NotHeld},
	},
	{
		"a container whose unit failed for good is recreated",
		with(good(), func(f *Facts) { f.Units = UnitsFailed }), choice{Delete, 5, NotHeld},
	},
	{
		"a unit that starts or stops is left to systemd", with(good(), func(f *Facts) { f.Units = UnitsMoving }),
		choice{None, 11, NotHeld},
	},
	{
		"a container is recreated after two errors of CHECK",
		with(good(), func(f *Facts) { f.CheckFailed = true }), choice{Delete, 5, NotHeld},
	},
	{
		"errors of CHECK do not lead to DEL while STATUS is bad",
		with(good(), func(f *Facts) { f.CheckFailed, f.Executable = true, ExecutableNotReady }),
		choice{None, 11, NotHeld},
	},
	{
		"a broken container is recreated instead of reconfigured",
		with(good(), func(f *Facts) { f.Record, f.Units = IsChanging, UnitsFailed }), choice{Delete, 5, NotHeld},
	},
	// 6
	{
		"an edit is applied in place", with(good(), func(f *Facts) { f.Wanted = WantedEdited }),
		choice{Reconfigure, 6, NotHeld},
	},
	{
		"an edit that cannot be applied in place leads to DEL",
		with(good(), func(f *Facts) { f.Wanted, f.Reconfigures = WantedEdited, false }), choice{Delete, 6, NotHeld},
	},
	{
		"an edit that needs DEL waits while STATUS is bad, because the ADD would fail",
		with(good(), func(f *Facts) {
			f.Wanted, f.Reconfigures, f.Executable = WantedEdited, false, ExecutableNotReady
		}),
		choice{None, 6, HeldNotReady},
	},
	{"a due CHECK runs while an edit waits for a good STATUS", with(good(), func(f *Facts) {
		f.Wanted, f.Reconfigures, f.Executable, f.CheckDue = WantedEdited, false, ExecutableNotReady, true
	}), choice{RunCheck, 6, HeldNotReady}},
	{
		"an edit waits while there is no executable",
		with(good(), func(f *Facts) { f.Wanted, f.Reconfigures, f.Executable = WantedEdited, false, NoExecutable }),
		choice{None, 6, HeldNoExecutable},
	},
	{"an edit waits while an executable that can reconfigure may still be found", with(good(), func(f *Facts) {
		f.Wanted, f.Reconfigures, f.Executable, f.PluginsUnscanned = WantedEdited, false, ExecutableUnknown, true
	}), choice{None, 6, HeldExecutableUnknown}},
	{
		"a failed edit waits for its back-off",
		with(good(), func(f *Facts) { f.Record = IsChanging }, waiting(Reconfigure)), choice{None, 6, HeldBackOff},
	},
	{
		"a due CHECK runs while an edit waits for its back-off",
		with(good(), func(f *Facts) { f.Record, f.CheckDue = IsChanging, true }, waiting(Reconfigure)),
		choice{RunCheck, 6, HeldBackOff},
	},
	{
		"an interrupted edit is applied again", with(good(), func(f *Facts) { f.Record = IsChanging }),
		choice{Reconfigure, 6, NotHeld},
	},
	{
		"an edit in place does not need a good STATUS",
		with(good(), func(f *Facts) { f.Wanted, f.Executable = WantedEdited, ExecutableNotReady }),
		choice{Reconfigure, 6, NotHeld},
	},
	{
		"a damaged record is healed in place", with(good(), func(f *Facts) { f.Record = Damaged }),
		choice{Reconfigure, 6, NotHeld},
	},
	{
		"a requested reconfigure is skipped if no executable can reconfigure",
		with(good(), func(f *Facts) { f.ReconfigureDue, f.Reconfigures = true, false }), choice{None, 11, NotHeld},
	},
	{
		"a reconfigure runs when the executable asked for it",
		with(good(), func(f *Facts) { f.ReconfigureDue = true }), choice{Reconfigure, 6, NotHeld},
	},
	{
		"an edit is applied before a due CHECK",
		with(good(), func(f *Facts) { f.Wanted, f.CheckDue = WantedEdited, true }), choice{Reconfigure, 6, NotHeld},
	},
	// 7
	{
		"a changed group is stored in the record", with(good(), func(f *Facts) { f.Wanted = WantedGroup }),
		choice{Rewrite, 7, NotHeld},
	},
	{
		"storing a changed group does not need an executable",
		with(good(), func(f *Facts) { f.Wanted, f.Executable = WantedGroup, NoExecutable }),
		choice{Rewrite, 7, NotHeld},
	},
	// 8
	{"a due CHECK runs", with(good(), func(f *Facts) { f.CheckDue = true }), choice{RunCheck, 8, NotHeld}},
	{
		"a due CHECK without an executable is held",
		with(good(), func(f *Facts) { f.CheckDue, f.Executable = true, NoExecutable }),
		choice{None, 8, HeldNoExecutable},
	},
	// 9
	{
		"resources with our tag but without a record are removed although the name is wanted",
		with(fresh(), func(f *Facts) { f.Leftover = true }), choice{Clean, 9, NotHeld},
	},
	{
		"a leftover of an unwanted name is removed",
		with(fresh(), func(f *Facts) { f.Wanted, f.Leftover = NotWanted, true }), choice{Clean, 9, NotHeld},
	},
	{
		"a leftover stays while a binding is unread",
		with(fresh(), func(f *Facts) { f.Wanted, f.Leftover, f.AnyUnread = NotWanted, true, true }),
		choice{None, 11, NotHeld},
	},
	{
		"a leftover that could not be removed waits for the back-off",
		with(fresh(), func(f *Facts) { f.Leftover = true }, waiting(Clean)), choice{None, 9, HeldBackOff},
	},
	{
		"a leftover stays while the plugin path was not read, since DEL of every type must run",
		with(fresh(), func(f *Facts) { f.Wanted, f.Leftover, f.PluginsUnscanned = NotWanted, true, true }),
		choice{None, 11, NotHeld},
	},
	// 10
	{
		"ADD runs before the plugin path was read completely",
		with(fresh(), func(f *Facts) { f.PluginsUnscanned = true }), choice{Add, 10, NotHeld},
	},
	{"ADD runs for a wanted name without record and resources", fresh(), choice{Add, 10, NotHeld}},
	{
		"ADD runs while another binding is unread", with(fresh(), func(f *Facts) { f.AnyUnread = true }),
		choice{Add, 10, NotHeld},
	},
	{"a failed ADD waits for its back-off", with(fresh(), waiting(Add)), choice{None, 10, HeldBackOff}},
	// 11
	{"no step for a settled container", good(), choice{None, 11, NotHeld}},
	{
		"a settled container does not need an executable, a slot or a free name",
		with(good(), func(f *Facts) { f.Executable, f.Slot, f.Taken = NoExecutable, false, true }),
		choice{None, 11, NotHeld},
	},
	{
		"no step for an unwanted name without resources", with(fresh(), func(f *Facts) { f.Wanted = NotWanted }),
		choice{None, 11, NotHeld},
	},
	{"no ADD for a taken name", with(fresh(), func(f *Facts) { f.Taken = true }), choice{None, 11, HeldTaken}},
	{
		"no ADD while a leftover must stay", with(fresh(), func(f *Facts) { f.Leftover, f.AnyUnread = true, true }),
		choice{None, 11, HeldLeftover},
	},
	{
		"no ADD while a leftover waits for the scan of the plugin path",
		with(fresh(), func(f *Facts) { f.Leftover, f.PluginsUnscanned = true, true }), choice{None, 11, HeldLeftover},
	},
	{
		"no step for a settled container while the host shuts down",
		with(good(), func(f *Facts) { f.HostShuttingDown = true }), choice{None, 11, NotHeld},
	},
	{
		"no ADD without an executable", with(fresh(), func(f *Facts) { f.Executable = NoExecutable }),
		choice{None, 11, HeldNoExecutable},
	},
	{
		"no ADD while STATUS is bad", with(fresh(), func(f *Facts) { f.Executable = ExecutableNotReady }),
		choice{None, 11, HeldNotReady},
	},
	{"no ADD without a slot", with(fresh(), func(f *Facts) { f.Slot = false }), choice{None, 11, HeldSlot}},
}

func TestDecisionRows(t *testing.T) {
	rows := map[int]int{}
	for _, row := range decisionRows {
		rows[row.want.rule]++
		if got := Next(row.facts).choice(); got != row.want {
			t.Errorf("%s: got %v, rule %d, hold %d; want %v, rule %d, hold %d", row.sentence,
				got.step, got.rule, got.hold, row.want.step, row.want.rule, row.want.hold)
		}
	}
	for _, r := range rules {
		if rows[r.number] == 0 {
			t.Errorf("rule %d has no row", r.number)
		}
	}
}

func TestCondition(t *testing.T) {
	rows := []struct {
		sentence string
		facts    Facts
		want     Condition
	}{
		{"a settled container runs", good(), Running},
		{
			"a container with an edit that needs DEL runs",
			with(good(), func(f *Facts) { f.Wanted, f.Reconfigures = WantedEdited, false }), Running,
		},
		{"a name without a record is down", fresh(), Down},
		{"a held name without a record is down", with(fresh(), func(f *Facts) { f.Slot = false }), Down},
		{"an interrupted ADD is down", with(good(), func(f *Facts) { f.Record = IsAdding }), Down},
		{"a container that is not wanted counts as down", with(good(), func(f *Facts) { f.Wanted = NotWanted }), Down},
		{"a container of another boot is down", with(good(), func(f *Facts) { f.OtherBoot = true }), Down},
		{"a container whose unit is gone is broken", with(good(), func(f *Facts) { f.Units = UnitsGone }), Broken},
		{
			"a broken container whose DEL is held is broken",
			with(good(), func(f *Facts) { f.Units = UnitsGone }, waiting(Delete)), Broken,
		},
		{"a container with a damaged record may run", with(good(), func(f *Facts) { f.Record = Damaged }), Unknown},
		{"a name that is unread may run", with(fresh(), func(f *Facts) { f.Wanted = WantedUnread }), Unknown},
		{
			"a container whose unit the shutdown stopped is unknown",
			with(good(), func(f *Facts) { f.HostShuttingDown, f.Units = true, UnitsGone }), Unknown,
		},
	}
	for _, row := range rows {
		if got := Next(row.facts).Condition; got != row.want {
			t.Errorf("%s: got %d, want %d", row.sentence, got, row.want)
		}
	}
}

// invariants hold for every combination of facts. They refer to facts and decision only, not to the rules.
var invariants = []struct {
	sentence string
	broken   func(f *Facts, d Decision) bool
}{
	{"only CHECK runs while the state is unknown, and the hold is the reason", func(f *Facts, d Decision) bool {
		unread := f.Wanted == WantedUnread || !f.Readable || f.Record == Newer || f.Record == RecordUnreadable
		return unread && (d.Step != None && d.Step != RunCheck || !d.Hold.Unknown() && d.Hold != HeldBackOff)
	}},
	{"the reason of a hold is true", func(f *Facts, d Decision) bool {
		switch d.Hold {
		case HeldUnread:
			return f.Wanted != WantedUnread
		case HeldNewer:
			return f.Record != Newer
		case HeldRecordUnreadable:
			return f.Record != RecordUnreadable
		case HeldDamaged:
			return f.Record != Damaged || f.Wanted != NotWanted || !f.AnyUnread
		case HeldHostUnreadable:
			return f.Readable
		case HeldShutdown:
			return !f.HostShuttingDown || f.Units < UnitsGone || f.Wanted < Wanted
		case HeldNoExecutable:
			return f.Executable != NoExecutable
		case HeldExecutableUnknown:
			return f.Executable != ExecutableUnknown
		case HeldNotReady:
			return f.Executable != ExecutableNotReady
		case HeldTaken:
			return !f.Taken
		case HeldLeftover:
			return !f.Leftover || !f.AnyUnread && !f.PluginsUnscanned
		case HeldSlot:
			return f.Slot
		case HeldBackOff:
			return f.Waiting == [StepCount]bool{}
		}
		return d.Hold != NotHeld
	}},
	{"no step but CHECK is taken for a wanted container that the shutdown stopped", func(f *Facts, d Decision) bool {
		stopped := f.HostShuttingDown && f.Wanted >= Wanted && f.Units >= UnitsGone
		return stopped && d.Step != None && d.Step != RunCheck
	}},
	{"a shutdown delays nothing else", func(f *Facts, d Decision) bool {
		other := *f
		other.HostShuttingDown = false
		return f.HostShuttingDown && (f.Wanted < Wanted || f.Units < UnitsGone) && Next(other) != d
	}},
	{"a damaged record of an unwanted name stays while a binding is unread", func(f *Facts, d Decision) bool {
		return f.Record == Damaged && f.Wanted == NotWanted && f.AnyUnread && d.Step != None
	}},
	{
		"no verb runs for a record of a newer version, nor for one that could not be read",
		func(f *Facts, d Decision) bool {
			return (f.Record == Newer || f.Record == RecordUnreadable) && d.Step != None
		},
	},
	{"ADD never runs over a record, a leftover or a taken name", func(f *Facts, d Decision) bool {
		return d.Step == Add && (f.Record != NoRecord || f.Leftover || f.Taken)
	}},
	{
		"ADD runs only for a wanted name with a slot and an executable whose STATUS is good",
		func(f *Facts, d Decision) bool {
			return d.Step == Add && (f.Wanted <= NotWanted || !f.Slot || f.Executable != ExecutableReady)
		},
	},
	{
		"a leftover is removed only without a record and after every binding and the plugin path were read",
		func(f *Facts, d Decision) bool {
			return d.Step == Clean && (f.Record != NoRecord || f.AnyUnread || f.PluginsUnscanned || !f.Leftover)
		},
	},
	{"DEL never runs without a record", func(f *Facts, d Decision) bool {
		return d.Step == Delete && f.Record == NoRecord
	}},
	{"DEL never removes a good container that is wanted unchanged", func(f *Facts, d Decision) bool {
		unchanged := f.Wanted == Wanted || f.Wanted == WantedGroup
		whole := f.Record == IsAdded && !f.OtherBoot && f.Namespace == NamespaceOurs &&
			f.Units <= UnitsMoving && !f.CheckFailed
		return d.Step == Delete && unchanged && whole
	}},
	{"DEL never removes a running container for an edit that can be applied in place", func(f *Facts, d Decision) bool {
		same := f.Wanted == Wanted || f.Wanted == WantedGroup || f.Wanted == WantedEdited
		whole := (f.Record == IsAdded || f.Record == IsChanging) && !f.OtherBoot && f.Namespace == NamespaceOurs &&
			f.Units <= UnitsMoving && !f.CheckFailed
		return d.Step == Delete && same && whole && f.Reconfigures
	}},
	{"DEL never removes a running container for an edit while STATUS is bad", func(f *Facts, d Decision) bool {
		same := f.Wanted == Wanted || f.Wanted == WantedGroup || f.Wanted == WantedEdited
		whole := (f.Record == IsAdded || f.Record == IsChanging) && !f.OtherBoot && f.Namespace == NamespaceOurs &&
			f.Units <= UnitsMoving && !f.CheckFailed
		return d.Step == Delete && same && whole && f.Executable == ExecutableNotReady
	}},
	{"an interrupted ADD or DEL leads to DEL or to a hold", func(f *Facts, d Decision) bool {
		return (f.Record == IsAdding || f.Record == IsDeleting) && d.Step != Delete && d.Hold == NotHeld
	}},
	{"an interrupted ADD or DEL leads to no other step than DEL", func(f *Facts, d Decision) bool {
		return (f.Record == IsAdding || f.Record == IsDeleting) && d.Step != Delete && d.Step != None
	}},
	{"an unwanted record leads to DEL or to a hold", func(f *Facts, d Decision) bool {
		return f.Wanted == NotWanted && f.Record != NoRecord && d.Step != Delete && d.Hold == NotHeld
	}},
	{"no step but CHECK precedes the DEL of an unwanted record", func(f *Facts, d Decision) bool {
		return f.Wanted == NotWanted && f.Record != NoRecord && d.Step != Delete && d.Step != None &&
			(d.Step != RunCheck || f.Readable)
	}},
	{"a record of another boot leads to DEL or to a hold", func(f *Facts, d Decision) bool {
		running := f.Record == IsAdded || f.Record == IsChanging
		return running && f.OtherBoot && d.Step != Delete && d.Hold == NotHeld
	}},
	{"a broken container leads to DEL or to a hold", func(f *Facts, d Decision) bool {
		running := f.Record == IsAdded || f.Record == IsChanging
		broken := f.Namespace != NamespaceOurs || f.Units >= UnitsGone ||
			f.CheckFailed && f.Executable != ExecutableNotReady
		return running && broken && d.Step != Delete && d.Hold == NotHeld
	}},
	{"errors of CHECK never remove a container whose daemon runs while STATUS is bad", func(f *Facts, d Decision) bool {
		alive := f.Namespace == NamespaceOurs && f.Units < UnitsGone
		return alive && f.Executable == ExecutableNotReady && d.Condition == Broken
	}},
	{"a step whose back-off runs is never taken", func(f *Facts, d Decision) bool {
		return d.Step != None && f.Waiting[d.Step]
	}},
	{
		"CHECK, DEL and reconfigure never run without an executable, nor while a better one may be found",
		func(f *Facts, d Decision) bool {
			return (d.Step == RunCheck || d.Step == Delete || d.Step == Reconfigure) &&
				f.Executable < ExecutableNotReady
		},
	},
	{"the condition agrees with the record", func(f *Facts, d Decision) bool {
		runs := f.Record == IsAdded || f.Record == IsChanging
		switch d.Condition {
		case Broken, Running:
			return !runs || d.Hold.Unknown()
		case Down:
			return d.Hold.Unknown() || f.Record == Newer || f.Record == RecordUnreadable
		default:
			return f.Record != Damaged && f.Record != Newer && f.Record != RecordUnreadable && f.Readable &&
				f.Wanted != WantedUnread && !f.HostShuttingDown
		}
	}},
	{
		"a broken container that is to be removed is one whose daemon or namespace is not as recorded",
		func(f *Facts, d Decision) bool {
			return d.Condition == Broken && f.Namespace == NamespaceOurs && f.Units < UnitsGone && !f.CheckFailed
		},
	},
	{"CHECK runs only for a running container whose CHECK is due", func(f *Facts, d Decision) bool {
		return d.Step == RunCheck && (!f.CheckDue || f.Record != IsAdded && f.Record != IsChanging)
	}},
	{
		"a reconfigure needs an executable that can do it, a record of this boot and our namespace",
		func(f *Facts, d Decision) bool {
			ofOtherBoot := f.OtherBoot && f.Record != Damaged
			return d.Step == Reconfigure &&
				(!f.Reconfigures || ofOtherBoot || f.Namespace != NamespaceOurs || f.Wanted == WantedOther)
		},
	},
	{"a reconfigure has a reason", func(f *Facts, d Decision) bool {
		return d.Step == Reconfigure && f.Record == IsAdded && f.Wanted != WantedEdited && !f.ReconfigureDue
	}},
	{"the record is rewritten only for the group of a running container", func(f *Facts, d Decision) bool {
		return d.Step == Rewrite && (f.Record != IsAdded || f.Wanted != WantedGroup)
	}},
	{"a wanted container that does not run leads to a step or to a hold", func(f *Facts, d Decision) bool {
		runs := f.Record == IsAdded || f.Record == IsChanging
		return (f.Wanted >= Wanted || f.Wanted == WantedUnread) && !runs && d.Step == None && d.Hold == NotHeld
	}},
	{"a container that differs from the desired state leads to a step or to a hold", func(f *Facts, d Decision) bool {
		return (f.Wanted == WantedOther || f.Wanted == WantedEdited || f.Wanted == WantedGroup) &&
			f.Record != NoRecord && d.Step == None && d.Hold == NotHeld
	}},
	{"no step is taken for an unwanted name without resources", func(f *Facts, d Decision) bool {
		return f.Wanted == NotWanted && f.Readable && f.Record == NoRecord && !f.Leftover && d.Step != None
	}},
	{"the rule number is that of the first rule that fits", func(f *Facts, d Decision) bool {
		for _, r := range rules {
			if r.fits(f) {
				return r.number != d.Rule
			}
		}
		return true
	}},
}

// TestInvariantsHoldForEveryCombinationOfFacts combines every value of every fact with every other, except the
// back-offs. Of these it tries none, all, the selected step's alone, and all but the selected step's. That suffices
// because a step waits only for its own back-off, which the test checks too.
func TestInvariantsHoldForEveryCombinationOfFacts(t *testing.T) {
	var (
		workers sync.WaitGroup
		mu      sync.Mutex
		total   int
		seen    = map[string]Facts{}
	)
	for _, wanted := range []WantedState{WantedUnread, NotWanted, Wanted, WantedGroup, WantedEdited, WantedOther} {
		workers.Go(func() {
			count, broken := checkAllFacts(wanted)
			mu.Lock()
			defer mu.Unlock()
			total += count
			for sentence, facts := range broken {
				seen[sentence] = facts
			}
		})
	}
	workers.Wait()
	for sentence, facts := range seen {
		t.Errorf("broken: %s\n\tby %+v\n\tdecision %+v", sentence, facts, Next(facts))
	}
	t.Logf("%d combinations", total)
}

func checkAllFacts(wanted WantedState) (count int, broken map[string]Facts) {
	broken = map[string]Facts{}
	try := func(f *Facts) Decision {
		d := Next(*f)
		count++
		for i := range invariants {
			if invariants[i].broken(f, d) {
				broken[invariants[i].sentence] = *f
			}
		}
		return d
	}
	everyFacts(wanted, func(f *Facts) {
		f.Waiting = [StepCount]bool{}
		free := try(f)
		f.Waiting = [StepCount]bool{true, true, true, true, true, true, true}
		try(f)
		if free.Step == None {
			return
		}
		f.Waiting[free.Step] = false
		if try(f) != free {
			broken["a step is held by its own back-off alone"] = *f
		}
		f.Waiting = [StepCount]bool{}
		f.Waiting[free.Step] = true
		try(f)
	})
	return count, broken
}

// everyFacts calls visit for every combination of all facts except Wanted and Waiting.
func everyFacts(wanted WantedState, visit func(*Facts)) {
	var f Facts
	f.Wanted = wanted
	flags := []*bool{
		&f.AnyUnread, &f.OtherBoot, &f.Readable, &f.Leftover, &f.CheckFailed, &f.CheckDue, &f.ReconfigureDue,
		&f.Reconfigures,
		&f.Taken, &f.Slot, &f.PluginsUnscanned, &f.HostShuttingDown,
	}
	for f.Record = NoRecord; f.Record <= IsDeleting; f.Record++ {
		for f.Namespace = NoNamespace; f.Namespace <= NamespaceForeign; f.Namespace++ {
			for f.Units = UnitsGood; f.Units <= UnitsFailed; f.Units++ {
				for f.Executable = NoExecutable; f.Executable <= ExecutableReady; f.Executable++ {
					for bits := range 1 << len(flags) {
						for i, flag := range flags {
							*flag = bits&(1<<i) != 0
						}
						visit(&f)
					}
				}
			}
		}
	}
}

func TestDecisionTableInTheDesignMatchesTheCode(t *testing.T) {
	var coded [][]string
	for _, r := range rules {
		coded = append(coded, []string{fmt.Sprint(r.number), r.when, r.step})
	}
	compareTables(t, tableOf(t, "decision", "#", "when", "step"), coded)
}

// compareTables reports each row in which the printed table and that of the code differ.
func compareTables(t *testing.T, printed, coded [][]string) {
	t.Helper()
	for i := range max(len(printed), len(coded)) {
		switch {
		case i >= len(printed):
			t.Errorf("not in docs/design.md: | %s |", strings.Join(coded[i], " | "))
		case i >= len(coded):
			t.Errorf("not in the code: | %s |", strings.Join(printed[i], " | "))
		case !slices.Equal(printed[i], coded[i]):
			t.Errorf("docs/design.md: | %s |\nthe code:       | %s |",
				strings.Join(printed[i], " | "), strings.Join(coded[i], " | "))
		}
	}
}

// tableOf returns the rows of the table in docs/design.md between the markers of this name, without its header.
func tableOf(t *testing.T, marker string, header ...string) [][]string {
	t.Helper()
	path := filepath.Join("..", "..", "..", "..", "docs", "design.md")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := "<!-- "+marker+" -->\n", "<!-- /"+marker+" -->"
	_, rest, begun := strings.Cut(string(content), begin)
	table, _, ended := strings.Cut(rest, end)
	if !begun || !ended {
		t.Fatalf("%s has no table between %s and %s", path, begin, end)
	}
	var rows [][]string
	for line := range strings.Lines(strings.TrimSpace(table)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		rows = append(rows, cells)
	}
	if len(rows) < 2 || !slices.Equal(rows[0], header) {
		t.Fatalf("the table's head is %q, want %q", rows[:min(1, len(rows))], header)
	}
	return rows[2:]
}

// BenchmarkDecision measures the decision for a settled container.
func BenchmarkDecision(b *testing.B) {
	facts := good()
	b.ReportAllocs()
	for b.Loop() {
		Next(facts)
	}
}
