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

// Observe returns one line for each thing on the host that a container can leave, sorted.
func Observe() ([]string, error) {
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
		name = strings.TrimSuffix(name, ":")
		if !slices.Contains([]string{"lo", "sit0", "ip6tnl0", "tunl0", bridgeA, bridgeB}, name) {
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
	for kind, directory := range map[string]string{
		"namespace": "/run/netns", "record": records, "status": statuses + "/containers/" + HostID,
	} {
		names, err := list(directory)
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
	add("directory", directories...)
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

func list(directory string) ([]string, error) {
	entries, err := os.ReadDir(directory)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names, nil
}

// mounts returns the mounts of named and of pinned namespaces. If /run/netns is bind-mounted on itself, the mount table
// has each of them twice. The directory of the mount views is a mount too. It is returned only if there is a second
// mount on it, which would hide the views.
func mounts() ([]string, error) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var list []string
	onViews := 0
	for line := range strings.Lines(string(table)) {
		switch path := strings.Fields(line)[4]; {
		case path == filepath.Join(ipsecDir, views):
			onViews++
		case strings.HasPrefix(path, filepath.Join(ipsecDir, views)+"/"): // see mountViews
		case strings.HasPrefix(path, "/run/netns/"), strings.HasPrefix(path, ipsecDir+"/"):
			list = append(list, path)
		}
	}
	slices.Sort(list)
	list = slices.Compact(list)
	if onViews > 1 {
		list = append(list, fmt.Sprintf("%s, %d times", filepath.Join(ipsecDir, views), onViews))
	}
	return list, nil
}

// processes returns the processes of units, which are found by their control group, and those of verbs, which are found
// by their environment.
func processes() []string {
	var list []string
	paths, _ := filepath.Glob("/proc/[0-9]*")
	for _, path := range paths {
		group, _ := os.ReadFile(path + "/cgroup")
		environment, _ := os.ReadFile(path + "/environ")
		command, _ := os.ReadFile(path + "/comm")
		name := strings.TrimSpace(string(command))
		if _, err := os.Readlink(path + "/exe"); err != nil {
			continue // the process has ended
		}
		if _, unit, ours := strings.Cut(string(group), "/svc.slice/"); ours {
			list = append(list, name+" of "+filepath.Base(strings.TrimSpace(unit)))
		} else if strings.HasPrefix(string(environment), "CNI_") || strings.Contains(string(environment), "\x00CNI_") {
			list = append(list, name+" of a verb ("+filepath.Base(path)+")")
		}
	}
	return list
}

// Expected returns the lines that Observe must return if the host has exactly these containers.
func Expected(desired []Binding) []string {
	var lines []string
	for _, w := range desired {
		unit := "svc-" + w.Name + ".service"
		lines = append(lines, "link "+w.Name, "unit "+unit+" active", "namespace "+w.Name, "mount /run/netns/"+w.Name,
			"record "+w.Name+"."+w.Type, "status "+w.ID+".json")
		switch w.Type {
		case "IPSEC":
			pair := spec.Network + ":" + w.Name
			lines = append(lines, "directory "+w.Name, "process pluto of "+unit, "user id of "+pair,
				"user id found by "+pair)
		case "LAZY":
			lines = append(lines, "process sleep of "+unit)
		}
	}
	slices.Sort(lines)
	return lines
}

// Compare returns the differences between the observed state and that of a host with exactly these containers. A line
// that is missing (lost) starts with `-`, and one that should not exist (leaked) with `+`.
func Compare(desired []Binding) ([]string, error) {
	observed, err := Observe()
	if err != nil {
		return nil, err
	}
	count := map[string]int{}
	for _, line := range observed {
		count[line]++
	}
	for _, line := range Expected(desired) {
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

// CheckObserved returns an error with the differences unless the host has exactly these containers.
func CheckObserved(desired []Binding) error {
	differences, err := Compare(desired)
	if err == nil && len(differences) > 0 {
		err = fmt.Errorf("%s", strings.Join(differences, "\n"))
	}
	return err
}

// MainPID returns the main process id of a container's unit, or 0 if the unit has none.
func MainPID(name string) (int, error) {
	output, err := Run("systemctl", "show", "-P", "MainPID", "svc-"+name+".service")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(output))
}

// Children returns the process ids of the supervisor's child processes, which are running verbs.
func (l *Lab) Children() []int {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", l.PID()))
	var pids []int
	for _, path := range lists {
		text, _ := os.ReadFile(path)
		for _, field := range strings.Fields(string(text)) {
			if pid, err := strconv.Atoi(field); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
