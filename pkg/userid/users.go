package userid

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/internal/procids"
)

// nssTimeout is the total time that one allocation waits for the user database. An unreachable directory service must
// not prevent the start of containers.
const nssTimeout = 4 * time.Second

// usersAndGroups returns which of the ids belong to a user or a group of the host's user database (NSS). It runs
// getent(1), because a static binary cannot load NSS modules. getent does not distinguish a database that does not know
// an id from one that returns an error. If the query of one database fails, the result has the ids of the other one.
func usersAndGroups(ctx context.Context, ids []uint32) (map[uint32]bool, error) {
	databases := []string{"passwd", "group"}
	found := make([]map[uint32]bool, len(databases))
	failed := make([]error, len(databases))
	var both sync.WaitGroup
	for i, database := range databases {
		both.Go(func() { found[i], failed[i] = query(ctx, database, ids) })
	}
	both.Wait()
	all := map[uint32]bool{}
	for _, ids := range found {
		maps.Copy(all, ids)
	}
	return all, errors.Join(failed...)
}

func query(ctx context.Context, database string, ids []uint32) (map[uint32]bool, error) {
	found, err := getent(ctx, database, ids)
	switch {
	case err == nil:
		return found, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("getent %s: no answer within %s", database, nssTimeout)
	default:
		return nil, fmt.Errorf("getent %s: %w", database, err)
	}
}

// getent queries one database. The exit status of getent(1) is 0 if the database has every key, and 2 if it does not.
func getent(ctx context.Context, database string, ids []uint32) (map[uint32]bool, error) {
	args := []string{database}
	for _, id := range ids {
		args = append(args, strconv.FormatUint(uint64(id), 10))
	}
	// A file has the whole output as soon as the program has ended. A pipe may not: another process may hold it open.
	fd, err := unix.MemfdCreate("getent", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	output := os.NewFile(uintptr(fd), "getent")
	defer output.Close()
	cmd := exec.CommandContext(ctx, "getent", args...)
	cmd.Stdout = output
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 2) {
		return nil, err
	}
	content, err := io.ReadAll(io.NewSectionReader(output, 0, math.MaxInt64))
	if err != nil {
		return nil, err
	}
	return thirdFields(content), nil
}

// thirdFields returns the ids in lines of passwd(5) or group(5). Both formats have the id in the third field.
func thirdFields(output []byte) map[uint32]bool {
	ids := map[uint32]bool{}
	for line := range bytes.Lines(output) {
		if fields := strings.Split(strings.TrimSpace(string(line)), ":"); len(fields) >= 3 {
			addIDs(ids, fields[2:3])
		}
	}
	return ids
}

// idsOfProcesses returns the user ids and group ids of all processes, in this user namespace. It reads the status
// files, because /proc/<pid> is owned by root if the process has changed its user id. It does not find the ids of
// threads that differ from those of their process.
func idsOfProcesses() (map[uint32]bool, error) {
	pids, err := procids.All()
	if err != nil {
		return nil, fmt.Errorf("read processes: %w", err)
	}
	ids := map[uint32]bool{}
	for _, pid := range pids {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			continue // the process has ended
		}
		for line := range strings.Lines(string(status)) {
			key, value, _ := strings.Cut(line, ":")
			if key == "Uid" || key == "Gid" || key == "Groups" {
				addIDs(ids, strings.Fields(value))
			}
		}
	}
	return ids, nil
}

func addIDs(ids map[uint32]bool, fields []string) {
	for _, field := range fields {
		if id, err := strconv.ParseUint(field, 10, 32); err == nil {
			ids[uint32(id)] = true
		}
	}
}
