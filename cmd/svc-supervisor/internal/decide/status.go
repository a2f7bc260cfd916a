package decide

// Moment is the point of a container's work at which its status is decided.
type Moment int

// The moments at which a status may change.
const (
	Observed   Moment = iota // the container was observed; a step may follow
	StepBegins               // the step is about to run its verb
	StepFailed               // the verb of the step failed
	// no container is made for the binding, because its interface name is refused or occurs twice
	Rejected
)

// Failure classifies the error of a verb.
type Failure int

// The zero value stands for a verb that has not failed.
const (
	NoFailure     Failure = iota
	FailedForNow          // the plugin asks for a later call (code 11)
	FailedInPlace         // a reconfigure is impossible in place (code 100), so DEL and ADD follow
	FailedForGood         // the same call would fail again (code 7, or a code that the plugin defines)
	FailedSomehow         // any other error, which may be temporary
)

// StatusFacts is everything that the status of a container depends on.
type StatusFacts struct {
	Facts
	Decision
	Moment        Moment
	Failure       Failure // of the step, at the moment StepFailed
	SameContainer bool    // the recorded container id is the one that is wanted
	UsedElsewhere bool    // a record of another name, or another binding, has the container id
	Reported      bool    // a status was published since the container runs
	Retried       bool    // an earlier ADD or DEL of the container failed
	Ran           bool    // the container ran before, so it is being repaired
	DownTooLong   bool    // it has been wanted without running for as long as a repair may take
	Recreating    bool    // it is held between the DEL and the ADD of a repair
	Unstable      bool    // systemd restarted a daemon of it, or it was repaired twice within ten minutes
	KeepsFailing  bool    // it fails so often that it is published as ERROR
}

// addFollows reports whether ADD follows DEL for the recorded container.
func (f *StatusFacts) addFollows() bool { return f.IsWanted() && f.SameContainer }

// cleaning reports whether the removal of what an ADD has left failed, and is repeated after a back-off.
func (f *StatusFacts) cleaning() bool { return f.Waits == Delete || f.Waits == Clean }

func (f *StatusFacts) addOrDelBegins() bool {
	return f.Moment == StepBegins && (f.Step == Add || f.Step == Delete)
}

// runningIsDue reports whether the container runs and its status is due: it is settled, or no status was published
// since it runs. The latter does not wait until it settles, because that may take long.
func (f *StatusFacts) runningIsDue() bool {
	unpublished := !f.Reported && f.Condition == Running && f.Step != Delete && f.IsWanted()
	return f.Moment == Observed && (unpublished || f.Settled(&f.Facts))
}

func (f *StatusFacts) held() bool { return f.Moment == Observed && f.HeldDown(&f.Facts) }

// Publication is what happens to the published status of a container.
type Publication int

// A publication that names no reason has no message, except RUNNING, which has the message of the container's health.
const (
	Keep Publication = iota
	PublishStarting
	PublishRunning
	PublishUnstable     // RUNNING with the reason of the repeated failures
	PublishChangeFailed // RUNNING with the error of the reconfigure
	PublishError        // ERROR with the reason of the hold, or with the error of the verb
	PublishKeepsFailing // ERROR with the reason of the repeated failures
	PublishStopping
	RemoveStatus
	// LeaveStatus means that another name publishes the status of this container. Only a status that the name has
	// published for a former container is removed.
	LeaveStatus
)

var publicationNames = [...]string{
	"unchanged", "STARTING", "RUNNING", "RUNNING, the failures in the message",
	"RUNNING, `change failed: ` and the error in the message", "ERROR with the reason",
	"ERROR, the failures in the message", "STOPPING", "removed", "that of the other name",
}

func (p Publication) String() string { return publicationNames[p] }

// statusRule is one row of the status table in docs/design.md. A test compares code and document.
type statusRule struct {
	number      int
	when        string
	fits        func(*StatusFacts) bool
	publication Publication
}

