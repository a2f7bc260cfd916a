package userid

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/internal/lockdir"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

func TestPairKeepsItsID(t *testing.T) {
	r, ids, _ := registry(t, 16)
	first := allocate(t, r, "a")
	if first != ids.First {
		t.Errorf("got %d, want the first id", first)
	}
	another := spec.Owner{Network: spec.Network, Name: "a", ContainerID: "another"}
	for _, again := range []spec.Owner{owner("a"), another} {
		if id, err := r.Allocate(t.Context(), again); id != first || err != nil {
			t.Errorf("%s got %d, %v, and had %d", again, id, err, first)
		}
	}
	other, err := r.Allocate(t.Context(), spec.Owner{Network: spec.NetworkByHand, Name: "a", ContainerID: "id"})
	if err != nil || other == first {
		t.Errorf("the same name in another network got %d, %v", other, err)
	}
	if id, ok, err := r.Lookup(owner("a")); id != first || !ok || err != nil {
		t.Errorf("Lookup: %d, %v, %v", id, ok, err)
	}
	byHand := spec.Owner{Network: spec.NetworkByHand, Name: "a", ContainerID: "id"}
	if got, ok, err := r.Owner(other); got != byHand || !ok || err != nil {
		t.Errorf("Owner: %s, %v, %v", got, ok, err)
	}
	want := []Registration{{first, another}, {other, byHand}}
	if got, err := r.List(); !reflect.DeepEqual(got, want) || err != nil {
		t.Errorf("List: %v, %v", got, err)
	}
	content, err := os.ReadFile(filepath.Join(r.files.directory, fmt.Sprint(first)))
	if string(content) != "svc-supervisor:a:another\n" || err != nil {
		t.Errorf("file: %q, %v", content, err)
	}
	info, err := os.Stat(r.files.directory)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v, %v", info.Mode(), err)
	}
}

func TestAMissingRegistryIsEmpty(t *testing.T) {
	r, ids, _ := registry(t, 16)
	if id, ok, err := r.Lookup(owner("a")); ok || err != nil {
		t.Errorf("Lookup: %d, %v", id, err)
	}
	if _, ok, err := r.Owner(ids.First); ok || err != nil {
		t.Errorf("Owner: %v, %v", ok, err)
	}
	if list, err := r.List(); len(list) > 0 || err != nil {
		t.Errorf("List: %v, %v", list, err)
	}
	release(t, r, "a")
}

func TestUnsuitableOwnersAreRefused(t *testing.T) {
	r, ids, _ := registry(t, 16)
	for _, o := range []spec.Owner{
		{Network: "", Name: "a", ContainerID: "id"}, {Network: "a:b", Name: "a", ContainerID: "id"},
		{Network: "a\n", Name: "a", ContainerID: "id"}, {Network: "a/b", Name: "a", ContainerID: "id"},
		{Network: strings.Repeat("n", 151), Name: "a", ContainerID: "id"}, {Network: "n", Name: "", ContainerID: "id"},
		{Network: "n", Name: "a:b", ContainerID: "id"}, {Network: "n", Name: "supervisor", ContainerID: "id"},
		{Network: "n", Name: "a"}, {Network: "n", Name: "a", ContainerID: "a:b"},
		{Network: "n", Name: "a", ContainerID: "a\n"},
	} {
		_, allocateErr := r.Allocate(t.Context(), o)
		adoptErr := r.Adopt(t.Context(), o, ids.First)
		var fault *spec.Fault
		if !errors.As(allocateErr, &fault) || !errors.As(adoptErr, &fault) {
			t.Errorf("%q: %v, %v", o, allocateErr, adoptErr)
		}
	}
}

func TestReleasedIDIsAssignedAfterTheRestOfTheRange(t *testing.T) {
	r, ids, _ := registry(t, 200) // more than one batch
	kept := allocate(t, r, "kept")
	released := allocate(t, r, "a")
	release(t, r, "a")
	var got []uint32
	for range 2 * ids.Size() {
		id := allocate(t, r, "b")
		release(t, r, "b")
		got = append(got, id)
	}
	first := slices.Index(got, released)
	if first != ids.Size()-2 {
		t.Errorf("the released id was assigned after %d others", first)
	}
	if slices.Contains(got, kept) {
		t.Error("a registered id was assigned again")
	}
	for i, id := range got[ids.Size()-1:] {
		if id != got[i] {
			t.Fatalf("the second pass over the range has %d instead of %d", id, got[i])
		}
	}
}

