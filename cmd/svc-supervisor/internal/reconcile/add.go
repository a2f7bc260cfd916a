package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/decide"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/plugin"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/statedir"
)

// adder runs ADD: for a new container, and on a running one.
type adder struct {
	bootID      string // written to new records
	records     recordWriter
	namespaces  Namespaces
	verbs       *verbs
	checks      *checkSchedule
	eventChecks *eventChecks
	connections connectionLog
	memories    *memories
	statuses    *statuses
	host        *hostReport
	failures    failures
	log         *slog.Logger
	logs        func(spec.ServiceType) *slog.Logger // returns the logger of a service type
}

// add creates a container. It writes the record with phase `adding` first, so that a container that a crash leaves half
// created is removed at the next start. Then it creates the namespace, runs ADD and writes the record with phase
// `added`.
func (a *adder) add(ctx context.Context, s *snapshot, m *memory, d decide.Decision) {
	c := s.Claim.Binding.Container
	s.Conf.Type = plugin.CNIType(s.ForAdd.Path)
	record := &statedir.Record{
		Phase:      statedir.Adding,
		BootID:     a.bootID,
		Container:  c,
		Executable: statedir.Executable{Path: s.ForAdd.Path, Version: s.ForAdd.Version.String()},
		Digest:     s.Digest,
		Conf:       s.Conf,
		Previous:   s.lastValid(),
	}
	a.logs(c.ServiceType).Info("create container for port binding", fields(c)...)
	m.retries.broken = ""
	if m.life.downSince.IsZero() {
		m.life.downSince = time.Now()
	}
	if err := a.records.write(record); err != nil {
		a.failures.retry(s, m, decide.Add, err) // the disk of the supervisor failed; the published status stays
		return
	}
	for _, entry := range a.records.Read(s.Name) {
		if entry.ServiceType == c.ServiceType {
			continue
		}
		// A `deleted` record of the service type that the name had before.
		if err := a.records.Remove(s.Name, entry.ServiceType); err != nil {
			a.failures.retry(s, m, decide.Add, err)
			return
		}
	}
	a.statuses.publish(s, m, d, decide.StepBegins, nil)
	a.host.update()

	result, err := a.runAdd(ctx, record, s.ForAdd, true)
	if err == nil {
		now := time.Now()
		record.Phase, record.Result, record.AddedAt = statedir.Added, result.Raw, &now
		m.life.runningSince = now
		record.Previous = lastValidConf(record.Conf, result)
		if err := a.records.write(record); err != nil {
			a.failures.retry(s, m, decide.Add, err)
			return
		}
		m.retries.succeeded(decide.Add)
		a.noteAdded(s.Name, m, result, true, true)
		return
	}
	if ctx.Err() != nil {
		return // the supervisor stops; its next start removes the half-created container
	}
	again := a.failures.retry(s, m, decide.Add, err)
	a.statuses.publish(s, m, d, decide.StepFailed, err)
	if !again {
		m.retries.addFails++
	}
}

// runAdd runs ADD for a record. For a new container it first creates the namespace and subscribes to the kernel events
// that the executable asks for. It returns the parsed result of ADD.
func (a *adder) runAdd(
	ctx context.Context, record *statedir.Record, e plugin.Executable, isNew bool,
) (*spec.Result, error) {
	c := record.Container
	if isNew {
		owner := spec.Owner{Network: spec.Network, Name: c.InterfaceName, ContainerID: c.ContainerID}
		if err := a.namespaces.Make(ctx, owner, e.UserNamespace); err != nil {
			return nil, err
		}
		if e.CheckOn != (spec.Events{}) { // before ADD, so that no event is missed
			a.eventChecks.subscribe(c.InterfaceName, a.namespaces.Path(c.InterfaceName), e.CheckOn)
		}
	}
	stdout, err := a.verbs.run(ctx, spec.Add, e, record)
	if err != nil {
		return nil, err
	}
	result, err := spec.ParseResult(stdout, c.InterfaceName)
	if err != nil {
		return nil, &plugin.NoAnswer{Reason: fmt.Sprintf("ADD of %s %s: %v", e.Path, e.Version, err)}
	}
	return result, nil
}

