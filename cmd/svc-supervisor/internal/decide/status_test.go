package decide

import (
	"fmt"
	"testing"
)

// at returns the facts of the status at a moment. change sets what differs from a first attempt.
func at(moment Moment, f Facts, change func(*StatusFacts)) StatusFacts {
	facts := StatusFacts{Facts: f, Decision: Next(f), Moment: moment, SameContainer: f.Wanted >= Wanted}
	if change != nil {
		change(&facts)
	}
	return facts
}

// heldFacts returns the facts of a wanted container that is held because its type has no plugin.
func heldFacts() Facts { return with(fresh(), func(f *Facts) { f.Executable = NoExecutable }) }

func failed(f Facts, failure Failure, change func(*StatusFacts)) StatusFacts {
	facts := at(StepFailed, f, change)
	facts.Failure = failure
	return facts
}

var statusRows = []struct {
	sentence string
	facts    StatusFacts
	rule     int
	want     Publication
}{
	{
		"a rejected binding whose container another name has keeps the status of that one",
		StatusFacts{Moment: Rejected, UsedElsewhere: true}, 1, Keep,
	},
	{"a rejected binding is an error", StatusFacts{Moment: Rejected}, 2, PublishError},

	{"code 11 is no error", failed(fresh(), FailedForNow, nil), 3, Keep},
	{
		"code 11 is no error the tenth time",
		failed(fresh(), FailedForNow, func(f *StatusFacts) { f.Retried = true }), 3, Keep,
	},
	{
		"code 11 is no error however long a repair takes",
		failed(fresh(), FailedForNow, func(f *StatusFacts) { f.Ran, f.DownTooLong = true, true }), 3, Keep,
	},
	{"code 11 of a reconfigure is no failed change", failed(editedFacts(), FailedForNow, nil), 3, Keep},
	{"an edit that is impossible in place is no failed change", failed(editedFacts(), FailedInPlace, nil), 3, Keep},
	{
		"a failed reconfigure is shown, and the container runs",
		failed(editedFacts(), FailedForGood, nil), 4, PublishChangeFailed,
	},
	{"a reconfigure that hangs is shown too", failed(editedFacts(), FailedSomehow, nil), 4, PublishChangeFailed},

	{"a final code of the first ADD is an error at once", failed(fresh(), FailedForGood, nil), 5, PublishError},
	{"another failure of the first ADD is no error yet", failed(fresh(), FailedSomehow, nil), 19, Keep},
	{
		"another failure is an error when ADD fails again",
		failed(fresh(), FailedSomehow, func(f *StatusFacts) { f.Retried = true }), 5, PublishError,
	},
	{
		"a final code is no error while a container is repaired",
		failed(fresh(), FailedForGood, func(f *StatusFacts) { f.Ran = true }), 19, Keep,
	},
	{
		"many failures are no error while a container is repaired",
		failed(fresh(), FailedSomehow, func(f *StatusFacts) { f.Ran, f.Retried = true, true }), 19, Keep,
	},
	{
		"a repair that takes too long is an error",
		failed(fresh(), FailedSomehow, func(f *StatusFacts) { f.Ran, f.DownTooLong = true, true }), 5, PublishError,
	},
	{"a failed DEL changes nothing", failed(unwantedFacts(), FailedForGood, nil), 19, Keep},

	{
		"the DEL of a damaged record changes nothing",
		at(StepBegins, with(fresh(), func(f *Facts) { f.Wanted, f.Record = NotWanted, Damaged }), nil), 6, Keep,
	},
	{
		"the DEL of a container that another name has changes nothing",
		at(StepBegins, unwantedFacts(), func(f *StatusFacts) { f.UsedElsewhere = true }), 6, Keep,
	},
	{"the DEL of a container that is not wanted is STOPPING", at(StepBegins, unwantedFacts(), nil), 7, PublishStopping},
	{
		"the DEL of a container whose name is wanted for another one is STOPPING",
		at(
			StepBegins, with(good(), func(f *Facts) { f.Wanted = WantedOther }),
			func(f *StatusFacts) { f.SameContainer = false },
		),
		7, PublishStopping,
	},
	{
		"the DEL of a container that moves to another port is STARTING",
		at(StepBegins, with(good(), func(f *Facts) { f.Wanted = WantedOther }), nil), 11, PublishStarting,
	},
	{
		"an ADD that is retried changes nothing", at(StepBegins, fresh(), func(f *StatusFacts) { f.Retried = true }),
		8, Keep,
	},
	{
		"a DEL that is retried changes nothing",
		at(StepBegins, brokenFacts(), func(f *StatusFacts) { f.Retried = true }), 8, Keep,
	},
	{
		"five failures are an error while the container is repaired",
		at(StepBegins, brokenFacts(), func(f *StatusFacts) { f.Unstable, f.KeepsFailing = true, true }),
		9, PublishKeepsFailing,
	},
	{
		"five failures are an error while the container runs",
		at(Observed, good(), func(f *StatusFacts) { f.Unstable, f.KeepsFailing = true, true }), 9, PublishKeepsFailing,
	},
	{
		"five failures are an error between DEL and ADD",
		at(Observed, with(fresh(), waiting(Add)), func(f *StatusFacts) {
			f.Ran, f.Unstable, f.KeepsFailing, f.Recreating = true, true, true, true
		}), 9, PublishKeepsFailing,
	},
	{
		"repeated failures are shown while the container is repaired",
		at(StepBegins, brokenFacts(), func(f *StatusFacts) { f.Unstable = true }), 10, PublishUnstable,
	},
	{
		"repeated failures are shown while the container runs",
		at(Observed, good(), func(f *StatusFacts) { f.Unstable, f.Reported = true, true }), 10, PublishUnstable,
	},
	{"the first ADD is STARTING", at(StepBegins, fresh(), nil), 11, PublishStarting},
	{"the repair of a container is STARTING", at(StepBegins, brokenFacts(), nil), 11, PublishStarting},
	{
		"a CHECK begins without a status", at(StepBegins, with(good(), func(f *Facts) { f.CheckDue = true }), nil),
		19, Keep,
	},

	{
		"a settled container is RUNNING, whatever was published",
		at(Observed, good(), func(f *StatusFacts) { f.Reported = true }), 12, PublishRunning,
	},
	{"an adopted container is RUNNING before a reconfigure ends", at(Observed, editedFacts(), nil), 12, PublishRunning},
	{
		"RUNNING is published once before a reconfigure",
		at(Observed, editedFacts(), func(f *StatusFacts) { f.Reported = true }), 19, Keep,
	},
	{"a broken container is not RUNNING", at(Observed, brokenFacts(), nil), 19, Keep},
	{
		"a container that the shutdown stops keeps its status",
		at(Observed, with(good(), func(f *Facts) { f.HostShuttingDown, f.Units = true, UnitsGone }), nil), 19, Keep,
	},
	{
		"a container whose binding is unread keeps its status",
		at(Observed, with(good(), func(f *Facts) { f.Wanted = WantedUnread }), nil), 19, Keep,
	},
	{
		"a plugin that may still be found is no error",
		at(Observed, with(heldFacts(), func(f *Facts) { f.PluginsUnscanned = true }), nil), 13, Keep,
	},
	{"the back-off of a first ADD changes nothing", at(Observed, with(fresh(), waiting(Add)), nil), 14, Keep},
	{
		"a first ADD that cannot be undone is no error within a minute",
		at(Observed, with(fresh(), func(f *Facts) { f.Record = IsAdding }, waiting(Delete)),
			nil), 16, Keep,
	},
	{
		"a first ADD that cannot be undone is an error after a minute",
		at(Observed, with(fresh(), func(f *Facts) { f.Record = IsAdding }, waiting(Delete)),
			func(f *StatusFacts) { f.DownTooLong = true }), 17, PublishError,
	},
	{
		"a leftover that cannot be removed is an error after a minute",
		at(Observed, with(fresh(), func(f *Facts) { f.Leftover = true }, waiting(Clean)),
			func(f *StatusFacts) { f.DownTooLong = true }), 17, PublishError,
	},
	{
		"a container that another name has is left to that name",
		at(Observed, with(fresh(), func(f *Facts) { f.Taken = true }), func(f *StatusFacts) { f.UsedElsewhere = true }),
		15, LeaveStatus,
	},
	{
		"a name that is taken is an error",
		at(Observed, with(fresh(), func(f *Facts) { f.Taken = true }), nil), 17, PublishError,
	},
	{"a held container that never ran is an error at once", at(Observed, heldFacts(), nil), 17, PublishError},
	{
		"a held container that ran is no error within a minute",
		at(Observed, heldFacts(), func(f *StatusFacts) { f.Ran = true }), 16, Keep,
	},
	{
		"a held container that ran is an error after a minute",
		at(Observed, heldFacts(), func(f *StatusFacts) { f.Ran, f.DownTooLong = true, true }), 17, PublishError,
	},
	{
		"a leftover under the name is no error",
		at(Observed, with(fresh(), func(f *Facts) { f.Leftover, f.AnyUnread = true, true }), nil), 19, Keep,
	},
	{
		"a removed container has no status",
		at(Observed, with(fresh(), func(f *Facts) { f.Wanted = NotWanted }), nil), 18, RemoveStatus,
	},
	{
		"the status stays until the leftover of a removed container is gone",
		at(Observed, with(fresh(), func(f *Facts) { f.Wanted, f.Leftover = NotWanted, true }), nil), 19, Keep,
	},
}

