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

// Setting returns what stands under a key in one scope.
func (n *NSDB) Setting(ctx context.Context, scope spec.SettingScope, key string) (string, error) {
	object := native.SettingsKey(scope)
	fail := func(err error) (string, error) {
		return "", fmt.Errorf("NSDB directory %s: %s: %w", n.location.Dir, object, err)
	}
	if err := spec.CheckSettingKey(key); err != nil {
		return "", err
	}
	if err := n.exists(); err != nil {
		return "", err
	}
	held, err := n.hold(ctx, object)
	if err != nil {
		return fail(err)
	}
	value, ok := "", false
	if held.document != nil {
		if value, ok, err = held.document.Setting(key); err != nil {
			return fail(err)
		}
	}
	if !ok {
		return fail(fmt.Errorf("%s: %w", key, errNotSet))
	}
	return value, nil
}

// errNotSet is what errors.Is takes for fs.ErrNotExist.
var errNotSet = absent("not set")

// absent is an error of what is not there.
type absent string

func (a absent) Error() string      { return string(a) }
func (absent) Is(target error) bool { return target == fs.ErrNotExist }

// SetSetting writes one setting into its scope's file.
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

// SetHost writes the weight or the limit of a host that is there.
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

// edit sets one member of an object. Where the object has no file, one is made, or it is an error.
func (n *NSDB) edit(ctx context.Context, key native.Key, mayMake bool, member string, value json.RawMessage) error {
	return n.alone(ctx, func() error {
		held, err := n.hold(ctx, key)
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		if held.document == nil {
			if !mayMake {
				return fmt.Errorf("%s: %w", key, absent("no such object: allowed: one that is there"))
			}
			document, err := native.Parse(held.document.With(member, value), native.JSON)
			if err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
			return n.write(held, native.PrintYAML(document), 0o644)
		}
		text, err := native.Edit(held.text, held.format, member, value)
		if err != nil {
			return fmt.Errorf("%s: %s not written: %w: edit it by hand", filepath.Join(n.location.Dir, held.name), member, err)
		}
		if string(text) == string(held.text) {
			return nil
		}
		return n.write(held, text, 0)
	})
}

// Export reads every object of the directory.
func (n *NSDB) Export(ctx context.Context) ([]spec.Object, error) {
	if err := n.exists(); err != nil {
		return nil, err
	}
	keys, faults, err := keys(n.location.Dir)
	if err != nil {
		return nil, fmt.Errorf("NSDB directory %s: %w", n.location.Dir, err)
	}
	objects, leftOut := make([]spec.Object, 0, len(keys)), map[native.Key]bool{}
	for _, key := range keys {
		held, err := n.hold(ctx, key)
		switch {
		case ctx.Err() != nil:
			return nil, fmt.Errorf("NSDB directory %s: %s: %w", n.location.Dir, key, ctx.Err())
		case err != nil:
			leftOut[key] = true
			faults = append(faults, native.Fault{Key: key, Text: err.Error()})
		case held.document != nil: // else it went meanwhile
			objects = append(objects, spec.Object{Key: string(key), Value: held.document.JSON})
		}
	}
	objects, more := native.Exportable(objects, leftOut)
	faults = append(faults, more...)
	for i, fault := range faults {
		faults[i].Key = native.Key("NSDB directory " + n.location.Dir + ": " + string(fault.Key))
	}
	return objects, native.IncompleteUnless(faults)
}

// keys lists all objects, sorted, and the faults of names and folders. A file that is none is passed over, as the supervisor does;
// one whose name is no id is a fault, since its owner takes it for an object.
func keys(dir string) (keys []native.Key, faults []native.Fault, err error) {
	files, err := openDirectory(dir)
	if err != nil {
		return nil, nil, errors.New(cause(err))
	}
	defer files.close()
	hosts, err := files.list(native.Bindings)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		faults = append(faults, native.Fault{Key: native.Bindings, Text: "cannot be listed: " + cause(err)})
	}
	folders := []native.Key{
		native.Hosts, native.Containers, native.Groups, native.Configurations, native.Config, native.Config + "/" + native.Hosts,
	}
	for _, host := range hosts {
		folder := native.BindingsKey(spec.HostID(host.Name()))
		if stat, err := files.stat(string(folder)); err == nil && stat.IsDir() && !passing(host.Name()) {
			folders = append(folders, folder)
		}
	}
	for _, folder := range folders {
		stems, err := files.names(folder)
		if err != nil {
			faults = append(faults, native.Fault{Key: folder, Text: err.Error()})
		}
		for _, stem := range stems {
			key := folder + "/" + native.Key(stem)
			if _, err := native.ParseKey(string(key)); err != nil {
				faults = append(faults, native.Fault{Key: folder, Text: err.Error()})
				continue
			}
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys), faults, nil // a key of two files is told when it is read
}

// Import writes the objects that differ from what stands there. What a person wrote in a file that says something else is
// replaced as a whole.
func (n *NSDB) Import(ctx context.Context, objects []spec.Object) error {
	documents, err := native.ParseObjects(objects)
	if err != nil {
		return fmt.Errorf("NSDB directory %s: %w", n.location.Dir, err)
	}
	if err := os.MkdirAll(n.location.Dir, 0o755); err != nil {
		return fmt.Errorf("NSDB directory %s: %s", n.location.Dir, cause(err))
	}
	return n.alone(ctx, func() error {
		for _, i := range native.ImportOrder(objects) {
			if err := n.put(ctx, native.Key(objects[i].Key), documents[i]); err != nil {
				return fmt.Errorf("%s: %w", objects[i].Key, err)
			}
		}
		return nil
	})
}

