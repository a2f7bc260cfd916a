package main

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"

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

// Make makes a namespace. One that is to be owned by a user namespace is owned by the initial one where this host has no user
// namespaces: the container then runs with less isolation, which its health tells.
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

// hasDirectory reports whether some plugin still keeps state of the container, in /run/svc-<type>/<name>.
func hasDirectory(name spec.Name) (bool, error) {
	paths, err := filepath.Glob("/run/svc-*/" + string(name))
	for _, path := range paths {
		if kind := filepath.Base(filepath.Dir(path)); kind != "svc-supervisor" && !strings.HasPrefix(userid.Directory, "/run/"+kind) {
			return true, nil
		}
	}
	return false, err
}
