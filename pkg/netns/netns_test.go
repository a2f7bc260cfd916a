package netns

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/internal/busyclock"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

func TestMadeNamespaceIsOursAndHasLoUp(t *testing.T) {
	needsSandbox(t)
	name := Directory.make(t, "ns-made")
	if got := Directory.state(t, name, Ours); got.Owner != owner("ns-made") {
		t.Errorf("owner %v", got.Owner)
	}
	shown := ip(t, "-n", "ns-made", "link", "show", "lo")
	if !strings.Contains(shown, "alias svc-supervisor:ns-made:id-ns-made") || !strings.Contains(shown, "LOOPBACK,UP") {
		t.Errorf("lo: %s", shown)
	}
	if err := Directory.Remove(name); err != nil {
		t.Fatal(err)
	}
	Directory.state(t, name, Absent)
	if _, err := os.Lstat(Directory.Path(name)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file still exists: %v", err)
	}
	if err := Directory.Remove(name); err != nil {
		t.Errorf("remove an absent namespace: %v", err)
	}
}

func TestDirectoryMayBeALink(t *testing.T) {
	needsSandbox(t)
	target := t.TempDir()
	d := Dir{directory: directory{path: filepath.Join(t.TempDir(), "netns")}}
	if err := os.Symlink(target, d.directory.path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(target, unix.MNT_DETACH) })
	name := d.make(t, "ns-link")
	d.state(t, name, Ours)
	if err := d.Remove(name); err != nil {
		t.Error(err)
	}
}

func TestMakeOfAnExistingNameFails(t *testing.T) {
	needsSandbox(t)
	name := Directory.make(t, "ns-once")
	if err := Directory.Make(owner("ns-once"), 0); !errors.Is(err, ErrExists) {
		t.Errorf("second Make: %v", err)
	}
	Directory.state(t, name, Ours)
	if n := mounts(t, Directory.Path(name)); n != 1 {
		t.Errorf("%d mounts", n)
	}
}

func TestAPlainFileIsStaleAndIsReplacedOrRemoved(t *testing.T) {
	needsSandbox(t)
	for _, mode := range []os.FileMode{0, 0o444, 0o644, ourFileMode} {
		name := Directory.oldFile(t, "ns-stale", mode)
		Directory.state(t, name, Stale)
		if err := Directory.Make(owner("ns-stale"), 0); err != nil {
			t.Fatalf("make over a file of mode %o: %v", mode, err)
		}
		Directory.state(t, name, Ours)
		if err := Directory.Remove(name); err != nil {
			t.Fatal(err)
		}
		Directory.oldFile(t, "ns-stale", mode)
		if err := Directory.Remove(name); err != nil {
			t.Fatalf("remove a file of mode %o: %v", mode, err)
		}
		Directory.state(t, name, Absent)
	}
}

