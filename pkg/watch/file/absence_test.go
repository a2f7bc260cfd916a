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

func TestBindingRemovalIsAcceptedAfterDelay(t *testing.T) {
	for name, remove := range map[string]func(f *fixture){
		"its file is removed":               func(f *fixture) { f.remove(bindingP) },
		"its file gets another extension":   func(f *fixture) { f.rename(bindingP, bindingP+".off") },
		"the host's directory is removed":   func(f *fixture) { f.remove("bindings/h") },
		"the bindings directory is removed": func(f *fixture) { f.remove("bindings") },
		"its container is unset":            func(f *fixture) { f.write(f.dir, bindingP, "portId: p\nhostId: h\n") },
		"its file is moved to the host x": func(f *fixture) {
			f.write(f.dir, "bindings/x/q.yaml", "")
			f.rename(bindingP, "bindings/x/p.yaml")
		},
		"the directory is replaced by one without it": func(f *fixture) {
			f.writeObjects(f.dir + ".new")
			f.check(os.Remove(f.dir + ".new/" + bindingP))
			f.check(os.Rename(f.dir, f.dir+".old"))
			f.check(os.Rename(f.dir+".new", f.dir))
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.startWithWholeSet()
			mark, begin := f.countSets(), time.Now()
			remove(f)
			d := f.waitFor("the removal", func(d spec.Desired) bool { return find(d, "p") == nil })
			took := time.Since(begin)
			if d.Unread != "" || len(d.Bindings) > 0 || d.Host.ID != "h" || len(f.setsSince(mark)) != 1 {
				t.Errorf("got %+v", f.setsSince(mark))
			}
			if least := f.nsdb.timing.removalDelay; took < least && name != "its container is unset" {
				t.Errorf("the removal was accepted after %v, before %v", took, least)
			}
		})
	}
}

func TestHostIsUnreadWhen(t *testing.T) {
	rows := []struct {
		name   string
		damage func(f *fixture)
		repair func(f *fixture)
		unread string
	}{
		{"the directory is renamed",
			func(f *fixture) { f.check(os.Rename(f.dir, f.dir+".off")) },
			func(f *fixture) { f.check(os.Rename(f.dir+".off", f.dir)) },
			"does not exist"},
		{"the directory is removed step by step",
			func(f *fixture) {
				for _, name := range []string{"bindings", "configurations", "containers", "hosts"} {
					f.remove(name)
					time.Sleep(f.nsdb.timing.removalDelay / 3)
				}
			},
			func(f *fixture) { f.writeObjects(f.dir) },
			"no Host object"},
		{"the directory is empty, like a mount point without its file system",
			func(f *fixture) {
				f.check(os.Rename(f.dir, f.dir+".off"))
				f.check(os.Mkdir(f.dir, 0o755))
			},
			func(f *fixture) {
				f.check(os.Remove(f.dir))
				f.check(os.Rename(f.dir+".off", f.dir))
			},
			"no Host object"},
		{"the directory is a file",
			func(f *fixture) {
				f.check(os.Rename(f.dir, f.dir+".off"))
				f.check(os.WriteFile(f.dir, nil, 0o644))
			},
			func(f *fixture) {
				f.check(os.Remove(f.dir))
				f.check(os.Rename(f.dir+".off", f.dir))
			},
			"is not a directory"},
		{"the directory is a link to itself",
			func(f *fixture) {
				f.check(os.Rename(f.dir, f.dir+".off"))
				f.check(os.Symlink(f.dir, f.dir))
			},
			func(f *fixture) {
				f.check(os.Remove(f.dir))
				f.check(os.Rename(f.dir+".off", f.dir))
			},
			"too many levels of symbolic links"},
		{"the Host object is removed",
			func(f *fixture) { f.rename("hosts/h.yaml", "h") },
			func(f *fixture) { f.rename("h", "hosts/h.yaml") },
			"no Host object"},
		{"the Host object is no YAML",
			func(f *fixture) { f.write(f.dir, "hosts/h.yaml", "id: [") },
			func(f *fixture) { f.write(f.dir, "hosts/h.yaml", "id: h") },
			"is not YAML"},
		{"the Host object is empty",
			func(f *fixture) { f.write(f.dir, "hosts/h.yaml", "") },
			func(f *fixture) { f.write(f.dir, "hosts/h.yaml", "id: h") },
			"is empty"},
		{"the directory of its bindings is a file",
			func(f *fixture) {
				f.rename("bindings/h", "off")
				f.write(f.dir, "bindings/h", "")
			},
			func(f *fixture) {
				f.remove("bindings/h")
				f.rename("off", "bindings/h")
			},
			"cannot be listed: not a directory"},
		{"the directory of its bindings is a dangling link",
			func(f *fixture) {
				f.rename("bindings/h", "off")
				f.check(os.Symlink("nowhere", f.path("bindings/h")))
			},
			func(f *fixture) {
				f.remove("bindings/h")
				f.rename("off", "bindings/h")
			},
			"leads nowhere"},
		{"the directory of all bindings is a dangling link",
			func(f *fixture) {
				f.rename("bindings", "off")
				f.check(os.Symlink("nowhere", f.path("bindings")))
			},
			func(f *fixture) {
				f.remove("bindings")
				f.rename("off", "bindings")
			},
			"leads nowhere"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			f := newFixture(t)
			f.startWithWholeSet()
			mark := f.countSets()
			row.damage(f)
			d := f.waitFor("an unread host", func(d spec.Desired) bool { return d.Unread != "" })
			if !strings.Contains(d.Unread, row.unread) || len(d.Bindings) > 0 {
				t.Errorf("got %+v", d)
			}
			row.repair(f)
			f.waitFor("the repaired objects", hasWholeBinding)
			for _, set := range f.setsSince(mark) {
				if set.Unread == "" && !hasWholeBinding(set) {
					t.Errorf("an intermediate set: %+v", set)
				}
			}
		})
	}
}

