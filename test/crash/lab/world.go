package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// World lists what is there that a container can leave, one line each, sorted.
func World() ([]string, error) {
	var lines []string
	add := func(kind string, names ...string) {
		for _, name := range names {
			lines = append(lines, kind+" "+name)
		}
	}
	links, err := Run("ip", "-o", "link", "show")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(links) {
		name, _, _ := strings.Cut(strings.Fields(line)[1], "@")
		if name = strings.TrimSuffix(name, ":"); !slices.Contains([]string{"lo", "sit0", "ip6tnl0", "tunl0", bridgeA, bridgeB}, name) {
			add("link", name)
		}
	}
	units, err := Run("systemctl", "list-units", "--all", "--plain", "--no-legend", "svc-*.service", "svc-*.scope")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(units) {
		if fields := strings.Fields(line); len(fields) > 3 {
			add("unit", fields[0]+" "+fields[2])
		}
	}
	for kind, folder := range map[string]string{"namespace": "/run/netns", "record": records, "status": statuses + "/containers/" + HostID} {
		names, err := list(folder)
		if err != nil {
			return nil, err
		}
		add(kind, names...)
	}
	registered, lists, err := registry()
	if err != nil {
		return nil, err
	}
	add("user id", lists...)
	directories, err := directories(registered)
	if err != nil {
		return nil, err
	}
	add("folder", directories...)
	views, err := mountViews()
	if err != nil {
		return nil, err
	}
	add("mount view", views...)
	mounts, err := mounts()
	if err != nil {
		return nil, err
	}
	add("mount", mounts...)
	add("process", processes()...)
	slices.Sort(lines)
	return lines, nil
}

func list(folder string) ([]string, error) {
	entries, err := os.ReadDir(folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names, nil
}

// mounts lists those of names and pins. Where /run/netns is bound on itself, the table has each twice. The directory of the
// mount views is a mount of its own; a second one on it would hide the views.
func mounts() ([]string, error) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var list []string
	onViews := 0
	for line := range strings.Lines(string(table)) {
		switch path := strings.Fields(line)[4]; {
		case path == filepath.Join(folders, views):
			onViews++
		case strings.HasPrefix(path, filepath.Join(folders, views)+"/"): // see mountViews
		case strings.HasPrefix(path, "/run/netns/"), strings.HasPrefix(path, folders+"/"):
			list = append(list, path)
		}
	}
	slices.Sort(list)
	list = slices.Compact(list)
	if onViews > 1 {
		list = append(list, fmt.Sprintf("%s, %d times", filepath.Join(folders, views), onViews))
	}
	return list, nil
}

// processes lists those of units and verbs, by control group or environment.
func processes() []string {
	var list []string
	paths, _ := filepath.Glob("/proc/[0-9]*")
	for _, path := range paths {
		group, _ := os.ReadFile(path + "/cgroup")
		environment, _ := os.ReadFile(path + "/environ")
		command, _ := os.ReadFile(path + "/comm")
		name := strings.TrimSpace(string(command))
		if _, err := os.Readlink(path + "/exe"); err != nil {
			continue // it has ended
		}
		if _, unit, ours := strings.Cut(string(group), "/svc.slice/"); ours {
			list = append(list, name+" of "+filepath.Base(strings.TrimSpace(unit)))
		} else if strings.HasPrefix(string(environment), "CNI_") || strings.Contains(string(environment), "\x00CNI_") {
			list = append(list, name+" of a verb ("+filepath.Base(path)+")")
		}
	}
	return list
}

// Due lists what must be there for these containers, as World does. It fails where a container has no process.
func Due(wanted []Wanted) []string {
	var lines []string
	for _, w := range wanted {
		unit := "svc-" + w.Name + ".service"
		lines = append(lines, "link "+w.Name, "unit "+unit+" active", "namespace "+w.Name, "mount /run/netns/"+w.Name,
			"record "+w.Name+"."+w.Type, "status "+w.ID+".json")
		switch w.Type {
		case "IPSEC":
			pair := spec.Network + ":" + w.Name
			lines = append(lines, "folder "+w.Name, "process pluto of "+unit, "user id of "+pair, "user id found by "+pair)
		case "LAZY":
			lines = append(lines, "process sleep of "+unit)
		}
	}
	slices.Sort(lines)
	return lines
}

// Compare says how the world differs from what these containers make it: `-` is missing (lost), `+` is too much (leaked).
func Compare(wanted []Wanted) ([]string, error) {
	world, err := World()
	if err != nil {
		return nil, err
	}
	count := map[string]int{}
	for _, line := range world {
		count[line]++
	}
	for _, line := range Due(wanted) {
		count[line]--
	}
	var differences []string
	for line, n := range count {
		switch {
		case n > 0:
			differences = append(differences, "+ "+line)
		case n < 0:
			differences = append(differences, "- "+line)
		}
	}
	slices.Sort(differences)
	return differences, nil
}

// Same fails unless the world is what these containers make it.
func Same(wanted []Wanted) error {
	differences, err := Compare(wanted)
	if err == nil && len(differences) > 0 {
		err = fmt.Errorf("%s", strings.Join(differences, "\n"))
	}
	return err
}

// MainPID is that of a container's unit.
func MainPID(name string) (int, error) {
	output, err := Run("systemctl", "show", "-P", "MainPID", "svc-"+name+".service")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(output))
}

// Children are the processes that the supervisor started: verbs.
func (l *Lab) Children() []int {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", l.PID()))
	var pids []int
	for _, path := range lists {
		text, _ := os.ReadFile(path)
		for _, word := range strings.Fields(string(text)) {
			if pid, err := strconv.Atoi(word); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
