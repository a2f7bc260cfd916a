// Floor makes and removes only the parts that a service container needs, with the least possible work on this host. The
// benchmarks divide the time of svc-supervisor by the time of this program.
//
//	floor up|down ipsec|sleep COUNT PARALLEL
//
// "up" makes, for each container, a network namespace, a veth pair with addresses and a route, and a transient unit in
// that namespace. The unit of ipsec is pluto with one connection, and the container is up when pluto has loaded it. The
// unit of sleep is /bin/sleep. There is no supervisor, no record and no isolation, no input is checked, and a failure
// is not undone.
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	netnsDirectory = "/run/netns"
	directory      = "/run/svc-floor" // contains one directory for each container, and nssTemplate
	nssTemplate    = directory + "/nss"
	pluto          = "/usr/libexec/ipsec/pluto"
	whack          = "/usr/libexec/ipsec/whack"
	pollInterval   = 5 * time.Millisecond // of awaitLoaded
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "floor:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	usage := errors.New("usage: floor up|down ipsec|sleep COUNT PARALLEL")
	if len(args) != 4 || (args[0] != "up" && args[0] != "down") || (args[1] != "ipsec" && args[1] != "sleep") {
		return usage
	}
	count, err := strconv.Atoi(args[2])
	parallel, err2 := strconv.Atoi(args[3])
	if err != nil || err2 != nil || parallel < 1 {
		return usage
	}
	ctx := context.Background()
	systemd, err := dbus.NewSystemdConnectionContext(ctx)
	if err != nil {
		return err
	}
	defer systemd.Close()
	if args[1] == "ipsec" && args[0] == "up" {
		if err := prepareNSS(); err != nil {
			return err
		}
	}
	numbers := make(chan int)
	errs := make(chan error, parallel)
	var workers sync.WaitGroup
	for range parallel {
		workers.Go(func() {
			for i := range numbers {
				c := container{i, args[1] == "ipsec", systemd}
				step := c.up
				if args[0] == "down" {
					step = c.down
				}
				if err := step(ctx); err != nil {
					errs <- fmt.Errorf("%s %s: %w", args[0], c.name(), err)
					return
				}
			}
			errs <- nil
		})
	}
	go func() {
		for i := range count {
			numbers <- i
		}
		close(numbers)
	}()
	for range parallel {
		if err := <-errs; err != nil {
			return err
		}
	}
	workers.Wait()
	return nil
}

// prepareNSS makes an empty key database, unless it exists. Each container gets a copy of it.
func prepareNSS() error {
	if _, err := os.Stat(nssTemplate); err == nil {
		return nil
	}
	if err := os.MkdirAll(nssTemplate, 0o700); err != nil {
		return err
	}
	output, err := exec.Command("ipsec", "initnss", "--nssdir", nssTemplate).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ipsec initnss: %w: %s", err, output)
	}
	return nil
}

type container struct {
	number  int
	ipsec   bool
	systemd *dbus.Conn
}

func (c container) name() string      { return "floor-" + strconv.Itoa(c.number) }
func (c container) unit() string      { return c.name() + ".service" }
func (c container) namespace() string { return filepath.Join(netnsDirectory, c.name()) }
func (c container) directory() string { return filepath.Join(directory, c.name()) }

func (c container) up(ctx context.Context) error {
	if err := c.makeNamespace(); err != nil {
		return fmt.Errorf("namespace: %w", err)
	}
	if err := c.makeLink(); err != nil {
		return fmt.Errorf("link: %w", err)
	}
	command := []string{"/usr/bin/nsenter", "--net=" + c.namespace(), "--", "/bin/sleep", "infinity"}
	if c.ipsec {
		if err := c.writeFiles(); err != nil {
			return err
		}
		command = []string{"/usr/bin/nsenter", "--net=" + c.namespace(), "--", pluto, "--nofork", "--stderrlog",
			"--config", c.directory() + "/ipsec.conf", "--rundir", c.directory() + "/run"}
	}
	if err := c.start(ctx, command); err != nil {
		return err
	}
	if !c.ipsec {
		return nil
	}
	return c.awaitLoaded(ctx)
}

// makeNamespace makes a network namespace and binds it to its name, as `ip netns add` does.
func (c container) makeNamespace() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own, err := netns.Get()
	if err != nil {
		return err
	}
	defer own.Close()
	if err := os.WriteFile(c.namespace(), nil, 0o444); err != nil {
		return err
	}
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	err = unix.Mount(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()), c.namespace(), "", unix.MS_BIND, "")
	return errors.Join(err, netns.Set(own))
}

