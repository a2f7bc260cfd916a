package libreswan

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/regular"
)

// newTemplate is the name of a template of the key database that is being created, in the container's directory.
// state.Directory.Tidy removes what a killed verb left behind, by this name.
const newTemplate = ".new-nss-template"

// KeyDatabase is the NSS database of a daemon: its certificates with their private keys, and the CAs.
type KeyDatabase struct {
	dir        string // the container's state directory
	user       uint32 // the user ID of the daemon, 0 if it runs as root
	tools      Tools
	flushRoots func(context.Context) // makes a running daemon read its root CAs again
}

// KeyDatabase returns the key database of the daemon, whether it exists or not.
func (d *Daemon) KeyDatabase() *KeyDatabase {
	return &KeyDatabase{dir: d.Dir, user: d.Isolation.User, tools: d.Tools, flushRoots: d.flushRoots}
}

// path returns the path of the database, a directory.
func (k *KeyDatabase) path() string { return filepath.Join(k.dir, "nss") }

// Create creates a key database that the daemon can read but not change. It copies an empty database that is created
// once per host, which takes 3 ms instead of 18.
func (k *KeyDatabase) Create(ctx context.Context, template string) error {
	if err := k.ensureTemplate(ctx, template); err != nil {
		return err
	}
	if err := os.RemoveAll(k.path()); err != nil {
		return fmt.Errorf("make NSS database: %w", err)
	}
	if err := os.Mkdir(k.path(), 0o700); err != nil {
		return fmt.Errorf("make NSS database: %w", err)
	}
	if err := makeReadable(k.user, k.path(), 0o750); err != nil {
		return fmt.Errorf("make NSS database: %w", err)
	}
	entries, err := os.ReadDir(template)
	if err != nil {
		return fmt.Errorf("copy NSS database: %w", err)
	}
	for _, entry := range entries {
		if err := k.copyReadable(filepath.Join(template, entry.Name())); err != nil {
			return fmt.Errorf("copy NSS database: %w", err)
		}
	}
	return nil
}

// Reuse prepares the key database of a former daemon for a new daemon. The database of release 0.1.0 is readable
// only by root, and its daemon could write to it, so the list of modules that NSS loads is replaced. It is no error if
// there is no database.
func (k *KeyDatabase) Reuse(ctx context.Context, template string) error {
	entries, err := os.ReadDir(k.path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = k.ensureTemplate(ctx, template)
	}
	if err == nil {
		err = makeReadable(k.user, k.path(), 0o750)
	}
	for _, entry := range entries {
		path := filepath.Join(k.path(), entry.Name())
		switch {
		case err != nil:
		case entry.Name() == modules || !entry.Type().IsRegular():
			err = os.RemoveAll(path)
		default:
			err = makeReadable(k.user, path, 0o640)
		}
	}
	if err == nil {
		err = k.copyReadable(filepath.Join(template, modules))
	}
	if err != nil {
		return fmt.Errorf("take over NSS database: %w", err)
	}
	return nil
}

// modules is the file with the PKCS #11 modules that every program loads that opens the key database, also certutil.
const modules = "pkcs11.txt"

func (k *KeyDatabase) copyReadable(path string) error {
	content, err := regular.ReadFile(path)
	if err != nil {
		return err
	}
	return writeReadable(k.user, filepath.Join(k.path(), filepath.Base(path)), content)
}

func (k *KeyDatabase) ensureTemplate(ctx context.Context, template string) error {
	if _, err := os.Stat(template); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return k.makeTemplate(ctx, template)
}

// makeTemplate creates the template in the container's directory, where the next verb removes it after a crash, and
// renames it when it is complete. If another process was faster, this copy is discarded.
func (k *KeyDatabase) makeTemplate(ctx context.Context, template string) error {
	tmpDir := filepath.Join(k.dir, newTemplate)
	defer func() { _ = os.RemoveAll(tmpDir) }()
	err := os.RemoveAll(tmpDir)
	if err == nil {
		err = os.Mkdir(tmpDir, 0o700)
	}
	if err == nil {
		_, err = run(ctx, 20*time.Second, k.tools.IPsec, "initnss", "--nssdir", tmpDir)
	}
	if err == nil {
		err = os.Rename(tmpDir, template)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make NSS template: %w", err)
	}
	return nil
}

// makeReadable lets the daemon read a file, or enter and list a directory, that only root can change.
func makeReadable(user uint32, path string, mode fs.FileMode) error {
	if user == 0 {
		return nil
	}
	return errors.Join(os.Lchown(path, 0, int(user)), os.Chmod(path, mode))
}

// writeReadable writes a new file that the daemon can read. Until its group is set, only root can read it.
func writeReadable(user uint32, path string, content []byte) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	return cmp.Or(err, file.Close(), makeReadable(user, path, 0o640))
}
