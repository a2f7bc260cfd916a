package main

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/health"
	"github.com/svc-supervisor/svc-supervisor/pkg/netns"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/userid"
)

// hostNamespaces makes and removes the named network namespaces of this host, together with the user ids of their
// containers.
type hostNamespaces struct {
	netns.Dir
	users *userid.Registry
	log   *slog.Logger
}

func newHostNamespaces(log *slog.Logger) hostNamespaces {
	users := userid.Host(log)
	return hostNamespaces{netns.Directory.WithUsers(users.Owner).WithLog(log), users, log}
}

// Make makes a network namespace. If userNamespace is set, the namespace is owned by a new user namespace with the user
// id of the container. If the host has no user namespaces, it is owned by the initial user namespace: the container
// then runs with less isolation, which its health reports.
func (n hostNamespaces) Make(ctx context.Context, owner spec.Owner, userNamespace bool) error {
	if !userNamespace {
		return n.Dir.Make(owner, 0)
	}
	user, err := n.users.Allocate(ctx, owner)
	if err != nil {
		return err
	}
	err = n.Dir.Make(owner, user)
	if errors.Is(err, netns.ErrNoUserNamespaces) {
		n.log.Warn("network namespace made without a user namespace", "container", owner.Name, "error", err)
		return n.Dir.Make(owner, 0)
	}
	return err
}

// Remove removes the namespace of that name if it has our owner tag, and then releases the user id of the container.
func (n hostNamespaces) Remove(ctx context.Context, name spec.Name) error {
	if err := n.Dir.Remove(name); err != nil {
		return err
	}
	inUse := func(uint32) (bool, error) { return hasDirectory(name) }
	return n.users.Release(ctx, spec.Owner{Network: spec.Network, Name: name}, inUse)
}

// ReleaseUnused releases the user id of every container of the supervisor that has neither a namespace nor a directory
// of a plugin, and for whose name inUse returns false.
func (n hostNamespaces) ReleaseUnused(ctx context.Context, inUse func(spec.Name) bool) error {
	registrations, err := n.users.List()
	errs := []error{err}
	for _, r := range registrations {
		name := r.Owner.Name
		if r.Owner.Network != spec.Network || inUse(name) {
			continue
		}
		errs = append(errs, n.users.Release(ctx, r.Owner, func(uint32) (bool, error) {
			if inUse(name) {
				return true, nil
			}
			namespace, err := n.Observe(name)
			if err != nil || namespace.State == netns.Ours {
				return true, err
			}
			return hasDirectory(name)
		}))
	}
	return errors.Join(errs...)
}

// hasDirectory reports whether a plugin still stores state of the container, in /run/svc-<type>/<name>.
func hasDirectory(name spec.Name) (bool, error) {
	paths, err := filepath.Glob("/run/svc-*/" + string(name))
	return slices.ContainsFunc(paths, isPluginsDirectory), err
}

// isPluginsDirectory reports whether a path /run/svc-*/<name> belongs to a plugin, and not to the supervisor or to the
// registry of user ids.
func isPluginsDirectory(path string) bool {
	directory := filepath.Dir(path)
	return directory != "/run/svc-supervisor" && directory != userid.Directory
}

// containerOfUser returns a function that maps a user id to the container of the supervisor that it was allocated for.
// The function returns "" for all other user ids.
func containerOfUser(users *userid.Registry) health.UserIDs {
	return func(id uint32) (spec.Name, error) {
		owner, found, err := users.Owner(id)
		if err != nil || !found || owner.Network != spec.Network {
			return "", err
		}
		return owner.Name, nil
	}
}