// makeLink makes the veth pair, its addresses and the route to the peer.
func (c container) makeLink() error {
	namespace, err := netns.GetFromPath(c.namespace())
	if err != nil {
		return err
	}
	defer namespace.Close()
	veth := &netlink.Veth{
		LinkAttrs: netlink.NewLinkAttrs(), PeerName: "svc0", PeerNamespace: netlink.NsFd(int(namespace)),
	}
	veth.Name = c.name()
	if err := netlink.LinkAdd(veth); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(veth); err != nil {
		return err
	}
	inside, err := netlink.NewHandleAt(namespace)
	if err != nil {
		return err
	}
	defer inside.Close()
	for _, name := range []string{"lo", "svc0"} {
		link, err := inside.LinkByName(name)
		if err != nil {
			return err
		}
		if err := inside.LinkSetUp(link); err != nil {
			return err
		}
		if name == "lo" {
			continue
		}
		for _, text := range []string{"100.100.100.2/32", "169.254.0.2/30"} {
			address, err := netlink.ParseAddr(text)
			if err != nil {
				return err
			}
			if err := inside.AddrAdd(link, address); err != nil {
				return err
			}
		}
		peer, err := netlink.ParseIPNet("200.200.200.2/32")
		if err != nil {
			return err
		}
		route := &netlink.Route{Dst: peer, Gw: net.IPv4(169, 254, 0, 1), LinkIndex: link.Attrs().Index}
		if err := inside.RouteAdd(route); err != nil {
			return err
		}
	}
	return nil
}

// configuration has the same connection as the containers of the benchmark, with the options that svc-ipsec writes for
// it.
const configuration = `config setup
	nssdir=%[1]s/nss
	ipsecdir=%[1]s
	secretsfile=%[1]s/ipsec.secrets
	dumpdir=%[1]s/run
	logtime=no
	nhelpers=1
	uniqueids=yes

conn office
	left=100.100.100.2
	leftid=100.100.100.2
	right=200.200.200.2
	rightid=200.200.200.2
	leftsubnet=10.1.0.0/24
	rightsubnet=10.2.0.0/24
	authby=secret
	ikev2=insist
	ike=aes256-sha2_256;modp2048
	esp=aes256-sha2_256;modp2048
	mtu=1400
	auto=add
`

func (c container) writeFiles() error {
	for _, name := range []string{"", "run", "nss"} {
		if err := os.MkdirAll(filepath.Join(c.directory(), name), 0o700); err != nil {
			return err
		}
	}
	files := map[string]string{
		"ipsec.conf":    fmt.Sprintf(configuration, c.directory()),
		"ipsec.secrets": "100.100.100.2 200.200.200.2 : PSK \"an example, known to everybody\"\n",
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(c.directory(), name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return os.CopyFS(filepath.Join(c.directory(), "nss"), os.DirFS(nssTemplate))
}

func (c container) start(ctx context.Context, command []string) error {
	kind := "exec"
	if c.ipsec {
		kind = "notify"
	}
	properties := []dbus.Property{
		dbus.PropExecStart(command, false),
		dbus.PropType(kind),
		dbus.PropSlice("floor.slice"),
		{Name: "CPUAccounting", Value: godbus.MakeVariant(true)},
		{Name: "KillMode", Value: godbus.MakeVariant("mixed")},
	}
	result := make(chan string, 1)
	if _, err := c.systemd.StartTransientUnitContext(ctx, c.unit(), "replace", properties, result); err != nil {
		return err
	}
	if r := <-result; r != "done" {
		return fmt.Errorf("unit %s: %s", c.unit(), r)
	}
	return nil
}

// awaitLoaded waits until pluto has loaded and oriented the connection. pluto loads its connections only after it has
// sent READY=1 to systemd.
func (c container) awaitLoaded(ctx context.Context) error {
	for deadline := time.Now().Add(time.Minute); ; {
		output, err := exec.CommandContext(ctx, whack, "--ctlsocket", c.directory()+"/run/pluto.ctl",
			"--status").Output()
		if err == nil && strings.Contains(string(output), `"office"`) &&
			!strings.Contains(string(output), "unoriented") {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.Join(errors.New("connection not loaded within a minute"), err)
		}
		time.Sleep(pollInterval)
	}
}

func (c container) down(ctx context.Context) error {
	result := make(chan string, 1)
	if _, err := c.systemd.StopUnitContext(ctx, c.unit(), "replace", result); err != nil {
		return err
	}
	if r := <-result; r != "done" {
		return fmt.Errorf("unit %s: %s", c.unit(), r)
	}
	link, err := netlink.LinkByName(c.name())
	if err != nil {
		return err
	}
	if err := netlink.LinkDel(link); err != nil {
		return err
	}
	if err := unix.Unmount(c.namespace(), unix.MNT_DETACH); err != nil {
		return err
	}
	err = os.RemoveAll(c.directory())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Remove(c.namespace())
}
