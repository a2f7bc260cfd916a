package userid

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// roleVariable makes the test program run as a helper process that changes a registry. Its value is
// "<role> <directory> <range file> <network>".
const roleVariable = "USERID_TEST_ROLE"

func TestMain(m *testing.M) {
	role := strings.Fields(os.Getenv(roleVariable))
	if len(role) == 0 {
		os.Exit(m.Run())
	}
	r := New(role[1], role[2], slog.New(slog.DiscardHandler))
	r.ranges.subordinate = nil
	if err := runRole(role[0], r, role[3]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// runRole allocates ids for 30 owners of a network and for 10 owners that all processes share (role "allocate"), or
// allocates and releases ids until the process is killed (role "churn").
func runRole(role string, r *Registry, network string) error {
	for i := 0; role == "churn" || i < 30; i++ {
		owners := []spec.Owner{{Network: network, Name: spec.Name(fmt.Sprintf("c%d", i%30)), ContainerID: "id"}}
		if i%3 == 0 {
			shared := spec.Owner{Network: "shared", Name: spec.Name(fmt.Sprintf("c%d", i%30)), ContainerID: "id"}
			owners = append(owners, shared)
		}
		for _, owner := range owners {
			id, err := r.Allocate(context.Background(), owner)
			if err != nil {
				return err
			}
			if role == "allocate" {
				fmt.Println(id, owner.Network, owner.Name)
				continue
			}
			if i < 3 {
				fmt.Println("changed")
			}
			if err := r.Release(context.Background(), owner, unused); err != nil {
				return err
			}
		}
	}
	return nil
}

// start starts the test program in a role. In the role "churn" the returned reader has its output, otherwise the
// buffer.
func start(t *testing.T, role, network string, r *Registry) (*exec.Cmd, *bytes.Buffer, io.Reader) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleVariable+"="+
		strings.Join([]string{role, r.files.directory, r.ranges.file, network}, " "))
	var output bytes.Buffer
	first, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = &output
	if role == "churn" {
		cmd.Stdout = writer
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = writer.Close()
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait(); _ = first.Close() })
	return cmd, &output, first
}

func unused(uint32) (bool, error) { return false, nil }

func owner(name string) spec.Owner {
	return spec.Owner{Network: spec.Network, Name: spec.Name(name), ContainerID: "id"}
}

// registry returns an empty registry with a range of n ids, the range, and the log of the registry.
func registry(t testing.TB, n int) (*Registry, Range, *bytes.Buffer) {
	t.Helper()
	dir := t.TempDir()
	ids := Range{2120000000, uint32(2120000000 + n - 1)}
	r := New(filepath.Join(dir, "registry"), filepath.Join(dir, "user-ids"), nil)
	r.ranges.subordinate = nil
	log := new(bytes.Buffer)
	r.log = slog.New(slog.NewTextHandler(log, nil))
	if err := os.WriteFile(r.ranges.file, []byte(ids.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return r, ids, log
}

// allocate allocates an id for the owner of that name. An error fails the test.
func allocate(t testing.TB, r *Registry, name string) uint32 {
	t.Helper()
	id, err := r.Allocate(t.Context(), owner(name))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func release(t testing.TB, r *Registry, name string) {
	t.Helper()
	if err := r.Release(t.Context(), owner(name), unused); err != nil {
		t.Fatal(err)
	}
}

// fakeGetent puts a shell script named getent first in PATH. The returned function returns how often it was run.
func fakeGetent(t testing.TB, script string) (runs func() int) {
	t.Helper()
	dir := t.TempDir()
	script = "#!/bin/sh\necho \"$1\" >>" + filepath.Join(dir, "runs") + "\n" + script + "\n"
	if err := os.WriteFile(filepath.Join(dir, "getent"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return func() int {
		content, _ := os.ReadFile(filepath.Join(dir, "runs"))
		return bytes.Count(content, []byte("\n"))
	}
}

// entry returns a shell command for fakeGetent. It prints an entry for the id if database and id are among the
// arguments.
func entry(database string, id uint32) string {
	number := strconv.FormatUint(uint64(id), 10)
	return fmt.Sprintf(`case "$1 $*" in "%s "*" %s"*) echo "someone:x:%s:7::/:/bin/sh" ;; esac`, database, number,
		number)
}