func editedFacts() Facts   { return with(good(), func(f *Facts) { f.Wanted = WantedEdited }) }
func unwantedFacts() Facts { return with(good(), func(f *Facts) { f.Wanted = NotWanted }) }
func brokenFacts() Facts   { return with(good(), func(f *Facts) { f.Units = UnitsFailed }) }

func TestStatusRows(t *testing.T) {
	rows := map[int]int{}
	for _, row := range statusRows {
		rows[row.rule]++
		for _, r := range statusRules {
			if !r.fits(&row.facts) {
				continue
			}
			if r.number != row.rule || r.publication != row.want {
				t.Errorf("%s: rule %d, %v; want rule %d, %v", row.sentence, r.number, r.publication, row.rule, row.want)
			}
			break
		}
		if got := Status(row.facts); got != row.want {
			t.Errorf("%s: %v, want %v", row.sentence, got, row.want)
		}
	}
	for _, r := range statusRules {
		if rows[r.number] == 0 {
			t.Errorf("rule %d has no row", r.number)
		}
	}
}

// statusInvariants hold for every combination of facts. They refer to the facts and the publication only.
var statusInvariants = []struct {
	sentence string
	broken   func(f *StatusFacts, p Publication) bool
}{
	{"the status of an unknown container that may be wanted is kept", func(f *StatusFacts, p Publication) bool {
		return f.Moment == Observed && f.Hold.Unknown() && f.Wanted != NotWanted && p != Keep
	}},
	{"STOPPING is published for unwanted containers only", func(f *StatusFacts, p Publication) bool {
		return p == PublishStopping && (f.Step != Delete || f.IsWanted() && f.SameContainer)
	}},
	{"code 11 changes no status", func(f *StatusFacts, p Publication) bool {
		return f.Moment == StepFailed && f.Failure == FailedForNow && p != Keep
	}},
	{"a settled container is RUNNING unless it keeps failing", func(f *StatusFacts, p Publication) bool {
		return f.Moment == Observed && f.Settled(&f.Facts) &&
			p != PublishRunning && p != PublishUnstable && (p != PublishKeepsFailing || !f.KeepsFailing)
	}},
	{"a container that runs is ERROR only if it keeps failing", func(f *StatusFacts, p Publication) bool {
		return f.Moment == Observed && f.Condition == Running && p == PublishError
	}},
	{
		"RUNNING is published for a recorded container only, or while it is repaired",
		func(f *StatusFacts, p Publication) bool {
			return f.Moment == Observed && p == PublishRunning && !f.Runs()
		},
	},
	{"a container that ran is no ERROR within a minute", func(f *StatusFacts, p Publication) bool {
		return f.Moment != Rejected && f.Ran && !f.DownTooLong && p == PublishError
	}},
	{"the status of another name's container is not overwritten", func(f *StatusFacts, p Publication) bool {
		overwrites := f.Moment == Rejected || f.Moment == Observed && f.Hold == HeldTaken && f.HeldDown(&f.Facts) ||
			f.Moment == StepBegins && f.Step == Delete && !f.IsWanted()
		return f.UsedElsewhere && overwrites && p != Keep && p != LeaveStatus
	}},
	{"a status is removed only if nothing is wanted or recorded", func(f *StatusFacts, p Publication) bool {
		return p == RemoveStatus && (f.Wanted != NotWanted || f.Record != NoRecord)
	}},
	{
		"CHECK, rewrite and the removal of a leftover begin and fail without a status",
		func(f *StatusFacts, p Publication) bool {
			return (f.Moment == StepBegins || f.Moment == StepFailed) &&
				(f.Step == RunCheck || f.Step == Rewrite || f.Step == Clean) && p != Keep
		},
	},
}

