package reconcile

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

var decisionRows = []struct {
	sentence string
	facts    Facts
	want     Decision
}{
	// 1
	{"no step before the desired state was read", with(fresh(), func(f *Facts) { f.Wanted = WantedUnread }), Decision{None, 1, HeldUnread}},
	{"no step for a running container whose binding is unread", with(good(), func(f *Facts) { f.Wanted = WantedUnread }), Decision{None, 1, HeldUnread}},
	{"a due CHECK runs for a running container whose binding is unread", with(good(), func(f *Facts) { f.Wanted, f.CheckDue = WantedUnread, true }), Decision{RunCheck, 1, HeldUnread}},
	{"no CHECK without an executable", with(good(), func(f *Facts) { f.Readable, f.CheckDue, f.Executable = false, true, NoExecutable }), Decision{None, 1, HeldUnread}},
	{"an interrupted ADD is not undone while systemd does not answer", with(good(), func(f *Facts) { f.Record, f.Readable = IsAdding, false }), Decision{None, 1, HeldUnread}},
	{"units and namespaces that could not be read do not count as gone", with(good(), func(f *Facts) { f.Readable, f.Namespace, f.Units = false, NoNamespace, UnitsGone }), Decision{None, 1, HeldUnread}},
	{"no step for a record of a newer version", with(good(), func(f *Facts) { f.Record, f.Wanted, f.CheckDue = Newer, NotWanted, true }), Decision{None, 1, HeldNewer}},
	{"a damaged record stays while a binding is unread, which may be its own", with(good(), func(f *Facts) { f.Record, f.Wanted, f.AnyUnread = Damaged, NotWanted, true }), Decision{None, 1, HeldUnread}},
	// 2
	{"an interrupted ADD is undone", with(good(), func(f *Facts) { f.Record = IsAdding }), Decision{Delete, 2, NotHeld}},
	{"an interrupted DEL is completed although the container is wanted again", with(good(), func(f *Facts) { f.Record = IsDeleting }), Decision{Delete, 2, NotHeld}},
	{"a failed DEL waits for its back-off", with(good(), func(f *Facts) { f.Record = IsDeleting }, waiting(Delete)), Decision{None, 2, HeldBackOff}},
	{"a DEL that no executable serves is held", with(good(), func(f *Facts) { f.Record, f.Executable = IsDeleting, NoExecutable }), Decision{None, 2, HeldNoExecutable}},
	{"DEL does not need a good STATUS", with(good(), func(f *Facts) { f.Record, f.Executable = IsDeleting, ExecutableNotReady }), Decision{Delete, 2, NotHeld}},
	{"the back-off of ADD does not delay undoing it", with(good(), func(f *Facts) { f.Record = IsAdding }, waiting(Add)), Decision{Delete, 2, NotHeld}},
	// 3
	{"a container that is no longer wanted is removed", with(good(), func(f *Facts) { f.Wanted = NotWanted }), Decision{Delete, 3, NotHeld}},
	{"a container that is no longer wanted is removed while another binding is unread", with(good(), func(f *Facts) { f.Wanted, f.AnyUnread = NotWanted, true }), Decision{Delete, 3, NotHeld}},
	{"a damaged record of an unwanted name is removed once every binding was read", with(good(), func(f *Facts) { f.Record, f.Wanted = Damaged, NotWanted }), Decision{Delete, 3, NotHeld}},
	// 4
	{"a container is recreated after a reboot", with(good(), func(f *Facts) { f.OtherBoot, f.Namespace, f.Units = true, NoNamespace, UnitsGone }), Decision{Delete, 4, NotHeld}},
	{"a binding with another container replaces the container", with(good(), func(f *Facts) { f.Wanted = WantedOther }), Decision{Delete, 4, NotHeld}},
	{"a damaged record of another type is removed", with(good(), func(f *Facts) { f.Record, f.Wanted = Damaged, WantedOther }), Decision{Delete, 4, NotHeld}},
	{"a damaged record without a namespace of ours is removed", with(good(), func(f *Facts) { f.Record, f.Namespace = Damaged, NoNamespace }), Decision{Delete, 4, NotHeld}},
	// 5
	{"a container without its namespace is recreated", with(good(), func(f *Facts) { f.Namespace = NoNamespace }), Decision{Delete, 5, NotHeld}},
	{"a container whose namespace is foreign is recreated", with(good(), func(f *Facts) { f.Namespace = NamespaceForeign }), Decision{Delete, 5, NotHeld}},
	{"a container whose unit is gone is recreated", with(good(), func(f *Facts) { f.Units = UnitsGone }), Decision{Delete, 5, NotHeld}},
	{"a container whose unit failed for good is recreated", with(good(), func(f *Facts) { f.Units = UnitsFailed }), Decision{Delete, 5, NotHeld}},
	{"a unit that starts or stops is left to systemd", with(good(), func(f *Facts) { f.Units = UnitsMoving }), Decision{None, 11, NotHeld}},
	{"a container is recreated after two errors of CHECK", with(good(), func(f *Facts) { f.CheckFailed = true }), Decision{Delete, 5, NotHeld}},
	{"errors of CHECK do not lead to DEL while STATUS is bad", with(good(), func(f *Facts) { f.CheckFailed, f.Executable = true, ExecutableNotReady }), Decision{None, 11, NotHeld}},
	{"a broken container is recreated instead of reconfigured", with(good(), func(f *Facts) { f.Record, f.Units = IsChanging, UnitsFailed }), Decision{Delete, 5, NotHeld}},
	// 6
	{"an edit is applied in place", with(good(), func(f *Facts) { f.Wanted = WantedEdited }), Decision{AddAgain, 6, NotHeld}},
	{"an edit that cannot be applied in place leads to DEL", with(good(), func(f *Facts) { f.Wanted, f.Reconfigures = WantedEdited, false }), Decision{Delete, 6, NotHeld}},
	{"an edit that needs DEL waits while STATUS is bad, because the ADD would fail", with(good(), func(f *Facts) { f.Wanted, f.Reconfigures, f.Executable = WantedEdited, false, ExecutableNotReady }), Decision{None, 6, HeldNotReady}},
	{"a due CHECK runs while an edit waits for a good STATUS", with(good(), func(f *Facts) {
		f.Wanted, f.Reconfigures, f.Executable, f.CheckDue = WantedEdited, false, ExecutableNotReady, true
	}), Decision{RunCheck, 6, HeldNotReady}},
	{"an edit waits while there is no executable", with(good(), func(f *Facts) { f.Wanted, f.Reconfigures, f.Executable = WantedEdited, false, NoExecutable }), Decision{None, 6, HeldNoExecutable}},
	{"a failed edit waits for its back-off", with(good(), func(f *Facts) { f.Record = IsChanging }, waiting(AddAgain)), Decision{None, 6, HeldBackOff}},
	{"a due CHECK runs while an edit waits for its back-off", with(good(), func(f *Facts) { f.Record, f.CheckDue = IsChanging, true }, waiting(AddAgain)), Decision{RunCheck, 6, HeldBackOff}},
	{"an interrupted edit is applied again", with(good(), func(f *Facts) { f.Record = IsChanging }), Decision{AddAgain, 6, NotHeld}},
	{"an edit in place does not need a good STATUS", with(good(), func(f *Facts) { f.Wanted, f.Executable = WantedEdited, ExecutableNotReady }), Decision{AddAgain, 6, NotHeld}},
	{"a damaged record is healed in place", with(good(), func(f *Facts) { f.Record = Damaged }), Decision{AddAgain, 6, NotHeld}},
	{"a requested reconfigure is skipped if no executable can reconfigure", with(good(), func(f *Facts) { f.AgainDue, f.Reconfigures = true, false }), Decision{None, 11, NotHeld}},
	{"a reconfigure runs when the executable asked for it", with(good(), func(f *Facts) { f.AgainDue = true }), Decision{AddAgain, 6, NotHeld}},
	{"an edit is applied before a due CHECK", with(good(), func(f *Facts) { f.Wanted, f.CheckDue = WantedEdited, true }), Decision{AddAgain, 6, NotHeld}},
	// 7
	{"a changed group is stored in the record", with(good(), func(f *Facts) { f.Wanted = WantedGroup }), Decision{Rewrite, 7, NotHeld}},
	{"storing a changed group does not need an executable", with(good(), func(f *Facts) { f.Wanted, f.Executable = WantedGroup, NoExecutable }), Decision{Rewrite, 7, NotHeld}},
	// 8
	{"a due CHECK runs", with(good(), func(f *Facts) { f.CheckDue = true }), Decision{RunCheck, 8, NotHeld}},
	{"a due CHECK without an executable is held", with(good(), func(f *Facts) { f.CheckDue, f.Executable = true, NoExecutable }), Decision{None, 8, HeldNoExecutable}},
	// 9
	{"resources with our tag but without a record are removed although the name is wanted", with(fresh(), func(f *Facts) { f.Leftover = true }), Decision{Clean, 9, NotHeld}},
	{"a leftover of an unwanted name is removed", with(fresh(), func(f *Facts) { f.Wanted, f.Leftover = NotWanted, true }), Decision{Clean, 9, NotHeld}},
	{"a leftover stays while a binding is unread", with(fresh(), func(f *Facts) { f.Wanted, f.Leftover, f.AnyUnread = NotWanted, true, true }), Decision{None, 11, NotHeld}},
	{"a leftover that could not be removed waits for the back-off", with(fresh(), func(f *Facts) { f.Leftover = true }, waiting(Clean)), Decision{None, 9, HeldBackOff}},
	// 10
	{"ADD runs for a wanted name without record and resources", fresh(), Decision{Add, 10, NotHeld}},
	{"ADD runs while another binding is unread", with(fresh(), func(f *Facts) { f.AnyUnread = true }), Decision{Add, 10, NotHeld}},
	{"a failed ADD waits for its back-off", with(fresh(), waiting(Add)), Decision{None, 10, HeldBackOff}},
	// 11
	{"no step for a settled container", good(), Decision{None, 11, NotHeld}},
	{"a settled container does not need an executable, a slot or a free name", with(good(), func(f *Facts) { f.Executable, f.Slot, f.Taken = NoExecutable, false, true }), Decision{None, 11, NotHeld}},
	{"no step for an unwanted name without resources", with(fresh(), func(f *Facts) { f.Wanted = NotWanted }), Decision{None, 11, NotHeld}},
	{"no ADD for a taken name", with(fresh(), func(f *Facts) { f.Taken = true }), Decision{None, 11, HeldTaken}},
	{"no ADD while a leftover must stay", with(fresh(), func(f *Facts) { f.Leftover, f.AnyUnread = true, true }), Decision{None, 11, HeldLeftover}},
	{"no ADD without an executable", with(fresh(), func(f *Facts) { f.Executable = NoExecutable }), Decision{None, 11, HeldNoExecutable}},
	{"no ADD while STATUS is bad", with(fresh(), func(f *Facts) { f.Executable = ExecutableNotReady }), Decision{None, 11, HeldNotReady}},
	{"no ADD without a slot", with(fresh(), func(f *Facts) { f.Slot = false }), Decision{None, 11, HeldSlot}},
}

