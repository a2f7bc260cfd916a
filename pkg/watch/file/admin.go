package file

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/internal/lockdir"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

// Setting returns the value of a key in one scope.
func (n *NSDB) Setting(ctx context.Context, scope spec.SettingScope, key string) (string, error) {
	object := native.SettingsKey(scope)
	fail := func(err error) (string, error) {
		return "", fmt.Errorf("NSDB directory %s: %s: %w", n.location.Dir, object, err)
	}
	if err := spec.CheckSettingKey(key); err != nil {
		return "", err
	}
	if err := n.checkDirectory(); err != nil {
		return "", err
	}
	file, err := n.load(ctx, object)
	if err != nil {
		return fail(err)
	}
	value, ok := "", false
	if file.document != nil {
		if value, ok, err = file.document.Setting(key); err != nil {
			return fail(err)
		}
	}
	if !ok {
		return fail(fmt.Errorf("%s: %w", key, errNotSet))
	}
	return value, nil
}

// errNotSet is the error for a setting that is not set. For errors.Is it equals fs.ErrNotExist.
var errNotSet = notExistError("not set")

// notExistError is an error that equals fs.ErrNotExist for errors.Is.
type notExistError string

func (a notExistError) Error() string      { return string(a) }
func (notExistError) Is(target error) bool { return target == fs.ErrNotExist }

// SetSetting writes one setting to the file of its scope. It creates the file if it does not exist.
func (n *NSDB) SetSetting(ctx context.Context, scope spec.SettingScope, key, value string) error {
	value, err := spec.ParseSetting(key, value)
	if err != nil {
		return err
	}
	if _, err := spec.ParseSettingScope(string(scope)); err != nil {
		return err
	}
	return n.edit(ctx, native.SettingsKey(scope), true, key, json.RawMessage(strconv.Quote(value)))
}

// SetHost writes the weight or the limit of an existing host.
func (n *NSDB) SetHost(ctx context.Context, host spec.HostID, field string, number int) error {
	member, err := native.HostMember(field, number)
	if err != nil {
		return err
	}
	if _, err := spec.ParseID[spec.HostID]("host id", string(host)); err != nil {
		return err
	}
	return n.edit(ctx, native.HostKey(host), false, member, json.RawMessage(strconv.Itoa(number)))
}

// edit sets one member of an object. If the object has no file, edit creates it or, without create, returns an error.
func (n *NSDB) edit(ctx context.Context, key native.Key, create bool, member string, value json.RawMessage) error {
	return n.withLock(ctx, func() error {
		file, err := n.load(ctx, key)
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		if file.document == nil {
			if !create {
				return fmt.Errorf("%s: %w", key, notExistError("no such object: allowed: one that is there"))
			}
			document, err := native.Parse(file.document.With(member, value), native.JSON)
			if err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
			return n.write(file, native.PrintYAML(document), 0o644)
		}
		text, err := native.Edit(file.text, file.format, member, value)
		if err != nil {
			name := filepath.Join(n.location.Dir, file.name)
			return fmt.Errorf("%s: %s not written: %w: edit the file by hand", name, member, err)
		}
		if string(text) == string(file.text) {
			return nil
		}
		return n.write(file, text, 0)
	})
}

// Export returns all objects in the directory.
func (n *NSDB) Export(ctx context.Context) ([]spec.Object, error) {
	if err := n.checkDirectory(); err != nil {
		return nil, err
	}
	keys, faults, err := listKeys(n.location.Dir)
	if err != nil {
		return nil, fmt.Errorf("NSDB directory %s: %w", n.location.Dir, err)
	}
	objects, leftOut := make([]spec.Object, 0, len(keys)), map[native.Key]bool{}
	for _, key := range keys {
		file, err := n.load(ctx, key)
		switch {
		case ctx.Err() != nil:
			return nil, fmt.Errorf("NSDB directory %s: %s: %w", n.location.Dir, key, ctx.Err())
		case err != nil:
			leftOut[key] = true
			faults = append(faults, native.Fault{Key: key, Text: err.Error()})
		case file.document != nil: // nil: removed since it was listed
			objects = append(objects, spec.Object{Key: string(key), Value: file.document.JSON})
		}
	}
	objects, more := native.Exportable(objects, leftOut)
	faults = append(faults, more...)
	for i, fault := range faults {
		faults[i].Key = native.Key("NSDB directory " + n.location.Dir + ": " + string(fault.Key))
	}
	return objects, native.IncompleteUnless(faults)
}

