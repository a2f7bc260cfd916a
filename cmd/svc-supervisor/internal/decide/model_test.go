package decide

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// The model is one container with the real function Next. The search tries every event within a budget at every point,
// also between two side effects of one step. The effects of a step are those of the code, in the same order.

type modelPhase int8

const (
	phaseNone modelPhase = iota
	phaseAdding
	phaseAdded
	phaseChanging
	phaseDeleting
	phaseDeleted
	phaseDamaged
)

// How the executable handles a changed configuration.
const (
	reconfigures  int8 = iota
	refusesInCode      // VERSION promises to reconfigure, but ADD answers code 100
	cannot
	executableKinds
)

const (
	unitNone int8 = iota
	unitRuns
	unitFaulty // active, but CHECK returns an error
	unitFailed
)

type modelStatus int8

const (
	statusNone modelStatus = iota
	statusStarting
	statusRunning
	statusError
	statusStopping
)

// statusFault is a status that was published although it is wrong.
type statusFault int8

const (
	noFault statusFault = iota
	stoppingWhileWanted
	errorWhileRunning
	runningWithoutRecord
)

var statusFaults = map[statusFault]string{
	stoppingWhileWanted:  "STOPPING is published for a container that is wanted",
	errorWhileRunning:    "ERROR is published for a container that runs as it is wanted",
	runningWithoutRecord: "RUNNING is published for a container without a record",
}

// what is one version of the container that the binding asks for.
type what struct{ id, config, group int8 }

// model is the complete state of one container. It is a comparable value, because it is the key of the search.
type model struct {
	// NSDB
	bound  bool
	unread bool
	want   what

	// state directory
	phase      modelPhase
	recorded   what
	thisBoot   bool
	unreadable bool // reading the record fails

	// host; namespace is the container id of its owner tag plus one
	namespace int8
	unit      int8
	runs      int8 // the configuration that the unit runs with
	down      bool // the host shuts down

	// memory of the supervisor, which a crash clears
	waiting     [StepCount]bool
	notInPlace  int8 // the configuration for which ADD answered code 100, plus one
	checkFailed bool

	// the published status and whose it is, which a crash of the supervisor does not change
	status   modelStatus
	statusOf int8 // the container id plus one

	// what the status depends on besides the facts; a crash clears it
	ran, reported, delFailed, downLong bool
	addFails                           int8
	fault                              statusFault // a status that must not be published

	executable int8
	unscanned  bool // an executable of another major version was found; the one of this container may still be found

	changes, crashes, fails, deaths int8 // how many of these events may still happen
}

func (m *model) hasRecord() bool { return m.phase != phaseNone && m.phase != phaseDeleted }

// facts returns the facts that observe would find.
func (m *model) facts() Facts {
	f := Facts{
		AnyUnread: m.unread, OtherBoot: m.hasRecord() && m.phase != phaseDamaged && !m.thisBoot, Readable: true,
		Leftover: m.namespace != 0 || m.unit != unitNone, CheckFailed: m.checkFailed,
		CheckDue:   m.unit == unitFaulty && (m.phase == phaseAdded || m.phase == phaseChanging),
		Executable: ExecutableReady, Reconfigures: m.executable != cannot && m.notInPlace != m.want.config+1,
		Slot: true, Waiting: m.waiting, PluginsUnscanned: m.unscanned,
	}
	f.Record = map[modelPhase]RecordState{
		phaseNone: NoRecord, phaseDeleted: NoRecord, phaseDamaged: Damaged, phaseAdding: IsAdding, phaseAdded: IsAdded,
		phaseChanging: IsChanging, phaseDeleting: IsDeleting,
	}[m.phase]
	if m.unreadable && m.phase != phaseNone {
		f.Record, f.OtherBoot, f.CheckDue = RecordUnreadable, false, false
	}
	if m.unscanned && f.Record != NoRecord && f.Record != RecordUnreadable {
		f.Executable, f.Reconfigures = ExecutableUnknown, false
	}
	if m.namespace != 0 {
		f.Namespace = NamespaceOurs
	}
	if f.Runs() {
		f.Units = map[int8]UnitsState{
			unitNone: UnitsGone, unitRuns: UnitsGood, unitFaulty: UnitsGood, unitFailed: UnitsFailed,
		}[m.unit]
	}
	known := m.phase != phaseNone && m.phase != phaseDamaged // the port of the record is known
	switch {
	case m.unread && known:
		f.Wanted = WantedUnread
	case !m.bound || m.unread:
		f.Wanted = NotWanted
	case m.phase == phaseDamaged && m.namespace != 0 && m.namespace != m.want.id+1:
		f.Wanted = WantedOther
	case f.Record == RecordUnreadable || m.phase == phaseDamaged || !m.hasRecord() || m.recorded == m.want:
		f.Wanted = Wanted
	case m.recorded.id != m.want.id:
		f.Wanted = WantedOther
	case m.recorded.config != m.want.config:
		f.Wanted = WantedEdited
	default:
		f.Wanted = WantedGroup
	}
	// The host is asked only about a container whose units are not as they should be.
	f.HostShuttingDown = m.down && f.IsWanted() && f.Units >= UnitsGone
	return f
}

