package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	container  = "vpn-left"
	unit       = "svc-vpn-left.service"
	plugin     = "/usr/libexec/svc-supervisor/svc-ipsec"
	nsdb       = "/run/svc-strongswan/nsdb"
	status     = "/run/svc-supervisor/status/containers/host-1/left.json"
	loadedConf = "/run/svc-ipsec/vpn-left/conns"
	chroot     = "/run/svc-strongswan/root" // a copy of the directory that test/ground/strongswan made
	charonLog  = chroot + "/var/log/charon.log"
	// stepTimeout limits every wait without a limit of its own. Libreswan retransmits a request after 0.5, 1, 2, 4, …
	// seconds, and svc-supervisor initiates a refused connection again after 5 seconds.
	stepTimeout = 90 * time.Second
)

type object = map[string]any

// testbed is the container with its site and router, and the peer.
type testbed struct {
	charon *exec.Cmd // nil if it does not run
	ours   []object  // the connections of our end
	conf   string    // swanctl.conf of the peer
	number int       // the number of the row
	key    string    // the pre-shared key of the row
	nat    bool      // the router translates our address
	logged int64     // the size of charon's log when the current step started
	notes  []string  // notes on the row, to be printed
}

// topology has a router between the site, the container and the peer. Between the router and the peer there is no route
// to the networks of the site and of the peer, so packets between these networks can only pass through a tunnel. The
// peer is both the VPN gateway and the site of its end.
const topology = `netns add site-left
netns add router-left
netns add peer
link add br-left type bridge
link set br-left up
link add port netns router-left address ca:fe:00:00:00:01 type veth peer name rt-left
link set rt-left master br-left up
link add site netns router-left type veth peer name eth0 netns site-left
link add wan netns router-left type veth peer name wan netns peer
`

var namespaces = map[string]string{
	"router-left": `link set lo up
address add 169.254.1.1/30 dev port
address add fd01:169::1/126 dev port nodad
address add 172.16.1.1/30 dev site
address add fd01:172::1/126 dev site nodad
address add 192.0.2.1/30 dev wan
address add fd0f::1/126 dev wan nodad
link set port up
link set site up
link set wan up
route add 10.1.0.0/16 via 172.16.1.2
route add fd01::/32 via fd01:172::2
route add 10.2.0.0/16 via 169.254.1.2
route add fd02::/32 via fd01:169::2
route add 100.100.100.2 via 169.254.1.2
route add 2001:db8:1::2 via fd01:169::2
route add 200.200.200.0/24 via 192.0.2.2
route add 2001:db8:2::/48 via fd0f::2
`,
	"site-left": `link set lo up
address add 172.16.1.2/30 dev eth0
address add fd01:172::2/126 dev eth0 nodad
link set eth0 up
route add default via 172.16.1.1
route add ::/0 via fd01:172::1
route add local 10.1.0.0/16 dev lo
route add local fd01::/32 dev lo
`,
	"peer": `link set lo up
link add external type dummy
link set external up
address add 200.200.200.2/32 dev external
address add 200.200.200.3/32 dev external
address add 2001:db8:2::2/128 dev external nodad
address add 192.0.2.2/30 dev wan
address add fd0f::2/126 dev wan nodad
link set wan up
route add default via 192.0.2.1
route add ::/0 via fd0f::1
route add local 10.2.0.0/16 dev lo
route add local fd02::/32 dev lo
`,
}

var sysctls = map[string][]string{
	"router-left": {"net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"},
	"site-left":   {"net.ipv4.ip_nonlocal_bind=1", "net.ipv6.ip_nonlocal_bind=1"},
	"peer":        {"net.ipv4.ip_nonlocal_bind=1", "net.ipv6.ip_nonlocal_bind=1"},
}

// objects are the objects of the NSDB except the configuration. The binding is the last one.
var objects = [][2]string{
	{"hosts/host-1", "{id: host-1, name: test, containerWeight: 1, containerLimit: -1}"},
	{"groups/vpn", "{id: vpn, policy: leastContainers, hostIds: [host-1]}"},
	{"containers/left", "{id: left, serviceType: IPSEC, groupId: vpn, configurationId: left, portId: port-left}"},
	{"bindings/host-1/port-left", `{portId: port-left, hostId: host-1, interfaceName: vpn-left, containerId: left,
  addresses: [169.254.1.1/30, "fd01:169::1/126"], mac: "ca:fe:00:00:00:01", bridge: br-left}`},
}