func TestSlowlyFilledDirectoryIsReadWhenComplete(t *testing.T) {
	for name, start := range map[string]func(f *fixture){
		"from the start":         func(f *fixture) { f.check(os.Mkdir(f.dir, 0o755)); f.start() },
		"after it did not exist": func(f *fixture) { f.run(); f.check(os.Mkdir(f.dir, 0o755)) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.nsdb.timing.removalDelay = 1500 * time.Millisecond
			f.nsdb.timing.maxUnstable = time.Minute
			f.remove("")
			start(f)
			ports := []string{"a", "b", "c", "d", "e", "f"}
			f.write(f.dir, "hosts/h.yaml", "id: h")
			for _, port := range ports {
				time.Sleep(100 * time.Millisecond) // so that each file is found by a separate scan
				f.write(f.dir, "bindings/h/"+port+".yaml", binding(port, "vpn-"+port, "c"))
			}
			d := f.waitFor("a read set", func(d spec.Desired) bool { return d.Unread == "" })
			if len(d.Bindings) != len(ports) {
				t.Errorf("the first set that was read: %+v", d)
			}
		})
	}
}

func TestUnreadableObjectIsNotAbsent(t *testing.T) {
	socket := func(f *fixture, name string) {
		dir, err := os.Open(filepath.Dir(f.path(name)))
		f.check(err)
		defer dir.Close()
		// The path of a socket must not be longer than 107 bytes.
		listener, err := net.Listen("unix", fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(name)))
		f.check(err)
		listener.(*net.UnixListener).SetUnlinkOnClose(false)
		f.Cleanup(func() { _ = listener.Close() })
	}
	device := func(f *fixture, name string) {
		if os.Geteuid() != 0 {
			f.Skip("requires root: to create a device")
		}
		f.check(syscall.Mknod(f.path(name), syscall.S_IFCHR|0o600, 1<<8|5)) // /dev/zero
	}
	linkTo := func(target string) func(f *fixture, name string) {
		return func(f *fixture, name string) { f.check(os.Symlink(target, f.path(name))) }
	}
	// up returns the relative path from the directory of a file to the parent of the NSDB directory.
	up := func(name string) string { return strings.Repeat("../", strings.Count(name, "/")+1) }
	variants := []struct {
		name   string
		damage func(f *fixture, name string)
		fault  string
	}{
		{
			"a directory", func(f *fixture, name string) { f.check(os.Mkdir(f.path(name), 0o755)) },
			"is a directory: allowed: a regular file",
		},
		{
			"a pipe without a writer", func(f *fixture, name string) { f.check(syscall.Mkfifo(f.path(name), 0o644)) },
			"is a named pipe: allowed: a regular file",
		},
		{"a socket", socket, "is a socket: allowed: a regular file"},
		{"a device", device, "is a device: allowed: a regular file"},
		{"a link to a device", linkTo("/dev/zero"), linkOutside},
		{"a link to a file that the kernel generates", linkTo("/proc/kmsg"), linkOutside},
		{"a link to a file outside", func(f *fixture, name string) {
			f.write(f.dir, "../outside.yaml", "psk: hunter2\n")
			f.check(os.Symlink(up(name)+"outside.yaml", f.path(name)))
		}, linkOutside},
		{
			"an absolute link to a file inside",
			func(f *fixture, name string) { f.check(os.Symlink(f.path("off"), f.path(name))) }, linkOutside,
		},
		{"a link through a directory outside", func(f *fixture, name string) {
			f.check(os.Symlink(up(name)+filepath.Base(f.dir)+"/off", f.path(name)))
		}, linkOutside},
		{
			"a link to nothing", func(f *fixture, name string) { f.check(os.Symlink("nothing", f.path(name))) },
			"is a link to nothing",
		},
		{
			"a link to itself", func(f *fixture, name string) {
				f.check(os.Symlink(filepath.Base(name), f.path(name)))
			},
			"too many levels of symbolic links",
		},
		{"empty", func(f *fixture, name string) { f.write(f.dir, name, "") }, "is empty"},
		{"no YAML", func(f *fixture, name string) { f.writeRenamed(name, "{{hunter2") }, "is not YAML"},
		{
			"too large", func(f *fixture, name string) { f.writeRenamed(name, strings.Repeat("#", 1<<20+1)) },
			"is larger than 1 MiB",
		},
		{"two files", func(f *fixture, name string) {
			f.writeRenamed(name, f.read("off")) // the former content, so that only the second file causes the fault
			f.writeRenamed(strings.TrimSuffix(name, "yaml")+"json", "")
		}, "yaml and "},
	}
	objects := []struct {
		key     string
		reading spec.Reading
	}{
		{"bindings/h/p", spec.Unread}, {"containers/c", spec.Unknown}, {"configurations/k", spec.Unknown},
	}
	for _, variant := range variants {
		for _, object := range objects {
			t.Run(object.key+" is "+variant.name, func(t *testing.T) {
				f := newFixture(t)
				f.startWithWholeSet()
				mark := f.countSets()
				name := object.key + ".yaml"
				f.rename(name, "off")
				variant.damage(f, name)
				d := f.waitFor("the fault", func(d spec.Desired) bool {
					b := find(d, "p")
					return b != nil && b.Reading != spec.Complete
				})
				b := find(d, "p")
				if b.Reading != object.reading || !strings.HasPrefix(b.Fault, object.key+": ") ||
					!strings.Contains(b.Fault, variant.fault) || strings.ContainsAny(b.Fault, "\n") {
					t.Errorf("got %+v", b)
				}
				if strings.Contains(b.Fault, "hunter2") {
					t.Errorf("the fault contains text of the file: %s", b.Fault)
				}
				f.waitForLaterChange() // changes of other bindings are still found

				f.remove(name)
				f.remove(object.key + ".json")
				f.rename("off", name)
				f.waitFor("the repaired objects", hasWholeBinding)
				for _, set := range f.setsSince(mark) {
					if set.Unread != "" || find(set, "p") == nil {
						t.Errorf("an intermediate set: %+v", set)
					}
				}
				if f.logged("unreadable "+object.key) != 1 || f.logged("readable again "+object.key) != 1 {
					t.Errorf("log: %q", f.log)
				}
			})
		}
	}
}

func TestInvalidFileNamesAreLogged(t *testing.T) {
	f := newFixture(t)
	f.write(f.dir, "bindings/h/a\nb.yaml", "{}")
	f.write(f.dir, "bindings/h/$(reboot).yaml", "{}")
	f.write(f.dir, "bindings/h/"+strings.Repeat("x", 65)+".yaml", "{}")
	f.startWithWholeSet()
	if n := f.logged("WARN"); n != 3 || f.logged("\n") > 0 {
		t.Errorf("log: %q", f.log)
	}
}