// effects returns the side effects of a successful step, in order. They use the desired state at the start of the step.
func (m *model) effects(step Step) []func(*model) {
	want := m.want
	begins := m.statusFacts(StepBegins, NoFailure)
	switch step {
	case Add:
		return []func(*model){
			func(m *model) { m.phase, m.recorded, m.thisBoot = phaseAdding, want, true; m.publish(begins) },
			func(m *model) { m.namespace = want.id + 1 },
			func(m *model) { m.unit, m.runs = unitRuns, want.config },
			func(m *model) { m.phase, m.notInPlace, m.checkFailed, m.addFails = phaseAdded, 0, false, 0 },
		}
	case Reconfigure:
		if m.executable == refusesInCode {
			return []func(*model){
				func(m *model) { m.phase, m.recorded, m.thisBoot = phaseChanging, want, true },
				func(m *model) { m.notInPlace = want.config + 1 },
			}
		}
		return []func(*model){
			func(m *model) { m.phase, m.recorded, m.thisBoot = phaseChanging, want, true },
			func(m *model) { m.runs = want.config },
			func(m *model) { m.phase, m.notInPlace, m.checkFailed = phaseAdded, 0, false },
		}
	case Rewrite:
		return []func(*model){func(m *model) { m.recorded.group = want.group }}
	case Delete:
		return []func(*model){
			func(m *model) {
				m.publish(begins)
				if m.phase != phaseDamaged {
					m.phase = phaseDeleting
				}
			},
			func(m *model) { m.unit = unitNone },
			func(m *model) { m.namespace = 0 },
			func(m *model) {
				m.checkFailed, m.reported, m.delFailed = false, false, false
				m.ran = m.ran && m.want.id == m.recorded.id
				if m.phase != phaseDamaged && (m.bound || m.unread) {
					m.phase = phaseDeleted
				} else {
					m.phase, m.recorded = phaseNone, what{}
				}
			},
		}
	case Clean:
		return []func(*model){
			func(m *model) { m.unit = unitNone },
			func(m *model) { m.namespace = 0 },
		}
	case RunCheck:
		return []func(*model){func(m *model) { m.checkFailed = true }}
	default: // what tidy removes
		return []func(*model){func(m *model) {
			observed := m.statusFacts(Observed, NoFailure)
			if !m.bound && !m.unread && m.phase == phaseDeleted {
				m.phase, m.recorded = phaseNone, what{}
			}
			if observed.Settled(&observed.Facts) {
				m.ran, m.addFails, m.downLong = true, 0, false
			}
			m.publish(observed)
		}}
	}
}

// failures returns the states after the verb of a step failed, either without any effect or after all its effects.
func (m *model) failures(step Step) []model {
	if step != Add && step != Reconfigure && step != Delete && step != Clean {
		return nil
	}
	effects := m.effects(step)
	verb := map[Step]int{Add: 2, Reconfigure: 1, Delete: 1, Clean: 0}[step]
	var ends []model
	for _, done := range []int{0, verb, verb + 1} { // 0: the record could not be written
		end := *m
		for _, effect := range effects[:done] {
			effect(&end)
		}
		end.waiting[step] = true
		if done > 0 { // otherwise the disk of the supervisor failed, which changes no status
			failed := end.statusFacts(StepFailed, FailedSomehow)
			failed.Step = step
			end.publish(failed)
		}
		if step == Add {
			end.addFails = 1
		}
		end.delFailed = end.delFailed || step == Delete
		ends = append(ends, end)
	}
	return ends
}

