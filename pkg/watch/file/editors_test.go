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

// Each row does what a tool does when it saves the binding with a MAC address added.
func TestAnEditIsSeenAsOneChangeWhenATool(t *testing.T) {
	rows := []struct {
		name string
		edit func(f *fixture)
	}{
		{"writes in place", func(f *fixture) {
			f.write(f.dir, bindingP, withMAC)
		}},
		{"writes beside and renames (sed, git, rsync, Ansible)", func(f *fixture) {
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
		{"is a vim that stops between the two renames", func(f *fixture) {
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
		{"leaves files of its own behind (dpkg, rpm, patch)", func(f *fixture) {
			for _, ending := range []string{".dpkg-new", ".dpkg-old", ".rpmsave", ".orig", ".tmp", ".bak"} {
				f.write(f.dir, bindingP+ending, "portId: [")
			}
			f.write(f.dir, "bindings/h/p.dpkg-dist.yaml", "portId: [")
			f.write(f.dir, bindingP, withMAC)
		}},
		{"truncates and then takes its time, in pieces (scp, cat)", func(f *fixture) {
			file, err := os.OpenFile(f.path(bindingP), os.O_WRONLY|os.O_TRUNC, 0)
			f.check(err)
			f.waitForLaterChange()
			for line := range strings.Lines(withMAC) {
				_, err := file.WriteString(line)
				f.check(err)
				f.waitForLaterChange() // longer than a file must rest
			}
			f.check(file.Close())
		}},
		{"removes and makes anew", func(f *fixture) {
			f.remove(bindingP)
			f.waitForLaterChange()
			f.write(f.dir, bindingP, withMAC)
		}},
		{"turns YAML into JSON", func(f *fixture) {
			f.remove(bindingP)
			f.write(f.dir, "bindings/h/p.json", `{"portId": "p", "hostId": "h", "interfaceName": "vpn-p", "containerId": "c", "mac": "`+editedMAC+`"}`)
		}},
		{"swaps the directory", func(f *fixture) {
			f.fill(f.dir + ".new")
			f.write(f.dir+".new", bindingP, withMAC)
			f.check(os.Rename(f.dir, f.dir+".old"))
			f.check(os.Rename(f.dir+".new", f.dir))
		}},
		{"swaps the directory and is interrupted", func(f *fixture) {
			f.fill(f.dir + ".new")
			f.write(f.dir+".new", bindingP, withMAC)
			f.check(os.Rename(f.dir, f.dir+".old"))
			time.Sleep(2 * f.nsdb.timing.debounce) // a look falls into the gap
			f.check(os.Rename(f.dir+".new", f.dir))
		}},
		{"removes the directory and copies another one", func(f *fixture) {
			f.remove("")
			f.fill(f.dir)
			f.write(f.dir, bindingP, withMAC)
		}},
		{"swaps the folder of the host's bindings", func(f *fixture) {
			f.write(f.dir, "new/p.yaml", withMAC)
			f.rename("bindings/h", "old")
			f.rename("new", "bindings/h")
		}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			f := newFixture(t)
			f.nsdb.timing.removalDelay = time.Second // a busy machine must not look like a removal
			f.nsdb.timing.maxUnstable = time.Minute
			f.startWhole()
			mark := f.countSets()
			row.edit(f)
			f.waitFor("the edit", func(d spec.Desired) bool { return mac(d) == editedMAC })
			f.waitForLaterChange()
			for _, set := range f.setsSince(mark) {
				if !whole(set) || mac(set) != "" && mac(set) != editedMAC {
					t.Errorf("on the way: %+v", set)
				}
			}
			if n := f.logged("WARN"); n > 0 {
				t.Errorf("%d warnings: %q", n, f.log)
			}
		})
	}
}

func TestAVolumeOfKubernetesIsFollowed(t *testing.T) {
	f := newFixture(t)
	f.nsdb.timing.removalDelay = time.Second
	f.remove("")
	f.fill(f.path("..2026_01"))
	f.fill(f.path("..2026_02"))
	f.write(f.path("..2026_02"), bindingP, withMAC)
	f.check(os.Symlink("..2026_01", f.path("..data")))
	for _, folder := range []string{"hosts", "bindings", "containers", "configurations"} {
		f.check(os.Symlink("..data/"+folder, f.path(folder)))
	}
	f.startWhole()
	mark := f.countSets()

	f.check(os.Symlink("..2026_02", f.path("..data_tmp")))
	f.rename("..data_tmp", "..data")
	f.remove("..2026_01")
	f.waitFor("the swap", func(d spec.Desired) bool { return mac(d) == editedMAC })
	for _, set := range f.setsSince(mark) {
		if !whole(set) {
			t.Errorf("on the way: %+v", set)
		}
	}
}

func TestALinkedDirectoryIsFollowed(t *testing.T) {
	f := newFixture(t)
	f.nsdb.timing.removalDelay = time.Second
	f.check(os.Rename(f.dir, f.dir+".1"))
	f.fill(f.dir + ".2")
	f.write(f.dir+".2", bindingP, withMAC)
	f.check(os.Symlink(filepath.Base(f.dir)+".1", f.dir))
	f.startWhole()
	mark := f.countSets()

	// ln -sfn: the link is missing for a moment.
	f.check(os.Remove(f.dir))
	f.check(os.Symlink(filepath.Base(f.dir)+".2", f.dir))
	f.waitFor("the swap", func(d spec.Desired) bool { return mac(d) == editedMAC })

	// And an edit in the new place is seen, too.
	f.write(f.dir+".2", bindingP, binding("p", "vpn-p", "c"))
	f.waitFor("an edit behind the link", func(d spec.Desired) bool { return whole(d) && mac(d) == "" })
	for _, set := range f.setsSince(mark) {
		if !whole(set) {
			t.Errorf("on the way: %+v", set)
		}
	}
}

func TestAChangeOfManyFilesIsOneChange(t *testing.T) {
	f := newFixture(t)
	f.run()
	mark := f.countSets()
	for i := range fileCount {
		id := string(rune('a'+i%26)) + string(rune('a'+i/26))
		f.write(f.dir, "bindings/h/"+id+".yaml", binding(id, "vpn-"+id, id))
		f.write(f.dir, "containers/"+id+".yaml", container(id))
	}
	f.waitFor("all", func(d spec.Desired) bool { return len(d.Bindings) == fileCount+1 })
	for _, set := range f.setsSince(mark) {
		for _, b := range set.Bindings {
			if b.Reading != spec.Whole {
				t.Errorf("on the way: %+v", b)
			}
		}
	}
}
