// Package kernelevents reports that the network of a container changed: the kernel's IPsec state (XFRM) in its network
// namespace; the links, addresses, routes, forwarding settings and nftables rules there; or the host's end of its veth.
//
// A report is a hint. It does not contain what changed, several changes cause one report, and a process with
// CAP_NET_ADMIN in the namespace can cause any number of reports. Their rate and the work for each of them are bounded.
//
// Each followed namespace has up to three netlink sockets, each with one goroutine that waits in the runtime's poller.
// So 1,000 namespaces need 3,000 file descriptors and no threads. Go raises the soft limit of descriptors to the hard
// limit, which systemd sets to 524,288. One more socket follows the links of the host.
//
// A netlink socket keeps its namespace alive: Unsubscribe must be called before the namespace is removed.
package kernelevents

import (
	"fmt"
	"sync"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Subscriber subscribes to the events of namespaces, with one subscription for each name. Its zero value is ready for
// use. It is safe for concurrent use, but calls for the same name must not be concurrent.
type Subscriber struct {
	mu            sync.Mutex
	subscriptions map[spec.Name]*subscription
	host          *socket   // follows the links of the host; nil until a container needs it
	lost          time.Time // when messages about links of the host were last lost
}

// subscription has the sockets in one namespace.
type subscription struct {
	sockets   []*socket
	namespace identity
	events    spec.Events
	changed   func()
}

// identity identifies a namespace while it exists. The sockets keep a followed namespace alive, so no other one can get
// its identity.
type identity struct{ device, inode uint64 }

// Subscribe calls changed after each change of the given kinds in the namespace at path, until Unsubscribe is called.
// The kind spec.Events.Network includes changes of the host's interface of that name. If the namespace is already
// followed under this name for the same kinds, Subscribe does nothing. If there is another namespace at path, Subscribe
// replaces the former subscription. changed is called from another goroutine, once possibly even after Unsubscribe has
// returned.
//
// fresh reports whether the subscription is new. Changes before a new subscription were not reported.
func (f *Subscriber) Subscribe(name spec.Name, path string, events spec.Events,
	changed func(),
) (fresh bool, err error) {
	fresh, err = f.follow(name, path, events, changed)
	if err != nil {
		return false, fmt.Errorf("subscribe to kernel events of container %s: %w", name, err)
	}
	return fresh, nil
}

func (f *Subscriber) follow(name spec.Name, path string, events spec.Events, changed func()) (fresh bool, err error) {
	namespace, err := ns.GetNS(path)
	if err != nil {
		return false, err
	}
	defer namespace.Close()
	var stat unix.Stat_t
	if err := unix.Fstat(int(namespace.Fd()), &stat); err != nil {
		return false, err
	}
	id := identity{stat.Dev, stat.Ino}
	f.mu.Lock()
	former := f.subscriptions[name]
	f.mu.Unlock()
	if former != nil && former.namespace == id && former.events == events {
		return false, nil
	}
	f.Unsubscribe(name)
	protocols := protocolsOf(events)
	sockets, err := openSockets(namespace, protocols)
	if err != nil {
		return false, err
	}
	if events.Network {
		if err := f.followHost(); err != nil {
			closeAll(sockets)
			return false, err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.subscriptions == nil {
		f.subscriptions = map[spec.Name]*subscription{}
	}
	f.subscriptions[name] = &subscription{sockets, id, events, changed}
	for i, s := range sockets {
		if s != nil {
			go s.serve(protocols[i].isChange, func(bool) { changed() })
		}
	}
	return true, nil
}

// followHost subscribes to the links of the host, unless that has been done.
func (f *Subscriber) followHost() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.host != nil {
		return nil
	}
	socket, err := openSocket(hostLinks)
	if err != nil {
		return fmt.Errorf("links of the host: %w", err)
	}
	f.host = socket
	names := map[spec.Name]bool{} // names of changed links; only the goroutine uses it
	isChange := func(message []byte) bool {
		name, ok := changedLink(message)
		if ok {
			names[name] = true
		}
		return ok
	}
	go socket.serve(isChange, func(lost bool) {
		f.hostChanged(names, lost)
		clear(names)
	})
	return nil
}

// hostChanged calls changed for the containers whose host interfaces have these names. lost means that messages about
// further links were lost; hostChanged stores the time of that.
func (f *Subscriber) hostChanged(names map[spec.Name]bool, lost bool) {
	var callbacks []func()
	f.mu.Lock()
	if lost {
		f.lost = time.Now()
	}
	for name := range names {
		if s := f.subscriptions[name]; s != nil && s.events.Network {
			callbacks = append(callbacks, s.changed)
		}
	}
	f.mu.Unlock()
	for _, changed := range callbacks {
		changed()
	}
}

// LostAt returns the time when messages about links of the host were last lost. Any container may be affected. The loss
// is not reported to the containers, because each report costs a CHECK, and programs on the host and in a container's
// namespace can cause more changes than are read.
func (f *Subscriber) LostAt() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lost
}

// Unsubscribe closes the sockets in the namespace that is followed under the name, if there is one. After it has
// returned, no socket of this process keeps the namespace alive.
func (f *Subscriber) Unsubscribe(name spec.Name) {
	f.mu.Lock()
	s := f.subscriptions[name]
	delete(f.subscriptions, name)
	f.mu.Unlock()
	if s != nil {
		closeAll(s.sockets)
	}
}

// Close ends all subscriptions.
func (f *Subscriber) Close() {
	f.mu.Lock()
	all, host := f.subscriptions, f.host
	f.subscriptions, f.host = nil, nil
	f.mu.Unlock()
	for _, s := range all {
		closeAll(s.sockets)
	}
	if host != nil {
		host.close()
	}
}