// listKeys lists the keys of all objects, sorted, and the faults of file names and directories. It ignores files that
// are no objects, as the supervisor does. An object file whose name is not an id is a fault, because it is probably
// meant as an object.
func listKeys(dir string) (keys []native.Key, faults []native.Fault, err error) {
	files, err := openDirectory(dir)
	if err != nil {
		return nil, nil, errors.New(cause(err))
	}
	defer files.close()
	hosts, err := files.list(native.Bindings)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		faults = append(faults, native.Fault{Key: native.Bindings, Text: "cannot be listed: " + cause(err)})
	}
	directories := []native.Key{
		native.Hosts, native.Containers, native.Groups, native.Configurations, native.Config,
		native.Config + "/" + native.Hosts,
	}
	for _, host := range hosts {
		directory := native.BindingsKey(spec.HostID(host.Name()))
		if stat, err := files.stat(string(directory)); err == nil && stat.IsDir() && !ignoredName(host.Name()) {
			directories = append(directories, directory)
		}
	}
	for _, directory := range directories {
		stems, err := files.names(directory)
		if err != nil {
			faults = append(faults, native.Fault{Key: directory, Text: err.Error()})
		}
		for _, stem := range stems {
			key := directory + "/" + native.Key(stem)
			if _, err := native.ParseKey(string(key)); err != nil {
				faults = append(faults, native.Fault{Key: directory, Text: err.Error()})
				continue
			}
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys), faults, nil // two files for one key are reported when the key is read
}

// Import writes the objects that differ from those in the directory. The file of an object that differs is replaced as
// a whole, including its comments.
func (n *NSDB) Import(ctx context.Context, objects []spec.Object) error {
	documents, err := native.ParseObjects(objects)
	if err != nil {
		return fmt.Errorf("NSDB directory %s: %w", n.location.Dir, err)
	}
	if err := os.MkdirAll(n.location.Dir, 0o755); err != nil {
		return fmt.Errorf("NSDB directory %s: %s", n.location.Dir, cause(err))
	}
	return n.withLock(ctx, func() error {
		for _, i := range native.ImportOrder(objects) {
			if err := n.importObject(ctx, native.Key(objects[i].Key), documents[i]); err != nil {
				return fmt.Errorf("%s: %w", objects[i].Key, err)
			}
		}
		return nil
	})
}

func (n *NSDB) importObject(ctx context.Context, key native.Key, document *native.Document) error {
	file, err := n.load(ctx, key)
	if file.name == "" { // load failed before it found out which file to write
		return err
	}
	if err == nil && file.document != nil && file.document.Same(document) {
		return nil
	}
	text := native.PrintYAML(document)
	if file.format == native.JSON {
		text = native.Print(document.JSON)
	}
	mode := fs.FileMode(0o644)
	if strings.HasPrefix(string(key), native.Configurations+"/") {
		mode = 0o600 // configurations contain secrets
	}
	return n.write(file, text, mode)
}

// objectFile is the file of an object, as a command has read it.
type objectFile struct {
	name      string // relative to the directory, with links resolved; the file to create if there is no object
	format    native.Format
	text      []byte
	document  *native.Document // nil: no such object
	signature signature
}

// load reads the file of a key. If the file is being written, it tries again until ctx ends or timing.maxUnstable has
// passed, which is as long as Run waits.
func (n *NSDB) load(ctx context.Context, key native.Key) (file objectFile, err error) {
	for deadline := time.Now().Add(n.timing.maxUnstable); ; {
		file, err = n.loadOnce(key)
		if !errors.Is(err, errBeingWritten) || time.Now().After(deadline) {
			return file, err
		}
		select {
		case <-ctx.Done():
			return file, ctx.Err()
		case <-time.After(n.timing.debounce / 10):
		}
	}
}

func (n *NSDB) loadOnce(key native.Key) (file objectFile, err error) {
	files, err := openDirectory(n.location.Dir)
	if err != nil {
		return file, errors.New(cause(err))
	}
	defer files.close()
	candidates := files.candidates(string(key), false)
	switch {
	case len(candidates) == 0:
		return objectFile{name: string(key) + extensions[0], format: native.YAML}, nil
	case len(candidates) > 1:
		return file, duplicateFiles(candidates)
	case candidates[0].problem != "":
		return file, errors.New(candidates[0].problem)
	}
	resolved, err := n.resolveLinks(path.Join(path.Dir(string(key)), candidates[0].name))
	if err != nil {
		return file, errors.New(cause(err))
	}
	_, format, _ := objectName(candidates[0].name)
	text, _, err := files.read(resolved, candidates[0].signature)
	if err != nil {
		return file, err
	}
	file = objectFile{name: resolved, format: format, text: text, signature: candidates[0].signature}
	file.document, err = native.Parse(text, format)
	return file, err
}