// statusRules is the status table. The first rule that fits wins.
var statusRules = []statusRule{
	{
		1, "a binding is rejected whose container id a record or another binding has", func(f *StatusFacts) bool {
			return f.Moment == Rejected && f.UsedElsewhere
		}, Keep,
	},
	{
		2, "a binding is rejected", func(f *StatusFacts) bool { return f.Moment == Rejected }, PublishError,
	},
	{
		3, "a verb answered with code 11, or a reconfigure with code 100", func(f *StatusFacts) bool {
			return f.Moment == StepFailed && (f.Failure == FailedForNow || f.Failure == FailedInPlace)
		}, Keep,
	},
	{
		4, "a reconfigure failed", func(f *StatusFacts) bool {
			return f.Moment == StepFailed && f.Step == Reconfigure
		}, PublishChangeFailed,
	},
	{
		5, "ADD failed: the container ran before and has not run for 60 s; or it never ran, and the code is 7 or one" +
			" that the plugin defines, or ADD failed before",
		func(f *StatusFacts) bool {
			if f.Moment != StepFailed || f.Step != Add {
				return false
			}
			return f.Ran && f.DownTooLong || !f.Ran && (f.Failure == FailedForGood || f.Retried)
		}, PublishError,
	},
	{
		6, "DEL begins: the record is damaged, or the container is not wanted under this name and a record or a" +
			" binding of another name has its id",
		func(f *StatusFacts) bool {
			return f.Moment == StepBegins && f.Step == Delete &&
				(f.Record == Damaged || !f.addFollows() && f.UsedElsewhere)
		}, Keep,
	},
	{
		7, "DEL begins, and the container is not wanted", func(f *StatusFacts) bool {
			return f.Moment == StepBegins && f.Step == Delete && !f.addFollows()
		}, PublishStopping,
	},
	{
		8, "DEL or ADD begins after an ADD or DEL that failed", func(f *StatusFacts) bool {
			return f.addOrDelBegins() && f.Retried
		}, Keep,
	},
	{
		9, "DEL or ADD begins, the container runs, or it is between the DEL and the ADD of a repair; and five" +
			" failures within ten minutes, until it has run for a minute without one",
		func(f *StatusFacts) bool {
			return f.KeepsFailing &&
				(f.addOrDelBegins() || f.runningIsDue() || f.held() && f.Hold == HeldBackOff && f.Recreating)
		}, PublishKeepsFailing,
	},
	{
		10, "DEL or ADD begins, or the container runs; and systemd restarted a daemon of it, or it was repaired" +
			" twice within ten minutes",
		func(f *StatusFacts) bool { return f.Unstable && (f.addOrDelBegins() || f.runningIsDue()) }, PublishUnstable,
	},
	{
		11, "DEL or ADD begins", (*StatusFacts).addOrDelBegins, PublishStarting,
	},
	{
		12, "the container runs as it is wanted, or it runs and RUNNING was not published since its ADD" +
			" or since the start",
		(*StatusFacts).runningIsDue, PublishRunning,
	},
	{
		13, "wanted and held: the plugin path was not read completely, so the plugin may still be found",
		func(f *StatusFacts) bool { return f.held() && f.PluginMayBeFound(&f.Facts) }, Keep,
	},
	{
		14, "wanted and held by a back-off before it ever ran, unless what its ADD has left cannot be removed",
		func(f *StatusFacts) bool { return f.held() && f.Hold == HeldBackOff && !f.Ran && !f.cleaning() }, Keep,
	},
	{
		15, "wanted and held, because its name, port or container id is taken; and another name has the container id",
		func(f *StatusFacts) bool { return f.held() && f.Hold == HeldTaken && f.UsedElsewhere }, LeaveStatus,
	},
	{
		16, "wanted and held: it ran before, or what its ADD has left cannot be removed, for less than 60 s",
		func(f *StatusFacts) bool {
			return f.held() && (f.Ran || f.cleaning()) && !f.DownTooLong
		}, Keep,
	},
	{
		17, "wanted, does not run, and held", (*StatusFacts).held, PublishError,
	},
	{
		18, "neither wanted nor recorded", func(f *StatusFacts) bool {
			return f.Moment == Observed && f.Step == None && f.Wanted == NotWanted && f.Record == NoRecord
		}, RemoveStatus,
	},
	{
		19, "otherwise", func(*StatusFacts) bool { return true }, Keep,
	},
}

// Status decides what happens to the published status of one container. It is a pure function.
func Status(f StatusFacts) Publication {
	for _, r := range statusRules {
		if r.fits(&f) {
			return r.publication
		}
	}
	panic("decide: the last status rule fits everything")
}