func TestUsedUpRangeIsAnErrorUntilAnIDIsReleased(t *testing.T) {
	r, ids, _ := registry(t, 16)
	runs := fakeGetent(t, "exit 2")
	for i := range ids.Size() {
		allocate(t, r, fmt.Sprintf("c%d", i))
	}
	before := runs()
	_, err := r.Allocate(t.Context(), owner("more"))
	if !errors.Is(err, ErrExhausted) || !strings.Contains(err.Error(), ids.String()) ||
		!strings.Contains(err.Error(), r.ranges.file) {
		t.Errorf("got %v, want an error with the range and its file", err)
	}
	if runs() != before {
		t.Error("getent was run for registered ids")
	}
	if id := allocate(t, r, "c3"); id != ids.First+3 {
		t.Errorf("a pair with an id got %d", id)
	}
	release(t, r, "c5")
	if id := allocate(t, r, "more"); id != ids.First+5 {
		t.Errorf("got %d, want the released id", id)
	}
}

func TestRegistrationStaysWhileTheIDIsUsed(t *testing.T) {
	r, _, _ := registry(t, 16)
	id := allocate(t, r, "a")
	var calls []uint32
	used := func(id uint32) (bool, error) { calls = append(calls, id); return true, nil }
	unknown := func(uint32) (bool, error) { return false, errors.New("not readable") }
	if err := r.Release(t.Context(), owner("a"), used); err != nil || !slices.Equal(calls, []uint32{id}) {
		t.Errorf("stillUsed was called for %v, %v", calls, err)
	}
	if err := r.Release(t.Context(), owner("a"), unknown); err == nil ||
		!strings.Contains(err.Error(), "not readable") {
		t.Errorf("got %v", err)
	}
	if _, ok, err := r.Lookup(owner("a")); !ok || err != nil {
		t.Errorf("the registration was removed: %v", err)
	}
	release(t, r, "a")
	if _, ok, _ := r.Lookup(owner("a")); ok {
		t.Error("the registration was not removed")
	}
	if err := r.Release(t.Context(), owner("a"), used); err != nil || len(calls) != 1 {
		t.Errorf("without an id: stillUsed was called for %v, %v", calls, err)
	}
}

