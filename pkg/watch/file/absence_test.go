package file

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

func TestABindingIsGoneWhenItWasMissedForAWhile(t *testing.T) {
	for name, remove := range map[string]func(g *ground){
		"its file removed":           func(g *ground) { g.remove(bindingP) },
		"its file given another end": func(g *ground) { g.rename(bindingP, bindingP+".off") },
		"the host's folder removed":  func(g *ground) { g.remove("bindings/h") },
		"the folder of all removed":  func(g *ground) { g.remove("bindings") },
		"its container taken away":   func(g *ground) { g.write(g.dir, bindingP, "portId: p\nhostId: h\n") },
		"moved to the folder of x":   func(g *ground) { g.write(g.dir, "bindings/x/q.yaml", ""); g.rename(bindingP, "bindings/x/p.yaml") },
		"the directory swapped for one without it": func(g *ground) {
			g.fill(g.dir + ".new")
			g.check(os.Remove(g.dir + ".new/" + bindingP))
			g.check(os.Rename(g.dir, g.dir+".old"))
			g.check(os.Rename(g.dir+".new", g.dir))
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGround(t)
			g.startsWell()
			mark, begin := g.mark(), time.Now()
			remove(g)
			d := g.until("the removal", func(d spec.Desired) bool { return find(d, "p") == nil })
			took := time.Since(begin)
			if d.Unread != "" || len(d.Bindings) > 0 || d.Host.ID != "h" || len(g.since(mark)) != 1 {
				t.Errorf("got %+v", g.since(mark))
			}
			if least := g.nsdb.patience.doubt; took < least && name != "its container taken away" {
				t.Errorf("it was believed after %v, before %v", took, least)
			}
		})
	}
}

func TestTheHostIsUnreadAndNeverEmptyWhen(t *testing.T) {
	rows := []struct {
		name   string
		spoil  func(g *ground)
		mend   func(g *ground)
		unread string
	}{
		{"the directory is gone",
			func(g *ground) { g.check(os.Rename(g.dir, g.dir+".off")) },
			func(g *ground) { g.check(os.Rename(g.dir+".off", g.dir)) },
			"does not exist"},
		{"the directory is removed piece by piece",
			func(g *ground) {
				for _, folder := range []string{"bindings", "configurations", "containers", "hosts"} {
					g.remove(folder)
					time.Sleep(g.nsdb.patience.doubt / 3)
				}
			},
			func(g *ground) { g.fill(g.dir) },
			"no Host object"},
		{"the directory is empty, as a mount point without its mount is",
			func(g *ground) {
				g.check(os.Rename(g.dir, g.dir+".off"))
				g.check(os.Mkdir(g.dir, 0o755))
			},
			func(g *ground) {
				g.check(os.Remove(g.dir))
				g.check(os.Rename(g.dir+".off", g.dir))
			},
			"no Host object"},
		{"the directory is a file",
			func(g *ground) {
				g.check(os.Rename(g.dir, g.dir+".off"))
				g.check(os.WriteFile(g.dir, nil, 0o644))
			},
			func(g *ground) {
				g.check(os.Remove(g.dir))
				g.check(os.Rename(g.dir+".off", g.dir))
			},
			"is not a directory"},
		{"the directory is a link to itself",
			func(g *ground) {
				g.check(os.Rename(g.dir, g.dir+".off"))
				g.check(os.Symlink(g.dir, g.dir))
			},
			func(g *ground) {
				g.check(os.Remove(g.dir))
				g.check(os.Rename(g.dir+".off", g.dir))
			},
			"too many levels of symbolic links"},
		{"the Host object is gone",
			func(g *ground) { g.rename("hosts/h.yaml", "h") },
			func(g *ground) { g.rename("h", "hosts/h.yaml") },
			"no Host object"},
		{"the Host object is no YAML",
			func(g *ground) { g.write(g.dir, "hosts/h.yaml", "id: [") },
			func(g *ground) { g.write(g.dir, "hosts/h.yaml", "id: h") },
			"is not YAML"},
		{"the Host object is empty",
			func(g *ground) { g.write(g.dir, "hosts/h.yaml", "") },
			func(g *ground) { g.write(g.dir, "hosts/h.yaml", "id: h") },
			"is empty"},
		{"the folder of its bindings is a file",
			func(g *ground) {
				g.rename("bindings/h", "off")
				g.write(g.dir, "bindings/h", "")
			},
			func(g *ground) {
				g.remove("bindings/h")
				g.rename("off", "bindings/h")
			},
			"cannot be listed: not a directory"},
		{"the folder of its bindings is a link to nothing",
			func(g *ground) {
				g.rename("bindings/h", "off")
				g.check(os.Symlink("nowhere", g.path("bindings/h")))
			},
			func(g *ground) {
				g.remove("bindings/h")
				g.rename("off", "bindings/h")
			},
			"leads nowhere"},
		{"the folder of all bindings is a link to nothing",
			func(g *ground) {
				g.rename("bindings", "off")
				g.check(os.Symlink("nowhere", g.path("bindings")))
			},
			func(g *ground) {
				g.remove("bindings")
				g.rename("off", "bindings")
			},
			"leads nowhere"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			g := newGround(t)
			g.startsWell()
			mark := g.mark()
			row.spoil(g)
			d := g.until("unread", func(d spec.Desired) bool { return d.Unread != "" })
			if !strings.Contains(d.Unread, row.unread) || len(d.Bindings) > 0 {
				t.Errorf("got %+v", d)
			}
			row.mend(g)
			g.until("well again", whole)
			for _, set := range g.since(mark) {
				if set.Unread == "" && !whole(set) {
					t.Errorf("on the way: %+v", set)
				}
			}
		})
	}
}

