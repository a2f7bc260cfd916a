package lab

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// record has the fields of a record that the harness reads.
type record struct {
	Phase     string          `json:"phase"`
	Container json.RawMessage `json:"container"`
	Conf      json.RawMessage `json:"conf"`
	Previous  json.RawMessage `json:"previous"`
	Result    json.RawMessage `json:"result"`
}

// Phase returns the phase of a name's record, or "" if there is no record.
func Phase(name string) string {
	paths, _ := filepath.Glob(filepath.Join(records, name+".*"))
	for _, path := range paths {
		var r record
		if text, err := os.ReadFile(path); err == nil && json.Unmarshal(text, &r) == nil {
			return r.Phase
		}
	}
	return ""
}

// CheckSettled returns an error unless the record and the status of the container agree with the binding.
func CheckSettled(w Binding) error {
	text, err := os.ReadFile(filepath.Join(records, w.Name+"."+w.Type))
	if err != nil {
		return err
	}
	var r struct {
		Phase     string
		Container struct{ PortID, ContainerID, GroupID string }
		Conf      struct {
			Configuration, Port json.RawMessage
		}
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return fmt.Errorf("record of %s: %w", w.Name, err)
	}
	shape := w.Shape.configuration("f-" + w.ID)
	expected, err := json.Marshal(shape)
	if err != nil {
		return err
	}
	var got, due any
	if json.Unmarshal(r.Conf.Configuration, &got) != nil || json.Unmarshal(expected, &due) != nil ||
		fmt.Sprint(got) != fmt.Sprint(due) {
		return fmt.Errorf("record of %s: the configuration is not that of shape %s", w.Name, w.Shape)
	}
	bridge := map[Shape]string{A: bridgeA, B: bridgeB}[w.Shape]
	if r.Phase != "added" || r.Container.PortID != w.Port || r.Container.ContainerID != w.ID ||
		r.Container.GroupID != w.Group || !bytes.Contains(r.Conf.Port, []byte(bridge)) {
		return fmt.Errorf("record of %s: %s, port %s, container %s, group %s, %s", w.Name, r.Phase, r.Container.PortID,
			r.Container.ContainerID, r.Container.GroupID, r.Conf.Port)
	}
	text, err = os.ReadFile(filepath.Join(statuses, "containers", HostID, w.ID+".json"))
	if err != nil {
		return err
	}
	var status struct{ Code, Message, InterfaceName string }
	if err := json.Unmarshal(text, &status); err != nil {
		return fmt.Errorf("status of %s: %w", w.ID, err)
	}
	// If the harness has killed a daemon five times, its status is ERROR until it has run for a minute.
	killed := status.Code == "ERROR" && strings.HasPrefix(status.Message, "svc-"+w.Name+".service failed") &&
		strings.Contains(status.Message, "(5 or more failures")
	if status.Code != "RUNNING" && !killed || status.InterfaceName != w.Name {
		return fmt.Errorf("status of %s: %s of %s: %s", w.ID, status.Code, status.InterfaceName, status.Message)
	}
	return nil
}

// networkCommands print the state of a container's network namespace. Their output does not depend on the time.
const networkCommands = `
ip -o -br address show
ip -4 route show table all proto 83
ip -6 route show table all proto 83
ip neigh show nud permanent
nft -s list ruleset
cd /proc/sys/net
grep . ipv4/conf/all/forwarding ipv6/conf/all/forwarding ipv4/conf/*/rp_filter ipv4/conf/svc0/send_redirects \
	ipv4/conf/svc0/accept_redirects ipv4/conf/svc0/accept_source_route ipv4/conf/svc0/promote_secondaries \
	ipv6/conf/svc0/autoconf
`

var (
	// volatile matches the parts that may differ between two equal containers: numbers that the kernel assigns; the
	// link-local address, which is made of the first MAC of the interface; the group, because a change of it is written
	// to the record only; the times at which names were resolved and conns were initiated.
	volatile = regexp.MustCompile(`@if\d+|@NONE|"inode":\d+|linkdown|fe80::\S+|"groupId":"[^"]+"|` +
		`"(?:at|changed|next)":"[^"]+"|"delay":\d+`)
	// boundView matches the path of a mount view, whose name is the identity of the executable that made it.
	boundView = regexp.MustCompile(ipsecDir + `/` + regexp.QuoteMeta(views) + `/([0-9a-f-]+)`)
	// process matches the state of the process in systemd's ExecStart property.
	process = regexp.MustCompile(` ; (?:start_time|stop_time|pid|code|status)=[^;}]*`)
	blanks  = regexp.MustCompile(`[ \t]+`)
	conn    = regexp.MustCompile(`(?m)^000 "([^"]+)":     (oriented|unoriented);`)
	serial  = regexp.MustCompile(`"one-0-0".*conn serial: (\$\d+);`)
)

