package container

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// attachmentVersion is the format of attachment.json; a newer one is refused by name.
const attachmentVersion = 1

// Attachment says whose the container is and what ADD was given for it.
type Attachment struct {
	Version     int              `json:"version"`
	Network     string           `json:"network"`
	ContainerID spec.ContainerID `json:"containerId"`
	Interface   string           `json:"interface"`
	Namespace   string           `json:"namespace"` // the path that lasts: the runtime's, or the pin
	Inode       uint64           `json:"inode"`     // of the namespace, by which it is known again
	Chained     bool             `json:"chained,omitempty"`
	Bridge      string           `json:"bridge,omitempty"` // that the host's side was put into
	Guard       string           `json:"guard,omitempty"`  // which kind keeps packets from leaving in clear
	GuardReason string           `json:"guardReason,omitempty"`
	// UserID is the user and group id that the daemon runs as; 0 if version 0.1.0 made the container.
	UserID uint32 `json:"userId,omitempty"`
	View   string `json:"view,omitempty"` // mount view of the daemon that was started last
}

// Owner is the owner tag of the container's parts.
func (a *Attachment) Owner(name spec.Name) spec.Owner {
	return spec.Owner{Network: a.Network, Name: name, ContainerID: a.ContainerID}
}

const (
	attachmentFile = "attachment.json"
	confFile       = "conf.json"
)

// Attachment reads whose the container is; nil if ADD did not get as far as to write it.
func (f *Folder) Attachment() (*Attachment, error) { return read(f.Path, f.Name) }

// Read is Attachment without the lock, for a look from the side.
func Read(root string, name spec.Name) (*Attachment, error) {
	return read(filepath.Join(root, string(name)), name)
}

func read(path string, name spec.Name) (*Attachment, error) {
	text, err := os.ReadFile(filepath.Join(path, attachmentFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read attachment: %w", err)
	}
	a := new(Attachment)
	if err := json.Unmarshal(text, a); err != nil {
		return nil, fmt.Errorf("read attachment of %s: %w", name, err)
	}
	if a.Version > attachmentVersion {
		return nil, fmt.Errorf("read attachment of %s: version %d is newer than this program's %d", name, a.Version, attachmentVersion)
	}
	return a, nil
}

// SetAttachment writes whose the container is.
func (f *Folder) SetAttachment(a Attachment) error {
	a.Version = attachmentVersion
	text, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("write attachment: %w", err)
	}
	_, err = f.Write(attachmentFile, text)
	return err
}

// Conf is the configuration as ADD got it; nil if there is none.
func (f *Folder) Conf() ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(f.Path, confFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return text, err
}

// SetConf keeps the configuration as ADD got it. It holds the secrets.
func (f *Folder) SetConf(text []byte) error {
	_, err := f.Write(confFile, text)
	return err
}

// unfinished begins the name of a file that is being written.
const unfinished = ".new-"

// Tidy removes what a verb that was killed had not finished writing: it holds secrets, too.
func (f *Folder) Tidy() error {
	for _, pattern := range []string{unfinished + "*", filepath.Join("*", unfinished+"*")} {
		left, err := filepath.Glob(filepath.Join(f.Path, pattern))
		for _, path := range left {
			err = errors.Join(err, os.RemoveAll(path))
		}
		if err != nil {
			return fmt.Errorf("tidy up: %w", err)
		}
	}
	return nil
}

// Write puts a whole file under its name and says whether it is another one than before. It needs no fsync: the folder is
// in memory.
func (f *Folder) Write(name string, content []byte) (changed bool, err error) {
	return f.write(name, content, 0)
}

func (f *Folder) write(name string, content []byte, group uint32) (changed bool, err error) {
	path := filepath.Join(f.Path, name)
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) && hasGroup(path, group) {
		return false, nil
	}
	aside, err := os.CreateTemp(filepath.Dir(path), unfinished) // 0600 from the start
	if err != nil {
		return false, fmt.Errorf("write %s: %w", name, err)
	}
	defer func() { _ = os.Remove(aside.Name()) }()
	_, err = aside.Write(content)
	if err == nil && group != 0 {
		err = errors.Join(aside.Chown(0, int(group)), aside.Chmod(0o640))
	}
	if closeErr := aside.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(aside.Name(), path)
	}
	if err != nil {
		return false, fmt.Errorf("write %s: %w", name, err)
	}
	return true, nil
}

// Delete removes a file; one that is gone is success.
func (f *Folder) Delete(name string) error {
	if err := os.Remove(filepath.Join(f.Path, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}
