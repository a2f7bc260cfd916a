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

// hostNamespaces are the named network namespaces of this host, with the user ids of the containers.
type hostNamespaces struct {
	netns.Dir
	users *userid.Registry
	log   *slog.Logger
}

func newHostNamespaces(log *slog.Logger) hostNamespaces {
	users := userid.Host(log)
	return hostNamespaces{netns.Directory.WithUsers(users.Owner).WithLog(log), users, log}
}

// Make makes a namespace. If userNamespace is set but the host has no user namespaces, the initial user namespace owns it: the
// container then runs with less isolation, which its health reports.
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

// Remove removes the namespace of that name if it is ours, and then gives the container's user id back.
func (n hostNamespaces) Remove(ctx context.Context, name spec.Name) error {
	if err := n.Dir.Remove(name); err != nil {
		return err
	}
	return n.users.Release(ctx, spec.Owner{Network: spec.Network, Name: name}, func(uint32) (bool, error) { return hasDirectory(name) })
}

// ReleaseUnused gives every user id back whose container has neither a namespace nor a plugin's directory, and for whose
// name inUse reports false.
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

// hasDirectory reports whether some plugin still keeps state of the container, in /run/svc-<type>/<name>.
func hasDirectory(name spec.Name) (bool, error) {
	paths, err := filepath.Glob("/run/svc-*/" + string(name))
	return slices.ContainsFunc(paths, isPluginsDirectory), err
}

// isPluginsDirectory reports whether a path /run/svc-*/<name> is of a plugin, and not of the supervisor or of the registry of user
// ids.
func isPluginsDirectory(path string) bool {
	directory := filepath.Dir(path)
	return directory != "/run/svc-supervisor" && directory != userid.Directory
}

// containerOfUser returns the container of the supervisor that has a user id.
func containerOfUser(users *userid.Registry) health.UserIDs {
	return func(id uint32) (spec.Name, error) {
		owner, found, err := users.Owner(id)
		if err != nil || !found || owner.Network != spec.Network {
			return "", err
		}
		return owner.Name, nil
	}
}