// charonConf is appended to strongswan.conf. Without i_dont_care_about_…, charon does not accept an initiator in
// aggressive mode.
const charonConf = `charon-systemd {
	install_routes = no
	i_dont_care_about_security_and_use_aggressive_mode_psk = yes
	journal {
		default = -1
	}
	filelog {
		file {
			path = /var/log/charon.log
			default = 1
			flush_line = yes
			time_format = %H:%M:%S
			time_add_ms = yes
		}
	}
}
`

func newTestbed(project, root string) (*testbed, error) {
	virtualization, _ := command("", "systemd-detect-virt") // fails if it prints "none"
	virtualization = strings.TrimSpace(virtualization)
	if virtualization != "uml" && virtualization != "container-other" && os.Getenv("HOST") != "1" {
		return nil, errors.New("this program changes the machine: run test/strongswan/run, or set HOST=1")
	}
	if _, err := os.Stat("/run/svc-ipsec/vpn-left"); err == nil {
		return nil, errors.New("the container vpn-left already exists")
	}
	b := &testbed{}
	_, err := command("", "make", "-C", project, "--no-print-directory", "install", "DESTDIR=", "PREFIX=/usr")
	if err != nil {
		return b, err
	}
	if err := os.MkdirAll(filepath.Dir(chroot), 0o755); err != nil {
		return b, err
	}
	if _, err := command("", "cp", "-r", root, chroot); err != nil {
		return b, err
	}
	for _, directory := range []string{"/dev", "/proc"} {
		if _, err := command("", "mount", "--bind", directory, chroot+directory); err != nil {
			return b, err
		}
	}
	conf, err := os.OpenFile(chroot+"/etc/strongswan.conf", os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = conf.WriteString(charonConf)
		err = errors.Join(err, conf.Close())
	}
	if err == nil {
		err = issueCertificates(chroot + "/etc/swanctl")
	}
	if err == nil {
		err = networkUp()
	}
	if err == nil {
		err = b.supervisorUp()
	}
	return b, err
}

func networkUp() error {
	if _, err := command(topology, "ip", "-batch", "-"); err != nil {
		return err
	}
	for namespace, batch := range namespaces {
		arguments := append([]string{"netns", "exec", namespace, "sysctl", "-q"}, sysctls[namespace]...)
		if _, err := command("", "ip", arguments...); err != nil {
			return err
		}
		if _, err := command(batch, "ip", "-n", namespace, "-batch", "-"); err != nil {
			return err
		}
	}
	return nil
}

func (b *testbed) supervisorUp() error {
	if err := b.write(); err != nil {
		return err
	}
	for _, o := range objects {
		if err := writeObject(o[0], []byte(o[1])); err != nil {
			return err
		}
	}
	environment := "SVC_HOST_ID=host-1\nSVC_NSDB=file://" + nsdb + "\n"
	if err := os.WriteFile("/etc/svc-supervisor/environment", []byte(environment), 0o644); err != nil {
		return err
	}
	if _, err := command("", "systemctl", "daemon-reload"); err != nil {
		return err
	}
	if _, err := command("", "systemctl", "start", "svc-supervisor.service"); err != nil {
		return err
	}
	return until(stepTimeout, func() error {
		if code, _, err := published(); err != nil || code != "RUNNING" {
			return fmt.Errorf("the container is %q, not RUNNING: %w", code, err)
		}
		return nil
	})
}

