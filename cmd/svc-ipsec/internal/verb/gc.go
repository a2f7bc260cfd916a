package verb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/containernetworking/cni/pkg/skel"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/cni"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/mountview"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/state"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// gcLockWait is short, because a container that another verb has locked is in use.
const gcLockWait = 100 * time.Millisecond

// GC removes the containers of a network that are not among the valid attachments. Then it removes mount views, and
// releases user IDs of the network, that no container uses any more. Without the key of valid attachments it removes
// nothing: libcni omits the key if it was given no list, which does not mean that no container is valid.
func (e *Executable) GC(args *skel.CmdArgs) error {
	ctx, cancel := e.budget(gcLimit)
	defer cancel()
	var conf spec.Conf
	if err := json.Unmarshal(args.StdinData, &conf); err != nil {
		return cni.Fail(spec.CodeDecode, "gc: network configuration does not fit")
	}
	if conf.ValidAttachments == nil {
		return nil
	}
	names, err := state.List(e.Root)
	if err != nil {
		return err
	}
	var faults []error
	for _, name := range names {
		if err := e.collect(ctx, name, conf.Name, *conf.ValidAttachments); err != nil {
			faults = append(faults, fmt.Errorf("gc %s: %w", name, err))
		}
	}
	used := func() (map[string]bool, error) { return usedViews(e.Root) }
	if err := mountview.RemoveUnused(ctx, e.Root, e.Self, used); err != nil {
		faults = append(faults, fmt.Errorf("gc: %w", err))
	}
	if err := releaseUnused(ctx, e.Users, e.Root, conf.Name); err != nil {
		faults = append(faults, fmt.Errorf("gc: %w", err))
	}
	return joinErrors(faults)
}

// usedViews returns the mount views that the containers of all networks use. It returns an error if the state of any
// container cannot be read, because then its view is unknown.
func usedViews(root string) (map[string]bool, error) {
	names, err := state.List(root)
	if err != nil {
		return nil, err
	}
	used := map[string]bool{}
	for _, name := range names {
		s, err := state.Read(root, name)
		if err != nil {
			return nil, err
		}
		if s != nil {
			used[s.View] = true
		}
	}
	return used, nil
}

// releaseUnused releases the user IDs of a network whose containers do not exist any more. Such an ID remains if a DEL
// is killed between the removal of the directory and the release. The supervisor releases the IDs of its own network
// itself, because it also knows which namespaces it created.
func releaseUnused(ctx context.Context, users Users, root, network string) error {
	if network == spec.Network {
		return nil
	}
	registrations, err := users.List()
	faults := []error{err}
	for _, r := range registrations {
		if r.Owner.Network != network {
			continue
		}
		faults = append(faults, users.Release(ctx, r.Owner, func(id uint32) (bool, error) {
			// ADD creates the directory before it allocates the user ID.
			if _, err := os.Lstat(filepath.Join(root, string(r.Owner.Name))); !errors.Is(err, fs.ErrNotExist) {
				return true, err
			}
			return ownsAnyNamespace(id)
		}))
	}
	return joinErrors(faults)
}

// ownsAnyNamespace reports whether the user ID owns a network namespace that has a name or a process.
func ownsAnyNamespace(id uint32) (bool, error) {
	for _, pattern := range []string{"/run/netns/*", "/proc/[0-9]*/ns/net"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			return true, err
		}
		if owned, err := ownsNamespace(id, paths...); owned || err != nil {
			return owned, err
		}
	}
	return false, nil
}

// collect removes a container of the network that is not among the valid attachments.
func (e *Executable) collect(ctx context.Context, name spec.Name, network string, valid []spec.Attachment) error {
	dir, err := state.Find(ctx, e.Root, name, gcLockWait)
	if err != nil {
		return nil // removed, or locked by another verb
	}
	defer dir.Close()
	recorded, err := dir.Load()
	if recorded == nil || recorded.Attachment.Network != network {
		if err != nil {
			e.Log.Warn("state unreadable, container not removed", slog.String("container", string(name)),
				slog.Any("error", err))
		}
		return nil // not known to belong to this network
	}
	a := &recorded.Attachment
	if slices.Contains(valid, spec.Attachment{ContainerID: a.ContainerID, IfName: a.Interface}) {
		return nil
	}
	e.Log.Info("removing a container that is no longer attached",
		slog.String("container", string(name)), slog.String("id", string(a.ContainerID)))
	return e.removal(a.Owner(name), dir, a).run(ctx)
}
