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

// signature has the attributes by which a change of a file or directory is detected.
type signature struct {
	device, inode uint64
	owner         uint32
	size          int64
	changed       int64 // the later of mtime and ctime, in nanoseconds; programs cannot set ctime back
	mode          fs.FileMode
}

// sameFile reports whether two signatures are of the same file, with the same owner and mode.
func (s signature) sameFile(other signature) bool {
	return s.device == other.device && s.inode == other.inode && s.owner == other.owner && s.mode == other.mode
}

func signatureOf(stat fs.FileInfo) signature {
	s := stat.Sys().(*syscall.Stat_t)
	return signature{
		device:  s.Dev,
		inode:   s.Ino,
		owner:   s.Uid,
		size:    s.Size,
		changed: max(s.Mtim.Nano(), s.Ctim.Nano()),
		mode:    stat.Mode(),
	}
}

// signatureOfStat does what signatureOf does, for the result of a stat system call.
func signatureOfStat(s *unix.Stat_t) signature {
	return signature{
		device:  s.Dev,
		inode:   s.Ino,
		owner:   s.Uid,
		size:    s.Size,
		changed: max(s.Mtim.Nano(), s.Ctim.Nano()),
		mode:    fileMode(s.Mode),
	}
}

// fileMode converts the mode of a stat system call to that of package os.
func fileMode(mode uint32) fs.FileMode {
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

// userAndGroup returns the ids of the owner of a file.
func userAndGroup(stat fs.FileInfo) (user, group int) {
	s := stat.Sys().(*syscall.Stat_t)
	return int(s.Uid), int(s.Gid)
}

// rested reports whether the file has not changed for d, according to the times in the file system. It returns false if
// these times are in the future.
func (s signature) rested(now time.Time, d time.Duration) bool {
	return s.changed <= now.Add(-d).UnixNano()
}

// candidate is a file that may contain an object.
type candidate struct {
	name      string // with its extension
	signature signature
	problem   string // why it cannot be an object; "" if it can
}

// candidates returns the files that may contain an object. base is their path without the extension. It opens no file.
// If it cannot find out whether a file exists, it returns the file with a problem, never as absent. If useListing is
// true and the directory was listed, files that are not in the listing count as absent.
func (d *nsdbDir) candidates(base string, useListing bool) (candidates []candidate) {
	dir, stem := path.Split(base)
	dir = path.Clean(dir)
	parent := d.openDir(dir)
	exists := extensionSet(1<<len(extensions) - 1)
	if useListing && parent.stems != nil {
		exists = parent.stems[stem]
	}
	for i, extension := range extensions {
		if exists&(1<<i) == 0 {
			continue
		}
		c := candidate{name: stem + extension}
		signature, err := signature{}, parent.err
		if err == nil {
			signature, err = d.signature(parent, dir, c.name)
		}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			c.problem = c.name + ": " + cause(err)
		case !signature.mode.IsRegular():
			c.problem = fmt.Sprintf("%s: is %s: allowed: a regular file", c.name, fileKind(signature.mode))
		default:
			c.signature = signature
		}
		candidates = append(candidates, c)
	}
	return candidates
}

func fileKind(mode fs.FileMode) string {
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

// errBeingWritten is the error for a file that changed while it was read.
var errBeingWritten = errors.New("is being written")

// writerState is whether a process has a file open for writing.
type writerState int

const (
	noWriter writerState = iota
	hasWriter
	unknownWriter // the file system has no leases
)

// read reads a file. If the file does not have the expected signature, or changes meanwhile, the error is
// errBeingWritten, and the caller should check the file again.
func (d *nsdbDir) read(name string, expected signature) (value []byte, writer writerState, err error) {
	// The file may have been replaced by a pipe. With O_NONBLOCK, opening the pipe does not wait for a writer.
	file, err := d.root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EAGAIN) {
		return nil, noWriter, errBeingWritten
	}
	if err != nil {
		return nil, noWriter, errors.New(cause(err))
	}
	defer file.Close()
	if same, err := hasSignature(file, expected); err != nil || !same {
		return nil, noWriter, readError(err)
	}
	writer = writerStateOf(file)
	if expected.size > 0 { // files that the kernel generates have size 0, and reading /proc/kmsg would block
		value, err = io.ReadAll(io.LimitReader(file, native.MaxSize+1))
	}
	if err != nil {
		return nil, writer, errors.New(cause(err))
	}
	if same, err := hasSignature(file, expected); err != nil || !same {
		return nil, writer, readError(err)
	}
	if stat, err := d.root.Stat(name); err != nil || signatureOf(stat) != expected {
		return nil, writer, errBeingWritten
	}
	return value, writer, nil
}

func hasSignature(file *os.File, expected signature) (bool, error) {
	stat, err := file.Stat()
	return err == nil && signatureOf(stat) == expected, err
}

func readError(err error) error {
	if err != nil {
		return errors.New(cause(err))
	}
	return errBeingWritten
}

// writerStateOf takes a read lease and releases it at once. The kernel refuses the lease while a process has the file
// open for writing (fcntl(2), F_SETLEASE). NFS, FUSE and other file systems have no leases.
func writerStateOf(file *os.File) writerState {
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
