package statedir

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

func TestASecondSupervisorIsRefusedWithThePidOfTheFirst(t *testing.T) {
	path := t.TempDir()
	holder, stdin := startHelper(t, "hold="+path)
	_, err := Open(path)
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), strconv.Itoa(holder.Process.Pid)) ||
		!strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v; the holder is %d", err, holder.Process.Pid)
	}
	if entries, err := ReadAll(path); err != nil || len(entries) != 0 {
		t.Errorf("ReadAll, which needs no lock, was refused: %v", err)
	}
	if err := stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if err := holder.Wait(); err != nil {
		t.Fatal(err)
	}
	open(t, path)
}

func TestAKilledSupervisorReleasesTheLock(t *testing.T) {
	path := t.TempDir()
	holder, _ := startHelper(t, "hold="+path)
	if err := holder.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = holder.Wait()
	open(t, path)
}

func TestOneProcessCannotOpenADirectoryTwice(t *testing.T) {
	path := t.TempDir()
	d := open(t, path)
	if _, err := Open(path); !errors.Is(err, ErrLocked) {
		t.Error(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, path)
}

func TestOpenWaitsForALockThatIsReleasedSoon(t *testing.T) {
	path := t.TempDir()
	d := open(t, path)
	time.AfterFunc(lockTimeout/5, func() { _ = d.Close() })
	open(t, path)
}

func TestARefusedSupervisorChangesNothing(t *testing.T) {
	path := t.TempDir()
	open(t, path)
	put(t, path, ".new-vpn.IPSEC-1", "being written")
	if _, err := Open(path); !errors.Is(err, ErrLocked) {
		t.Fatal(err)
	}
	if got := files(t, path); !slices.Equal(got, []string{".new-vpn.IPSEC-1"}) {
		t.Errorf("the temporary file of the lock's holder is missing: %v", got)
	}
	lock, err := os.ReadFile(filepath.Join(path, "lock"))
	if err != nil || string(lock) != fmt.Sprintln(os.Getpid()) {
		t.Errorf("%q, %v", lock, err)
	}
}

func TestAStateDirectoryMustBeAbsolute(t *testing.T) {
	if _, err := Open("state"); err == nil {
		t.Error("a relative path was accepted")
	}
}

func TestDirectoriesAndFilesAreReadableByRootOnly(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	path := filepath.Join(t.TempDir(), "a", "state")
	d := open(t, path)
	if err := d.Write(record("vpn", "IPSEC", Added)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{
		"": 0o700, "containers": 0o700, "lock": 0o600, "containers/vpn.IPSEC": 0o600,
	} {
		info, err := os.Stat(filepath.Join(path, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%q has mode %v, %v", name, info.Mode(), err)
		}
	}
}

func TestOpenRestrictsTheModeOfAnExistingDirectory(t *testing.T) {
	path := t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(path, "containers"), 0o755), os.Chmod(path, 0o755)); err != nil {
		t.Fatal(err)
	}
	open(t, path)
	for _, dir := range []string{path, filepath.Join(path, "containers")} {
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s has mode %v, %v", dir, info.Mode(), err)
		}
	}
}

func TestOpenRemovesOnlyTheFilesOfInterruptedWrites(t *testing.T) {
	path := t.TempDir()
	put(t, path, ".new-vpn.IPSEC-123", "half a rec")
	put(t, path, ".new-", "")
	put(t, path, "README", "a file of the administrator")
	put(t, path, ".keep", "")
	put(t, path, "vpn.IPSEC", string(golden(t)))
	d := open(t, path)
	if got := files(t, path); !slices.Equal(got, []string{".keep", "README", "vpn.IPSEC"}) {
		t.Errorf("%v", got)
	}
	if got := d.Names(); !slices.Equal(got, []spec.Name{"vpn"}) {
		t.Errorf("%v", got)
	}
}

func TestAFileWhoseNameIsInvalidIsNotARecord(t *testing.T) {
	path := t.TempDir()
	for _, base := range []string{
		"README", "README.md", "vpn", "vpn.ipsec", ".IPSEC", "-a.IPSEC", "supervisor.IPSEC", "a.SUPERVISOR",
		"a b.IPSEC", "vpn.IPSEC~", "a234567890123456.IPSEC",
	} {
		put(t, path, base, string(golden(t)))
	}
	if d := open(t, path); len(d.Names()) != 0 {
		t.Errorf("%v", d.Names())
	}
}