func TestADirectoryThatIsFilledSlowlyIsReadWhenItIsFull(t *testing.T) {
	for name, start := range map[string]func(g *ground){
		"from the start":         func(g *ground) { g.check(os.Mkdir(g.dir, 0o755)); g.start() },
		"after it did not exist": func(g *ground) { g.run(); g.check(os.Mkdir(g.dir, 0o755)) },
	} {
		t.Run(name, func(t *testing.T) {
			g := newGround(t)
			g.nsdb.patience.doubt = 1500 * time.Millisecond
			g.nsdb.patience.busy = time.Minute
			g.remove("")
			start(g)
			ports := []string{"a", "b", "c", "d", "e", "f"}
			g.write(g.dir, "hosts/h.yaml", "id: h")
			for _, port := range ports {
				time.Sleep(100 * time.Millisecond) // one by one, each found by a look of its own
				g.write(g.dir, "bindings/h/"+port+".yaml", binding(port, "vpn-"+port, "c"))
			}
			d := g.until("a read set", func(d spec.Desired) bool { return d.Unread == "" })
			if len(d.Bindings) != len(ports) {
				t.Errorf("the first set that was read: %+v", d)
			}
		})
	}
}

func TestWhatCannotBeReadIsNeverAbsent(t *testing.T) {
	socket := func(g *ground, name string) {
		dir, err := os.Open(filepath.Dir(g.path(name)))
		g.check(err)
		defer dir.Close()
		// The path of a socket may have 107 bytes.
		listener, err := net.Listen("unix", fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(name)))
		g.check(err)
		listener.(*net.UnixListener).SetUnlinkOnClose(false)
		g.Cleanup(func() { _ = listener.Close() })
	}
	device := func(g *ground, name string) {
		if os.Geteuid() != 0 {
			g.Skip("requires root: to make a device")
		}
		g.check(syscall.Mknod(g.path(name), syscall.S_IFCHR|0o600, 1<<8|5)) // /dev/zero
	}
	linkTo := func(target string) func(g *ground, name string) {
		return func(g *ground, name string) { g.check(os.Symlink(target, g.path(name))) }
	}
	up := func(name string) string { return strings.Repeat("../", strings.Count(name, "/")+1) } // to the directory above the NSDB's
	ways := []struct {
		name  string
		spoil func(g *ground, name string)
		fault string
	}{
		{"a directory", func(g *ground, name string) { g.check(os.Mkdir(g.path(name), 0o755)) }, "is a directory: allowed: a regular file"},
		{"a pipe without a writer", func(g *ground, name string) { g.check(syscall.Mkfifo(g.path(name), 0o644)) }, "is a named pipe: allowed: a regular file"},
		{"a socket", socket, "is a socket: allowed: a regular file"},
		{"a device", device, "is a device: allowed: a regular file"},
		{"a link to a device", linkTo("/dev/zero"), outside},
		{"a link to what the kernel generates", linkTo("/proc/kmsg"), outside},
		{"a link to a file outside", func(g *ground, name string) {
			g.write(g.dir, "../outside.yaml", "psk: hunter2\n")
			g.check(os.Symlink(up(name)+"outside.yaml", g.path(name)))
		}, outside},
		{"an absolute link to a file inside", func(g *ground, name string) { g.check(os.Symlink(g.path("off"), g.path(name))) }, outside},
		{"a link through a directory outside", func(g *ground, name string) {
			g.check(os.Symlink(up(name)+filepath.Base(g.dir)+"/off", g.path(name)))
		}, outside},
		{"a link to nothing", func(g *ground, name string) { g.check(os.Symlink("nothing", g.path(name))) }, "is a link to nothing"},
		{"a link to itself", func(g *ground, name string) { g.check(os.Symlink(filepath.Base(name), g.path(name))) }, "too many levels of symbolic links"},
		{"empty", func(g *ground, name string) { g.write(g.dir, name, "") }, "is empty"},
		{"no YAML", func(g *ground, name string) { g.place(name, "{{hunter2") }, "is not YAML"},
		{"too large", func(g *ground, name string) { g.place(name, strings.Repeat("#", 1<<20+1)) }, "is larger than 1 MiB"},
		{"two files", func(g *ground, name string) {
			g.place(name, g.read("off")) // as before, so that the second file alone is at fault
			g.place(strings.TrimSuffix(name, "yaml")+"json", "")
		}, "yaml and "},
	}
	objects := []struct {
		key     string
		reading spec.Reading
	}{
		{"bindings/h/p", spec.Unread}, {"containers/c", spec.Unknown}, {"configurations/k", spec.Unknown},
	}
	for _, way := range ways {
		for _, object := range objects {
			t.Run(object.key+" is "+way.name, func(t *testing.T) {
				g := newGround(t)
				g.startsWell()
				mark := g.mark()
				name := object.key + ".yaml"
				g.rename(name, "off")
				way.spoil(g, name)
				d := g.until("the fault", func(d spec.Desired) bool { b := find(d, "p"); return b != nil && b.Reading != spec.Whole })
				b := find(d, "p")
				if b.Reading != object.reading || !strings.HasPrefix(b.Fault, object.key+": ") || !strings.Contains(b.Fault, way.fault) || strings.ContainsAny(b.Fault, "\n") {
					t.Errorf("got %+v", b)
				}
				if strings.Contains(b.Fault, "hunter2") {
					t.Errorf("the fault repeats what the file holds: %s", b.Fault)
				}
				g.settle() // the other bindings go on

				g.remove(name)
				g.remove(object.key + ".json")
				g.rename("off", name)
				g.until("well again", whole)
				for _, set := range g.since(mark) {
					if set.Unread != "" || find(set, "p") == nil {
						t.Errorf("on the way: %+v", set)
					}
				}
				if g.logged("cannot be used "+object.key) != 1 || g.logged("well again "+object.key) != 1 {
					t.Errorf("the log: %q", g.log)
				}
			})
		}
	}
}

func TestAHostileFileNameIsToldAndHarmless(t *testing.T) {
	g := newGround(t)
	g.write(g.dir, "bindings/h/a\nb.yaml", "{}")
	g.write(g.dir, "bindings/h/$(reboot).yaml", "{}")
	g.write(g.dir, "bindings/h/"+strings.Repeat("x", 65)+".yaml", "{}")
	g.startsWell()
	if n := g.logged("WARN"); n != 3 || g.logged("\n") > 0 {
		t.Errorf("the log: %q", g.log)
	}
}
