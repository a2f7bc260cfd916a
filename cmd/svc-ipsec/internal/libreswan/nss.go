package libreswan

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// MakeNSS gives the daemon a key database of its own, which it reads and cannot change: a copy of an empty one that is made once (3 ms instead of 18).
func (d *Daemon) MakeNSS(ctx context.Context, template string) error {
	if _, err := os.Stat(template); errors.Is(err, fs.ErrNotExist) {
		if err := d.makeTemplate(ctx, template); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(d.NSS()); err != nil {
		return fmt.Errorf("make NSS database: %w", err)
	}
	if err := os.Mkdir(d.NSS(), 0o700); err != nil {
		return fmt.Errorf("make NSS database: %w", err)
	}
	if err := d.share(d.NSS(), 0o750); err != nil {
		return fmt.Errorf("make NSS database: %w", err)
	}
	entries, err := os.ReadDir(template)
	if err != nil {
		return fmt.Errorf("copy NSS database: %w", err)
	}
	for _, entry := range entries {
		content, err := os.ReadFile(filepath.Join(template, entry.Name()))
		if err == nil {
			err = d.writeReadable(filepath.Join(d.NSS(), entry.Name()), content)
		}
		if err != nil {
			return fmt.Errorf("copy NSS database: %w", err)
		}
	}
	return nil
}

// makeTemplate makes it in the container's folder, where the next verb finds what a crash leaves, and gives it its name when it is
// whole; who comes second throws its own away.
func (d *Daemon) makeTemplate(ctx context.Context, template string) error {
	aside := d.template()
	defer func() { _ = os.RemoveAll(aside) }()
	err := os.RemoveAll(aside)
	if err == nil {
		err = os.Mkdir(aside, 0o700)
	}
	if err == nil {
		_, err = run(ctx, 20*time.Second, d.Tools.IPsec, "initnss", "--nssdir", aside)
	}
	if err == nil {
		err = os.Rename(aside, template)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make NSS template: %w", err)
	}
	return nil
}

// share lets the daemon read a file, or enter and list a directory, that root alone changes.
func (d *Daemon) share(path string, mode fs.FileMode) error {
	if d.Place.User == 0 {
		return nil
	}
	return errors.Join(os.Lchown(path, 0, int(d.Place.User)), os.Chmod(path, mode))
}

// writeReadable writes a new file that the daemon can read. Its content is private to root before the group is set.
func (d *Daemon) writeReadable(path string, content []byte) error {
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return err
	}
	return d.share(path, 0o640)
}