func TestDecisionRows(t *testing.T) {
	rows := map[int]int{}
	for _, row := range decisionRows {
		rows[row.want.Rule]++
		if got := next(row.facts); got != row.want {
			t.Errorf("%s: got %v, rule %d, hold %d; want %v, rule %d, hold %d", row.sentence,
				got.Step, got.Rule, got.Hold, row.want.Step, row.want.Rule, row.want.Hold)
		}
	}
	for _, r := range rules {
		if rows[r.number] == 0 {
			t.Errorf("rule %d has no row", r.number)
		}
	}
}

// invariants hold for every combination of facts. They refer to facts and decision only, not to the rules.
var invariants = []struct {
	sentence string
	broken   func(f *Facts, d Decision) bool
}{
	{"only CHECK runs while the state is unknown, and the hold is the reason", func(f *Facts, d Decision) bool {
		unread := f.Wanted == WantedUnread || !f.Readable || f.Record == Newer
		return unread &&
			(d.Step != None && d.Step != RunCheck || d.Hold != HeldUnread && d.Hold != HeldNewer && d.Hold != HeldBackOff)
	}},
	{"a damaged record of an unwanted name stays while a binding is unread", func(f *Facts, d Decision) bool {
		return f.Record == Damaged && f.Wanted == NotWanted && f.AnyUnread && d.Step != None
	}},
	{"no verb runs for a record of a newer version", func(f *Facts, d Decision) bool {
		return f.Record == Newer && d.Step != None
	}},
	{"ADD never runs over a record, a leftover or a taken name", func(f *Facts, d Decision) bool {
		return d.Step == Add && (f.Record != NoRecord || f.Leftover || f.Taken)
	}},
	{"ADD runs only for a wanted name with a slot and an executable whose STATUS is good", func(f *Facts, d Decision) bool {
		return d.Step == Add && (f.Wanted <= NotWanted || !f.Slot || f.Executable != ExecutableReady)
	}},
	{"a leftover is removed only without a record and after every binding was read", func(f *Facts, d Decision) bool {
		return d.Step == Clean && (f.Record != NoRecord || f.AnyUnread || !f.Leftover)
	}},
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
		broken := f.Namespace != NamespaceOurs || f.Units >= UnitsGone || f.CheckFailed && f.Executable != ExecutableNotReady
		return running && broken && d.Step != Delete && d.Hold == NotHeld
	}},
	{"errors of CHECK never remove a container whose daemon runs while STATUS is bad", func(f *Facts, d Decision) bool {
		alive := f.Namespace == NamespaceOurs && f.Units < UnitsGone
		return alive && f.Executable == ExecutableNotReady && d.Rule == ruleBroken
	}},
	{"a step whose back-off runs is never taken", func(f *Facts, d Decision) bool {
		return d.Step != None && f.Waiting[d.Step]
	}},
	{"HeldBackOff occurs only while a back-off runs", func(f *Facts, d Decision) bool {
		return d.Hold == HeldBackOff && f.Waiting == [stepCount]bool{}
	}},
	{"CHECK, DEL and reconfigure never run without an executable", func(f *Facts, d Decision) bool {
		return (d.Step == RunCheck || d.Step == Delete || d.Step == AddAgain) && f.Executable == NoExecutable
	}},
	{"CHECK runs only for a running container whose CHECK is due", func(f *Facts, d Decision) bool {
		return d.Step == RunCheck && (!f.CheckDue || f.Record != IsAdded && f.Record != IsChanging)
	}},
	{"a reconfigure needs an executable that can do it, a record of this boot and our namespace", func(f *Facts, d Decision) bool {
		ofOtherBoot := f.OtherBoot && f.Record != Damaged
		return d.Step == AddAgain &&
			(!f.Reconfigures || ofOtherBoot || f.Namespace != NamespaceOurs || f.Wanted == WantedOther)
	}},
	{"a reconfigure has a reason", func(f *Facts, d Decision) bool {
		return d.Step == AddAgain && f.Record == IsAdded && f.Wanted != WantedEdited && !f.AgainDue
	}},
	{"the record is rewritten only for the group of a running container", func(f *Facts, d Decision) bool {
		return d.Step == Rewrite && (f.Record != IsAdded || f.Wanted != WantedGroup)
	}},
	{"a wanted container that does not run leads to a step or to a hold", func(f *Facts, d Decision) bool {
		runs := f.Record == IsAdded || f.Record == IsChanging
		return (f.Wanted >= Wanted || f.Wanted == WantedUnread) && !runs && d.Step == None && d.Hold == NotHeld
	}},
	{"a container that differs from the desired state leads to a step or to a hold", func(f *Facts, d Decision) bool {
		return (f.Wanted == WantedOther || f.Wanted == WantedEdited || f.Wanted == WantedGroup) && f.Record != NoRecord &&
			d.Step == None && d.Hold == NotHeld
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
		t.Errorf("broken: %s\n\tby %+v\n\tdecision %+v", sentence, facts, next(facts))
	}
	t.Logf("%d combinations", total)
}