func TestAdopt(t *testing.T) {
	for _, test := range []struct {
		what    string
		owner   string
		id      uint32
		problem string
	}{
		{"a free id", "new", 2120000007, ""},
		{"an id outside of the range", "new", 2130000000, ""},
		{"the id that the owner has", "a", 2120000000, ""},
		{"another id than the owner has", "a", 2120000007, "the container has user id 2120000000 already"},
		{"the id of another owner", "new", 2120000000, `the user id belongs to "svc-supervisor:a"`},
		{"root's id", "new", 0, "allowed: an id within 65536-524287"},
		{"an id of systemd-nspawn", "new", 600000, "allowed: an id within 65536-524287"},
		{"-1 as an unsigned number", "new", 4294967295, "allowed: an id within 65536-524287"},
	} {
		t.Run(test.what, func(t *testing.T) {
			r, _, _ := registry(t, 16)
			allocate(t, r, "a")
			before, _ := r.List()
			err := r.Adopt(t.Context(), owner(test.owner), test.id)
			if test.problem == "" {
				id, ok, lookupErr := r.Lookup(owner(test.owner))
				if id != test.id || !ok || errors.Join(err, lookupErr) != nil {
					t.Errorf("got %d, %v, %v", id, err, lookupErr)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.problem) {
				t.Errorf("got %v, want %s", err, test.problem)
			}
			if after, err := r.List(); !reflect.DeepEqual(after, before) || err != nil {
				t.Errorf("Adopt changed the registrations from %v to %v, %v", before, after, err)
			}
		})
	}
}

func TestLostRegistryContinuesAfterTheAdoptedIDs(t *testing.T) {
	r, ids, _ := registry(t, 16)
	for _, name := range []string{"a", "b", "c"} {
		allocate(t, r, name)
	}
	if err := os.RemoveAll(r.files.directory); err != nil {
		t.Fatal(err)
	}
	if err := r.Adopt(t.Context(), owner("b"), ids.First+1); err != nil {
		t.Fatal(err)
	}
	if err := r.Adopt(t.Context(), owner("c"), ids.First+2); err != nil {
		t.Fatal(err)
	}
	if id := allocate(t, r, "new"); id != ids.First+3 {
		t.Errorf("got %d, want the id after the highest adopted one", id)
	}
	for i := range ids.Size() - 3 {
		if id := allocate(t, r, fmt.Sprintf("c%d", i)); id == ids.First+1 || id == ids.First+2 {
			t.Errorf("adopted id %d was assigned again", id)
		}
	}
}

func TestIDAdoptedAfterItWasCheckedIsNotAssigned(t *testing.T) {
	r, ids, _ := registry(t, 16)
	allocate(t, r, "a")
	if err := r.Adopt(t.Context(), owner("b"), ids.First+1); err != nil {
		t.Fatal(err)
	}
	if id := allocate(t, r, "c"); id != ids.First+2 {
		t.Errorf("got %d", id)
	}
}

func TestReleasedAdoptedIDIsAssignedAfterTheRestOfTheRange(t *testing.T) {
	r, ids, _ := registry(t, 16)
	allocate(t, r, "a")
	if err := r.Adopt(t.Context(), owner("b"), ids.First+1); err != nil {
		t.Fatal(err)
	}
	release(t, r, "b")
	if id := allocate(t, r, "c"); id != ids.First+2 {
		t.Errorf("got %d", id)
	}
}

func TestChangedRangeAppliesToNewContainers(t *testing.T) {
	r, ids, _ := registry(t, 16)
	before := allocate(t, r, "a")
	write(t, r.ranges.file, "2130000000-2130000099")
	if id := allocate(t, r, "b"); id != 2130000000 {
		t.Errorf("got %d", id)
	}
	if id := allocate(t, r, "a"); id != before {
		t.Errorf("got %d, had %d", id, before)
	}
	write(t, r.ranges.file, "1-2")
	if id := allocate(t, r, "a"); id != before {
		t.Errorf("with a damaged range file: got %d, had %d", id, before)
	}
	if id, err := r.Allocate(t.Context(), owner("c")); err == nil {
		t.Errorf("with a damaged range file, a new container got %d", id)
	}
	write(t, r.ranges.file, ids.String())
	if id := allocate(t, r, "c"); !ids.Contains(id) || id == before {
		t.Errorf("got %d", id)
	}
}

func TestDamagedRegistration(t *testing.T) {
	for _, content := range []string{
		"", "\n", "svc-supervisor", "svc-supervisor:a:b", "svc-supervisor:a\n", ":a:b\n", "svc-supervisor:a:b\nc\n",
		"n/n:a:b\n",
	} {
		r, ids, _ := registry(t, 16)
		allocate(t, r, "a")
		write(t, filepath.Join(r.files.directory, fmt.Sprint(ids.First+1)), content)
		want := []Registration{{ids.First, owner("a")}}
		list, err := r.List()
		if !reflect.DeepEqual(list, want) || err == nil || !strings.Contains(err.Error(), fmt.Sprint(ids.First+1)) {
			t.Errorf("%q: List: %v, %v", content, list, err)
		}
		if id := allocate(t, r, "a"); id != ids.First {
			t.Errorf("%q: the owner of the readable registration got %d", content, id)
		}
		// The damaged registration may belong to b, which must not get a second id.
		if id, err := r.Allocate(t.Context(), owner("b")); err == nil {
			t.Errorf("%q: Allocate: %d", content, id)
		}
		if _, _, err := r.Lookup(owner("b")); err == nil {
			t.Errorf("%q: Lookup succeeds", content)
		}
		if _, _, err := r.Owner(ids.First + 1); err == nil {
			t.Errorf("%q: Owner succeeds", content)
		}
	}
}

func TestOtherFilesAreIgnored(t *testing.T) {
	r, ids, _ := registry(t, 16)
	allocate(t, r, "a")
	for _, name := range []string{"README", "02120000001", "4294967296", "-1", ".21200000017"} {
		write(t, filepath.Join(r.files.directory, name), "")
	}
	write(t, string(r.cursor), "{")
	if id := allocate(t, r, "b"); id != ids.First+1 {
		t.Errorf("got %d, want the id after the highest registered one", id)
	}
	if list, err := r.List(); len(list) != 2 || err != nil {
		t.Errorf("%v, %v", list, err)
	}
}

func TestDirectoryThatOthersCanUseIsRefused(t *testing.T) {
	for _, test := range []struct {
		what string
		make func(path string) error
	}{
		{"readable for others", func(path string) error {
			return errors.Join(os.Mkdir(path, 0o700), os.Chmod(path, 0o755))
		}},
		{"a link", func(path string) error { return os.Symlink(t.TempDir(), path) }},
		{"a file", func(path string) error { return os.WriteFile(path, nil, 0o600) }},
		{"of another user", func(path string) error {
			if os.Getuid() != 0 {
				return os.WriteFile(path, nil, 0o600)
			}
			return errors.Join(os.Mkdir(path, 0o700), os.Chown(path, 12345, 0))
		}},
	} {
		r, _, _ := registry(t, 16)
		if err := test.make(r.files.directory); err != nil {
			t.Fatal(err)
		}
		if id, err := r.Allocate(t.Context(), owner("a")); err == nil {
			t.Errorf("%s: got %d", test.what, id)
		}
	}
}

// The test replaces another registration by a pipe, which would block a process that reads it.
func TestIDOfAKnownPairIsFoundWithoutReadingTheOthers(t *testing.T) {
	r, ids, _ := registry(t, 16)
	allocate(t, r, "a")
	pipe := filepath.Join(r.files.directory, fmt.Sprint(ids.First+1))
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := r.Allocate(t.Context(), owner("a"))
		_, _, lookupErr := r.Lookup(owner("a"))
		releaseErr := r.Release(t.Context(), owner("a"), unused)
		done <- errors.Join(err, lookupErr, releaseErr)
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("another registration was read")
	}
}