func TestAFileThatACrashLeftIsReplacedAtOnce(t *testing.T) {
	needsSandbox(t)
	name := Directory.make(t, "ns-left")
	if err := unix.Unmount(Directory.Path(name), unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	Directory.state(t, name, Stale)
	clock := busyclock.Start()
	if err := Directory.Make(owner("ns-left"), 0); err != nil {
		t.Fatal(err)
	}
	if took := clock.Elapsed(); took > mountGrace/2 {
		t.Errorf("took %s", took)
	}
	Directory.state(t, name, Ours)
}

func TestANamespaceThatAnotherProgramIsMakingIsNotTouched(t *testing.T) {
	needsSandbox(t)
	Directory.make(t, "ns-first") // so that the directory is a mount
	Directory.cleanUp(t, "ns-half")
	path := Directory.Path("ns-half")
	if err := os.WriteFile(path, nil, 0); err != nil {
		t.Fatal(err)
	}
	result, removed := make(chan error), make(chan error)
	go func() { result <- Directory.Make(owner("ns-half"), 0) }()
	go func() { removed <- Directory.Remove("ns-half") }()
	time.Sleep(mountGrace / 4) // the other program is slow, and Make and Remove must wait for it
	if out, err := exec.Command("unshare", "--net="+path, "true").CombinedOutput(); err != nil {
		t.Fatalf("unshare: %v: %s", err, out)
	}
	if err := <-result; !errors.Is(err, ErrExists) {
		t.Errorf("Make: %v", err)
	}
	if err := <-removed; !errors.Is(err, ErrForeign) {
		t.Errorf("Remove: %v", err)
	}
	Directory.state(t, "ns-half", Foreign)
}

// foreignEntries are functions that create something which is not ours at a path, by description.
var foreignEntries = map[string]func(t *testing.T, path string){
	"a namespace without a tag": func(t *testing.T, path string) {
		ip(t, "netns", "add", filepath.Base(path))
	},
	"a namespace made by hand": func(t *testing.T, path string) {
		ip(t, "netns", "add", filepath.Base(path))
		ip(t, "-n", filepath.Base(path), "link", "set", "lo", "alias", spec.NetworkByHand+":"+filepath.Base(path)+":id")
	},
	"a namespace with our tag for another name": func(t *testing.T, path string) {
		ip(t, "netns", "add", filepath.Base(path))
		ip(t, "-n", filepath.Base(path), "link", "set", "lo", "alias", owner("other").String())
	},
	"a namespace of another kind": func(t *testing.T, path string) {
		err := errors.Join(os.WriteFile(path, nil, 0), unix.Mount("/proc/self/ns/uts", path, "", unix.MS_BIND, ""))
		if err != nil {
			t.Fatal(err)
		}
	},
	"a symbolic link to a namespace": func(t *testing.T, path string) {
		if err := os.Symlink("/proc/1/ns/net", path); err != nil {
			t.Fatal(err)
		}
	},
	"a directory": func(t *testing.T, path string) {
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
	},
	"a pipe": func(t *testing.T, path string) {
		if err := unix.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
	},
	"a socket": func(t *testing.T, path string) {
		if err := unix.Mknod(path, unix.S_IFSOCK|0o600, 0); err != nil {
			t.Fatal(err)
		}
	},
}

func TestForeignEntriesAreNeverChanged(t *testing.T) {
	needsSandbox(t)
	Directory.make(t, "ns-first")
	for what, create := range foreignEntries {
		t.Run(what, func(t *testing.T) {
			Directory.cleanUp(t, "ns-foreign")
			create(t, Directory.Path("ns-foreign"))
			before, mounted := inode(t, "ns-foreign"), mounts(t, Directory.Path("ns-foreign"))
			Directory.state(t, "ns-foreign", Foreign)
			if err := Directory.Make(owner("ns-foreign"), 0); !errors.Is(err, ErrExists) {
				t.Errorf("make: %v", err)
			}
			if err := Directory.Remove("ns-foreign"); !errors.Is(err, ErrForeign) {
				t.Errorf("remove: %v", err)
			}
			Directory.state(t, "ns-foreign", Foreign)
			if after := inode(t, "ns-foreign"); after != before {
				t.Errorf("inode %d became %d", before, after)
			}
			if after := mounts(t, Directory.Path("ns-foreign")); after != mounted {
				t.Errorf("%d mounts became %d", mounted, after)
			}
		})
	}
}

func TestTheTagOfAForeignNamespaceIsReported(t *testing.T) {
	needsSandbox(t)
	Directory.cleanUp(t, "ns-hand")
	foreignEntries["a namespace made by hand"](t, Directory.Path("ns-hand"))
	want := spec.Owner{Network: spec.NetworkByHand, Name: "ns-hand", ContainerID: "id"}
	if got := Directory.state(t, "ns-hand", Foreign); got.Owner != want {
		t.Errorf("owner %v", got.Owner)
	}
}

func TestListReturnsEveryNameThatAContainerCanHave(t *testing.T) {
	needsSandbox(t)
	Directory.make(t, "ns-l1")
	Directory.cleanUp(t, "ns-l2", "ns-a-name-too-long-for-a-container")
	ip(t, "netns", "add", "ns-l2")
	ip(t, "netns", "add", "ns-a-name-too-long-for-a-container")
	Directory.oldFile(t, "ns-l3", 0)
	list, err := Directory.List()
	if err != nil {
		t.Fatal(err)
	}
	want := []Namespace{
		{Name: "ns-l1", State: Ours, Owner: owner("ns-l1")},
		{Name: "ns-l2", State: Foreign},
		{Name: "ns-l3", State: Stale},
	}
	if !slices.Equal(list, want) {
		t.Errorf("list %v, want %v", list, want)
	}
}

func TestAMissingDirectoryIsAnEmptyList(t *testing.T) {
	list, err := (Dir{directory: directory{path: t.TempDir() + "/none"}}).List()
	if err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
	if got, err := (Dir{directory: directory{path: t.TempDir() + "/none"}}).Observe("ns-a"); err != nil ||
		got.State != Absent {
		t.Errorf("%v, %v", got, err)
	}
}

func TestRemoveOfANamespaceRemovesItsVeth(t *testing.T) {
	needsSandbox(t)
	name := Directory.make(t, "ns-veth")
	ip(t, "link", "add", "ns-veth", "type", "veth", "peer", "name", "svc0", "netns", "ns-veth")
	if err := Directory.Remove(name); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the veth is removed", func() bool {
		link, err := ObserveLink(name)
		return err == nil && link.State == Absent
	})
}

func inode(t *testing.T, name spec.Name) uint64 {
	t.Helper()
	var stat unix.Stat_t
	if err := unix.Lstat(Directory.Path(name), &stat); err != nil {
		t.Fatal(err)
	}
	return stat.Ino
}

// Every user can open /run/netns and lock it, so that lock must not block this package forever.
func TestALockHeldByAnotherProgramDelaysOnlyOnce(t *testing.T) {
	d := Dir{directory: directory{path: filepath.Join(t.TempDir(), "netns")}}
	if err := os.Mkdir(d.directory.path, 0o755); err != nil {
		t.Fatal(err)
	}
	holder, err := os.Open(d.directory.path)
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close()
	if err := unix.Flock(int(holder.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	inside, peak := 0, 0
	var mu sync.Mutex
	var calls sync.WaitGroup
	clock := busyclock.Start()
	for range 5 {
		calls.Go(func() {
			err := d.directory.locked(func() error {
				mu.Lock()
				inside++
				peak = max(peak, inside)
				mu.Unlock()
				time.Sleep(20 * time.Millisecond)
				mu.Lock()
				inside--
				mu.Unlock()
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	if peak != 1 {
		t.Errorf("%d concurrent calls", peak)
	}
	if took := clock.Elapsed(); took > 4*sharedLockTimeout {
		t.Errorf("took %v: the calls waited for the shared lock one after the other", took)
	}
	if info, err := os.Stat(d.directory.lockPath()); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("lock %v, %v", info, err)
	}
}
