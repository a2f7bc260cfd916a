package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/internal/atomicfile"
	"github.com/svc-supervisor/svc-supervisor/internal/jsonform"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

// EncodeHost returns the content of the file of a host's status.
func (n *NSDB) EncodeHost(status spec.HostStatus) ([]byte, error) { return encode(status) }

// EncodeContainer returns the content of the file of a container's status.
func (n *NSDB) EncodeContainer(status spec.ContainerStatus) ([]byte, error) { return encode(status) }

func encode(status any) ([]byte, error) {
	value, err := jsonform.MarshalIndent(status)
	return append(value, '\n'), err
}

// PutStatus replaces the file of a status if its content differs. The id "" stands for the host.
func (n *NSDB) PutStatus(ctx context.Context, id spec.ContainerID, value []byte) error {
	key, err := native.StatusKey(n.host, id)
	if err == nil {
		err = n.writeStatus(ctx, key, value)
	}
	return native.StatusError("publish", n.host, id, err)
}

// DeleteStatus removes the file of a status. It succeeds if the status does not exist. The id "" means the host.
func (n *NSDB) DeleteStatus(ctx context.Context, id spec.ContainerID) error {
	key, err := native.StatusKey(n.host, id)
	if err == nil {
		err = n.remove(ctx, key)
	}
	return native.StatusError("remove", n.host, id, err)
}

// remove removes the status of a key. It succeeds if there is no status.
func (n *NSDB) remove(ctx context.Context, key native.Key) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	n.statusMu.Lock()
	defer n.statusMu.Unlock()
	if err := os.Remove(n.statusPath(key)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// ListStatuses lists the containers that have a status of this host. The values are nil, because files do not expire.
func (n *NSDB) ListStatuses(ctx context.Context) (map[spec.ContainerID][]byte, error) {
	entries, err := os.ReadDir(n.keyPath(native.ContainerStatusesKey(n.host)))
	if err == nil {
		err = ctx.Err()
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list statuses of host %s: %w", n.host, err)
	}
	listed := map[spec.ContainerID][]byte{}
	for _, entry := range entries {
		name, isStatus := strings.CutSuffix(entry.Name(), statusExtension)
		id, err := spec.ParseID[spec.ContainerID]("containerId", name)
		if isStatus && err == nil && entry.Type().IsRegular() {
			listed[id] = nil
		}
	}
	return listed, nil
}

// SessionChanged returns a channel that never receives a value, because a directory has no sessions.
func (n *NSDB) SessionChanged() <-chan struct{} { return nil }

const statusExtension = ".json"

// keyPath returns the path of a status key without the extension. The status directory replaces the first part of the
// key.
func (n *NSDB) keyPath(key native.Key) string {
	return filepath.Join(n.location.Status, strings.TrimPrefix(string(key), native.Status+"/"))
}

func (n *NSDB) statusPath(key native.Key) string { return n.keyPath(key) + statusExtension }

// writeStatus replaces the file of a status in one step if its content differs. It does not sync the file: the default
// directory is in memory, a status is meaningless after the machine went down, and a file that a power failure left
// empty differs from the next status, so writeStatus replaces it.
func (n *NSDB) writeStatus(ctx context.Context, key native.Key, value []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	n.statusMu.Lock()
	defer n.statusMu.Unlock()
	path := n.statusPath(key)
	// A crash leaves at most this file for each status. It is removed even if the status has not changed.
	temporary := "." + filepath.Base(path) + ".tmp"
	err := os.Remove(filepath.Join(filepath.Dir(path), temporary))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if stat, err := os.Lstat(path); err == nil && stat.Mode().IsRegular() { // reading a pipe would block
		if published, err := os.ReadFile(path); err == nil && bytes.Equal(published, value) {
			return nil
		}
	}
	if err := mkdirAll(filepath.Dir(path)); err != nil {
		return err
	}
	return atomicfile.Write(path, value, atomicfile.Options{Temporary: temporary, Mode: 0o644})
}

// mkdirAll creates a directory and its missing parents with mode 0755, regardless of the umask. Unlike nsdbDir.mkdirAll
// it follows every link, because the path of the status directory is configured and the NSDB does not influence it.
func mkdirAll(path string) error {
	switch stat, err := os.Stat(path); {
	case err == nil && stat.IsDir():
		return nil
	case err == nil:
		return fmt.Errorf("%s is not a directory", path)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := mkdirAll(filepath.Dir(path)); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return os.Chmod(path, 0o755)
}