func TestANameMayHaveDots(t *testing.T) {
	path := t.TempDir()
	d := open(t, path)
	for _, name := range []string{"a", "a.b", "a.IPSEC", "a..b."} {
		if err := d.Write(record(name, "IPSEC", Added)); err != nil {
			t.Fatal(err)
		}
	}
	if got := files(t, path); !slices.Equal(got, []string{"a..b..IPSEC", "a.IPSEC", "a.IPSEC.IPSEC", "a.b.IPSEC"}) {
		t.Errorf("%v", got)
	}
	if err := d.Rescan(); err != nil {
		t.Fatal(err)
	}
	names := d.Names()
	slices.Sort(names)
	if !slices.Equal(names, []spec.Name{"a", "a..b.", "a.IPSEC", "a.b"}) {
		t.Errorf("%v", names)
	}
	for _, name := range names {
		entries := d.Read(name)
		if len(entries) != 1 || entries[0].Err != nil || entries[0].Record.Container.InterfaceName != name {
			t.Errorf("%s: %+v", name, entries)
		}
	}
}

func TestReadReturnsADeletedRecordLast(t *testing.T) {
	for _, r := range []struct {
		name  string
		write func(t *testing.T, d *Dir, path string)
		want  []spec.ServiceType
	}{
		{"the deleted record was written first", func(t *testing.T, d *Dir, _ string) {
			mustWrite(t, d, record("vpn", "A", Deleted))
			mustWrite(t, d, record("vpn", "B", Adding))
		}, []spec.ServiceType{"B", "A"}},
		{"the deleted record was written last", func(t *testing.T, d *Dir, _ string) {
			mustWrite(t, d, record("vpn", "A", Added))
			mustWrite(t, d, record("vpn", "B", Deleted))
		}, []spec.ServiceType{"A", "B"}},
		{"the other record is damaged", func(t *testing.T, d *Dir, path string) {
			mustWrite(t, d, record("vpn", "A", Deleted))
			mustWrite(t, d, record("vpn", "B", Added))
			put(t, path, "vpn.B", "{")
		}, []spec.ServiceType{"B", "A"}},
	} {
		t.Run(r.name, func(t *testing.T) {
			path := t.TempDir()
			d := open(t, path)
			r.write(t, d, path)
			for range 2 {
				var got []spec.ServiceType
				for _, e := range d.Read("vpn") {
					got = append(got, e.ServiceType)
				}
				if !slices.Equal(got, r.want) {
					t.Errorf("%v", got)
				}
				if len(d.Names()) != 1 {
					t.Errorf("%v", d.Names())
				}
				if err := d.Rescan(); err != nil {
					t.Fatal(err)
				}
			}
			if err := d.Remove("vpn", r.want[1]); err != nil {
				t.Fatal(err)
			}
			if entries := d.Read("vpn"); len(entries) != 1 || entries[0].ServiceType != r.want[0] {
				t.Errorf("%+v", entries)
			}
		})
	}
}

func mustWrite(t *testing.T, d *Dir, r *Record) {
	t.Helper()
	if err := d.Write(r); err != nil {
		t.Fatal(err)
	}
}

func TestRemoveIsIdempotent(t *testing.T) {
	path := t.TempDir()
	d := open(t, path)
	mustWrite(t, d, record("vpn", "IPSEC", Added))
	for range 2 {
		if err := d.Remove("vpn", "IPSEC"); err != nil {
			t.Fatal(err)
		}
		if len(d.Read("vpn")) != 0 || len(d.Names()) != 0 || len(files(t, path)) != 0 {
			t.Error("the record still exists")
		}
	}
}

func TestARecordThatWasRemovedByHandIsAbsent(t *testing.T) {
	path := t.TempDir()
	d := open(t, path)
	mustWrite(t, d, record("vpn", "IPSEC", Added))
	if err := os.Remove(recordPath(path, "vpn.IPSEC")); err != nil {
		t.Fatal(err)
	}
	if entries := d.Read("vpn"); len(entries) != 0 {
		t.Errorf("%+v", entries)
	}
	if names := d.Names(); len(names) != 0 {
		t.Errorf("Names still returns %v", names)
	}
	mustWrite(t, d, record("vpn", "IPSEC", Added))
	if names := d.Names(); len(names) != 1 {
		t.Errorf("after the record was written again, Names returns %v", names)
	}
}

