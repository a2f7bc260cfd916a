package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/broken"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/regular"
)

// The files of release 0.1.0, which had one file for each section of state.json, and push.json. They are read only if
// state.json does not exist or is older. ADD writes state.json before it removes the first of them. So a crash at any
// point of the migration leaves either all of these files or a newer state.json.
const (
	oldAttachment = "attachment.json"
	oldConf       = "conf.json"
	oldFound      = "found.json"
	oldRefused    = "refused.json"
	oldRan        = "ran.json"
	oldRetry      = "retry.json"
	oldGuard      = "guard.nft"
	oldImported   = "imported"
	// oldPush has the state of the connections, which a script of the daemon pushed. It is not used, because after an
	// edit it was wrong.
	oldPush = "push.json"
)

// oldFiles are in the order of removal. Without the first file, release 0.1.0 ignores the others.
var oldFiles = []string{oldAttachment, oldConf, oldFound, oldRefused, oldRan, oldRetry, oldGuard, oldImported, oldPush}

// oldVersion is the format version of attachment.json and of found.json. The other files had no version.
const oldVersion = 1

// release010 is the state of a container in the files of release 0.1.0.
type release010 struct{ directory *Directory }

// remove removes the files. The caller must have written state.json.
func (o release010) remove() error {
	for _, name := range oldFiles {
		if err := o.directory.Files().Delete(name); err != nil {
			return err
		}
	}
	return nil
}

// isNewer reports whether release 0.1.0 has created the container again after a downgrade. In this case
// attachment.json is newer than state.json, which release 0.1.0 does not use and does not remove.
func (o release010) isNewer() bool {
	written, err := os.Lstat(filepath.Join(o.directory.Path, oldAttachment))
	if err != nil || !written.Mode().IsRegular() {
		return false
	}
	state, err := os.Lstat(filepath.Join(o.directory.Path, stateFile))
	return err == nil && written.ModTime().After(state.ModTime())
}

// load is Directory.Load for these files.
func (o release010) load() (*State, error) {
	text, err := regular.ReadFile(filepath.Join(o.directory.Path, oldAttachment))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s of %s: %w", oldAttachment, o.directory.Name, err)
	}
	s := new(State)
	err = decodeOld(text, &s.Attachment)
	if err == nil {
		err = s.Attachment.check()
	}
	if err != nil {
		return nil, broken.Errorf("read %s of %s: %w", oldAttachment, o.directory.Name, err)
	}
	if err := o.loadFound(&s.Found); err != nil {
		return &State{Attachment: s.Attachment}, fmt.Errorf("read %s of %s: %w", oldFound, o.directory.Name, err)
	}
	if text, err := regular.ReadFile(filepath.Join(o.directory.Path, oldConf)); err == nil {
		s.Configuration, _ = Compact(text) // without it CHECK fails, and the next ADD stores a new one
	}
	// The container works without these files, so a damaged one counts as missing.
	s.Refused = loadOptional[map[string]string](o, oldRefused)
	s.Chosen = loadOptional[map[string]string](o, oldRan)
	s.Retry = loadOptional[Retry](o, oldRetry)
	if rules, err := regular.ReadFile(filepath.Join(o.directory.Path, oldGuard)); err == nil {
		s.GuardRules = string(rules)
	}
	if _, err := os.Lstat(filepath.Join(o.directory.Path, oldImported)); err == nil {
		s.PrivateKeys = true
	}
	return s, nil
}

func (o release010) loadFound(found *Found) error {
	text, err := regular.ReadFile(filepath.Join(o.directory.Path, oldFound))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the first ADD was interrupted
	}
	if err != nil {
		return err
	}
	if err := decodeOld(text, found); err != nil {
		return broken.Errorf("%w", err)
	}
	return nil
}

func decodeOld(text []byte, into any) error {
	if err := checkVersion(text, 0, oldVersion); err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

// loadOptional decodes a file that may be missing or damaged. In both cases the result is the zero value.
func loadOptional[T any](o release010, name string) T {
	var value, none T
	text, err := regular.ReadFile(filepath.Join(o.directory.Path, name))
	if err != nil || json.Unmarshal(text, &value) != nil {
		return none
	}
	return value
}
