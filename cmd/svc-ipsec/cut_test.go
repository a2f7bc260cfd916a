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

// A kill between the making of the pair and its owner tag.
func TestAPairWithoutItsTagIsMadeAnewOrRemoved(t *testing.T) {
	onGround(t)
	c := newContainer(t, "vpn-cut")
	cut := func(kind ...string) {
		sh(t, "ip", append([]string{"-n", c.name, "link", "add", "svc-outside", "type"}, kind...)...)
	}
	cut("veth", "peer", "name", "svc0")
	c.must("ADD")
	c.must("CHECK")
	contains(t, "the veth", sh(t, "ip", "-d", "link", "show", c.name), "alias by-hand:vpn-cut:vpn-cut-id")
	c.must("DEL")
	cut("veth", "peer", "name", "svc0")
	c.must("DEL")
	if inside := sh(t, "ip", "-n", c.name, "-br", "link"); strings.Count(inside, "\n") != 1 {
		t.Errorf("left inside: %s", inside)
	}
	cut("bridge")
	sh(t, "ip", "-n", c.name, "link", "add", "svc0", "type", "bridge")
	c.fails("ADD", 999, "the namespace has an interface of that name")
	contains(t, "what is not ours", sh(t, "ip", "-n", c.name, "-br", "link"), "svc-outside", "svc0")
}

// A kill between the message that makes the pair and the one that gives the host's side its owner tag.
func TestALinkWithoutItsTagIsMadeAnewOrRemoved(t *testing.T) {
	onGround(t)
	c := newContainer(t, "vpn-half")
	cut := func(group string) {
		sh(t, "ip", "link", "add", c.name, "group", group, "type", "veth", "peer", "name", "svc0", "netns", c.name)
	}
	ours := fmt.Sprint(spec.UnfinishedGroup("by-hand"))
	cut(ours)
	c.must("ADD")
	c.must("CHECK")
	link := sh(t, "ip", "-d", "link", "show", c.name)
	contains(t, "the veth", link, "alias by-hand:vpn-half:vpn-half-id", "group default", "UP")
	c.must("DEL")
	cut(ours)
	c.must("DEL")
	if _, err := os.Stat("/sys/class/net/" + c.name); err == nil {
		t.Error("left on the host")
	}
	cut(fmt.Sprint(spec.UnfinishedGroup(spec.Network)))
	c.fails("ADD", 101, "an interface of that name exists and is not this container's")
	sh(t, "ip", "link", "delete", c.name)
}

// A kill after the first write of state.json and before the pin of the namespace.
func TestANamespaceThatWasNotPinnedIsPinnedByTheNextADD(t *testing.T) {
	onGround(t)
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
	eventually(t, "the process is inside", func() bool { return syscall.Stat(c.namespace, &info) == nil && info.Ino == inside.Ino })
	folder := "/run/svc-ipsec/" + c.name
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	state := fmt.Sprintf(`{"version":2,"attachment":{"network":"by-hand","containerId":"vpn-unpinned-id","interface":"svc0","namespace":%q,"inode":%d}}`, c.namespace, inside.Ino)
	if err := os.WriteFile(folder+"/state.json", []byte(state), 0o600); err != nil {
		t.Fatal(err)
	}
	c.must("ADD")
	if path := c.namespaceOfUnit(); path != folder+"/netns" {
		t.Errorf("the unit got %s", path)
	}
	_ = sleeper.Process.Kill()
	_ = sleeper.Wait()
	c.namespace = named
	c.must("CHECK")
	c.must("ADD")
	c.must("CHECK")
	c.must("DEL")
	c.gone()
}

// A first ADD that is killed before it has written whose the container is, and one that is killed while it loads connections.
func TestFilesThatAKilledVerbHadBegunAreRemovedByTheNextADD(t *testing.T) {
	onGround(t)
	c := newContainer(t, "vpn-begun")
	directory := "/run/svc-ipsec/" + c.name
	begin := func() {
		t.Helper()
		if err := os.MkdirAll(directory+"/.new-nss-template", 0o700); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{".new-123", ".new-load.conf", ".new-nss-template/key4.db"} {
			if err := os.WriteFile(directory+"/"+name, []byte("begun"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, what := range []string{"first", "next"} {
		begin()
		c.must("ADD")
		if left := sh(t, "find", directory, "-name", ".new-*"); left != "" {
			t.Errorf("left by the %s ADD: %s", what, left)
		}
	}
	c.must("DEL")
	c.gone()
}
