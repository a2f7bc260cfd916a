package file

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

const (
	editedMAC = "ca:08:1a:94:29:0e"
	withMAC   = "portId: p\nhostId: h\ninterfaceName: vpn-p\ncontainerId: c\nmac: " + editedMAC + "\n"
	bindingP  = "bindings/h/p.yaml"
	fileCount = 40
)

// Each row performs the file operations of a tool that adds a MAC address to the binding.
func TestEditIsOneChangeWhenATool(t *testing.T) {
	rows := []struct {
		name string
		edit func(f *fixture)
	}{
		{"writes in place", func(f *fixture) {
			f.write(f.dir, bindingP, withMAC)
		}},
		{"writes a temporary file and renames it (sed, git, rsync, Ansible)", func(f *fixture) {
			f.write(f.dir, "bindings/h/.p.yaml.Qk3dTz", withMAC)
			f.rename("bindings/h/.p.yaml.Qk3dTz", bindingP)
		}},
		{"is vim", func(f *fixture) {
			f.write(f.dir, "bindings/h/.p.yaml.swp", "b0VIM")
			f.write(f.dir, "bindings/h/4913", "")
			f.remove("bindings/h/4913")
			f.rename(bindingP, "bindings/h/p.yaml~")
			f.write(f.dir, bindingP, withMAC)
			f.remove("bindings/h/p.yaml~")
			f.remove("bindings/h/.p.yaml.swp")
		}},
		{"is vim and pauses between the rename and the write", func(f *fixture) {
			f.rename(bindingP, "bindings/h/p.yaml~")
			f.waitForLaterChange()
			f.write(f.dir, bindingP, withMAC)
		}},
		{"is Emacs", func(f *fixture) {
			f.check(os.Symlink("somebody@somewhere.1234:1", f.path("bindings/h/.#p.yaml")))
			f.write(f.dir, "bindings/h/#p.yaml#", withMAC[:30])
			f.rename(bindingP, "bindings/h/p.yaml~")
			f.write(f.dir, bindingP, withMAC)
			f.remove("bindings/h/#p.yaml#")
			f.remove("bindings/h/.#p.yaml")
		}},
		{"leaves files behind (dpkg, rpm, patch)", func(f *fixture) {
			for _, ending := range []string{".dpkg-new", ".dpkg-old", ".rpmsave", ".orig", ".tmp", ".bak"} {
				f.write(f.dir, bindingP+ending, "portId: [")
			}
			f.write(f.dir, "bindings/h/p.dpkg-dist.yaml", "portId: [")
			f.write(f.dir, bindingP, withMAC)
		}},
		{"truncates and writes slowly in parts (scp, cat)", func(f *fixture) {
			file, err := os.OpenFile(f.path(bindingP), os.O_WRONLY|os.O_TRUNC, 0)
			f.check(err)
			f.waitForLaterChange()
			for line := range strings.Lines(withMAC) {
				_, err := file.WriteString(line)
				f.check(err)
				f.waitForLaterChange() // takes longer than the debounce time
			}
			f.check(file.Close())
		}},
		{"removes and creates the file", func(f *fixture) {
			f.remove(bindingP)
			f.waitForLaterChange()
			f.write(f.dir, bindingP, withMAC)
		}},
		{"replaces YAML by JSON", func(f *fixture) {
			f.remove(bindingP)
			f.write(f.dir, "bindings/h/p.json",
				`{"portId": "p", "hostId": "h", "interfaceName": "vpn-p", "containerId": "c", "mac": "`+editedMAC+`"}`)
		}},
		{"replaces the directory by a rename", func(f *fixture) {
			f.writeObjects(f.dir + ".new")
			f.write(f.dir+".new", bindingP, withMAC)
			f.check(os.Rename(f.dir, f.dir+".old"))
			f.check(os.Rename(f.dir+".new", f.dir))
		}},
		{"replaces the directory and pauses between the renames", func(f *fixture) {
			f.writeObjects(f.dir + ".new")
			f.write(f.dir+".new", bindingP, withMAC)
			f.check(os.Rename(f.dir, f.dir+".old"))
			time.Sleep(2 * f.nsdb.timing.debounce) // so that a scan happens while the directory is missing
			f.check(os.Rename(f.dir+".new", f.dir))
		}},
		{"removes the directory and copies another one to its path", func(f *fixture) {
			f.remove("")
			f.writeObjects(f.dir)
			f.write(f.dir, bindingP, withMAC)
		}},
		{"replaces the directory of the host's bindings", func(f *fixture) {
			f.write(f.dir, "new/p.yaml", withMAC)
			f.rename("bindings/h", "old")
			f.rename("new", "bindings/h")
		}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			f := newFixture(t)
			f.nsdb.timing.removalDelay = time.Second // so that a pause on a busy machine is not taken for a removal
			f.nsdb.timing.maxUnstable = time.Minute
			f.startWithWholeSet()
			mark := f.countSets()
			row.edit(f)
			f.waitFor("the edit", func(d spec.Desired) bool { return mac(d) == editedMAC })
			f.waitForLaterChange()
			for _, set := range f.setsSince(mark) {
				if !hasWholeBinding(set) || mac(set) != "" && mac(set) != editedMAC {
					t.Errorf("an intermediate set: %+v", set)
				}
			}
			if n := f.logged("WARN"); n > 0 {
				t.Errorf("%d warnings: %q", n, f.log)
			}
		})
	}
}

