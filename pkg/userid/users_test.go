package userid

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// sleepAs starts a process with other credentials and returns a function that ends it.
func sleepAs(t *testing.T, credential *syscall.Credential) (stop func()) {
	t.Helper()
	cmd := exec.Command("sleep", "infinity")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }
	t.Cleanup(stop)
	return stop
}

func TestIDOfAUserOrGroupIsSkipped(t *testing.T) {
	for _, database := range []string{"passwd", "group"} {
		r, ids, log := registry(t, 16)
		fakeGetent(t, entry(database, ids.First)+"\n"+entry(database, ids.First+2)+"\nexit 2")
		if id := allocate(t, r, "a"); id != ids.First+1 {
			t.Errorf("%s: got %d", database, id)
		}
		if id := allocate(t, r, "b"); id != ids.First+3 {
			t.Errorf("%s: got %d", database, id)
		}
		if log.Len() > 0 {
			t.Errorf("%s: %s", database, log)
		}
	}
}

func TestRangeWhoseIDsAllBelongToUsersIsUsedUp(t *testing.T) {
	r, _, _ := registry(t, 300)
	fakeGetent(t, `database=$1; shift; for id do echo "u$id:x:$id:$id::/:"; done`)
	if id, err := r.Allocate(t.Context(), owner("a")); !errors.Is(err, ErrExhausted) {
		t.Errorf("got %d, %v", id, err)
	}
}

// The test runs the getent of the host, which knows root.
func TestOutputOfTheHostsGetentIsParsed(t *testing.T) {
	known, err := usersAndGroups(t.Context(), []uint32{0, 2120000000})
	if !known[0] || known[2120000000] || err != nil {
		t.Errorf("%v, %v", known, err)
	}
}

func TestUserDatabaseIsQueriedOncePerBatch(t *testing.T) {
	r, _, _ := registry(t, 1000)
	runs := fakeGetent(t, "exit 2")
	for i := range 3 * batchSize {
		allocate(t, r, fmt.Sprintf("c%d", i))
	}
	if runs() != 6 {
		t.Errorf("getent was started %d times, want passwd and group for each of 3 batches", runs())
	}
}

func TestAllocationSucceedsIfTheUserDatabaseDoesNotAnswer(t *testing.T) {
	for _, test := range []struct {
		what, script, warning string
	}{
		{"hangs", "exec sleep 600", "no answer within 4s"},
		{"hangs in a child that keeps the output open", "sleep 20; exit 2", "no answer within 4s"},
		{"one database hangs", `test "$1" = passwd && exit 2; exec sleep 600`, "getent group: no answer within 4s"},
		{"fails", "exit 1", "getent passwd: exit status 1"},
		{"knows no such database", "exit 3", "getent group: exit status 3"},
		{"crashes", "kill -SEGV $$", "signal: segmentation fault"},
		{"is killed", "kill -KILL $$", "signal: killed"},
	} {
		t.Run(test.what, func(t *testing.T) {
			r, ids, log := registry(t, 100)
			runs := fakeGetent(t, test.script)
			if id := allocate(t, r, "first"); id != ids.First {
				t.Errorf("got %d", id)
			}
			if got := log.String(); strings.Count(got, "level=WARN") != 1 || !strings.Contains(got, test.warning) {
				t.Errorf("%q, want one warning with %q", got, test.warning)
			}
			once := runs()
			for i := range batchSize - 1 {
				allocate(t, r, fmt.Sprintf("c%d", i))
			}
			if runs() != once {
				t.Errorf("getent was started %d times more", runs()-once)
			}
			fakeGetent(t, entry("passwd", ids.First+batchSize)+"\nexit 2")
			if id := allocate(t, r, "later"); id != ids.First+batchSize+1 {
				t.Errorf("got %d: the database was not queried again", id)
			}
		})
	}
}

func TestResultOfOneDatabaseIsUsedIfTheOtherFails(t *testing.T) {
	r, ids, log := registry(t, 16)
	fakeGetent(t, `test "$1" = group && exit 1`+"\n"+entry("passwd", ids.First)+"\nexit 2")
	if id := allocate(t, r, "a"); id != ids.First+1 || !strings.Contains(log.String(), "getent group") {
		t.Errorf("got %d, %s", id, log)
	}
}

func TestAllocationSucceedsWithoutGetent(t *testing.T) {
	r, ids, log := registry(t, 16)
	t.Setenv("PATH", t.TempDir())
	if id := allocate(t, r, "a"); id != ids.First || !strings.Contains(log.String(), "executable file not found") {
		t.Errorf("got %d, %s", id, log)
	}
}

func TestCancelledAllocationRegistersNothing(t *testing.T) {
	r, _, log := registry(t, 16)
	started := filepath.Join(t.TempDir(), "started")
	fakeGetent(t, "touch "+started+"; exec sleep 600")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		for _, err := os.Stat(started); err != nil && ctx.Err() == nil; _, err = os.Stat(started) {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	if id, err := r.Allocate(ctx, owner("a")); err == nil {
		t.Errorf("got %d", id)
	}
	if list, err := r.List(); len(list) > 0 || err != nil || log.Len() > 0 {
		t.Errorf("%v, %v, %s", list, err, log)
	}
}
