// Package inputfile reads files that a person named, without waiting: neither for the writer of a pipe, nor for what the kernel
// generates. Such a file (/proc/kmsg) is a regular one of size 0, and a read of it can wait for ever.
package inputfile

import (
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Open opens a file for reading and describes it.
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

// Read reads the rest of a file that Open opened. A regular file of size 0 has no content.
func Read(file io.Reader, info fs.FileInfo) ([]byte, error) {
	if info.Mode().IsRegular() && info.Size() == 0 {
		return nil, nil
	}
	return io.ReadAll(file)
}