func TestKubernetesVolumeIsFollowed(t *testing.T) {
	f := newFixture(t)
	f.nsdb.timing.removalDelay = time.Second
	f.remove("")
	f.writeObjects(f.path("..2026_01"))
	f.writeObjects(f.path("..2026_02"))
	f.write(f.path("..2026_02"), bindingP, withMAC)
	f.check(os.Symlink("..2026_01", f.path("..data")))
	for _, name := range []string{"hosts", "bindings", "containers", "configurations"} {
		f.check(os.Symlink("..data/"+name, f.path(name)))
	}
	f.startWithWholeSet()
	mark := f.countSets()

	f.check(os.Symlink("..2026_02", f.path("..data_tmp")))
	f.rename("..data_tmp", "..data")
	f.remove("..2026_01")
	f.waitFor("the replaced directory", func(d spec.Desired) bool { return mac(d) == editedMAC })
	for _, set := range f.setsSince(mark) {
		if !hasWholeBinding(set) {
			t.Errorf("an intermediate set: %+v", set)
		}
	}
}

func TestLinkedDirectoryIsFollowed(t *testing.T) {
	f := newFixture(t)
	f.nsdb.timing.removalDelay = time.Second
	f.check(os.Rename(f.dir, f.dir+".1"))
	f.writeObjects(f.dir + ".2")
	f.write(f.dir+".2", bindingP, withMAC)
	f.check(os.Symlink(filepath.Base(f.dir)+".1", f.dir))
	f.startWithWholeSet()
	mark := f.countSets()

	// ln -sfn removes the link before it creates the new one.
	f.check(os.Remove(f.dir))
	f.check(os.Symlink(filepath.Base(f.dir)+".2", f.dir))
	f.waitFor("the replaced directory", func(d spec.Desired) bool { return mac(d) == editedMAC })

	// Edits in the new directory are found, too.
	f.write(f.dir+".2", bindingP, binding("p", "vpn-p", "c"))
	f.waitFor("an edit behind the link", func(d spec.Desired) bool { return hasWholeBinding(d) && mac(d) == "" })
	for _, set := range f.setsSince(mark) {
		if !hasWholeBinding(set) {
			t.Errorf("an intermediate set: %+v", set)
		}
	}
}

func TestChangeOfManyFilesIsOneChange(t *testing.T) {
	f := newFixture(t)
	f.run()
	mark := f.countSets()
	for i := range fileCount {
		id := string(rune('a'+i%26)) + string(rune('a'+i/26))
		f.write(f.dir, "bindings/h/"+id+".yaml", binding(id, "vpn-"+id, id))
		f.write(f.dir, "containers/"+id+".yaml", container(id))
	}
	f.waitFor("all bindings", func(d spec.Desired) bool { return len(d.Bindings) == fileCount+1 })
	for _, set := range f.setsSince(mark) {
		for _, b := range set.Bindings {
			if b.Reading != spec.Complete {
				t.Errorf("an intermediate set: %+v", b)
			}
		}
	}
}
