package verb

import (
	"context"
	"fmt"
	"os"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/libreswan"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/mountview"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/state"
	"github.com/svc-supervisor/svc-supervisor/pkg/netns"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// isolation returns where the daemon that was started last runs, and with which privileges.
func isolation(s *state.State) libreswan.Isolation {
	if s.View == "" {
		return libreswan.Isolation{}
	}
	return libreswan.Isolation{User: s.UserID, View: s.View, Namespace: s.Attachment.Namespace}
}

// isolator sets the user ID, the mount view and the other isolation of a container's daemon.
type isolator struct {
	users  Users
	root   string // the directory with the containers' directories and the mount views
	self   string // the file of this executable, which starts the daemon
	owner  spec.Owner
	record *record
}

// prepare sets the isolation of a daemon that is about to be started, and saves it. namespace is the path of the
// container's network namespace.
func (i *isolator) prepare(ctx context.Context, namespace string) (isolated libreswan.Isolation, err error) {
	s := i.record.state
	if s.UserID == 0 { // a container of release 0.1.0, whose daemon ran as root
		if err := i.allocateUser(ctx); err != nil {
			return isolated, err
		}
	}
	if s.UserNamespace, err = ownedBy(namespace, s.UserID); err != nil {
		return isolated, err
	}
	// Saved before the daemon exists, so that a CHECK after a killed ADD knows where the daemon runs.
	err = mountview.Ensure(ctx, i.root, i.self, func(view string) error {
		s.View = view
		return i.record.save()
	})
	if err != nil {
		return isolated, err
	}
	return isolation(s), i.record.dir.Share(s.UserID)
}

// allocateUser allocates the user ID of the container, or sets the one that it already has.
func (i *isolator) allocateUser(ctx context.Context) error {
	if err := i.adoptUser(ctx); err != nil {
		return err
	}
	id, err := i.users.Allocate(ctx, i.owner)
	if err != nil {
		return fmt.Errorf("user id of the container: %w", err)
	}
	i.record.state.UserID = id
	return nil
}

// adoptUser registers the user ID that is the group of the container's directory. This matters only if state.json, and
// perhaps the registry, was lost.
func (i *isolator) adoptUser(ctx context.Context) error {
	id, err := i.record.dir.User()
	if err != nil || id == 0 {
		return err
	}
	return i.users.Adopt(ctx, i.owner, id)
}

// ownedBy reports whether the network namespace at path is owned by a user namespace of this user ID.
func ownedBy(path string, user uint32) (bool, error) {
	owner, own, err := ownerOf(path)
	return !own && owner == user, err
}

// ownerOf returns the user ID whose user namespace owns the network namespace at path. own reports that this is the
// user namespace of the calling program.
func ownerOf(path string) (user uint32, own bool, err error) {
	namespace, err := os.Open(path)
	if err != nil {
		return 0, false, err
	}
	defer namespace.Close()
	return netns.UserOf(namespace)
}