func checkAllFacts(wanted WantedState) (count int, broken map[string]Facts) {
	broken = map[string]Facts{}
	try := func(f *Facts) Decision {
		d := next(*f)
		count++
		for i := range invariants {
			if invariants[i].broken(f, d) {
				broken[invariants[i].sentence] = *f
			}
		}
		return d
	}
	everyFacts(wanted, func(f *Facts) {
		f.Waiting = [stepCount]bool{}
		free := try(f)
		f.Waiting = [stepCount]bool{true, true, true, true, true, true, true}
		try(f)
		if free.Step == None {
			return
		}
		f.Waiting[free.Step] = false
		if try(f) != free {
			broken["a step is held by its own back-off alone"] = *f
		}
		f.Waiting = [stepCount]bool{}
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
		&f.AnyUnread, &f.OtherBoot, &f.Readable, &f.Leftover, &f.CheckFailed, &f.CheckDue, &f.AgainDue, &f.Reconfigures,
		&f.Taken, &f.Slot,
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
	printed := tableOf(t, filepath.Join("..", "..", "..", "..", "docs", "design.md"))
	var coded [][]string
	for _, r := range rules {
		coded = append(coded, []string{fmt.Sprint(r.number), r.when, r.step})
	}
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

// tableOf returns the rows of the table between the markers, without its header.
func tableOf(t *testing.T, path string) [][]string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, begun := strings.Cut(string(content), "<!-- decision -->\n")
	table, _, ended := strings.Cut(rest, "<!-- /decision -->")
	if !begun || !ended {
		t.Fatalf("%s has no table between <!-- decision --> and <!-- /decision -->", path)
	}
	var rows [][]string
	for line := range strings.Lines(strings.TrimSpace(table)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		rows = append(rows, cells)
	}
	if len(rows) < 2 || !slices.Equal(rows[0], []string{"#", "when", "step"}) {
		t.Fatalf("the table's head is %q, want # | when | step", rows[:min(1, len(rows))])
	}
	return rows[2:]
}
