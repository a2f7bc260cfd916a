package reconcile

import (
	"context"
	"errors"
	"path"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/netns"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

// namespaces implements Namespaces.
type namespaces struct{ *instance }

func (namespaces) Path(name spec.Name) string { return "/run/netns/" + string(name) }

func (l namespaces) Observe(name spec.Name) (netns.Namespace, error) {
	l.w.mu.Lock()
	slow := l.w.slow[name]
	l.w.mu.Unlock()
	time.Sleep(slow)
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	if l.w.faults.namespaces != nil {
		return netns.Namespace{Name: name}, l.w.faults.namespaces
	}
	return l.w.namespaceLocked(name), nil
}

func (w *world) namespaceLocked(name spec.Name) netns.Namespace {
	namespace, there := w.namespaces[name]
	state := netns.Foreign
	switch {
	case !there:
		state = netns.Absent
	case namespace.stale:
		state = netns.Stale
	case namespace.owner.Ours(name):
		state = netns.Ours
	}
	return netns.Namespace{Name: name, State: state, Owner: namespace.owner}
}

func (l namespaces) List() ([]netns.Namespace, error) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	var list []netns.Namespace
	for name := range l.w.namespaces {
		list = append(list, l.w.namespaceLocked(name))
	}
	return list, l.w.faults.namespaces
}

func (l namespaces) Make(_ context.Context, owner spec.Owner, userNamespace bool) error {
	if userNamespace {
		l.w.registry.Lock()
		err := l.effect("allocate user id of "+string(owner.Name), func() { l.w.users[owner.Name] = true })
		l.w.registry.Unlock()
		if err != nil {
			return err
		}
	}
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	if namespace, there := l.w.namespaces[owner.Name]; there && !namespace.stale {
		if namespace.owner.Ours(owner.Name) {
			l.w.violationLocked("ADD over the namespace %s", owner.Name)
		}
		return netns.ErrExists
	}
	return l.effectLocked(
		"make namespace "+string(owner.Name),
		func() { l.w.namespaces[owner.Name] = tagged{owner: owner} },
	)
}

func (l namespaces) Remove(_ context.Context, name spec.Name) error {
	l.w.registry.Lock()
	defer l.w.registry.Unlock()
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	switch l.w.namespaceLocked(name).State {
	case netns.Absent:
		return l.releaseLocked(name)
	case netns.Foreign:
		return netns.ErrForeign
	}
	if l.subscriptions[name] != nil {
		l.w.violationLocked("the namespace %s is removed while a subscription keeps it alive", name)
	}
	err := l.effectLocked("remove namespace "+string(name), func() {
		delete(l.w.namespaces, name)
		if l.w.links[name].owner.Ours(name) {
			delete(l.w.links, name) // the peer of the veth was in the namespace
		}
	})
	if err != nil {
		return err
	}
	return l.releaseLocked(name)
}

func (l namespaces) releaseLocked(name spec.Name) error {
	if _, held := l.w.held[name]; held || !l.w.users[name] {
		return nil
	}
	return l.effectLocked("release user id of "+string(name), func() { delete(l.w.users, name) })
}

func (l namespaces) ReleaseUnused(_ context.Context, inUse func(spec.Name) bool) error {
	l.w.registry.Lock()
	defer l.w.registry.Unlock()
	for name := range l.w.users {
		if inUse(name) {
			continue
		}
		if err := l.releaseUnused(name); err != nil {
			return err
		}
	}
	return nil
}

func (l namespaces) releaseUnused(name spec.Name) error {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	if l.w.namespaceLocked(name).State == netns.Ours {
		return nil
	}
	if len(l.w.disk[name]) > 0 {
		l.w.violationLocked("the user id of %s is released, which has a record", name)
	}
	return l.releaseLocked(name)
}

// links implements Links.
type links struct{ *instance }

func (l links) Observe(name spec.Name) (netns.Link, error) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	if l.w.faults.links != nil {
		return netns.Link{Name: name}, l.w.faults.links
	}
	link, there := l.w.links[name]
	switch {
	case !there:
		return netns.Link{Name: name, State: netns.Absent}, nil
	case link.owner.Ours(name):
		moved := l.w.packets[name]
		return netns.Link{Name: name, State: netns.Ours, Owner: link.owner, Sent: moved.In, Received: moved.Out}, nil
	default:
		return netns.Link{Name: name, State: netns.Foreign, Owner: link.owner}, nil
	}
}

func (l links) List() ([]netns.Link, error) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	var list []netns.Link
	for name, link := range l.w.links {
		if link.owner.Ours(name) {
			list = append(list, netns.Link{Name: name, State: netns.Ours, Owner: link.owner})
		}
	}
	return list, l.w.faults.links
}

func (l links) Remove(name spec.Name) error {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	link, there := l.w.links[name]
	switch {
	case !there:
		return nil
	case !link.owner.Ours(name):
		return netns.ErrForeign
	}
	return l.effectLocked("remove link "+string(name), func() { delete(l.w.links, name) })
}

// units implements Units.
type units struct{ *instance }

func (l units) List(_ context.Context, patterns ...string) ([]unit.Unit, error) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	if l.w.faults.systemd != nil {
		return nil, l.w.faults.systemd
	}
	var list []unit.Unit
	for name, p := range l.w.units {
		for _, pattern := range patterns {
			if stem, _, _ := strings.Cut(pattern, "*"); !strings.HasPrefix(name, stem) {
				continue // a cheap test that excludes most names
			}
			if ok, _ := path.Match(pattern, name); ok {
				list = append(list, p.unit)
			}
		}
	}
	return list, nil
}

func (l units) Owner(_ context.Context, name string) (spec.Owner, bool, error) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	if err := errors.Join(l.w.faults.systemd, l.w.faults.owner); err != nil {
		return spec.Owner{}, false, err
	}
	p := l.w.units[name]
	if p == nil || p.owner == (spec.Owner{}) {
		return spec.Owner{}, false, nil
	}
	return p.owner, true, nil
}

func (l units) Show(_ context.Context, name string) (unit.Details, error) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	p := l.w.units[name]
	if p == nil || l.w.faults.systemd != nil {
		return unit.Details{}, l.w.faults.systemd
	}
	return unit.Details{Unit: p.unit, Owner: p.owner, Exit: l.w.exit}, nil
}

func (l units) Restarts(_ context.Context, name string) (int, error) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	return l.w.restarts[name], l.w.faults.systemd
}

func (l units) LastLine(_ context.Context, name string) string {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	return l.w.lines[name]
}

func (l units) ShuttingDown(context.Context) (bool, error) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	return l.w.down, l.w.faults.systemd
}

func (l units) Stop(_ context.Context, name string) error {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	if l.w.faults.systemd != nil {
		return l.w.faults.systemd
	}
	if p := l.w.units[name]; p != nil && p.owner.Network != spec.Network {
		l.w.violationLocked("the foreign unit %s was stopped", name)
	}
	if l.w.unitsStay {
		return nil
	}
	return l.effectLocked("stop "+name, func() { delete(l.w.units, name) })
}
