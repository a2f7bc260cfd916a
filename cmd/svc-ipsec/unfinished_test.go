package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// TestVethOf010WithoutTagIsReplaced creates the veth that release 0.1.0 leaves inside if it is killed before it sets
// the owner tag.
func TestVethOf010WithoutTagIsReplaced(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-cut")
	leaveVeth := func(kind ...string) {
		sh(t, "ip", append([]string{"-n", c.name, "link", "add", "svc-outside", "type"}, kind...)...)
	}
	leaveVeth("veth", "peer", "name", "svc0")
	c.must("ADD")
	c.must("CHECK")
	contains(t, "the veth", sh(t, "ip", "-d", "link", "show", c.name), "alias by-hand:vpn-cut:vpn-cut-id")
	c.must("DEL")
	leaveVeth("veth", "peer", "name", "svc0")
	c.must("DEL")
	if inside := sh(t, "ip", "-n", c.name, "-br", "link"); strings.Count(inside, "\n") != 1 {
		t.Errorf("links remain in the namespace: %s", inside)
	}
	leaveVeth("bridge")
	sh(t, "ip", "-n", c.name, "link", "add", "svc0", "type", "bridge")
	c.fails("ADD", 999, "the namespace has an interface of that name")
	contains(t, "the foreign links", sh(t, "ip", "-n", c.name, "-br", "link"), "svc-outside", "svc0")
}

// TestVethWithoutTagIsReplaced creates the veth that remains if a verb is killed between the netlink message that
// creates the veth and the one that sets its owner tag.
func TestVethWithoutTagIsReplaced(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-half")
	leaveVeth := func(group string) {
		sh(t, "ip", "link", "add", c.name, "group", group, "type", "veth", "peer", "name", "svc0", "netns", c.name)
	}
	ours := fmt.Sprint(spec.UnfinishedGroup("by-hand"))
	leaveVeth(ours)
	c.must("ADD")
	c.must("CHECK")
	link := sh(t, "ip", "-d", "link", "show", c.name)
	contains(t, "the veth", link, "alias by-hand:vpn-half:vpn-half-id", "group default", "UP")
	c.must("DEL")
	leaveVeth(ours)
	c.must("DEL")
	if _, err := os.Stat("/sys/class/net/" + c.name); err == nil {
		t.Error("the veth remains on the host")
	}
	leaveVeth(fmt.Sprint(spec.UnfinishedGroup(spec.Network)))
	c.fails("ADD", 101, "an interface of that name exists and is not this container's")
	sh(t, "ip", "link", "delete", c.name)
}

// TestNextADDPinsTheNamespace has the state that remains if ADD is killed after it wrote state.json for the first time,
// and before it pinned the namespace.
func TestNextADDPinsTheNamespace(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-unpinned")
	named := c.namespace
	sleeper := exec.Command("ip", "netns", "exec", c.name, "sleep", "300")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sleeper.Process.Kill(); _ = sleeper.Wait() }()
	var inside, info syscall.Stat_t
	if err := syscall.Stat(named, &inside); err != nil {
		t.Fatal(err)
	}
	c.namespace = fmt.Sprintf("/proc/%d/ns/net", sleeper.Process.Pid)
	eventually(t, "the process is in the namespace", func() bool {
		return syscall.Stat(c.namespace, &info) == nil && info.Ino == inside.Ino
	})
	directory := "/run/svc-ipsec/" + c.name
	if err := os.MkdirAll(directory, 0o700); err != nil {
		t.Fatal(err)
	}
	state := fmt.Sprintf(`{"version":2,"attachment":{"network":"by-hand","containerId":"vpn-unpinned-id",`+
		`"interface":"svc0","namespace":%q,"inode":%d}}`, c.namespace, inside.Ino)
	if err := os.WriteFile(directory+"/state.json", []byte(state), 0o600); err != nil {
		t.Fatal(err)
	}
	c.must("ADD")
	if path := c.namespaceOfUnit(); path != directory+"/netns" {
		t.Errorf("the unit enters %s", path)
	}
	_ = sleeper.Process.Kill()
	_ = sleeper.Wait()
	c.namespace = named
	c.must("CHECK")
	c.must("ADD")
	c.must("CHECK")
	c.must("DEL")
	c.requireRemoved()
}

// TestNextADDRemovesUnfinishedFiles has unfinished files of a first ADD that was killed before it wrote the owner of
// the container, and of an ADD that was killed while it loaded connections.
func TestNextADDRemovesUnfinishedFiles(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-begun")
	directory := "/run/svc-ipsec/" + c.name
	leaveFiles := func() {
		t.Helper()
		if err := os.MkdirAll(directory+"/.new-nss-template", 0o700); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{".new-123", ".new-load.conf", ".new-nss-template/key4.db"} {
			if err := os.WriteFile(directory+"/"+name, []byte("unfinished"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, what := range []string{"first", "next"} {
		leaveFiles()
		c.must("ADD")
		if left := sh(t, "find", directory, "-name", ".new-*"); left != "" {
			t.Errorf("files remain after the %s ADD: %s", what, left)
		}
	}
	c.must("DEL")
	c.requireRemoved()
}
