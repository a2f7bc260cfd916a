package libreswan

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/regular"
)

// Files is the path of a container's state directory. Its methods return the files and directories of the daemon there.
type Files string

func (f Files) Etc() string      { return filepath.Join(string(f), "etc") }         // the daemon's /etc
func (f Files) Settings() string { return filepath.Join(f.Etc(), "pluto.conf") }    // the daemon's settings
func (f Files) Setup() string    { return filepath.Join(f.Etc(), "ipsec.conf") }    // the settings and all conns
func (f Files) Secrets() string  { return filepath.Join(f.Etc(), "ipsec.secrets") } // pre-shared keys
func (f Files) Empty() string    { return filepath.Join(f.Etc(), "ipsec.d") }       // an empty directory
func (f Files) Conns() string    { return filepath.Join(string(f), "conns") }       // one file for each loaded conn
func (f Files) NSS() string      { return filepath.Join(string(f), "nss") }         // the key database
func (f Files) Run() string      { return filepath.Join(string(f), "run") }         // the daemon's /run/pluto
func (f Files) socket() string   { return filepath.Join(f.Run(), "pluto.ctl") }     // at most 107 bytes (sun_path)

// staging is the file of the conns that are being loaded. state.Files.Tidy removes what a killed verb left behind,
// by this name.
func (f Files) staging() string { return filepath.Join(string(f), ".new-load.conf") }

// newTemplate is the template of the key database that is being created. state.Files.Tidy removes what a killed
// verb left behind, by this name.
func (f Files) newTemplate() string { return filepath.Join(string(f), ".new-nss-template") }

// newImport is the directory of the certificates that are being imported. state.Files.Tidy removes it after a
// crash.
func (f Files) newImport() string { return filepath.Join(string(f), ".new-import") }

// Loaded returns the files of the conns that the daemon has accepted, by conn. Anything that is not a regular file
// counts as missing.
func (f Files) Loaded() (map[string][]byte, error) {
	paths, err := filepath.Glob(filepath.Join(f.Conns(), "*.conf"))
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for _, path := range paths {
		text, err := regular.ReadFile(path)
		if errors.Is(err, regular.ErrNotRegular) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read conn: %w", err)
		}
		files[strings.TrimSuffix(filepath.Base(path), ".conf")] = text
	}
	return files, nil
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
