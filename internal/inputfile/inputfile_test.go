package inputfile

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// If Open or Read blocked, the test would not end.
func TestOpenAndReadDoNotBlock(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for _, err := range []error{
		os.WriteFile(path("file"), []byte("content"), 0o600), os.WriteFile(path("empty"), nil, 0o600),
		unix.Mkfifo(path("pipe"), 0o600), os.Symlink("/proc/kmsg", path("kmsg")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"file": "content", "empty": "", "kmsg": "", "pipe": ""} {
		file, info, err := Open(path(name))
		if err != nil {
			if name == "kmsg" && os.Geteuid() != 0 {
				continue
			}
			t.Errorf("%s: %v", name, err)
			continue
		}
		if pipe := info.Mode()&fs.ModeNamedPipe != 0; pipe != (name == "pipe") {
			t.Errorf("%s: mode %v", name, info.Mode())
		}
		if content, err := Read(file, info); err != nil || string(content) != want {
			t.Errorf("%s: %q %v", name, content, err)
		}
		_ = file.Close()
	}
	if _, _, err := Open(path("missing")); !os.IsNotExist(err) {
		t.Error(err)
	}
}
