package libreswan

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/regular"
)

// KeyDatabase is the NSS database of a daemon: its certificates with their private keys, and the CAs.
type KeyDatabase struct {
	files      Files
	user       uint32 // the user ID of the daemon, 0 if it runs as root
	tools      Tools
	flushRoots func(context.Context) // makes a running daemon read its root CAs again
}

// Create creates a key database that the daemon can read but not change. It copies an empty database that is created
// once per host, which takes 3 ms instead of 18.
func (k *KeyDatabase) Create(ctx context.Context, template string) error {
	if err := k.ensureTemplate(ctx, template); err != nil {
		return err
	}
	if err := os.RemoveAll(k.files.NSS()); err != nil {
		return fmt.Errorf("make NSS database: %w", err)
	}
	if err := os.Mkdir(k.files.NSS(), 0o700); err != nil {
		return fmt.Errorf("make NSS database: %w", err)
	}
	if err := makeReadable(k.user, k.files.NSS(), 0o750); err != nil {
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
	entries, err := os.ReadDir(k.files.NSS())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = k.ensureTemplate(ctx, template)
	}
	if err == nil {
		err = makeReadable(k.user, k.files.NSS(), 0o750)
	}
	for _, entry := range entries {
		path := filepath.Join(k.files.NSS(), entry.Name())
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
	return writeReadable(k.user, filepath.Join(k.files.NSS(), filepath.Base(path)), content)
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
	tmpDir := k.files.newTemplate()
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
