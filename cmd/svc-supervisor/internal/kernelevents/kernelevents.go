// Package kernelevents reports that the kernel's IPsec state (XFRM) of a network namespace changed: an SA or a policy was
// added, changed or deleted, or reached its hard limit.
//
// A report is a hint. It does not tell what changed, several changes make one report, and a process with CAP_NET_ADMIN in the
// namespace can cause reports at will. Their rate and the work for each of them are bounded.
//
// Each followed namespace has one netlink socket and one goroutine that the runtime's poller wakes, so 1,000 namespaces cost
// 1,000 file descriptors and no threads. Go raises the soft limit of descriptors to the hard one, which systemd sets to 524,288.
//
// A netlink socket keeps its namespace alive: Forget must be called before the namespace is removed.
package kernelevents

import (
	"fmt"
	"sync"

	"github.com/containernetworking/plugins/pkg/ns"
	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Follower has the subscriptions of the followed namespaces, one for each name. Its zero value follows none. It is safe for
// concurrent use, but calls for the same name must come one after the other.
type Follower struct {
	mu            sync.Mutex
	subscriptions map[spec.Name]*subscription
}

// subscription is the socket in one namespace.
type subscription struct {
	socket    *socket
	namespace identity
}

// identity tells namespaces apart for as long as both exist. A followed one exists.
type identity struct{ device, inode uint64 }

// Follow calls changed after each change in the namespace at path, until Forget. While that namespace is followed under this name
// already it does nothing. Another namespace at the same path takes the place of the former one. changed is called from a
// goroutine of its own. One call may still come after Forget has returned.
func (f *Follower) Follow(name spec.Name, path string, changed func()) error {
	if err := f.follow(name, path, changed); err != nil {
		return fmt.Errorf("subscribe to XFRM events of namespace %s: %w", name, err)
	}
	return nil
}

func (f *Follower) follow(name spec.Name, path string, changed func()) error {
	namespace, err := ns.GetNS(path)
	if err != nil {
		return err
	}
	defer namespace.Close()
	var stat unix.Stat_t
	if err := unix.Fstat(int(namespace.Fd()), &stat); err != nil {
		return err
	}
	id := identity{stat.Dev, stat.Ino}
	f.mu.Lock()
	former := f.subscriptions[name]
	f.mu.Unlock()
	if former != nil && former.namespace == id {
		return nil
	}
	f.Forget(name)
	socket, err := openSocket(namespace)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.subscriptions == nil {
		f.subscriptions = map[spec.Name]*subscription{}
	}
	f.subscriptions[name] = &subscription{socket, id}
	go socket.serve(changed)
	return nil
}

// Forget closes the socket in the namespace that is followed under the name, if there is one. When it returns, nothing of this
// process keeps the namespace alive.
func (f *Follower) Forget(name spec.Name) {
	f.mu.Lock()
	s := f.subscriptions[name]
	delete(f.subscriptions, name)
	f.mu.Unlock()
	if s != nil {
		s.socket.close()
	}
}

// Close ends all subscriptions.
func (f *Follower) Close() {
	f.mu.Lock()
	all := f.subscriptions
	f.subscriptions = nil
	f.mu.Unlock()
	for _, s := range all {
		s.socket.close()
	}
}