// resolveLinks returns the name of the file to which the links in name lead. Commands replace that file and keep the
// links.
func (n *NSDB) resolveLinks(name string) (string, error) {
	dir, err := filepath.EvalSymlinks(n.location.Dir)
	if err != nil {
		return "", err
	}
	file, err := filepath.EvalSymlinks(filepath.Join(dir, name))
	if err != nil {
		return "", err
	}
	return filepath.Rel(dir, file)
}

// write replaces a file in one step and syncs it to disk. An existing file keeps its mode and owner. A new file gets
// the given mode, regardless of the umask. It does not use package atomicfile, because every access goes through
// os.Root: a link must not lead the write out of the NSDB directory.
func (n *NSDB) write(target objectFile, text []byte, mode fs.FileMode) error {
	files, err := openDirectory(n.location.Dir)
	if err != nil {
		return errors.New(cause(err))
	}
	defer files.close()
	directory := path.Dir(target.name)
	if err := files.mkdirAll(directory); err != nil {
		return err
	}
	owner := -1
	group := -1
	stat, err := files.root.Lstat(target.name)
	switch {
	case err == nil && signatureOf(stat) != target.signature, err != nil && target.signature != signature{}:
		return fmt.Errorf("%s: changed by another program meanwhile: try again", target.name)
	case err == nil:
		mode = stat.Mode().Perm()
		owner, group = userAndGroup(stat)
	}
	temporary := path.Join(directory, "."+path.Base(target.name)+"."+rand.Text()+".tmp")
	file, err := files.root.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer files.root.Remove(temporary) // fails after success, since the file was renamed
	_, err = file.Write(text)
	if err == nil && owner >= 0 && (owner != os.Geteuid() || group != os.Getegid()) {
		err = file.Chown(owner, group)
	}
	if err == nil {
		err = file.Chmod(mode)
	}
	if err == nil {
		err = file.Sync()
	}
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = files.root.Rename(temporary, target.name)
	}
	if err == nil {
		err = files.syncDir(directory)
	}
	return err
}

func (d *nsdbDir) syncDir(name string) error {
	directory, err := d.root.OpenFile(name, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer directory.Close()
	return directory.Sync()
}

func (n *NSDB) checkDirectory() error {
	stat, err := os.Stat(n.location.Dir)
	if err != nil {
		return fmt.Errorf("NSDB directory %s: %s", n.location.Dir, cause(err))
	}
	if !stat.IsDir() {
		return fmt.Errorf("NSDB directory %s: is not a directory", n.location.Dir)
	}
	return nil
}

// commandLockTimeout is how long a command waits for the lock of other commands, unless its context ends before.
const commandLockTimeout = time.Minute

// withLock calls f while no other command writes to the directory. Other tools do not use the lock. A file that they
// change while f runs is detected and not overwritten, except in the moment between the check and the rename.
func (n *NSDB) withLock(ctx context.Context, f func() error) error {
	fail := func(err error) error {
		if err != nil {
			return fmt.Errorf("NSDB directory %s: %w", n.location.Dir, err)
		}
		return nil
	}
	if err := n.checkDirectory(); err != nil {
		return err
	}
	path, err := filepath.EvalSymlinks(n.location.Dir)
	if err != nil {
		return fail(errors.New(cause(err)))
	}
	unlock, err := lockForCommand(ctx, path)
	if errors.Is(err, lockdir.ErrBusy) || ctx.Err() != nil {
		return fail(fmt.Errorf("another command is writing: %w", err))
	}
	if err != nil {
		return fail(err)
	}
	defer unlock()
	return fail(f())
}

// commandLock is a directory in the NSDB directory that only the owner of the NSDB directory can open.
const commandLock = ".lock"

// lockForCommand locks an NSDB directory for one command. It locks commandLock, because every user who can read the
// NSDB directory could lock the directory itself and so block the commands. If the directory belongs to another user,
// it locks the directory itself, because commandLock belongs to that user, too.
func lockForCommand(ctx context.Context, path string) (unlock func(), err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) == os.Geteuid() {
		return lockdir.LockPrivate(ctx, filepath.Join(path, commandLock), commandLockTimeout)
	}
	return lockdir.Lock(ctx, path, commandLockTimeout)
}
