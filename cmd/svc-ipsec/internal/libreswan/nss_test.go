package libreswan

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A daemon of release 0.1.0 could write to its key database. certutil, run by root, would load a module that is listed
// there.
func TestReuseNSSReplacesModules(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("requires root: it changes groups")
	}
	const user = 1
	template, dir := t.TempDir(), t.TempDir()
	d := &Daemon{Dir: dir, Isolation: Isolation{User: user}}
	for path, content := range map[string]string{
		filepath.Join(template, modules): "the modules of NSS itself", filepath.Join(template, "key4.db"): "empty",
		filepath.Join(d.Files().NSS(), modules):   "library=/run/svc-ipsec/vpn/run/evil.so",
		filepath.Join(d.Files().NSS(), "key4.db"): "keys",
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc/shadow", filepath.Join(d.Files().NSS(), "cert9.db")); err != nil {
		t.Fatal(err)
	}
	if err := d.KeyDatabase().Reuse(t.Context(), template); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{modules: "the modules of NSS itself", "key4.db": "keys"} {
		path := filepath.Join(d.Files().NSS(), name)
		var stat unix.Stat_t
		content, err := os.ReadFile(path)
		if err != nil || string(content) != want {
			t.Errorf("%s: %q %v", name, content, err)
		}
		if err := unix.Lstat(path, &stat); err != nil || stat.Uid != 0 || stat.Gid != user || stat.Mode&0o777 != 0o640 {
			t.Errorf("%s: mode %o, user %d, group %d, %v", name, stat.Mode, stat.Uid, stat.Gid, err)
		}
	}
	if _, err := os.Lstat(filepath.Join(d.Files().NSS(), "cert9.db")); !os.IsNotExist(err) {
		t.Errorf("the symbolic link was kept: %v", err)
	}
	none := &Daemon{Dir: t.TempDir()}
	if err := none.KeyDatabase().Reuse(t.Context(), template); err != nil {
		t.Errorf("no database: %v", err)
	}
}