// TestStatusInvariants tries every combination of the facts that the status table refers to.
func TestStatusInvariants(t *testing.T) {
	broken, total := map[string]StatusFacts{}, 0
	everyStatusFacts(func(f *StatusFacts) {
		total++
		publication := Status(*f)
		for i := range statusInvariants {
			if statusInvariants[i].broken(f, publication) {
				broken[statusInvariants[i].sentence] = *f
			}
		}
	})
	for sentence, f := range broken {
		t.Errorf("broken: %s\n\tby %+v\n\tpublication %v", sentence, f, Status(f))
	}
	t.Logf("%d combinations", total)
}

// everyStatusFacts calls visit for every combination of moment, failure and flags, with the decision of each
// combination of the facts that lead to different steps, holds and conditions.
func everyStatusFacts(visit func(*StatusFacts)) {
	for _, facts := range decisionFacts() {
		f := StatusFacts{Facts: facts, Decision: Next(facts)}
		flags := []*bool{
			&f.SameContainer, &f.UsedElsewhere, &f.Reported, &f.Retried, &f.Ran, &f.DownTooLong, &f.Recreating,
			&f.Unstable, &f.KeepsFailing,
		}
		for f.Moment = Observed; f.Moment <= Rejected; f.Moment++ {
			for f.Failure = NoFailure; f.Failure <= FailedSomehow; f.Failure++ {
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

// decisionFacts returns one combination of facts for each decision and each value of the facts that the status table
// refers to.
func decisionFacts() []Facts {
	type key struct {
		Decision
		Wanted    WantedState
		Record    RecordState
		Unscanned bool
	}
	seen := map[key]bool{}
	var list []Facts
	for _, row := range decisionRows {
		for wanted := WantedUnread; wanted <= WantedOther; wanted++ {
			for record := NoRecord; record <= IsDeleting; record++ {
				for _, all := range []bool{false, true} {
					f := row.facts
					f.Wanted, f.Record = wanted, record
					if all {
						waiting(RunCheck, Rewrite, Delete, Reconfigure, Clean, Add)(&f)
					}
					k := key{Next(f), wanted, record, f.PluginsUnscanned}
					if !seen[k] {
						seen[k] = true
						list = append(list, f)
					}
				}
			}
		}
	}
	return list
}

func TestStatusTableInTheDesignMatchesTheCode(t *testing.T) {
	var coded [][]string
	for _, r := range statusRules {
		coded = append(coded, []string{fmt.Sprint(r.number), r.when, r.publication.String()})
	}
	compareTables(t, tableOf(t, "status", "#", "when", "published"), coded)
}
