package file

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

// signature is what changes when a file or directory does.
type signature struct {
	device, inode uint64
	owner         uint32
	size          int64
	modified      int64 // the later of mtime and ctime, in nanoseconds; nobody can set the latter back
	mode          fs.FileMode
}

// sameFile says whether two signatures are of one file, with the same owner and mode.
func (s signature) sameFile(other signature) bool {
	return s.device == other.device && s.inode == other.inode && s.owner == other.owner && s.mode == other.mode
}

func sign(stat fs.FileInfo) signature {
	s := stat.Sys().(*syscall.Stat_t)
	return signature{
		device:   s.Dev,
		inode:    s.Ino,
		owner:    s.Uid,
		size:     s.Size,
		modified: max(s.Mtim.Nano(), s.Ctim.Nano()),
		mode:     stat.Mode(),
	}
}

// signStat is sign for what the kernel answered itself.
func signStat(s *unix.Stat_t) signature {
	return signature{
		device:   s.Dev,
		inode:    s.Ino,
		owner:    s.Uid,
		size:     s.Size,
		modified: max(s.Mtim.Nano(), s.Ctim.Nano()),
		mode:     modeOf(s.Mode),
	}
}

// modeOf is the mode as package os has it.
func modeOf(mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	for _, bit := range []struct {
		bit  uint32
		mode fs.FileMode
	}{{unix.S_ISUID, fs.ModeSetuid}, {unix.S_ISGID, fs.ModeSetgid}, {unix.S_ISVTX, fs.ModeSticky}} {
		if mode&bit.bit != 0 {
			m |= bit.mode
		}
	}
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		m |= fs.ModeDir
	case unix.S_IFIFO:
		m |= fs.ModeNamedPipe
	case unix.S_IFSOCK:
		m |= fs.ModeSocket
	case unix.S_IFBLK:
		m |= fs.ModeDevice
	case unix.S_IFCHR:
		m |= fs.ModeDevice | fs.ModeCharDevice
	}
	return m
}

// ownerOf is the user and the group of a file.
func ownerOf(stat fs.FileInfo) (user, group int) {
	s := stat.Sys().(*syscall.Stat_t)
	return int(s.Uid), int(s.Gid)
}

// rested says whether the file system's own times say that nothing changed for a while. A time in the future says
// nothing.
func (s signature) rested(now time.Time, d time.Duration) bool {
	return s.modified <= now.Add(-d).UnixNano()
}

// sight is one file that could hold an object.
type sight struct {
	name      string // with its ending
	signature signature
	fault     string // why it cannot be one
}

// see looks at the files that could hold an object: base less its ending. It opens nothing. What exists and cannot be
// told apart from absent is a fault. byList takes the list of the folder's names, where there is one, for what is absent.
func (d *nsdbDir) see(base string, byList bool) (sights []sight) {
	dir, stem := path.Split(base)
	dir = path.Clean(dir)
	in := d.folder(dir)
	exists := endings(1<<len(extensions) - 1)
	if byList && in.stems != nil {
		exists = in.stems[stem]
	}
	for i, extension := range extensions {
		if exists&(1<<i) == 0 {
			continue
		}
		s := sight{name: stem + extension}
		signature, err := signature{}, in.err
		if err == nil {
			signature, err = d.sign(in, dir, s.name)
		}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			s.fault = s.name + ": " + cause(err)
		case !signature.mode.IsRegular():
			s.fault = fmt.Sprintf("%s: is %s: allowed: a regular file", s.name, kind(signature.mode))
		default:
			s.signature = signature
		}
		sights = append(sights, s)
	}
	return sights
}

func kind(mode fs.FileMode) string {
	switch {
	case mode.IsDir():
		return "a directory"
	case mode&fs.ModeNamedPipe != 0:
		return "a named pipe"
	case mode&fs.ModeSocket != 0:
		return "a socket"
	default:
		return "a device"
	}
}

// errMoving says that a file is not what it was when the reading began.
var errMoving = errors.New("is being written")

// writer says whether somebody has a file open for writing.
type writer int

const (
	noWriter writer = iota
	hasWriter
	unknownWriter // the file system does not tell
)

// read reads the file that was seen. errMoving asks for another look.
func (d *nsdbDir) read(name string, seen signature) (value []byte, w writer, err error) {
	// A pipe may have taken the file's place since: O_NONBLOCK does not wait for its writer.
	file, err := d.root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EAGAIN) {
		return nil, noWriter, errMoving
	}
	if err != nil {
		return nil, noWriter, errors.New(cause(err))
	}
	defer file.Close()
	if same, err := stands(file, seen); err != nil || !same {
		return nil, noWriter, orMoving(err)
	}
	w = writerOf(file)
	if seen.size > 0 { // a file that the kernel generates has no size, and a read of /proc/kmsg waits
		value, err = io.ReadAll(io.LimitReader(file, native.MaxSize+1))
	}
	if err != nil {
		return nil, w, errors.New(cause(err))
	}
	if same, err := stands(file, seen); err != nil || !same {
		return nil, w, orMoving(err)
	}
	if stat, err := d.root.Stat(name); err != nil || sign(stat) != seen {
		return nil, w, errMoving
	}
	return value, w, nil
}

func stands(file *os.File, seen signature) (bool, error) {
	stat, err := file.Stat()
	return err == nil && sign(stat) == seen, err
}

func orMoving(err error) error {
	if err != nil {
		return errors.New(cause(err))
	}
	return errMoving
}

// writerOf asks the kernel: a read lease is refused while somebody has the file open for writing (fcntl(2), F_SETLEASE). It
// is given back at once. NFS, FUSE and others have no leases.
func writerOf(file *os.File) writer {
	_, err := unix.FcntlInt(file.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
	switch {
	case err == nil:
		_, _ = unix.FcntlInt(file.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
		return noWriter
	case errors.Is(err, unix.EAGAIN):
		return hasWriter
	default:
		return unknownWriter
	}
}
