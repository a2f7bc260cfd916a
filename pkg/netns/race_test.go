package netns

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

func TestACrashLeavesNoUntaggedNamespace(t *testing.T) {
	needsSandbox(t)
	Directory.cleanUp(t, "ns-crash")
	seen := map[State]int{}
	for range 200 {
		maker := exec.Command("/proc/self/exe")
		maker.Env = []string{crashEnvironment + "=ns-crash"}
		out, err := maker.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := maker.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(rand.N(6 * time.Millisecond))
		_ = maker.Process.Kill()
		var ended *exec.ExitError
		if err := maker.Wait(); !errors.As(err, &ended) || ended.Exited() {
			t.Fatalf("the process ended before it was killed: %v", err)
		}
		left, err := Directory.Observe("ns-crash")
		if err != nil {
			t.Fatal(err)
		}
		seen[left.State]++
		if left.State == Foreign {
			t.Fatal("the crash left a namespace without our tag")
		}
		err = Directory.Make(owner("ns-crash"), 0)
		if want := map[bool]error{true: ErrExists}[left.State == Ours]; !errors.Is(err, want) {
			t.Fatalf("Make after a crash, with the name in state %s: %v", left.State, err)
		}
		if err := Directory.Remove("ns-crash"); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("states after the crashes: %v", seen)
}

func TestConcurrentUseForManyNames(t *testing.T) {
	needsSandbox(t)
	var workers sync.WaitGroup
	for i := range 20 {
		name := fmt.Sprintf("ns-many%d", i)
		Directory.cleanUp(t, name)
		workers.Go(func() {
			for range 10 {
				if err := makeAndRemove(name); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	workers.Wait()
	checkThreadNamespaces(t)
}

// makeAndRemove makes a namespace and removes it, and checks its state at each step.
func makeAndRemove(name string) error {
	for _, step := range []struct {
		do   func() error
		want State
	}{
		{func() error { return nil }, Absent},
		{func() error { return Directory.Make(owner(name), 0) }, Ours},
		{func() error { return Directory.Remove(spec.Name(name)) }, Absent},
	} {
		if err := step.do(); err != nil {
			return err
		}
		got, err := Directory.Observe(spec.Name(name))
		if err != nil {
			return err
		}
		if got.State != step.want {
			return fmt.Errorf("%s is %s, want %s", name, got.State, step.want)
		}
	}
	return nil
}

// checkThreadNamespaces fails the test if a thread of the program is in another network namespace than
// initialNamespace.
func checkThreadNamespaces(t *testing.T) {
	t.Helper()
	threads, _ := filepath.Glob("/proc/self/task/*/ns/net")
	for _, thread := range threads {
		if at, err := os.Readlink(thread); err == nil && at != initialNamespace {
			t.Errorf("%s is %s, and the tests started in %s", thread, at, initialNamespace)
		}
	}
}

func TestNoDescriptorsAndThreadsLeak(t *testing.T) {
	needsSandbox(t)
	Directory.make(t, "ns-foreign")
	ip(t, "-n", "ns-foreign", "link", "set", "lo", "alias", "foreign")
	Directory.cleanUp(t, "ns-leak")
	round := func() {
		if err := makeAndRemove("ns-leak"); err != nil {
			t.Fatal(err)
		}
		if err := Directory.Make(owner("ns-foreign"), 0); !errors.Is(err, ErrExists) {
			t.Fatal(err)
		}
		if err := Directory.Remove("ns-foreign"); !errors.Is(err, ErrForeign) {
			t.Fatal(err)
		}
		if _, err := Directory.List(); err != nil {
			t.Fatal(err)
		}
		if _, err := ListLinks(); err != nil {
			t.Fatal(err)
		}
		if _, err := ObserveLink("ns-leak"); err != nil {
			t.Fatal(err)
		}
	}
	for range 10 {
		round()
	}
	descriptors, threads := count(t, "/proc/self/fd"), count(t, "/proc/self/task")
	for range 1000 {
		round()
	}
	if now := count(t, "/proc/self/fd"); now > descriptors {
		t.Errorf("%d descriptors became %d", descriptors, now)
	}
	if now := count(t, "/proc/self/task"); now > threads+10 {
		t.Errorf("%d threads became %d", threads, now)
	}
	checkThreadNamespaces(t)
}

func count(t *testing.T, dir string) int {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// The test runs Make and `ip netns add` at the same time for one name. In every third round a crash has left a file of
// that name.
func TestExactlyOneOfMakeAndIPSucceeds(t *testing.T) {
	needsSandbox(t)
	Directory.cleanUp(t, "ns-race")
	wins := map[State]int{}
	for i := range 300 {
		if i%3 == 0 {
			if err := os.WriteFile(Directory.Path("ns-race"), nil, ourFileMode); err != nil {
				t.Fatal(err)
			}
		}
		result := make(chan error)
		delay := rand.N(2 * time.Millisecond)
		go func() {
			time.Sleep(delay)
			result <- Directory.Make(owner("ns-race"), 0)
		}()
		_, theirs := runIP("netns", "add", "ns-race")
		ours := <-result
		got, err := Directory.Observe("ns-race")
		if err != nil {
			t.Fatal(err)
		}
		wins[got.State]++
		switch {
		case got.State == Ours && ours == nil && theirs != nil:
			err = Directory.Remove("ns-race")
		case got.State == Foreign && errors.Is(ours, ErrExists) && theirs == nil:
			_, err = runIP("netns", "del", "ns-race")
		default:
			t.Fatalf("state %s; Make: %v; ip: %v", got.State, ours, theirs)
		}
		if err != nil {
			t.Fatal(err)
		}
		if n := mounts(t, Directory.Path("ns-race")); n != 0 {
			t.Fatalf("%d mounts are left", n)
		}
	}
	t.Logf("states after the race: %v", wins)
}

// While Remove runs, `ip netns` deletes our namespace and adds another one with the same name.
func TestRemoveNeverRemovesAForeignNamespace(t *testing.T) {
	needsSandbox(t)
	Directory.cleanUp(t, "ns-swap")
	seen := map[string]int{}
	for range 300 {
		if err := Directory.Make(owner("ns-swap"), 0); err != nil {
			t.Fatal(err)
		}
		result := make(chan error)
		go func() {
			_, deleted := runIP("netns", "del", "ns-swap")
			_, added := runIP("netns", "add", "ns-swap")
			result <- errors.Join(deleted, added)
			result <- added
		}()
		time.Sleep(rand.N(6 * time.Millisecond))
		removed := Directory.Remove("ns-swap")
		all, added := <-result, <-result
		got, err := Directory.Observe("ns-swap")
		if err != nil {
			t.Fatal(err)
		}
		seen[fmt.Sprintf("%s, Remove succeeded %t, ip succeeded %t", got.State, removed == nil, all == nil)]++
		if added == nil && got.State != Foreign {
			t.Fatalf("the namespace of ip is %s; Remove: %v; ip: %v", got.State, removed, all)
		}
		if got.State == Ours {
			t.Fatalf("our namespace still exists; Remove: %v; ip: %v", removed, all)
		}
		if _, err := runIP("netns", "del", "ns-swap"); err != nil && got.State == Foreign {
			t.Fatal(err)
		}
		_ = os.Remove(Directory.Path("ns-swap"))
	}
	t.Logf("seen: %v", seen)
}

// The test mounts a foreign namespace over a plain file at a random time while Remove runs.
func TestRemoveReturnsErrForeignForALateMount(t *testing.T) {
	needsSandbox(t)
	Directory.make(t, "ns-first") // so that the directory is a mount
	Directory.cleanUp(t, "ns-late")
	path, seen := Directory.Path("ns-late"), map[bool]int{}
	for range 3000 {
		if err := os.WriteFile(path, nil, ourFileMode); err != nil {
			t.Fatal(err)
		}
		mounted := make(chan error)
		delay := rand.N(40 * time.Microsecond)
		go func() {
			for start := time.Now(); time.Since(start) < delay; {
			}
			mounted <- unix.Mount("/proc/1/ns/net", path, "", unix.MS_BIND, "")
		}()
		removed := Directory.Remove("ns-late")
		theirs := <-mounted
		seen[removed == nil]++
		if removed == nil && theirs == nil || removed != nil && !errors.Is(removed, ErrForeign) {
			t.Fatalf("Remove: %v; mount: %v", removed, theirs)
		}
		if theirs != nil {
			continue
		}
		if err := errors.Join(unix.Unmount(path, unix.MNT_DETACH), os.Remove(path)); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("Remove succeeded: %v", seen)
}

// The test runs Make and `ip netns add` at the same time on a host without the directory (systemd#2741).
func TestTheDirectoryIsMountedOnce(t *testing.T) {
	needsSandbox(t)
	for range 10 {
		for mounts(t, Directory.directory.path) > 0 {
			if err := unix.Unmount(Directory.directory.path, unix.MNT_DETACH); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.RemoveAll(Directory.directory.path); err != nil {
			t.Fatal(err)
		}
		var workers sync.WaitGroup
		for i := range 8 {
			name, theirs := fmt.Sprintf("ns-dir%d", i), fmt.Sprintf("ns-ip%d", i)
			Directory.cleanUp(t, name, theirs)
			workers.Go(func() {
				if err := Directory.Make(owner(name), 0); err != nil {
					t.Error(err)
				}
			})
			workers.Go(func() {
				if _, err := runIP("netns", "add", theirs); err != nil {
					t.Error(err)
				}
			})
		}
		workers.Wait()
		if n := mounts(t, Directory.directory.path); n != 1 {
			t.Fatalf("%d mounts on %s", n, Directory.directory.path)
		}
		list, err := Directory.List()
		if err != nil || len(list) != 16 {
			t.Fatalf("%d namespaces, %v", len(list), err)
		}
		for _, n := range list {
			want := map[bool]State{true: Ours, false: Foreign}[strings.HasPrefix(string(n.Name), "ns-dir")]
			if n.State != want {
				t.Errorf("%s is %s, want %s", n.Name, n.State, want)
			}
		}
	}
}