// writeObject replaces an object of the NSDB.
func writeObject(key string, text []byte) error {
	path := filepath.Join(nsdb, key+".yaml")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	// The temporary file is in a directory that the supervisor does not read.
	temporary := filepath.Join(filepath.Dir(nsdb), "object")
	if err := os.WriteFile(temporary, text, 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}

// write writes the configuration of our end to the NSDB.
func (b *testbed) write() error {
	connections := b.ours
	if connections == nil {
		connections = []object{}
	}
	text, err := json.Marshal(object{"id": "left", "externalIps": []string{"100.100.100.2", "2001:db8:1::2"},
		"externalMac": "ca:08:1a:94:29:0e", "connections": connections})
	if err != nil {
		return err
	}
	return writeObject("configurations/left", text)
}

// edit replaces the connections of our end, and waits until the daemon has loaded exactly these.
func (b *testbed) edit(connections ...object) error {
	b.ours = connections
	if err := b.write(); err != nil {
		return err
	}
	return until(stepTimeout, b.loaded)
}

// loaded returns an error unless the daemon has loaded exactly the enabled connections of our end.
func (b *testbed) loaded() error {
	paths, err := filepath.Glob(loadedConf + "/*.conf")
	if err != nil {
		return err
	}
	found := map[string]string{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		id, _, _ := strings.Cut(filepath.Base(path), "-")
		found[id] = string(text)
	}
	for _, c := range b.ours {
		text, ok := found[c["id"].(string)]
		delete(found, c["id"].(string))
		switch enabled := c["adminStateUp"] != false; {
		case ok != enabled:
			return fmt.Errorf("connection %s: loaded is %v, want %v", c["id"], ok, enabled)
		case enabled && !strings.Contains(text, c["peerAddress"].(string)):
			return fmt.Errorf("connection %s: not loaded with peer %s", c["id"], c["peerAddress"])
		}
	}
	if len(found) > 0 {
		return fmt.Errorf("%d connections are loaded that are not in the configuration", len(found))
	}
	return nil
}

// published returns the code of the container's status, and its connections.
func published() (code string, connections []connectionStatus, err error) {
	text, err := os.ReadFile(status)
	if err != nil {
		return "", nil, err
	}
	var s struct {
		Code        string
		Connections []connectionStatus
	}
	err = json.Unmarshal(text, &s)
	return s.Code, s.Connections, err
}

type connectionStatus struct{ ID, Status, Reason string }

// startCharon starts charon with b.conf and waits until its connections are loaded.
func (b *testbed) startCharon() error {
	if err := os.WriteFile(chroot+"/etc/swanctl/swanctl.conf", []byte(b.conf), 0o600); err != nil {
		return err
	}
	_ = os.Remove(chroot + "/run/charon.vici")
	b.charon = exec.Command("ip", "netns", "exec", "peer", "chroot", chroot, "/usr/sbin/charon-systemd")
	if err := b.charon.Start(); err != nil {
		b.charon = nil
		return err
	}
	return until(stepTimeout, func() error {
		if _, err := os.Stat(chroot + "/run/charon.vici"); err != nil {
			return err
		}
		_, err := swanctl("--load-all")
		return err
	})
}

// killCharon kills charon, so that it sends no DELETE, and flushes the XFRM state that it left, as a reboot of the peer
// would do.
func (b *testbed) killCharon() error {
	if b.charon == nil {
		return nil
	}
	_ = b.charon.Process.Kill()
	_ = b.charon.Wait()
	b.charon = nil
	_, err := command("xfrm state flush\nxfrm policy flush\n", "ip", "-n", "peer", "-batch", "-")
	return err
}

// stopCharon stops charon with SIGTERM, like `systemctl stop`. charon sends DELETE.
func (b *testbed) stopCharon() error {
	charon := b.charon
	b.charon = nil
	if err := charon.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	timer := time.AfterFunc(stepTimeout, func() { _ = charon.Process.Kill() })
	defer timer.Stop()
	return charon.Wait()
}

func swanctl(args ...string) (string, error) {
	return command("", "timeout", append([]string{"60", "chroot", chroot, "/usr/sbin/swanctl"}, args...)...)
}

// peerSAs returns charon's SAs.
func peerSAs() ([]sa, error) {
	raw, err := swanctl("--list-sas", "--raw")
	return parseSAs(raw), err
}

// log returns the lines that charon logged since the current step started.
func (b *testbed) log() string {
	text, err := os.ReadFile(charonLog)
	if err != nil || int64(len(text)) < b.logged {
		return ""
	}
	return string(text[b.logged:])
}

// markLog marks the start of a step in charon's log.
func (b *testbed) markLog() {
	b.logged = 0
	if info, err := os.Stat(charonLog); err == nil {
		b.logged = info.Size()
	}
}

// setNAT switches the translation of the container's address by the router on or off. It uses iptables, because
// User-mode Linux does not support NAT with nftables.
func (b *testbed) setNAT(on bool) error {
	if on == b.nat {
		return nil
	}
	b.nat = on
	action := map[bool]string{true: "--append", false: "--delete"}[on]
	_, err := command("", "ip", "netns", "exec", "router-left", "iptables-legacy", "--table", "nat", action,
		"POSTROUTING", "--out-interface", "wan", "--source", "100.100.100.2", "--jump", "MASQUERADE")
	return err
}

// unbind removes the binding and waits until nothing of the container is left.
func (b *testbed) unbind() error {
	if err := os.Remove(filepath.Join(nsdb, objects[len(objects)-1][0]+".yaml")); err != nil {
		return err
	}
	return until(stepTimeout, func() error {
		for _, path := range []string{
			"/run/svc-ipsec/vpn-left", "/sys/class/net/vpn-left", "/run/netns/vpn-left", status,
		} {
			if _, err := os.Lstat(path); err == nil {
				return fmt.Errorf("%s still exists", path)
			}
		}
		units, err := command("", "systemctl", "list-units", "--all", "--plain", "--no-legend", "svc-vpn-*")
		if err == nil && units != "" {
			err = fmt.Errorf("units are left: %s", units)
		}
		return err
	})
}

// remove removes everything that newTestbed and the rows made. It ignores errors, because parts may be missing.
func (b *testbed) remove() {
	_ = b.killCharon()
	if _, err := os.Stat("/run/netns/vpn-left"); err == nil {
		_ = b.unbind()
	}
	_, _ = command("", "systemctl", "stop", "svc-supervisor.service")
	const batch = "link delete br-left\nnetns delete site-left\nnetns delete router-left\nnetns delete peer\n"
	_, _ = command(batch, "ip", "-force", "-batch", "-")
	for _, directory := range []string{"/dev", "/proc"} {
		if _, err := command("", "umount", chroot+directory); err != nil {
			return // RemoveAll below would remove files in the mounted directory of the host
		}
	}
	_ = os.RemoveAll(filepath.Dir(chroot))
	_ = os.RemoveAll(certificateDirectory)
}

// versions returns the versions of Libreswan and strongSwan.
func versions() string {
	libreswan, _ := command("", "ipsec", "--version")
	// The command fails because charon does not run, but it prints the version with its usage.
	usage, _ := exec.Command("chroot", chroot, "/usr/sbin/swanctl", "--version").CombinedOutput()
	_, strongswan, _ := strings.Cut(string(usage), "strongSwan ")
	strongswan, _, _ = strings.Cut(strongswan, " ")
	return strings.TrimSpace(libreswan) + ", strongSwan " + strongswan
}

// explain prints the last log lines of both daemons and of the supervisor.
func (b *testbed) explain(since time.Time) {
	charon, _ := os.ReadFile(charonLog)
	ours, _ := command("", "journalctl", "--quiet", "--no-pager", "--output=short-precise", "--lines=80",
		fmt.Sprintf("--since=@%d", since.Unix()), "--unit="+unit, "--unit=svc-supervisor.service")
	for name, text := range map[string]string{"charon": string(charon), "journal": ours} {
		lines := strings.Split(strings.TrimSpace(text), "\n")
		lines = lines[max(0, len(lines)-80):]
		fmt.Printf("#   --- %s\n#   %s\n", name, strings.Join(lines, "\n#   "))
	}
}

func (b *testbed) note(format string, args ...any) {
	b.notes = append(b.notes, fmt.Sprintf(format, args...))
}

// until calls condition every 200 ms until it returns nil. After limit it returns the last error.
func until(limit time.Duration, condition func() error) error {
	for deadline := time.Now().Add(limit); ; time.Sleep(200 * time.Millisecond) {
		err := condition()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %.0f s: %w", limit.Seconds(), err)
		}
	}
}

// command runs a program and returns its stdout. The error contains its stderr.
func command(stdin, program string, args ...string) (string, error) {
	cmd := exec.Command(program, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s %s: %w: %s",
			program, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// merge returns a copy of base in which the keys of over replace those of base.
func merge(base, over object) object {
	merged := object{}
	for _, o := range []object{base, over} {
		for key, value := range o {
			merged[key] = value
		}
	}
	return merged
}