// If the state directory is unmounted or removed while the supervisor runs, the supervisor must not treat every
// container as an orphan.
func TestAMissingDirectoryIsNotAnEmptyOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	d := open(t, path)
	mustWrite(t, d, record("vpn", "IPSEC", Added))
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		entries := d.Read("vpn")
		if len(entries) != 1 || entries[0].Err == nil || errors.Is(entries[0].Err, ErrDamaged) {
			t.Fatalf("%+v", entries)
		}
		if err := d.Rescan(); err == nil {
			t.Error("Rescan of a missing directory succeeded")
		}
	}
	if err := d.Write(record("vpn", "IPSEC", Deleting)); err == nil {
		t.Error("Write to a missing directory succeeded")
	}
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	if entries := d.Read("vpn"); len(entries) != 1 || entries[0].Err != nil || entries[0].Record.Phase != Added {
		t.Errorf("%+v", entries)
	}
	if names := d.Names(); len(names) != 1 {
		t.Errorf("Names returns %v", names)
	}
}

func TestReadAllOfAMissingDirectoryReturnsNoRecords(t *testing.T) {
	if entries, err := ReadAll(filepath.Join(t.TempDir(), "nothing")); err != nil || len(entries) != 0 {
		t.Errorf("%v, %v", entries, err)
	}
}

func TestNoReaderSeesAPartialRecord(t *testing.T) {
	path := t.TempDir()
	d := open(t, path)
	mustWrite(t, d, sized(0))
	var reading sync.WaitGroup
	done := make(chan struct{})
	for range 2 {
		reading.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				entries, err := ReadAll(path)
				if err != nil || len(entries) != 1 {
					t.Errorf("%d records, %v", len(entries), err)
					return
				}
				checkWhole(t, entries[0])
			}
		})
	}
	for i := range 50 {
		mustWrite(t, d, sized(i))
	}
	close(done)
	reading.Wait()
}

