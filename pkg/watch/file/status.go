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

// PublishHost writes the host's status.
func (n *NSDB) PublishHost(ctx context.Context, status spec.HostStatus) error {
	if err := n.publish(ctx, native.HostStatusKey(n.host), status); err != nil {
		return fmt.Errorf("publish status of host %s: %w", n.host, err)
	}
	return nil
}

// RemoveHost removes the host's status.
func (n *NSDB) RemoveHost(ctx context.Context) error {
	if err := n.remove(ctx, native.HostStatusKey(n.host)); err != nil {
		return fmt.Errorf("remove status of host %s: %w", n.host, err)
	}
	return nil
}

// PublishContainer writes a container's status.
func (n *NSDB) PublishContainer(ctx context.Context, id spec.ContainerID, status spec.ContainerStatus) error {
	key, err := n.containerKey(id)
	if err == nil {
		err = n.publish(ctx, key, status)
	}
	if err != nil {
		return fmt.Errorf("publish status of container %s: %w", spec.Quote(string(id)), err)
	}
	return nil
}

// RemoveContainer removes a container's status.
func (n *NSDB) RemoveContainer(ctx context.Context, id spec.ContainerID) error {
	key, err := n.containerKey(id)
	if err == nil {
		err = n.remove(ctx, key)
	}
	if err != nil {
		return fmt.Errorf("remove status of container %s: %w", spec.Quote(string(id)), err)
	}
	return nil
}

// remove removes the status of a key. Absent is success.
func (n *NSDB) remove(ctx context.Context, key native.Key) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	n.writing.Lock()
	defer n.writing.Unlock()
	if err := os.Remove(n.statusPath(key)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Published lists the containers that have a status of this host.
func (n *NSDB) Published(ctx context.Context) (ids []spec.ContainerID, err error) {
	entries, err := os.ReadDir(n.folder(native.ContainerStatusesKey(n.host)))
	if err == nil {
		err = ctx.Err()
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list statuses of host %s: %w", n.host, err)
	}
	for _, entry := range entries { // sorted by name, and so by id
		stem, isStatus := strings.CutSuffix(entry.Name(), statusEnding)
		if id, err := spec.ParseID[spec.ContainerID]("containerId", stem); isStatus && err == nil && entry.Type().IsRegular() {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

const statusEnding = ".json"

// folder is where a status key lies: the status directory stands for the key's first part.
func (n *NSDB) folder(key native.Key) string {
	return filepath.Join(n.location.Status, strings.TrimPrefix(string(key), native.Status+"/"))
}

func (n *NSDB) statusPath(key native.Key) string { return n.folder(key) + statusEnding }

func (n *NSDB) containerKey(id spec.ContainerID) (native.Key, error) {
	id, err := spec.ParseID[spec.ContainerID]("containerId", string(id))
	return native.ContainerStatusKey(n.host, id), err
}

// publish replaces a status in one step, if it says something else than what stands there. Nothing is synced: the usual
// directory is in memory, a status says nothing once the machine went down, and one that a power cut left empty differs
// from the next.
func (n *NSDB) publish(ctx context.Context, key native.Key, status any) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var value bytes.Buffer
	encoder := json.NewEncoder(&value)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(status); err != nil {
		return err
	}
	n.writing.Lock()
	defer n.writing.Unlock()
	path := n.statusPath(key)
	if err := os.Remove(besideOf(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if stat, err := os.Lstat(path); err == nil && stat.Mode().IsRegular() { // a pipe would be waited for
		if stands, err := os.ReadFile(path); err == nil && bytes.Equal(stands, value.Bytes()) {
			return nil
		}
	}
	if err := makeFolder(filepath.Dir(path)); err != nil {
		return err
	}
	return replace(path, value.Bytes())
}

// besideOf is the file that becomes the one at path. The name is always the same: a crash leaves one such file at most, and the next
// publish of that status removes it, also if the status has not changed.
func besideOf(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".tmp")
}

// replace writes beside the file, where nothing is, and renames.
func replace(path string, value []byte) error {
	beside := besideOf(path)
	file, err := os.OpenFile(beside, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
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
		err = os.Rename(beside, path)
	}
	if err != nil {
		_ = os.Remove(beside)
	}
	return err
}

// makeFolder makes the folders that are missing, readable for everybody whatever the umask is.
func makeFolder(path string) error {
	switch stat, err := os.Stat(path); {
	case err == nil && stat.IsDir():
		return nil
	case err == nil:
		return fmt.Errorf("%s is not a directory", path)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := makeFolder(filepath.Dir(path)); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return os.Chmod(path, 0o755)
}