// events returns the states after each event that the budget permits.
func (m *model) events() []model {
	var after []model
	add := func(change func(*model)) {
		next := *m
		change(&next)
		after = append(after, next)
	}
	if m.changes > 0 {
		edit := func(change func(*model)) {
			add(func(n *model) {
				change(n)
				n.changes--
				n.waiting, n.notInPlace, n.addFails = [StepCount]bool{}, 0, 0 // a change ends every back-off
			})
		}
		edit(func(n *model) { n.bound = !n.bound })
		edit(func(n *model) { n.unread = !n.unread })
		edit(func(n *model) { n.want.id = 1 - n.want.id })
		edit(func(n *model) { n.want.config = 1 - n.want.config })
		edit(func(n *model) { n.want.group = 1 - n.want.group })
		add(func(n *model) { n.unreadable = !n.unreadable; n.changes-- })
	}
	if m.unscanned {
		add(func(n *model) { n.unscanned = false })
	}
	if m.deaths > 0 && m.unit == unitRuns {
		for _, state := range []int8{unitNone, unitFaulty, unitFailed} {
			add(func(n *model) { n.unit = state; n.deaths-- })
		}
	}
	if m.crashes > 0 {
		add((*model).crash)
		add((*model).reboot)
		if m.unit != unitNone && !m.down {
			add(func(n *model) { n.down, n.unit = true, unitNone })
		}
		if m.hasRecord() {
			add(func(n *model) { n.crash(); n.phase, n.recorded = phaseDamaged, what{} })
		}
	}
	return after
}

func (m *model) crash() {
	m.waiting, m.notInPlace, m.checkFailed = [StepCount]bool{}, 0, false
	m.ran, m.reported, m.delFailed, m.downLong, m.addFails = false, false, false, false, 0
	m.unscanned = true
	m.crashes--
}

func (m *model) reboot() {
	m.crash()
	m.namespace, m.unit, m.runs, m.thisBoot, m.down = 0, unitNone, 0, false, false
}

// successors returns all states that can follow this one: after the step that Next selects, complete, failed, or with
// an event between two effects, and after time has passed. After a crash the remaining effects of the step do not
// happen.
func (m *model) successors() []model {
	all := m.events()
	if m.waiting != [StepCount]bool{} {
		waited := *m
		waited.waiting = [StepCount]bool{}
		waited.downLong = !waited.runsAsWanted()
		all = append(all, waited)
	}
	done := *m
	step := done.observe()
	effects := done.effects(step)
	for i, effect := range effects {
		effect(&done)
		for _, event := range done.events() {
			if event.crashes == done.crashes {
				for _, rest := range effects[i+1:] {
					rest(&event)
				}
			}
			all = append(all, event)
		}
	}
	all = append(all, done)
	if m.fails > 0 {
		observed := *m
		observed.observe()
		for _, failed := range observed.failures(step) {
			failed.fails--
			all = append(all, failed)
		}
	}
	return all
}

// whole reports whether the container that runs is the wanted one, and is not broken.
func (m *model) whole() bool {
	return m.namespace == m.want.id+1 && m.unit == unitRuns && !m.checkFailed && m.thisBoot
}

func (m *model) runsAsWanted() bool {
	return m.bound && !m.unread && m.phase == phaseAdded && m.whole() && m.recorded == m.want
}

// statusFacts returns the facts of the status at a moment of the step that Next selects.
func (m *model) statusFacts(moment Moment, failure Failure) StatusFacts {
	facts := m.facts()
	d := Next(facts)
	recorded := m.hasRecord() && m.phase != phaseDamaged && !m.unreadable
	return StatusFacts{
		Facts: facts, Decision: d, Moment: moment, Failure: failure,
		SameContainer: m.bound && !m.unread && recorded && m.recorded.id == m.want.id,
		Reported:      m.reported, Retried: m.addFails > 0 || d.Step == Delete && m.delFailed, Ran: m.ran,
		DownTooLong: m.downLong,
	}
}

// observe publishes the status after an observation, and returns the step that follows.
func (m *model) observe() Step {
	facts := m.statusFacts(Observed, NoFailure)
	m.ran = m.ran || m.phase == phaseAdded || m.phase == phaseChanging || m.phase == phaseDamaged
	if facts.Step != None { // for None the effects publish it
		m.publish(facts)
	}
	return facts.Step
}

// publish publishes the status that the table selects.
func (m *model) publish(f StatusFacts) {
	id := m.want.id
	if f.Record != NoRecord {
		id = m.recorded.id
	}
	publication := Status(f)
	switch publication {
	case Keep, LeaveStatus:
		return
	case RemoveStatus:
		m.status, m.statusOf = statusNone, 0
		return
	case PublishStarting:
		m.status = statusStarting
	case PublishRunning, PublishChangeFailed, PublishUnstable:
		m.status = statusRunning
		m.reported = m.reported || publication == PublishRunning
	case PublishError, PublishKeepsFailing:
		m.status = statusError
	case PublishStopping:
		m.status = statusStopping
	}
	m.statusOf = id + 1
	switch {
	case publication == PublishStopping && m.bound && !m.unread && m.recorded.id == m.want.id && f.Record != Damaged:
		m.fault = stoppingWhileWanted
	case m.status == statusError && m.runsAsWanted():
		m.fault = errorWhileRunning
	case m.status == statusRunning && !m.hasRecord():
		m.fault = runningWithoutRecord
	}
}

