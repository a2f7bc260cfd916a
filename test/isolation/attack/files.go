package main

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

var fileAttempts = map[string]attempt{
	"read":           readFile,
	"open-to-write":  openToWrite,
	"create":         create,
	"write":          write,
	"list":           list,
	"writable":       writable,
	"open-all":       openAll,
	"lock":           lock,
	"make-directory": func(args []string) (string, error) { return "", unix.Mkdir(args[0], 0o700) },
	"make-link":      func(args []string) (string, error) { return "", unix.Symlink(args[0], args[1]) },
	"make-hard-link": func(args []string) (string, error) { return "", unix.Link(args[0], args[1]) },
	"make-pipe":      func(args []string) (string, error) { return "", unix.Mkfifo(args[0], 0o600) },
	"make-device": func(args []string) (string, error) {
		return "", unix.Mknod(args[0], unix.S_IFCHR|0o600, 1<<8|5)
	},
	"make-setuid":    makeSetuid,
	"rename":         func(args []string) (string, error) { return "", unix.Rename(args[0], args[1]) },
	"remove":         func(args []string) (string, error) { return "", unix.Unlink(args[0]) },
	"connect":        func(args []string) (string, error) { return connect("unix", args[0]) },
	"connect-packet": func(args []string) (string, error) { return connect("unixgram", args[0]) },
	"listen":         listen,
	"execute":        execute,
	"execute-memory": executeMemory,
}

// readFile reads the beginning of a file. It does not return the content, which may be a secret.
func readFile(args []string) (string, error) {
	fd, err := unix.Open(args[0], unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer func() { _ = unix.Close(fd) }()
	_, err = unix.Read(fd, make([]byte, 4096))
	return "", err
}

// openToWrite opens a file and writes nothing.
func openToWrite(args []string) (string, error) {
	fd, err := unix.Open(args[0], unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	return "", unix.Close(fd)
}

// create creates a file and removes it.
func create(args []string) (string, error) {
	fd, err := unix.Open(args[0], unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return "", err
	}
	_ = unix.Close(fd)
	return "", unix.Unlink(args[0])
}

// write writes a number of bytes to a new file, and removes the file.
func write(args []string) (string, error) {
	size, err := strconv.Atoi(args[1])
	if err != nil {
		return "", err
	}
	file, err := os.OpenFile(args[0], os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	defer func() { _ = os.Remove(args[0]) }()
	_, err = file.Write(make([]byte, size))
	return "", err
}

// list lists a directory.
func list(args []string) (string, error) {
	entries, err := os.ReadDir(args[0])
	if err != nil {
		return "", err
	}
	names := []string{}
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return "has: " + strings.Join(names, " "), nil
}

// writable lists the files and directories below a directory that are writable according to faccessat(2). It skips the
// directories of processes in /proc.
func writable(args []string) (string, error) {
	return walk(args[0], func(path string, entry fs.DirEntry) bool {
		return entry.Type()&fs.ModeSymlink == 0 &&
			unix.Faccessat(unix.AT_FDCWD, path, unix.W_OK, unix.AT_EACCESS) == nil
	})
}

// openAll lists the files below a directory that can be opened for writing. It writes nothing.
func openAll(args []string) (string, error) {
	return walk(args[0], func(path string, entry fs.DirEntry) bool {
		if entry.IsDir() {
			return false
		}
		_, err := openToWrite([]string{path})
		return err == nil
	})
}

// processPath matches the directory of a process in /proc.
var processPath = regexp.MustCompile(`^/proc/([0-9]+|self|thread-self)$`)

// walk lists the paths below root, except those of processes, for which found returns true. It ignores paths that
// cannot be read.
func walk(root string, found func(string, fs.DirEntry) bool) (string, error) {
	var names []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if entry == nil {
			return err
		}
		if processPath.MatchString(path) {
			return filepath.SkipDir
		}
		if err == nil && found(path, entry) {
			names = append(names, path)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	slices.Sort(names)
	return "has: " + strings.Join(names, " "), nil
}

// lock locks a directory in the same way as a verb does.
func lock(args []string) (string, error) {
	fd, err := unix.Open(args[0], unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer func() { _ = unix.Close(fd) }()
	return "", unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
}

// makeSetuid creates a file with the set-user-ID bit, and removes it.
func makeSetuid(args []string) (string, error) {
	file, err := os.OpenFile(args[0], os.O_WRONLY|os.O_CREATE, 0o700)
	if err != nil {
		return "", err
	}
	defer func() { _ = os.Remove(args[0]) }()
	return "", unix.Fchmod(int(file.Fd()), unix.S_ISUID|0o700)
}

func connect(network, path string) (string, error) {
	conn, err := net.Dial(network, path)
	if err != nil {
		return "", err
	}
	return "", conn.Close()
}

// listen makes a socket and does not remove it.
func listen(args []string) (string, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return "", err
	}
	return "", unix.Bind(fd, &unix.SockaddrUnix{Name: args[0]})
}

// program is a small program that exists on the host and in the mount view.
const program = "/bin/true"

// execute writes a copy of a program to the given path and executes it.
func execute(args []string) (string, error) {
	content, err := os.ReadFile(program)
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(args[0], content, 0o700); err != nil {
		return "", err
	}
	defer func() { _ = os.Remove(args[0]) }()
	return "", exec.Command(args[0]).Run()
}

// executeMemory executes a copy of a program in an anonymous file.
func executeMemory([]string) (string, error) {
	fd, err := copyToMemory(program)
	if err != nil {
		return "", err
	}
	return "", exec.Command(fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd)).Run()
}