func TestAKilledWriterLeavesACompleteRecord(t *testing.T) {
	path := t.TempDir()
	mustWriteOnce(t, path)
	for i := range 12 {
		writer, _ := startHelper(t, "write="+path)
		time.Sleep(time.Duration(i) * time.Millisecond) // kills the writer at a different point each time
		if err := writer.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = writer.Wait()
		d, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		entries := d.Read("vpn")
		if len(entries) != 1 {
			t.Fatal("the record is missing")
		}
		checkWhole(t, entries[0])
		if got := files(t, path); !slices.Equal(got, []string{"vpn.IPSEC"}) {
			t.Errorf("%v", got)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func mustWriteOnce(t *testing.T, path string) {
	t.Helper()
	d, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	mustWrite(t, d, sized(0))
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestConcurrentUseForSeveralContainers(t *testing.T) {
	path := t.TempDir()
	d := open(t, path)
	var working sync.WaitGroup
	for i := range 8 {
		name := fmt.Sprintf("vpn-%d", i)
		working.Go(func() {
			for _, phase := range []Phase{Adding, Added, Deleting} {
				if err := d.Write(record(name, "IPSEC", phase)); err != nil {
					t.Error(err)
				}
				entries := d.Read(spec.Name(name))
				if len(entries) != 1 || entries[0].Err != nil || entries[0].Record.Phase != phase {
					t.Errorf("%+v", entries)
				}
				d.Names()
			}
			if err := d.Remove(spec.Name(name), "IPSEC"); err != nil {
				t.Error(err)
			}
		})
	}
	working.Wait()
	if len(d.Names()) != 0 || len(files(t, path)) != 0 {
		t.Errorf("%v, %v", d.Names(), files(t, path))
	}
}

func TestAFullDiskLeavesTheFormerRecord(t *testing.T) {
	if !inPrivateMounts(t) {
		return
	}
	path := t.TempDir()
	mount(t, path, "size=256k")
	d := open(t, path)
	mustWrite(t, d, record("vpn", "IPSEC", Added))
	full, err := os.Create(filepath.Join(path, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 4096)
	for err == nil {
		_, err = full.Write(block)
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	if err := d.Write(record("vpn", "IPSEC", Deleting)); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("written to a full disk: %v", err)
	}
	if err := d.Write(record("other", "IPSEC", Adding)); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("written to a full disk: %v", err)
	}
	if entries := d.Read("vpn"); len(entries) != 1 || entries[0].Err != nil || entries[0].Record.Phase != Added {
		t.Errorf("%+v", entries)
	}
	if got := files(t, path); !slices.Equal(got, []string{"vpn.IPSEC"}) || len(d.Names()) != 1 {
		t.Errorf("%v, %v", got, d.Names())
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = open(t, path) // a supervisor must start on a full disk, because removing records may free space
	if err := d.Remove("vpn", "IPSEC"); err != nil {
		t.Error(err)
	}
	if err := errors.Join(full.Close(), os.Remove(full.Name())); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, d, record("vpn", "IPSEC", Added))
}

func TestAReadOnlyDiskLeavesTheFormerRecord(t *testing.T) {
	if !inPrivateMounts(t) {
		return
	}
	path := t.TempDir()
	d := open(t, path)
	mustWrite(t, d, record("vpn", "IPSEC", Added))
	if err := errors.Join(
		unix.Mount(path, path, "", unix.MS_BIND, ""),
		unix.Mount("", path, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""),
	); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
	if err := d.Write(record("vpn", "IPSEC", Deleting)); !errors.Is(err, unix.EROFS) {
		t.Errorf("written to a read-only disk: %v", err)
	}
	if err := d.Remove("vpn", "IPSEC"); !errors.Is(err, unix.EROFS) {
		t.Errorf("removed from a read-only disk: %v", err)
	}
	if entries := d.Read("vpn"); len(entries) != 1 || entries[0].Err != nil || entries[0].Record.Phase != Added {
		t.Errorf("%+v", entries)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil || errors.Is(err, ErrLocked) {
		t.Errorf("Open on a read-only file system: %v", err)
	}
	if entries, err := ReadAll(path); err != nil || len(entries) != 1 {
		t.Errorf("ReadAll, which needs no lock, was refused: %v", err)
	}
}

// The test applies random writes, removals, reopens and rescans to a directory and to a map, and compares both after
// each step.
func TestTheDirectoryBehavesLikeAMap(t *testing.T) {
	base := t.TempDir()
	runs := 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		path := filepath.Join(base, strconv.Itoa(runs))
		d, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = d.Close() }()
		model := map[file]Phase{}
		for range rapid.IntRange(1, 6).Draw(t, "steps") {
			f := file{
				spec.Name(rapid.SampledFrom([]string{"a", "a.b", "a.A"}).Draw(t, "name")),
				spec.ServiceType(rapid.SampledFrom([]string{"A", "B"}).Draw(t, "type")),
			}
			switch rapid.IntRange(0, 5).Draw(t, "step") {
			case 0, 1, 2:
				phase := rapid.SampledFrom([]Phase{Adding, Added, Changing, Deleting, Deleted}).Draw(t, "phase")
				err, model[f] = d.Write(record(string(f.name), string(f.serviceType), phase)), phase
			case 3:
				err = d.Remove(f.name, f.serviceType)
				delete(model, f)
			case 4:
				err = d.Rescan()
			case 5:
				if err = d.Close(); err == nil {
					d, err = Open(path)
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			compare(t, d, model)
		}
	})
}

func compare(t *rapid.T, d *Dir, model map[file]Phase) {
	want := map[spec.Name]int{}
	for f := range model {
		want[f.name]++
	}
	names := d.Names()
	slices.Sort(names)
	if !slices.Equal(names, slices.Sorted(maps.Keys(want))) {
		t.Fatalf("%v, want %v", names, want)
	}
	for _, name := range []spec.Name{"a", "a.b", "a.A"} {
		entries := d.Read(name)
		if len(entries) != want[name] {
			t.Fatalf("%s has %d records, want %d", name, len(entries), want[name])
		}
		for _, e := range entries {
			if e.Err != nil || e.Record.Phase != model[file{e.Name, e.ServiceType}] {
				t.Fatalf("%+v", e)
			}
		}
	}
}

func TestADirectoryWithForeignFilesIsRefusedUnchanged(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "letter.txt"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if opened, err := Open(dir); err == nil {
		_ = opened.Close()
		t.Fatal("a directory with foreign files was accepted as a state directory")
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o755 {
		t.Fatalf("the mode of the directory was changed to %v (%v)", info.Mode(), err)
	}
}

func TestHolderReturnsThePidOfTheLockHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	expect := func(when string, wantPID int, want bool) {
		t.Helper()
		if pid, held, err := Holder(path); pid != wantPID || held != want || err != nil {
			t.Errorf("%s: %d, %v, %v", when, pid, held, err)
		}
	}
	expect("no directory", 0, false)
	d, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	expect("open", os.Getpid(), true)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	expect("closed", 0, false)
}