func (n *NSDB) put(ctx context.Context, key native.Key, document *native.Document) error {
	held, err := n.hold(ctx, key)
	if held.name == "" { // which file would be its own is not known
		return err
	}
	if err == nil && held.document != nil && held.document.Same(document) {
		return nil
	}
	text := native.PrintYAML(document)
	if held.format == native.JSON {
		text = native.Print(document.JSON)
	}
	mode := fs.FileMode(0o644)
	if strings.HasPrefix(string(key), native.Configurations+"/") {
		mode = 0o600 // it holds secrets
	}
	return n.write(held, text, mode)
}

// holding is the file of an object as a command finds it.
type holding struct {
	name     string // below the directory, links followed; where it would be made, if there is none
	format   native.Format
	text     []byte
	document *native.Document // nil: no such object
	stands   signature
}

// hold reads the one file of a key, and waits for who is writing it until ctx ends or for as long as a supervisor would.
func (n *NSDB) hold(ctx context.Context, key native.Key) (held holding, err error) {
	for end := time.Now().Add(n.patience.busy); ; {
		held, err = n.holdNow(key)
		if !errors.Is(err, errMoving) || time.Now().After(end) {
			return held, err
		}
		select {
		case <-ctx.Done():
			return held, ctx.Err()
		case <-time.After(n.patience.settle / 10):
		}
	}
}

func (n *NSDB) holdNow(key native.Key) (held holding, err error) {
	files, err := openDirectory(n.location.Dir)
	if err != nil {
		return held, errors.New(cause(err))
	}
	defer files.close()
	sights := files.see(string(key), false)
	switch {
	case len(sights) == 0:
		return holding{name: string(key) + extensions[0], format: native.YAML}, nil
	case len(sights) > 1:
		return held, twoFiles(sights)
	case sights[0].fault != "":
		return held, errors.New(sights[0].fault)
	}
	name, err := n.withoutLinks(path.Join(path.Dir(string(key)), sights[0].name))
	if err != nil {
		return held, errors.New(cause(err))
	}
	_, format, _ := objectName(sights[0].name)
	text, _, err := files.read(name, sights[0].signature)
	if err != nil {
		return held, err
	}
	held = holding{name: name, format: format, text: text, stands: sights[0].signature}
	held.document, err = native.Parse(text, format)
	return held, err
}

// withoutLinks names the file that the links of a name lead to. A command replaces that file, so that the link stays a link.
func (n *NSDB) withoutLinks(name string) (string, error) {
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

// write replaces a file in one step, on the disk before it returns. The file keeps its mode and owner; a new one gets the
// mode, whatever the umask is.
func (n *NSDB) write(held holding, text []byte, mode fs.FileMode) error {
	files, err := openDirectory(n.location.Dir)
	if err != nil {
		return errors.New(cause(err))
	}
	defer files.close()
	folder := path.Dir(held.name)
	if err := files.makeFolder(folder); err != nil {
		return err
	}
	owner := -1
	group := -1
	if stat, err := files.root.Lstat(held.name); err == nil {
		mode = stat.Mode().Perm()
		owner, group = ownerOf(stat)
		if sign(stat) != held.stands {
			return fmt.Errorf("%s: was written by another meanwhile: allowed: one at a time; try again", held.name)
		}
	}
	beside := path.Join(folder, "."+path.Base(held.name)+"."+rand.Text()+".tmp")
	file, err := files.root.OpenFile(beside, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer files.root.Remove(beside) // gone already where all went well
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
		err = files.root.Rename(beside, held.name)
	}
	if err == nil {
		err = files.sync(folder)
	}
	return err
}

func (d *nsdbDir) sync(name string) error {
	folder, err := d.root.OpenFile(name, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer folder.Close()
	return folder.Sync()
}

func (n *NSDB) exists() error {
	stat, err := os.Stat(n.location.Dir)
	if err != nil {
		return fmt.Errorf("NSDB directory %s: %s", n.location.Dir, cause(err))
	}
	if !stat.IsDir() {
		return fmt.Errorf("NSDB directory %s: is not a directory", n.location.Dir)
	}
	return nil
}

// commandPatience is how long a command waits for others, unless its context ends before.
const commandPatience = time.Minute

// alone runs one command's writing while no other command writes. Other tools do not ask for the lock; what they write
// meanwhile is noticed and not overwritten, up to the rename itself.
func (n *NSDB) alone(ctx context.Context, work func() error) error {
	fail := func(err error) error {
		if err != nil {
			return fmt.Errorf("NSDB directory %s: %w", n.location.Dir, err)
		}
		return nil
	}
	if err := n.exists(); err != nil {
		return err
	}
	path, err := filepath.EvalSymlinks(n.location.Dir)
	if err != nil {
		return fail(errors.New(cause(err)))
	}
	unlock, err := lockForCommand(ctx, path)
	if errors.Is(err, lockdir.ErrBusy) || ctx.Err() != nil {
		return fail(fmt.Errorf("another command writes: %w", err))
	}
	if err != nil {
		return fail(err)
	}
	defer unlock()
	return fail(work())
}

// commandLock is a directory in the NSDB directory that only the owner of that one can open.
const commandLock = ".lock"

// lockForCommand locks an NSDB directory for one command. Every user that can read the directory could hold a lock on the
// directory itself and so keep the commands from writing. Where the directory belongs to another user, that lock is taken all the
// same: commandLock is that user's.
func lockForCommand(ctx context.Context, path string) (unlock func(), err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) == os.Geteuid() {
		return lockdir.LockPrivate(ctx, filepath.Join(path, commandLock), commandPatience)
	}
	return lockdir.Lock(ctx, path, commandPatience)
}
