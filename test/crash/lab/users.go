package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/pkg/netns"
)

// registry reads the user ids of the host: the id of each pair of network and name, and one line for each file. Two files
// are always there or may be: the position in the range, and the one that is written beside another.
func registry() (ids map[string]uint32, lines []string, err error) {
	names, err := list(users)
	if err != nil {
		return nil, nil, err
	}
	ids = map[string]uint32{}
	owners := map[string]string{} // by the name of the file
	for _, name := range names {
		id, err := strconv.ParseUint(name, 10, 32)
		if err != nil {
			continue
		}
		tag, err := os.ReadFile(filepath.Join(users, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		fields := strings.Split(strings.TrimSpace(string(tag)), ":")
		if len(fields) != 3 {
			owners[name] = "unknown"
			lines = append(lines, name+" of "+strconv.Quote(string(tag)))
			continue
		}
		pair := fields[0] + ":" + fields[1]
		ids[pair], owners[name] = uint32(id), pair
		lines = append(lines, "of "+pair)
	}
	for _, name := range names {
		if name == ".state" || name == ".new" || owners[name] != "" {
			continue
		}
		target, err := os.Readlink(filepath.Join(users, name))
		if err != nil || owners[target] != name {
			lines = append(lines, fmt.Sprintf("%s -> %q, which is no registration of it", name, target))
			continue
		}
		lines = append(lines, "found by "+name)
	}
	return ids, lines, nil
}

// directories lists those of svc-ipsec's containers. One whose parts do not all have the registered user id is listed with
// what they have: since a registration is a file that has the id as its name, no two containers have the same id.
func directories(registered map[string]uint32) ([]string, error) {
	names, err := list(folders)
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, name := range names {
		if name == template || name == views || strings.HasPrefix(name, kernelAnswer) {
			continue
		}
		line := name
		if ids, err := userIDs(name); err != nil {
			line += fmt.Sprintf(" (%v)", err)
		} else if registered := registered[ids.pair]; ids.state != registered || ids.group != registered || ids.namespace != registered {
			line += fmt.Sprintf(" of user id %d (state.json), %d (group), %d (namespace); registered: %d", ids.state, ids.group, ids.namespace, registered)
		}
		lines = append(lines, line)
	}
	return lines, nil
}

// containerIDs are the places where a container has its user id.
type containerIDs struct {
	pair                    string // network and name
	state, group, namespace uint32
}

func userIDs(name string) (containerIDs, error) {
	var ids containerIDs
	directory := filepath.Join(folders, name)
	text, err := os.ReadFile(filepath.Join(directory, "state.json"))
	if err != nil {
		return ids, err
	}
	var state struct {
		Attachment struct{ Network, Namespace string }
		UserID     uint32
	}
	if err := json.Unmarshal(text, &state); err != nil {
		return ids, err
	}
	ids.pair, ids.state = state.Attachment.Network+":"+name, state.UserID
	var stat unix.Stat_t
	if err := unix.Stat(directory, &stat); err != nil {
		return ids, err
	}
	ids.group = stat.Gid
	namespace, err := os.Open(state.Attachment.Namespace)
	if err != nil {
		return ids, err
	}
	defer namespace.Close()
	ids.namespace, _, err = netns.UserOf(namespace)
	return ids, err
}

// mountViews lists what is beside the one view that svc-ipsec's daemons share. A plain file in its place is what an ADD leaves that
// was cut before it bound the view there.
func mountViews() ([]string, error) {
	names, err := list(filepath.Join(folders, views))
	if err != nil || len(names) < 2 {
		return nil, err
	}
	var lines []string
	for _, name := range names {
		lines = append(lines, fmt.Sprintf("%s of %d, bound: %v", name, len(names), isPinned(name)))
	}
	return lines, nil
}

func isPinned(view string) bool {
	var system unix.Statfs_t
	return unix.Statfs(filepath.Join(folders, views, view), &system) == nil && system.Type == unix.NSFS_MAGIC
}
