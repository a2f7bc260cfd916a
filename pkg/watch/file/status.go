package file

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

// EncodeHost returns the content of the file of a host's status.
func (n *NSDB) EncodeHost(status spec.HostStatus) ([]byte, error) { return encode(status) }

// EncodeContainer returns the content of the file of a container's status.
func (n *NSDB) EncodeContainer(status spec.ContainerStatus) ([]byte, error) { return encode(status) }

func encode(status any) ([]byte, error) {
	var value bytes.Buffer
	encoder := json.NewEncoder(&value)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(status)
	return value.Bytes(), err
}

// PutStatus replaces the file of a status if its content differs. The id "" stands for the host.
func (n *NSDB) PutStatus(ctx context.Context, id spec.ContainerID, value []byte) error {
	key, err := native.StatusKey(n.host, id)
	if err == nil {
		err = n.writeStatus(ctx, key, value)
	}
	return native.StatusError("publish", n.host, id, err)
}

// DeleteStatus removes the file of a status. It succeeds if there is none. The id "" stands for the host.
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
	if err := os.Remove(temporaryPath(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
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
	return replace(path, value)
}

// temporaryPath is the file that replace writes before it renames it to path. The name is always the same, so a crash
// leaves at most one such file for each status. The next write of the status removes it, even if the status has not
// changed.
func temporaryPath(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".tmp")
}

// replace writes a temporary file, which must not exist, and renames it to path.
func replace(path string, value []byte) error {
	temporary := temporaryPath(path)
	file, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(value)
	if err == nil {
		err = file.Chmod(0o644)
	}
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		_ = os.Remove(temporary)
	}
	return err
}

// mkdirAll creates a directory and its missing parents with mode 0755, regardless of the umask.
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
