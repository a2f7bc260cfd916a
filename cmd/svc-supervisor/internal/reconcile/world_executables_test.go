package reconcile

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/Masterminds/semver/v3"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/plugin"
	"github.com/svc-supervisor/svc-supervisor/pkg/netns"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/statedir"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

// executables implements Executables: the plugin path and the effects of its files.
type executables struct{ *instance }

func (l executables) Scanned() bool {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	return !l.w.scanning
}

func (l executables) List() ([]plugin.Executable, []plugin.Refusal) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	return slices.Clone(l.w.programs), nil
}

func (l executables) first(fits func(plugin.Executable) bool) (plugin.Executable, bool) {
	programs, _ := l.List()
	if i := slices.IndexFunc(programs, fits); i >= 0 {
		return programs[i], true
	}
	return plugin.Executable{}, false
}

func (l executables) Select(t spec.ServiceType) (plugin.Executable, bool) {
	return l.first(func(e plugin.Executable) bool { return e.Type == t })
}

func (l executables) ForRecorded(t spec.ServiceType, path string) (plugin.Executable, bool) {
	if e, ok := l.first(func(e plugin.Executable) bool { return e.Type == t && e.Path == path }); ok {
		return e, true
	}
	return l.Select(t)
}

func (l executables) ForReconfigure(t spec.ServiceType, version string) (plugin.Executable, bool) {
	made := semver.MustParse(version)
	return l.first(func(e plugin.Executable) bool {
		return e.Type == t && e.Reconfigure && e.Version.Major() == made.Major()
	})
}

// Run runs a verb with the scripted behaviour.
func (l executables) Run(ctx context.Context, call plugin.Call) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, call.Deadline)
	defer cancel()
	var conf spec.Conf
	err := json.Unmarshal(call.Stdin, &conf)
	switch {
	case err == nil && call.Verb == spec.GC && conf.ValidAttachments != nil:
		return nil, l.collect(call, *conf.ValidAttachments)
	case err != nil || conf.Container == nil:
		return nil, &plugin.NoAnswer{Reason: fmt.Sprintf("stdin: %v", err)}
	}
	b, err := l.begin(call, &conf)
	if err != nil {
		return nil, err
	}
	defer l.finish(conf.Container.InterfaceName, call.Verb)
	if call.Blocked != nil && !b.works {
		blocked := time.AfterFunc(plugin.BlockedTime, call.Blocked)
		defer blocked.Stop()
	}

	work := func() ([]byte, error) {
		if !sleepContext(ctx, b.takes) {
			return nil, &plugin.NoAnswer{Reason: "killed"}
		}
		return l.act(call, &conf, b)
	}
	if b.fails != nil && !b.late {
		sleepContext(ctx, b.takes)
		return nil, b.fails
	}
	if b.hangs && !b.late {
		<-ctx.Done()
		return nil, &plugin.NoAnswer{Reason: fmt.Sprintf("deadline of %v", call.Deadline)}
	}
	stdout, err := work()
	switch {
	case err != nil:
		return nil, err
	case b.fails != nil:
		return nil, b.fails
	case b.hangs:
		<-ctx.Done()
		return nil, &plugin.NoAnswer{Reason: fmt.Sprintf("deadline of %v", call.Deadline)}
	case b.prints != "":
		return []byte(b.prints), nil
	}
	return stdout, nil
}

func sleepContext(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// begin records the start of a verb. Two verbs for one name at the same time are a violation.
func (l executables) begin(call plugin.Call, conf *spec.Conf) (behaviour, error) {
	w, name := l.w, conf.Container.InterfaceName
	w.mu.Lock()
	defer w.mu.Unlock()
	if l.dead {
		return behaviour{}, errDead
	}
	if other, busy := w.busy[name]; busy {
		w.violationLocked("%s of %s while %s runs", call.Verb, name, other)
	}
	w.busy[name] = call.Verb
	w.calls = append(
		w.calls,
		verbCall{time.Now(), call.Verb, call.Executable, name, call.ContainerID, string(conf.Configuration)},
	)
	if call.Verb == spec.Add {
		w.lastValid[name] = string(conf.LastValid)
	} else if conf.LastValid != nil {
		w.violationLocked("%s of %s with a last valid configuration", call.Verb, name)
	}
	if conf.Type != path.Base(call.Executable) {
		w.violationLocked("%s of %s with type %q for %s", call.Verb, name, conf.Type, call.Executable)
	}
	key := scriptKey{call.Verb, name}
	b := behaviour{}
	if script := w.script[key]; len(script) > 0 {
		b = script[0]
		if len(script) > 1 {
			w.script[key] = script[1:]
		}
	}
	if b.takes == 0 {
		b.takes = 100 * time.Millisecond
	}
	return b, nil
}

// collect is GC, which removes nothing. No other verb of its type may run, and it must be given every recorded
// container. It takes no time, because the time of a synctest bubble stands still while a verb waits for the lock.
func (l executables) collect(call plugin.Call, valid []spec.Attachment) error {
	w := l.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if l.dead {
		return errDead
	}
	w.calls = append(w.calls, verbCall{at: time.Now(), verb: spec.GC, path: call.Executable, id: call.ContainerID})
	program := slices.IndexFunc(w.programs, func(e plugin.Executable) bool { return e.Path == call.Executable })
	t := w.programs[program].Type
	for name, verb := range w.busy {
		if _, ofType := w.disk[name][t]; ofType {
			w.violationLocked("GC of %s while %s of %s runs", t, verb, name)
		}
	}
	for name := range w.disk {
		for _, entry := range w.readLocked(name) {
			known := entry.Record != nil && (entry.Record.Phase == statedir.Deleted ||
				slices.Contains(valid, spec.Attachment{
					ContainerID: entry.Record.Container.ContainerID, IfName: spec.InterfaceInside,
				}))
			if !known {
				w.violationLocked("GC was not given %s", name)
			}
		}
	}
	return nil
}

func (l executables) finish(name spec.Name, verb spec.Verb) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	if !l.dead && l.w.busy[name] == verb {
		delete(l.w.busy, name)
	}
}

