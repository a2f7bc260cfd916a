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

// record is what the harness reads of a record.
type record struct {
	Phase     string          `json:"phase"`
	Container json.RawMessage `json:"container"`
	Conf      json.RawMessage `json:"conf"`
	Previous  json.RawMessage `json:"previous"`
	Result    json.RawMessage `json:"result"`
}

// Phase is that of a name's record; nothing where there is none.
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

// Settled fails unless record and status say that the container runs as it is wanted.
func Settled(w Wanted) error {
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
	if json.Unmarshal(r.Conf.Configuration, &got) != nil || json.Unmarshal(expected, &due) != nil || fmt.Sprint(got) != fmt.Sprint(due) {
		return fmt.Errorf("record of %s: another configuration than %s", w.Name, w.Shape)
	}
	bridge := map[Shape]string{A: bridgeA, B: bridgeB}[w.Shape]
	if r.Phase != "added" || r.Container.PortID != w.Port || r.Container.ContainerID != w.ID || r.Container.GroupID != w.Group ||
		!bytes.Contains(r.Conf.Port, []byte(bridge)) {
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
	// A daemon that the harness has killed again and again is published as ERROR until it has run for a minute.
	killed := status.Code == "ERROR" && strings.HasPrefix(status.Message, "svc-"+w.Name+".service failed") && strings.Contains(status.Message, "(5 or more failures")
	if status.Code != "RUNNING" && !killed || status.InterfaceName != w.Name {
		return fmt.Errorf("status of %s: %s of %s: %s", w.ID, status.Code, status.InterfaceName, status.Message)
	}
	return nil
}

// inside shows a container's namespace; each command's output does not depend on time.
const inside = `
ip -o -br address show
ip -4 route show table all proto 83
ip -6 route show table all proto 83
ip neigh show nud permanent
nft -s list ruleset
cd /proc/sys/net
grep . ipv4/conf/all/forwarding ipv6/conf/all/forwarding ipv4/conf/*/rp_filter ipv4/conf/svc0/send_redirects \
	ipv4/conf/svc0/accept_redirects ipv4/conf/svc0/accept_source_route ipv4/conf/svc0/promote_secondaries ipv6/conf/svc0/autoconf
`

var (
	// Numbers that the kernel gives; its own link-local address, which keeps the MAC that the interface had first; the
	// group, whose change reaches the record alone; and when names were looked up, and conns initiated.
	volatile = regexp.MustCompile(`@if\d+|@NONE|"inode":\d+|linkdown|fe80::\S+|"groupId":"[^"]+"|"(?:at|changed|next)":"[^"]+"|"delay":\d+`)
	// The identity of the executable that made the view: each container has the one that is bound there.
	boundView = regexp.MustCompile(folders + `/` + regexp.QuoteMeta(views) + `/([0-9a-f-]+)`)
	// What systemd says of the process in ExecStart.
	process = regexp.MustCompile(` ; (?:start_time|stop_time|pid|code|status)=[^;}]*`)
	blanks  = regexp.MustCompile(`[ \t]+`)
	conn    = regexp.MustCompile(`(?m)^000 "([^"]+)":     (oriented|unoriented);`)
	serial  = regexp.MustCompile(`"one-0-0".*conn serial: (\$\d+);`)
)

// Portrait is everything of a container that can be right or wrong, with NAME in the place of its name: two containers of
// one shape have the same, whatever each went through.
func Portrait(w Wanted) (string, error) {
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
	section("host side", field(host, "ifalias")+" in "+field(host, "master")+" "+fmt.Sprint(strings.Contains(host, `"UP"`)))
	unit, err := Run("systemctl", "show", "-p", "ActiveState,SubState,Slice,NetworkNamespacePath,Environment,ExecStart", "svc-"+w.Name+".service")
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
		network, err := Run("nsenter", "--net=/run/netns/"+w.Name, "sh", "-c", inside)
		if err != nil {
			return "", err
		}
		section("network", network)
		files, err := files(filepath.Join(folders, w.Name))
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
			// Its runtime has the configuration.
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
	return Run("/usr/libexec/ipsec/whack", "--ctlsocket", filepath.Join(folders, name, "run/pluto.ctl"), "--status")
}

// Serial is what pluto counts a conn by that is in both shapes: another number is another conn, whose tunnel was dropped.
func Serial(name string) string {
	status, err := whack(name)
	if match := serial.FindStringSubmatch(status); err == nil && match != nil {
		return match[1]
	}
	return ""
}

func field(links, name string) string {
	var list []map[string]any
	if json.Unmarshal([]byte(links), &list) != nil || len(list) == 0 {
		return ""
	}
	return fmt.Sprint(list[0][name])
}

// rights shows with which user id and capabilities the daemon runs, and in which namespaces: whether the mount namespace is the
// one that the others share, and whether the user namespace is the host's.
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

// files shows a folder: names, modes and owners of all, and what is in those that a person could read.
func files(folder string) (string, error) {
	var lines []string
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, _ := filepath.Rel(folder, path)
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

// Check runs CHECK as the supervisor would, with what the record holds.
func Check(w Wanted) error {
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
	cmd.Env = []string{"CNI_COMMAND=CHECK", "CNI_CONTAINERID=" + w.ID, "CNI_NETNS=/run/netns/" + w.Name, "CNI_IFNAME=svc0",
		"CNI_PATH=" + Plugins, "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.Stdin = bytes.NewReader(stdin)
	if said, err := cmd.Output(); err != nil {
		return fmt.Errorf("CHECK of %s: %w: %s", w.Name, err, bytes.TrimSpace(said))
	}
	return nil
}

// Differ shows the lines that only one of two portraits has.
func Differ(due, is string) string {
	a, b := strings.Split(due, "\n"), strings.Split(is, "\n")
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
