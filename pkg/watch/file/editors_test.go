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
	edited    = "ca:08:1a:94:29:0e"
	withMAC   = "portId: p\nhostId: h\ninterfaceName: vpn-p\ncontainerId: c\nmac: " + edited + "\n"
	bindingP  = "bindings/h/p.yaml"
	fileCount = 40
)

// Each row does what a tool does when it saves the binding with a MAC address added.
func TestAnEditIsSeenAsOneChangeWhenATool(t *testing.T) {
	rows := []struct {
		name string
		edit func(g *ground)
	}{
		{"writes in place", func(g *ground) {
			g.write(g.dir, bindingP, withMAC)
		}},
		{"writes beside and renames (sed, git, rsync, Ansible)", func(g *ground) {
			g.write(g.dir, "bindings/h/.p.yaml.Qk3dTz", withMAC)
			g.rename("bindings/h/.p.yaml.Qk3dTz", bindingP)
		}},
		{"is vim", func(g *ground) {
			g.write(g.dir, "bindings/h/.p.yaml.swp", "b0VIM")
			g.write(g.dir, "bindings/h/4913", "")
			g.remove("bindings/h/4913")
			g.rename(bindingP, "bindings/h/p.yaml~")
			g.write(g.dir, bindingP, withMAC)
			g.remove("bindings/h/p.yaml~")
			g.remove("bindings/h/.p.yaml.swp")
		}},
		{"is a vim that stops between the two renames", func(g *ground) {
			g.rename(bindingP, "bindings/h/p.yaml~")
			g.settle()
			g.write(g.dir, bindingP, withMAC)
		}},
		{"is Emacs", func(g *ground) {
			g.check(os.Symlink("somebody@somewhere.1234:1", g.path("bindings/h/.#p.yaml")))
			g.write(g.dir, "bindings/h/#p.yaml#", withMAC[:30])
			g.rename(bindingP, "bindings/h/p.yaml~")
			g.write(g.dir, bindingP, withMAC)
			g.remove("bindings/h/#p.yaml#")
			g.remove("bindings/h/.#p.yaml")
		}},
		{"leaves files of its own behind (dpkg, rpm, patch)", func(g *ground) {
			for _, ending := range []string{".dpkg-new", ".dpkg-old", ".rpmsave", ".orig", ".tmp", ".bak"} {
				g.write(g.dir, bindingP+ending, "portId: [")
			}
			g.write(g.dir, "bindings/h/p.dpkg-dist.yaml", "portId: [")
			g.write(g.dir, bindingP, withMAC)
		}},
		{"truncates and then takes its time, in pieces (scp, cat)", func(g *ground) {
			file, err := os.OpenFile(g.path(bindingP), os.O_WRONLY|os.O_TRUNC, 0)
			g.check(err)
			g.settle()
			for line := range strings.Lines(withMAC) {
				_, err := file.WriteString(line)
				g.check(err)
				g.settle() // longer than a file must rest
			}
			g.check(file.Close())
		}},
		{"removes and makes anew", func(g *ground) {
			g.remove(bindingP)
			g.settle()
			g.write(g.dir, bindingP, withMAC)
		}},
		{"turns YAML into JSON", func(g *ground) {
			g.remove(bindingP)
			g.write(g.dir, "bindings/h/p.json", `{"portId": "p", "hostId": "h", "interfaceName": "vpn-p", "containerId": "c", "mac": "`+edited+`"}`)
		}},
		{"swaps the directory", func(g *ground) {
			g.fill(g.dir + ".new")
			g.write(g.dir+".new", bindingP, withMAC)
			g.check(os.Rename(g.dir, g.dir+".old"))
			g.check(os.Rename(g.dir+".new", g.dir))
		}},
		{"swaps the directory and is interrupted", func(g *ground) {
			g.fill(g.dir + ".new")
			g.write(g.dir+".new", bindingP, withMAC)
			g.check(os.Rename(g.dir, g.dir+".old"))
			time.Sleep(2 * g.nsdb.patience.settle) // a look falls into the gap
			g.check(os.Rename(g.dir+".new", g.dir))
		}},
		{"removes the directory and copies another one", func(g *ground) {
			g.remove("")
			g.fill(g.dir)
			g.write(g.dir, bindingP, withMAC)
		}},
		{"swaps the folder of the host's bindings", func(g *ground) {
			g.write(g.dir, "new/p.yaml", withMAC)
			g.rename("bindings/h", "old")
			g.rename("new", "bindings/h")
		}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			g := newGround(t)
			g.nsdb.patience.doubt = time.Second // a busy machine must not look like a removal
			g.nsdb.patience.busy = time.Minute
			g.startsWell()
			mark := g.mark()
			row.edit(g)
			g.until("the edit", func(d spec.Desired) bool { return mac(d) == edited })
			g.settle()
			for _, set := range g.since(mark) {
				if !whole(set) || mac(set) != "" && mac(set) != edited {
					t.Errorf("on the way: %+v", set)
				}
			}
			if n := g.logged("WARN"); n > 0 {
				t.Errorf("%d warnings: %q", n, g.log)
			}
		})
	}
}

