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

// CreateNSS creates a key database that the daemon can read but not change. It copies an empty database that is created
// once per host, which takes 3 ms instead of 18.
func (d *Daemon) CreateNSS(ctx context.Context, template string) error {
	if err := d.ensureTemplate(ctx, template); err != nil {
		return err
	}
	if err := os.RemoveAll(d.NSS()); err != nil {
		return fmt.Errorf("make NSS database: %w", err)
	}
	if err := os.Mkdir(d.NSS(), 0o700); err != nil {
		return fmt.Errorf("make NSS database: %w", err)
	}
	if err := d.makeReadable(d.NSS(), 0o750); err != nil {
		return fmt.Errorf("make NSS database: %w", err)
	}
	entries, err := os.ReadDir(template)
	if err != nil {
		return fmt.Errorf("copy NSS database: %w", err)
	}
	for _, entry := range entries {
		if err := d.copyReadable(filepath.Join(template, entry.Name())); err != nil {
			return fmt.Errorf("copy NSS database: %w", err)
		}
	}
	return nil
}

// ReuseNSS prepares the key database of a former daemon for a new daemon. The database of release 0.1.0 is readable
// only by root, and its daemon could write to it, so the list of modules that NSS loads is replaced. It is no error if
// there is no database.
func (d *Daemon) ReuseNSS(ctx context.Context, template string) error {
	entries, err := os.ReadDir(d.NSS())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = d.ensureTemplate(ctx, template)
	}
	if err == nil {
		err = d.makeReadable(d.NSS(), 0o750)
	}
	for _, entry := range entries {
		path := filepath.Join(d.NSS(), entry.Name())
		switch {
		case err != nil:
		case entry.Name() == modules || !entry.Type().IsRegular():
			err = os.RemoveAll(path)
		default:
			err = d.makeReadable(path, 0o640)
		}
	}
	if err == nil {
		err = d.copyReadable(filepath.Join(template, modules))
	}
	if err != nil {
		return fmt.Errorf("take over NSS database: %w", err)
	}
	return nil
}

// modules is the file with the PKCS #11 modules that every program loads that opens the key database, also certutil.
const modules = "pkcs11.txt"

func (d *Daemon) copyReadable(path string) error {
	content, err := regular.ReadFile(path)
	if err != nil {
		return err
	}
	return d.writeReadable(filepath.Join(d.NSS(), filepath.Base(path)), content)
}

func (d *Daemon) ensureTemplate(ctx context.Context, template string) error {
	if _, err := os.Stat(template); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return d.makeTemplate(ctx, template)
}

// makeTemplate creates the template in the container's directory, where the next verb removes it after a crash, and
// renames it when it is complete. If another process was faster, this copy is discarded.
func (d *Daemon) makeTemplate(ctx context.Context, template string) error {
	tmpDir := d.template()
	defer func() { _ = os.RemoveAll(tmpDir) }()
	err := os.RemoveAll(tmpDir)
	if err == nil {
		err = os.Mkdir(tmpDir, 0o700)
	}
	if err == nil {
		_, err = run(ctx, 20*time.Second, d.Tools.IPsec, "initnss", "--nssdir", tmpDir)
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
func (d *Daemon) makeReadable(path string, mode fs.FileMode) error {
	if d.Isolation.User == 0 {
		return nil
	}
	return errors.Join(os.Lchown(path, 0, int(d.Isolation.User)), os.Chmod(path, mode))
}

// writeReadable writes a new file that the daemon can read. Until its group is set, only root can read it.
func (d *Daemon) writeReadable(path string, content []byte) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	return cmp.Or(err, file.Close(), d.makeReadable(path, 0o640))
}