func TestPairIsFoundEvenIfItsLinkIsWrong(t *testing.T) {
	for _, test := range []struct {
		what string
		link func(path string) error
	}{
		{"correct", func(string) error { return nil }},
		{"missing, as after a kill", os.Remove},
		{"to a missing registration", func(path string) error {
			return errors.Join(os.Remove(path), os.Symlink("2120000009", path))
		}},
		{"to the registration of another", func(path string) error {
			return errors.Join(os.Remove(path), os.Symlink("2120000000", path))
		}},
		{"to the state file", func(path string) error {
			return errors.Join(os.Remove(path), os.Symlink(".state", path))
		}},
		{"a file", func(path string) error {
			return errors.Join(os.Remove(path), os.WriteFile(path, nil, 0o600))
		}},
	} {
		t.Run(test.what, func(t *testing.T) {
			r, ids, _ := registry(t, 16)
			allocate(t, r, "other")
			allocate(t, r, "a")
			link := filepath.Join(r.files.directory, "svc-supervisor:a")
			if err := test.link(link); err != nil {
				t.Fatal(err)
			}
			if id, ok, err := r.Lookup(owner("a")); id != ids.First+1 || !ok || err != nil {
				t.Errorf("Lookup: %d, %v, %v", id, ok, err)
			}
			if id := allocate(t, r, "a"); id != ids.First+1 {
				t.Errorf("Allocate: %d", id)
			}
			if target, err := os.Readlink(link); target != "2120000001" || err != nil {
				t.Errorf("the link is not repaired: %q, %v", target, err)
			}
			if err := test.link(link); err != nil {
				t.Fatal(err)
			}
			release(t, r, "a")
			if id, ok, err := r.Lookup(owner("a")); ok || err != nil {
				t.Errorf("Lookup after Release: %d, %v", id, err)
			}
			if _, err := os.Lstat(link); err == nil {
				t.Error("Release did not remove the link")
			}
			if list, err := r.List(); len(list) != 1 || err != nil {
				t.Errorf("List: %v, %v", list, err)
			}
		})
	}
}

