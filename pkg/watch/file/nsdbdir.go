package file

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

// nsdbDir is an open NSDB directory. All names are relative to it. Symbolic links below it are followed only if they
// are relative and lead to a place below it. os.Root refuses other links, even if a link is replaced while it is
// resolved.
type nsdbDir struct {
	root     *os.Root
	opened   map[string]openedDir // by name
	listDirs bool                 // list each directory once instead of an fstatat for each name, for full scans
}

// openedDir is a directory below the NSDB directory, or the error of opening it. It stays open during a scan, because a
// scan accesses many files in few directories.
type openedDir struct {
	root *os.Root
	file *os.File // the same directory, for fstatat; nil: it cannot be read
	err  error

	stems map[string]extensionSet // for each object, the extensions of its files; nil: not listed
}

// extensionSet is a bit set of indices in extensions: those with which the file of an object exists.
type extensionSet uint8

// errNotDirectory is the error for an NSDB directory that is another kind of file.
var errNotDirectory = errors.New("is not a directory")

// openDirectory opens the NSDB directory, which may be a symbolic link itself.
func openDirectory(dir string) (*nsdbDir, error) {
	stat, err := os.Stat(dir) // os.OpenRoot would block on a pipe without a writer
	if err != nil {
		return nil, err
	}
	if !stat.IsDir() {
		return nil, errNotDirectory
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &nsdbDir{root: root, opened: map[string]openedDir{}}, nil
}

func (d *nsdbDir) close() {
	for _, f := range d.opened {
		if f.root != nil {
			_ = f.root.Close()
		}
		if f.file != nil {
			_ = f.file.Close()
		}
	}
	_ = d.root.Close()
}

// stat returns the file information of a file or directory, following links. The error for a dangling link is not
// fs.ErrNotExist: the link shows that an object is intended to exist.
func (d *nsdbDir) stat(name string) (fs.FileInfo, error) {
	parent := d.openDir(path.Dir(name))
	if parent.err != nil {
		return nil, parent.err
	}
	stat, err := parent.root.Lstat(path.Base(name))
	if err == nil && stat.Mode()&fs.ModeSymlink != 0 {
		switch stat, err = d.root.Stat(name); {
		case errors.Is(err, fs.ErrNotExist):
			err = errors.New("is a link to nothing")
		case err != nil && escapesRoot(err):
			err = errors.New("is a link to nothing inside: " + linkOutside + " is not followed")
		}
	}
	return stat, err
}

// openDir opens a directory, or returns it if it was opened before.
func (d *nsdbDir) openDir(name string) openedDir {
	f, known := d.opened[name]
	if known {
		return f
	}
	f.root, f.err = d.root.OpenRoot(name)
	if f.err == nil {
		f.file, _ = f.root.Open(".")
	}
	if f.file != nil && d.listDirs {
		f.stems = stemsIn(f.file)
	}
	d.opened[name] = f
	return f
}

// stemsIn lists the objects of a directory by their file names without the extension. It returns nil if reading the
// directory fails.
func stemsIn(directory *os.File) map[string]extensionSet {
	list, err := directory.Readdirnames(-1)
	if err != nil {
		return nil
	}
	stems := make(map[string]extensionSet, len(list))
	for _, name := range list {
		if stem, _, ok := objectName(name); ok {
			stems[stem] |= 1 << slices.Index(extensions, name[len(stem):])
		}
	}
	return stems
}

// signature returns the signature of a file in an open directory. It uses one system call, except for links, where it
// calls stat.
func (d *nsdbDir) signature(parent openedDir, dir, name string) (signature, error) {
	var stat unix.Stat_t
	err := errors.ErrUnsupported
	if parent.file != nil {
		err = unix.EINTR
	}
	for errors.Is(err, unix.EINTR) {
		err = unix.Fstatat(int(parent.file.Fd()), name, &stat, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err == nil && stat.Mode&unix.S_IFMT != unix.S_IFLNK {
		return signatureOfStat(&stat), nil
	}
	if err != nil && parent.file != nil {
		return signature{}, err
	}
	info, err := d.stat(dir + "/" + name)
	if err != nil {
		return signature{}, err
	}
	return signatureOf(info), nil
}

// list reads a directory and sorts its entries by name.
func (d *nsdbDir) list(name string) ([]fs.DirEntry, error) {
	file, err := d.root.OpenFile(name, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	entries, err := file.ReadDir(-1)
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return cmp.Compare(a.Name(), b.Name()) })
	return entries, err
}

// names lists the objects of a directory by their file names without the extension. A directory that does not exist has
// no objects, but a dangling link in its place is an error.
func (d *nsdbDir) names(directory native.Key) (stems []string, err error) {
	if listed := d.openDir(string(directory)).stems; listed != nil {
		return slices.Collect(maps.Keys(listed)), nil
	}
	entries, err := d.list(string(directory))
	if errors.Is(err, fs.ErrNotExist) {
		for _, name := range []string{string(directory), path.Dir(string(directory))} {
			stat, err := d.root.Lstat(name)
			if err != nil || stat.Mode()&fs.ModeSymlink == 0 {
				continue
			}
			if _, err := d.root.Stat(name); err != nil {
				return nil, fmt.Errorf("%s is a link that leads nowhere: allowed: a directory", name)
			}
		}
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot be listed: %s", cause(err))
	}
	for _, entry := range entries {
		if stem, _, ok := objectName(entry.Name()); ok {
			stems = append(stems, stem)
		}
	}
	return stems, nil
}

// mkdirAll creates a directory and its missing parents with mode 0755, regardless of the umask.
func (d *nsdbDir) mkdirAll(name string) error {
	switch stat, err := d.root.Stat(name); {
	case err == nil && stat.IsDir():
		return nil
	case err == nil:
		return fmt.Errorf("%s is not a directory", name)
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: %s", name, cause(err))
	}
	if err := d.mkdirAll(path.Dir(name)); err != nil {
		return err
	}
	if err := d.root.Mkdir(name, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return d.root.Chmod(name, 0o755)
}

// linkOutside is the text with which faults describe a link that is not followed.
const linkOutside = "a link that leads out of the NSDB directory (as every absolute link does)"

// escapesRoot reports whether os.Root refused a link. It compares the text, since package os does not export the error.
func escapesRoot(err error) bool {
	var pathError *fs.PathError
	return errors.As(err, &pathError) && pathError.Err.Error() == "path escapes from parent"
}

// cause returns the text of a file system error without operation and path, because the key of the fault has the path.
func cause(err error) string {
	if escapesRoot(err) {
		return "is, or lies behind, " + linkOutside
	}
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return pathError.Err.Error()
	}
	return err.Error()
}
