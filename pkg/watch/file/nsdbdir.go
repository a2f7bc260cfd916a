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

// nsdbDir is an opened NSDB directory. Names are relative to it. A symbolic link below it is followed only to a place
// below it: os.Root refuses every other one, and every absolute one, also if it is exchanged while it is looked at.
type nsdbDir struct {
	root    *os.Root
	folders map[string]folder // opened so far
	listed  bool              // list each folder once, instead of an lstat for each name: for looks at every file
}

// folder is a directory below the NSDB directory, or why it cannot be opened. It is kept open since each look asks for many
// names in few folders.
type folder struct {
	root *os.Root
	file *os.File // the same directory, for fstatat; nil: it cannot be read
	err  error

	stems map[string]endings // of its objects, the files that there are; nil: not listed
}

// endings are those of extensions with which a name exists, a bit for each.
type endings uint8

// errNotDirectory says that the NSDB directory is something else.
var errNotDirectory = errors.New("is not a directory")

// openDirectory opens the NSDB directory, which may be a link itself.
func openDirectory(dir string) (*nsdbDir, error) {
	stat, err := os.Stat(dir) // os.OpenRoot would wait for the writer of a pipe
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
	return &nsdbDir{root: root, folders: map[string]folder{}}, nil
}

func (d *nsdbDir) close() {
	for _, f := range d.folders {
		if f.root != nil {
			_ = f.root.Close()
		}
		if f.file != nil {
			_ = f.file.Close()
		}
	}
	_ = d.root.Close()
}

// stat describes a file or directory. A link that leads to nothing is not fs.ErrNotExist: its owner meant something.
func (d *nsdbDir) stat(name string) (fs.FileInfo, error) {
	parent := d.folder(path.Dir(name))
	if parent.err != nil {
		return nil, parent.err
	}
	stat, err := parent.root.Lstat(path.Base(name))
	if err == nil && stat.Mode()&fs.ModeSymlink != 0 {
		switch stat, err = d.root.Stat(name); {
		case errors.Is(err, fs.ErrNotExist):
			err = errors.New("is a link to nothing")
		case err != nil && leadsOut(err):
			err = errors.New("is a link to nothing inside: " + outside + " is not followed")
		}
	}
	return stat, err
}

// folder opens a directory, once.
func (d *nsdbDir) folder(name string) folder {
	f, known := d.folders[name]
	if known {
		return f
	}
	f.root, f.err = d.root.OpenRoot(name)
	if f.err == nil {
		f.file, _ = f.root.Open(".")
	}
	if f.file != nil && d.listed {
		f.stems = stemsIn(f.file)
	}
	d.folders[name] = f
	return f
}

// stemsIn lists the objects of a directory; nil if that cannot be done.
func stemsIn(directory *os.File) map[string]endings {
	list, err := directory.Readdirnames(-1)
	if err != nil {
		return nil
	}
	stems := make(map[string]endings, len(list))
	for _, name := range list {
		if stem, _, ok := objectName(name); ok {
			stems[stem] |= 1 << slices.Index(extensions, name[len(stem):])
		}
	}
	return stems
}

// sign returns the signature of a file of an opened folder. It costs less than stat, which answers for links.
func (d *nsdbDir) sign(in folder, dir, name string) (signature, error) {
	var stat unix.Stat_t
	err := errors.ErrUnsupported
	if in.file != nil {
		err = unix.EINTR
	}
	for errors.Is(err, unix.EINTR) {
		err = unix.Fstatat(int(in.file.Fd()), name, &stat, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err == nil && stat.Mode&unix.S_IFMT != unix.S_IFLNK {
		return signStat(&stat), nil
	}
	if err != nil && in.file != nil {
		return signature{}, err
	}
	info, err := d.stat(dir + "/" + name)
	if err != nil {
		return signature{}, err
	}
	return sign(info), nil
}

// list lists a directory, sorted by name.
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

// names lists the objects of a folder. One that is missing has none, unless it is a link that leads nowhere.
func (d *nsdbDir) names(folder native.Key) (stems []string, err error) {
	if listed := d.folder(string(folder)).stems; listed != nil {
		return slices.Collect(maps.Keys(listed)), nil
	}
	entries, err := d.list(string(folder))
	if errors.Is(err, fs.ErrNotExist) {
		for _, name := range []string{string(folder), path.Dir(string(folder))} {
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

// makeFolder makes the directories that are missing, readable for everybody whatever the umask is.
func (d *nsdbDir) makeFolder(name string) error {
	switch stat, err := d.root.Stat(name); {
	case err == nil && stat.IsDir():
		return nil
	case err == nil:
		return fmt.Errorf("%s is not a directory", name)
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: %s", name, cause(err))
	}
	if err := d.makeFolder(path.Dir(name)); err != nil {
		return err
	}
	if err := d.root.Mkdir(name, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return d.root.Chmod(name, 0o755)
}

// outside is how a fault names a link that is not followed.
const outside = "a link that leads out of the NSDB directory (as every absolute link does)"

// leadsOut reports whether os.Root refused a link. Its error is not exported, so the text has to do.
func leadsOut(err error) bool {
	var pathError *fs.PathError
	return errors.As(err, &pathError) && pathError.Err.Error() == "path escapes from parent"
}

// cause is an error of the file system without operation and path, which stand in the fault's key already.
func cause(err error) string {
	if leadsOut(err) {
		return "is, or lies behind, " + outside
	}
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return pathError.Err.Error()
	}
	return err.Error()
}