func TestAVolumeOfKubernetesIsFollowed(t *testing.T) {
	g := newGround(t)
	g.nsdb.patience.doubt = time.Second
	g.remove("")
	g.fill(g.path("..2026_01"))
	g.fill(g.path("..2026_02"))
	g.write(g.path("..2026_02"), bindingP, withMAC)
	g.check(os.Symlink("..2026_01", g.path("..data")))
	for _, folder := range []string{"hosts", "bindings", "containers", "configurations"} {
		g.check(os.Symlink("..data/"+folder, g.path(folder)))
	}
	g.startsWell()
	mark := g.mark()

	g.check(os.Symlink("..2026_02", g.path("..data_tmp")))
	g.rename("..data_tmp", "..data")
	g.remove("..2026_01")
	g.until("the swap", func(d spec.Desired) bool { return mac(d) == edited })
	for _, set := range g.since(mark) {
		if !whole(set) {
			t.Errorf("on the way: %+v", set)
		}
	}
}

func TestALinkedDirectoryIsFollowed(t *testing.T) {
	g := newGround(t)
	g.nsdb.patience.doubt = time.Second
	g.check(os.Rename(g.dir, g.dir+".1"))
	g.fill(g.dir + ".2")
	g.write(g.dir+".2", bindingP, withMAC)
	g.check(os.Symlink(filepath.Base(g.dir)+".1", g.dir))
	g.startsWell()
	mark := g.mark()

	// ln -sfn: the link is missing for a moment.
	g.check(os.Remove(g.dir))
	g.check(os.Symlink(filepath.Base(g.dir)+".2", g.dir))
	g.until("the swap", func(d spec.Desired) bool { return mac(d) == edited })

	// And an edit in the new place is seen, too.
	g.write(g.dir+".2", bindingP, binding("p", "vpn-p", "c"))
	g.until("an edit behind the link", func(d spec.Desired) bool { return whole(d) && mac(d) == "" })
	for _, set := range g.since(mark) {
		if !whole(set) {
			t.Errorf("on the way: %+v", set)
		}
	}
}

func TestAChangeOfManyFilesIsOneChange(t *testing.T) {
	g := newGround(t)
	g.run()
	mark := g.mark()
	for i := range fileCount {
		id := string(rune('a'+i%26)) + string(rune('a'+i/26))
		g.write(g.dir, "bindings/h/"+id+".yaml", binding(id, "vpn-"+id, id))
		g.write(g.dir, "containers/"+id+".yaml", container(id))
	}
	g.until("all", func(d spec.Desired) bool { return len(d.Bindings) == fileCount+1 })
	for _, set := range g.since(mark) {
		for _, b := range set.Bindings {
			if b.Reading != spec.Whole {
				t.Errorf("on the way: %+v", b)
			}
		}
	}
}