// noteAdded stores the health that a successful ADD returned, and sets when the next CHECK is due. isNew reports that
// the container was created, edited that its configuration changed.
func (a *adder) noteAdded(name spec.Name, m *memory, result *spec.Result, isNew, edited bool) {
	m.life.settledAt, m.checks.errors, m.retries.addFails, m.retries.notInPlace = time.Time{}, 0, 0, ""
	m.life.added, m.life.createdHere = time.Now(), m.life.createdHere || isNew
	m.checks.good = nil
	if isNew || m.checks.at.IsZero() { // a reconfiguration that a push asks for does not delay CHECK
		m.checks.at = a.checks.next()
	}
	if isNew || edited {
		m.checks.down = downPace{}
	}
	m.requests.fromVerb, m.requests.fromPush = time.Time{}, time.Time{}
	a.memories.mu.Lock()
	defer a.memories.mu.Unlock()
	m.noteHealthLocked(result.Health)
	// A CHECK follows soon, because a connection is down.
	if !m.checks.extraAt.IsZero() && m.checks.extraAt.Before(time.Now().Add(2*firstDownCheck)) {
		a.eventChecks.covered(name)
	}
	// A container that an earlier supervisor added is not logged as new.
	a.connections.answerLocked(name, m, isNew || m.shared.logged != nil)
}

// unknownResult is the result of a container whose record is damaged.
var unknownResult = json.RawMessage(`{"cniVersion":"` + spec.CNIVersion + `"}`)

// reconfigure runs ADD on a running container, which changes it in place. If ADD fails, the container keeps running,
// and the step is retried with back-off. Code 100 means that the change needs DEL and ADD.
func (a *adder) reconfigure(ctx context.Context, s *snapshot, m *memory, d decide.Decision) {
	c := s.Claim.Binding.Container
	s.Conf.Type = plugin.CNIType(s.ForReconfigure.Path)
	record, former := &statedir.Record{Result: unknownResult}, s.Record()
	if former != nil {
		*record = *former
		record.Previous = former.LastValid()
	}
	edited := record.Digest != s.Digest
	record.Phase, record.BootID, record.Container = statedir.Changing, a.bootID, c
	record.Conf, record.Digest = s.Conf, s.Digest
	record.Executable = statedir.Executable{Path: s.ForReconfigure.Path, Version: s.ForReconfigure.Version.String()}
	if s.Record() == nil {
		a.logs(c.ServiceType).Warn("replace a damaged record", "container", s.Name, "error", s.RecordProblem)
	}
	a.logs(c.ServiceType).Debug("update container for port binding", fields(c)...)
	if err := a.records.write(record); err != nil {
		a.failures.retry(s, m, decide.Reconfigure, err)
		return
	}
	result, err := a.runAdd(ctx, record, s.ForReconfigure, false)
	if err == nil {
		record.Phase, record.Result, record.Previous = statedir.Added, result.Raw, lastValidConf(record.Conf, result)
		if record.AddedAt == nil {
			now := time.Now()
			record.AddedAt = &now
		}
		if err := a.records.write(record); err != nil {
			a.failures.retry(s, m, decide.Reconfigure, err)
			return
		}
		m.retries.succeeded(decide.Reconfigure)
		a.noteAdded(s.Name, m, result, false, edited)
		return
	}
	if ctx.Err() != nil {
		return
	}
	a.statuses.publish(s, m, d, decide.StepFailed, err)
	var answer *spec.Error
	if errors.As(err, &answer) && answer.Code == spec.CodeNotInPlace {
		a.log.Info("change cannot be made in place", "container", s.Name, "reason", answer.Msg)
		m.retries.notInPlace = s.Digest
		if !edited && former != nil && former.Phase == statedir.Added {
			a.keepUnchanged(s, m, former)
		}
		return
	}
	a.failures.retry(s, m, decide.Reconfigure, err)
}

// keepUnchanged writes the former record after code 100, if the configuration is unchanged and the plugin itself had
// requested the reconfigure. The container keeps running: it is not removed because of such a request.
func (a *adder) keepUnchanged(s *snapshot, m *memory, former *statedir.Record) {
	if err := a.records.write(former); err != nil {
		a.failures.retry(s, m, decide.Reconfigure, err)
		return
	}
	m.requests.fromVerb, m.requests.fromPush = time.Time{}, time.Time{}
}

// lastValidConf returns the last valid configuration after a successful ADD, or nil if that is the configuration that
// ADD was given.
func lastValidConf(conf *spec.Conf, result *spec.Result) *spec.Conf {
	if result.LastValid == nil {
		return nil
	}
	last := *conf
	last.Configuration = result.LastValid
	return &last
}

// lastValid returns the last valid configuration of a container that is to be created again, or nil if it has none.
func (s *snapshot) lastValid() *spec.Conf {
	if last := s.LastRecord(); last != nil {
		return last.LastValid()
	}
	return nil
}

// rewrite stores a changed group in the record. No verb is needed, because nothing that runs depends on the group.
func (a *adder) rewrite(s *snapshot, m *memory) {
	record := *s.Record()
	record.Container.GroupID = s.Claim.Binding.Container.GroupID
	conf := *record.Conf
	container := record.Container
	conf.Container = &container
	record.Conf = &conf
	if err := a.records.write(&record); err != nil {
		a.failures.retry(s, m, decide.Rewrite, err)
		return
	}
	m.retries.succeeded(decide.Rewrite)
}
