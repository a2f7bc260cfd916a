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

// registry reads the registry of user ids. It returns the id of each pair of network and name, and one line for each
// file of the registry. There is no line for the file with the position in the range and for the temporary file, which
// may exist.
func registry() (ids map[string]uint32, lines []string, err error) {
	names, err := list(registryDir)
	if err != nil {
		return nil, nil, err
	}
	ids = map[string]uint32{}
	owners := map[string]string{} // the pairs of network and name, by the name of the file
	for _, name := range names {
		id, err := strconv.ParseUint(name, 10, 32)
		if err != nil {
			continue
		}
		tag, err := os.ReadFile(filepath.Join(registryDir, name))
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
		target, err := os.Readlink(filepath.Join(registryDir, name))
		if err != nil || owners[target] != name {
			lines = append(lines, fmt.Sprintf("%s -> %q, which is no registration of it", name, target))
			continue
		}
		lines = append(lines, "found by "+name)
	}
	return ids, lines, nil
}

// directories returns one line for each container directory of svc-ipsec. If a part of the container does not have the
// registered user id, the line contains the ids of all parts. Two containers cannot have the same registered id,
// because the id is the name of the registration's file.
func directories(registered map[string]uint32) ([]string, error) {
	names, err := list(ipsecDir)
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, name := range names {
		if name == template || name == views || strings.HasPrefix(name, kernelFile) {
			continue
		}
		line := name
		if ids, err := userIDs(name); err != nil {
			line += fmt.Sprintf(" (%v)", err)
		} else if id := registered[ids.pair]; ids.state != id || ids.group != id || ids.namespace != id {
			line += fmt.Sprintf(" of user id %d (state.json), %d (group), %d (namespace); registered: %d",
				ids.state, ids.group, ids.namespace, id)
		}
		lines = append(lines, line)
	}
	return lines, nil
}

// containerIDs has the user ids of the parts of a container, which are all the same in a container without a fault.
type containerIDs struct {
	pair                    string // network and name
	state, group, namespace uint32
}

func userIDs(name string) (containerIDs, error) {
	var ids containerIDs
	directory := filepath.Join(ipsecDir, name)
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

// mountViews returns nothing if there is at most one entry in the directory of the mount views. Otherwise it returns
// one line for each. An ADD that was killed before it bound the view leaves a plain file, which the next ADD uses.
func mountViews() ([]string, error) {
	names, err := list(filepath.Join(ipsecDir, views))
	if err != nil || len(names) < 2 {
		return nil, err
	}
	var lines []string
	for _, name := range names {
		lines = append(lines, fmt.Sprintf("%s of %d, bound: %v", name, len(names), isPinned(name)))
	}
	return lines, nil
}

// isPinned reports whether a mount namespace is bound to the file of the view.
func isPinned(view string) bool {
	var system unix.Statfs_t
	return unix.Statfs(filepath.Join(ipsecDir, views, view), &system) == nil && system.Type == unix.NSFS_MAGIC
}