// wrong describes what is wrong with selecting this step in this state, or returns "".
func (m *model) wrong(step Step) string {
	whole := m.whole()
	same := m.bound && !m.unread && m.recorded.id == m.want.id && m.recorded.config == m.want.config
	runs := m.phase == phaseAdded || m.phase == phaseChanging
	switch {
	case m.fault != noFault:
		return statusFaults[m.fault]
	case step == Add && (m.namespace != 0 || m.unit != unitNone || m.hasRecord()):
		return "ADD over leftovers"
	case step == Add && (!m.bound || m.unread):
		return "ADD of a container that may not be wanted"
	case step == Delete && whole && same && m.phase == phaseAdded && m.runs == m.want.config:
		return "DEL of a good container that is wanted unchanged"
	case step == Delete && whole && m.bound && !m.unread && runs && m.recorded.id == m.want.id &&
		m.executable == reconfigures:
		return "DEL of a running container for an edit that can be made in place"
	case step != None && step != RunCheck && m.unread && m.hasRecord():
		return "a step although the binding is unread"
	case step == Clean && m.unread:
		return "a leftover removed while a binding is unread"
	case step == Clean && m.unscanned:
		return "a leftover removed although DEL of some type cannot run yet"
	case step != None && m.unreadable && m.phase != phaseNone:
		return "a step although the record cannot be read"
	case step != None && step != Add && step != Rewrite && m.unscanned:
		return "a verb with an executable of another version"
	case step == Delete && m.down && same && m.phase == phaseAdded && m.thisBoot && m.unit == unitNone:
		return "a container is healed while the host shuts down"
	}
	return ""
}

// settledEnd runs the container without further events: NSDB, record and plugin path are readable, a shutdown ends in a
// boot, back-offs end, verbs succeed. It describes what is wrong with the final state, or returns "".
func (m *model) settledEnd() string {
	const bound = 12
	m.unread, m.unreadable, m.unscanned = false, false, false
	if m.down {
		m.reboot()
		m.unscanned = false
	}
	for range bound {
		m.waiting = [StepCount]bool{}
		step := Next(m.facts()).Step
		if text := m.wrong(step); text != "" {
			return text
		}
		before := *m
		for _, effect := range m.effects(m.observe()) {
			effect(m)
		}
		if step != None || before != *m {
			continue
		}
		switch {
		case !m.bound && (m.phase != phaseNone || m.namespace != 0 || m.unit != unitNone):
			return "resources are left"
		case m.bound && (m.phase != phaseAdded || m.recorded != m.want || !m.thisBoot):
			return "the record differs from the desired state"
		case m.bound && (m.namespace != m.want.id+1 || m.unit != unitRuns || m.runs != m.want.config):
			return "the container differs from the desired state"
		case m.bound && (m.status != statusRunning || m.statusOf != m.want.id+1):
			return "the status of a settled container is not RUNNING"
		case !m.bound && m.status != statusNone:
			return "a status is left"
		}
		return ""
	}
	return fmt.Sprintf("not settled in %d steps", bound)
}

// TestModelReachesTheDesiredState searches all states that one container, its record and its published status can reach
// with three changes in the NSDB, two crashes (including shutdowns, reboots and damaged records), two failing verbs and
// one failing unit.
func TestModelReachesTheDesiredState(t *testing.T) {
	predecessor := map[model]model{} // the predecessor of each state, for the report
	var queue []model
	for executable := range executableKinds {
		start := model{executable: executable, thisBoot: true, changes: 3, crashes: 2, fails: 2, deaths: 1}
		predecessor[start] = start
		queue = append(queue, start)
	}
	faults := map[string]bool{}
	for len(queue) > 0 {
		m := queue[0]
		queue = queue[1:]
		text := m.wrong(Next(m.facts()).Step)
		if text == "" {
			end := m
			text = end.settledEnd()
		}
		if text != "" && !faults[text] { // the first path to a fault is the shortest
			faults[text] = true
			t.Errorf("%s:\n%s", text, pathTo(predecessor, m))
		}
		for _, successor := range m.successors() {
			if _, known := predecessor[successor]; !known {
				predecessor[successor] = m
				queue = append(queue, successor)
			}
		}
	}
	t.Logf("%d states", len(predecessor))
}

// pathTo lists the states on the path to a state.
func pathTo(predecessor map[model]model, m model) string {
	var lines []string
	for {
		lines = append(lines, fmt.Sprintf("\t%+v: %v", m, Next(m.facts()).Step))
		from := predecessor[m]
		if from == m {
			break
		}
		m = from
	}
	slices.Reverse(lines)
	return strings.Join(lines, "\n")
}