// Describe returns a text with all observable properties of a container, in which its name is replaced by NAME. Two
// containers of the same type and shape have the same description, whatever kills and changes they went through.
func Describe(w Binding) (string, error) {
	var all strings.Builder
	section := func(title, text string) {
		lines := strings.Split(strings.TrimSpace(text), "\n")
		fmt.Fprintf(&all, "== %s\n%s\n", title, strings.Join(lines, "\n"))
	}
	tag, err := Run("ip", "-n", w.Name, "-j", "link", "show", "lo")
	if err != nil {
		return "", err
	}
	section("owner tag", field(tag, "ifalias"))
	host, err := Run("ip", "-j", "link", "show", w.Name)
	if err != nil {
		return "", err
	}
	up := strings.Contains(host, `"UP"`)
	section("host side", field(host, "ifalias")+" in "+field(host, "master")+" "+fmt.Sprint(up))
	unit, err := Run("systemctl", "show", "-p",
		"ActiveState,SubState,Slice,NetworkNamespacePath,Environment,ExecStart", "svc-"+w.Name+".service")
	if err != nil {
		return "", err
	}
	section("unit", process.ReplaceAllString(unit, ""))
	if w.Type == "IPSEC" {
		rights, err := rights(w.Name)
		if err != nil {
			return "", err
		}
		section("rights of the daemon", rights)
		network, err := Run("nsenter", "--net=/run/netns/"+w.Name, "sh", "-c", networkCommands)
		if err != nil {
			return "", err
		}
		section("network", network)
		files, err := files(filepath.Join(ipsecDir, w.Name))
		if err != nil {
			return "", err
		}
		section("files", files)
		status, err := whack(w.Name)
		if err != nil {
			return "", err
		}
		var conns []string
		for _, match := range conn.FindAllStringSubmatch(status, -1) {
			conns = append(conns, match[1]+" "+match[2])
		}
		section("conns", strings.Join(conns, "\n"))
		if w.ByHand {
			// There is no record with the configuration for CHECK.
		} else if err := Check(w); err != nil {
			section("CHECK", err.Error())
		}
	}
	text := all.String()
	if ids, err := userIDs(w.Name); err == nil {
		text = strings.ReplaceAll(text, fmt.Sprint(ids.state), "USER")
	}
	text = strings.ReplaceAll(text, w.ID, "ID")
	text = strings.ReplaceAll(text, w.Port, "PORT")
	text = boundView.ReplaceAllStringFunc(text, func(path string) string {
		if isPinned(filepath.Base(path)) {
			return "VIEW"
		}
		return path
	})
	text = volatile.ReplaceAllString(strings.ReplaceAll(text, w.Name, "NAME"), "")
	return blanks.ReplaceAllString(text, " "), nil
}

func whack(name string) (string, error) {
	return Run("/usr/libexec/ipsec/whack", "--ctlsocket", filepath.Join(ipsecDir, name, "run/pluto.ctl"), "--status")
}

// Serial returns pluto's serial number of the conn that is in both shapes. If the number changes, the conn was replaced
// and its tunnel was dropped.
func Serial(name string) string {
	status, err := whack(name)
	if match := serial.FindStringSubmatch(status); err == nil && match != nil {
		return match[1]
	}
	return ""
}

// field returns a field of the first link in the JSON output of ip.
func field(links, name string) string {
	var list []map[string]any
	if json.Unmarshal([]byte(links), &list) != nil || len(list) == 0 {
		return ""
	}
	return fmt.Sprint(list[0][name])
}

// rights returns the user ids, the groups and the capabilities of the daemon, and whether its mount namespace and its
// user namespace are those of the host.
func rights(name string) (string, error) {
	pid, err := MainPID(name)
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return "", err
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		switch key, _, _ := strings.Cut(line, ":"); key {
		case "Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp":
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	for _, kind := range []string{"mnt", "user"} {
		theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
		if err != nil {
			return "", err
		}
		ours, err := os.Readlink("/proc/self/ns/" + kind)
		if err != nil {
			return "", err
		}
		lines = append(lines, fmt.Sprintf("%s namespace of the host: %v", kind, theirs == ours))
	}
	return strings.Join(lines, "\n"), nil
}

// files lists a directory: the names, modes and owners of all files, and the contents of the text files.
func files(directory string) (string, error) {
	var lines []string
	err := filepath.WalkDir(directory, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, _ := filepath.Rel(directory, path)
		top, _, _ := strings.Cut(relative, "/")
		var stat unix.Stat_t
		if err := unix.Lstat(path, &stat); err != nil {
			return err
		}
		line := fmt.Sprintf("%s %o %d:%d", relative, stat.Mode, stat.Uid, stat.Gid)
		if entry.Type().IsRegular() && top != "nss" && top != "run" {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += "\n" + string(text)
		}
		lines = append(lines, line)
		return nil
	})
	slices.Sort(lines)
	return strings.Join(lines, "\n"), err
}

// Check runs CHECK as the supervisor does, with the configuration and the result in the record.
func Check(w Binding) error {
	text, err := os.ReadFile(filepath.Join(records, w.Name+"."+w.Type))
	if err != nil {
		return err
	}
	var r struct{ Conf, Result json.RawMessage }
	if err := json.Unmarshal(text, &r); err != nil {
		return err
	}
	conf := map[string]json.RawMessage{}
	if err := json.Unmarshal(r.Conf, &conf); err != nil {
		return err
	}
	conf["prevResult"] = r.Result
	stdin, err := json.Marshal(conf)
	if err != nil {
		return err
	}
	cmd := exec.Command(filepath.Join(Plugins, "svc-ipsec"))
	cmd.Env = []string{"CNI_COMMAND=CHECK", "CNI_CONTAINERID=" + w.ID, "CNI_NETNS=/run/netns/" + w.Name,
		"CNI_IFNAME=svc0", "CNI_PATH=" + Plugins, "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.Stdin = bytes.NewReader(stdin)
	if output, err := cmd.Output(); err != nil {
		return fmt.Errorf("CHECK of %s: %w: %s", w.Name, err, bytes.TrimSpace(output))
	}
	return nil
}

// Diff returns the lines that only one of two descriptions has: those of want after "- ", and those of got after "+ ".
func Diff(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	var lines []string
	for _, line := range a {
		if !slices.Contains(b, line) {
			lines = append(lines, "- "+line)
		}
	}
	for _, line := range b {
		if !slices.Contains(a, line) {
			lines = append(lines, "+ "+line)
		}
	}
	return strings.Join(lines, "\n")
}