// act performs the side effects of a verb one after the other.
func (l executables) act(call plugin.Call, conf *spec.Conf, b behaviour) ([]byte, error) {
	switch call.Verb {
	case spec.Add:
		return l.add(conf, b)
	case spec.Del:
		return nil, l.del(conf.Container.InterfaceName)
	default:
		return l.check(conf.Container.InterfaceName)
	}
}

func (l executables) add(conf *spec.Conf, b behaviour) ([]byte, error) {
	w, name := l.w, conf.Container.InterfaceName
	owner := spec.Owner{Network: spec.Network, Name: name, ContainerID: conf.Container.ContainerID}
	w.mu.Lock()
	held, again := w.held[name]
	link, linked := w.links[name]
	if !w.namespaces[name].owner.Ours(name) {
		w.violationLocked("ADD of %s without its namespace", name)
	}
	if !again && (linked && link.owner.Ours(name) || w.units[name.Unit()] != nil) {
		w.violationLocked("ADD over resources of %s", name)
	}
	w.mu.Unlock()
	if again && held.id != conf.Container.ContainerID {
		return nil, code(spec.CodeEnvironment)
	}
	effects := []struct {
		name   string
		change func()
	}{
		{
			"ADD " + string(name) + ": its state",
			func() { w.held[name] = holding{conf.Container.ContainerID, string(conf.Configuration)} },
		},
	}
	if !again {
		effects = append(effects, []struct {
			name   string
			change func()
		}{
			{"ADD " + string(name) + ": its link", func() { w.links[name] = tagged{owner: owner} }},
			{"ADD " + string(name) + ": its unit", func() {
				delete(w.restarts, name.Unit())
				if !b.noUnits {
					w.units[name.Unit()] = &process{unit.Unit{
						Name: name.Unit(), LoadState: "loaded", ActiveState: "active", SubState: "running",
					}, owner}
				}
			}},
		}...)
	}
	for _, e := range effects {
		if err := l.effect(e.name, e.change); err != nil {
			return nil, err
		}
	}
	if b.unit != "" {
		time.AfterFunc(time.Second, func() { w.systemd(name.Unit(), b.unit) })
	}
	if b.noUnits {
		return []byte(`{"cniVersion":"1.1.0"}`), nil
	}
	return []byte(`{"cniVersion":"1.1.0","units":["` + name.Unit() + `"]}`), nil
}

func (l executables) del(name spec.Name) error {
	w := l.w
	w.mu.Lock()
	p, link := w.units[name.Unit()], w.links[name]
	_, held := w.held[name]
	foreign := w.namespaceLocked(name).State == netns.Foreign
	w.mu.Unlock()
	if foreign {
		return nil
	}
	if p != nil && p.owner.Ours(name) && !w.unitsStay {
		if err := l.effect("DEL "+string(name)+": its unit", func() { delete(w.units, name.Unit()) }); err != nil {
			return err
		}
	}
	if link.owner.Ours(name) {
		if err := l.effect("DEL "+string(name)+": its link", func() { delete(w.links, name) }); err != nil {
			return err
		}
	}
	if held {
		return l.effect("DEL "+string(name)+": its state", func() { delete(w.held, name) })
	}
	return nil
}

func (l executables) check(name spec.Name) ([]byte, error) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	if _, held := l.w.held[name]; !held {
		return nil, code(spec.CodeUnknownContainer)
	}
	return []byte(`{"code":"RUNNING"}`), nil
}