func TestWaitForTheLockEndsWithTheContext(t *testing.T) {
	r, _, _ := registry(t, 16)
	allocate(t, r, "a")
	unlock, err := lockdir.Lock(t.Context(), r.files.directory, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := r.Allocate(ctx, owner("b")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if _, ok, err := r.Lookup(owner("a")); !ok || err != nil {
		t.Errorf("Lookup, which needs no lock: %v", err)
	}
}

func TestConcurrentProcessesGetDifferentIDs(t *testing.T) {
	const processes = 4
	r, ids, _ := registry(t, 200)
	var finished []func() string
	for i := range processes {
		cmd, output, _ := start(t, "allocate", fmt.Sprintf("network%d", i), r)
		finished = append(finished, func() string {
			if err := cmd.Wait(); err != nil {
				t.Errorf("%v: %s", err, output)
			}
			return output.String()
		})
	}
	owners := map[uint32]string{}
	for _, wait := range finished {
		for line := range strings.Lines(wait()) {
			var id uint32
			var network, name string
			if _, err := fmt.Sscan(line, &id, &network, &name); err != nil {
				t.Fatal(err)
			}
			if other := owners[id]; other != "" && other != network+":"+name || !ids.Contains(id) {
				t.Errorf("%d was assigned to %s and to %s:%s", id, other, network, name)
			}
			owners[id] = network + ":" + name
		}
	}
	if list, err := r.List(); len(list) != processes*30+10 || len(list) != len(owners) || err != nil {
		t.Errorf("%d ids are registered, %d were assigned, %v", len(list), len(owners), err)
	}
}

func TestKilledProcessLeavesCompleteFilesAndNoLock(t *testing.T) {
	r, _, _ := registry(t, 64)
	for i := range 30 {
		network := fmt.Sprintf("network%d", i)
		cmd, _, output := start(t, "churn", network, r)
		if line, err := bufio.NewReader(output).ReadString('\n'); line != "changed\n" {
			t.Fatalf("%q, %v", line, err)
		}
		time.Sleep(time.Duration(i) * 700 * time.Microsecond) // kills the process at a different point each time
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		id := allocate(t, r, "survivor")
		list, err := r.List()
		if err != nil {
			t.Fatal(err)
		}
		for _, left := range list {
			if left.ID == id && left.Owner.Name != "survivor" {
				t.Errorf("%d has two owners", id)
			}
			if err := r.Release(t.Context(), left.Owner, unused); err != nil {
				t.Error(err)
			}
		}
		if len(list) > 2 {
			t.Errorf("the process left more than the id it was changing: %v", list)
		}
		hidden, err := filepath.Glob(filepath.Join(r.files.directory, ".*"))
		if want := []string{string(r.cursor)}; err != nil || !slices.Equal(hidden, want) {
			t.Errorf("hidden files after the next change: %v, %v; want %v", hidden, err, want)
		}
	}
}

func TestFileThatAKilledProcessDidNotRenameIsReplaced(t *testing.T) {
	r, ids, _ := registry(t, 16)
	allocate(t, r, "a")
	temporary := filepath.Join(r.files.directory, ".new")
	write(t, temporary, strings.Repeat("longer than the next content\n", 100))
	if id := allocate(t, r, "b"); id != ids.First+1 {
		t.Errorf("got %d", id)
	}
	if owner, found, err := r.Owner(ids.First + 1); owner.Name != "b" || !found || err != nil {
		t.Errorf("registered: %v, %v, %v", owner, found, err)
	}
	if _, err := os.Stat(temporary); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the temporary file still exists: %v", err)
	}
}

// The id of a container's process is not assigned again, even if the registry was lost.
func TestIDOfAProcessIsSkipped(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to start processes with other ids")
	}
	for _, test := range []struct {
		what       string
		credential func(id uint32) *syscall.Credential
	}{
		{"user id", func(id uint32) *syscall.Credential { return &syscall.Credential{Uid: id, Gid: 1} }},
		{"group id", func(id uint32) *syscall.Credential { return &syscall.Credential{Uid: 1, Gid: id} }},
		{"supplementary group", func(id uint32) *syscall.Credential {
			return &syscall.Credential{Uid: 1, Gid: 1, Groups: []uint32{id}}
		}},
	} {
		t.Run(test.what, func(t *testing.T) {
			r, _, _ := registry(t, 16)
			// The ids depend on the process id, so that a concurrent run of this test on the host uses other ids.
			first := uint32(2121000000 + os.Getpid()%10_000_000)
			ids := Range{first, first + 15}
			write(t, r.ranges.file, ids.String())
			stop := sleepAs(t, test.credential(ids.First))
			if id := allocate(t, r, "a"); id != ids.First+1 {
				t.Errorf("got %d", id)
			}
			stop()
			for i := range ids.Size() - 1 {
				allocate(t, r, fmt.Sprintf("c%d", i))
			}
			if owner, ok, err := r.Owner(ids.First); !ok || err != nil {
				t.Errorf("the id was not used after the process ended: %q, %v", owner, err)
			}
		})
	}
}
