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

// roleVariable makes the test program another user of a registry: "<role> <directory> <range file> <network>".
const roleVariable = "USERID_TEST_ROLE"

func TestMain(m *testing.M) {
	role := strings.Fields(os.Getenv(roleVariable))
	if len(role) == 0 {
		os.Exit(m.Run())
	}
	r := New(role[1], role[2], slog.New(slog.DiscardHandler))
	r.subordinate = nil
	if err := play(role[0], r, role[3]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// play allocates ids for 30 owners of a network and 10 that all processes share ("allocate"), or changes the
// registry until it is killed ("churn").
func play(role string, r *Registry, network string) error {
	for i := 0; role == "churn" || i < 30; i++ {
		owners := []spec.Owner{{Network: network, Name: spec.Name(fmt.Sprintf("c%d", i%30)), ContainerID: "id"}}
		if i%3 == 0 {
			owners = append(owners, spec.Owner{Network: "shared", Name: spec.Name(fmt.Sprintf("c%d", i%30)), ContainerID: "id"})
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

// start starts the test program in a role.
func start(t *testing.T, role, network string, r *Registry) (*exec.Cmd, *bytes.Buffer, io.Reader) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleVariable+"="+strings.Join([]string{role, r.directory, r.rangeFile, network}, " "))
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

// registry makes an empty one with a range of n ids and its log.
func registry(t testing.TB, n int) (*Registry, Range, *bytes.Buffer) {
	t.Helper()
	dir := t.TempDir()
	ids := Range{2120000000, uint32(2120000000 + n - 1)}
	r := New(filepath.Join(dir, "registry"), filepath.Join(dir, "user-ids"), nil)
	r.subordinate = nil
	log := new(bytes.Buffer)
	r.log = slog.New(slog.NewTextHandler(log, nil))
	if err := os.WriteFile(r.rangeFile, []byte(ids.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return r, ids, log
}

// allocate fails the test if there is no id.
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

// fakeGetent puts a shell script in front of the host's getent. The returned function counts its runs.
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

// entry is a line of getent for one id, in a script, if it was asked for.
func entry(database string, id uint32) string {
	number := strconv.FormatUint(uint64(id), 10)
	return fmt.Sprintf(`case "$1 $*" in "%s "*" %s"*) echo "someone:x:%s:7::/:/bin/sh" ;; esac`, database, number, number)
}
