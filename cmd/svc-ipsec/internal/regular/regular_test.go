package regular

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOnlyRegularFilesAreRead(t *testing.T) {
	at := func(name string) string { return filepath.Join(t.TempDir(), name) }
	file, pipe, directory, link, none := at("file"), at("pipe"), at("directory"), at("link"), at("none")
	for _, err := range []error{
		os.WriteFile(file, []byte("content"), 0o600), unix.Mkfifo(pipe, 0o600), os.Mkdir(directory, 0o700),
		os.Symlink(file, link),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if content, err := ReadFile(file); err != nil || string(content) != "content" {
		t.Errorf("a file: %q, %v", content, err)
	}
	for _, path := range []string{pipe, directory, link, "/dev/null"} {
		if _, err := ReadFile(path); !errors.Is(err, ErrNotRegular) {
			t.Errorf("%s: %v, want %v", path, err, ErrNotRegular)
		}
	}
	if _, err := ReadFile(none); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}
