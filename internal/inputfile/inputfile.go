// Package inputfile reads files whose path a user has given, without blocking. It does not wait for the writer of a
// pipe. It does not read files that the kernel generates, such as /proc/kmsg: they are regular files of size 0, and a
// read of them can block forever.
package inputfile

import (
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Open opens a file for reading and returns it with its file information.
func Open(path string) (*os.File, fs.FileInfo, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := file.Stat()
	if err != nil {
		_ = file.Close()
		return nil, nil, err
	}
	return file, info, nil
}

// Read reads the rest of a file that Open has opened. For a regular file of size 0 it returns no content without
// reading.
func Read(file io.Reader, info fs.FileInfo) ([]byte, error) {
	if info.Mode().IsRegular() && info.Size() == 0 {
		return nil, nil
	}
	return io.ReadAll(file)
}
