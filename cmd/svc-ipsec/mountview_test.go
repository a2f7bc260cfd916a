package main

import (
	"fmt"
	"os"
	"runtime"
	"testing"
)

// TestMountViewIsCreatedOnEveryCPU creates the mount view on each CPU. In a container, Linux 6.18 refuses to bind-mount
// a mount namespace, depending on the CPU on which it was created.
func TestMountViewIsCreatedOnEveryCPU(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-cpus")
	all := fmt.Sprintf("0-%d", runtime.NumCPU()-1)
	run := func(cpus string) { sh(t, "taskset", "-a", "-c", "-p", cpus, fmt.Sprint(os.Getpid())) }
	t.Cleanup(func() { run(all) })
	for cpu := range runtime.NumCPU() {
		c.must("ADD")
		view := viewInState(t, c.name)
		c.must("DEL")
		sh(t, "umount", view)
		run(fmt.Sprint(cpu)) // applies to the processes that this process starts too
		c.must("ADD")
		c.must("CHECK")
		c.must("DEL")
		run(all)
	}
}

// TestUnfinishedMountViewIsReplaced prepares the files and mounts that an ADD can leave if it is killed while it
// creates the view, and other unexpected states of the directory. The next ADD must succeed.
func TestUnfinishedMountViewIsReplaced(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-left")
	c.must("ADD")
	view := viewInState(t, c.name)
	c.must("DEL")
	removeViews := func() {
		sh(t, "sh", "-c", "umount "+view+" 2>/dev/null; "+
			"while umount "+viewDirectory+" 2>/dev/null; do :; done; rm -rf "+viewDirectory)
	}
	defer removeViews() // the mounts of the last rows have other modes than those of svc-ipsec
	for _, row := range []struct {
		name    string
		prepare []string // a command after the views are removed
	}{
		{"nothing", []string{"true"}},
		{"a directory that is not a mount point", []string{"mkdir", "-m", "700", viewDirectory}},
		{"a directory that is not a mount point, with a file", []string{"sh", "-c",
			"mkdir " + viewDirectory + "; touch " + view + "; chmod 400 " + view}},
		{"a mount that is shared", []string{"sh", "-c",
			"mkdir " + viewDirectory + "; mount -t tmpfs none " + viewDirectory + "; mount --make-shared " +
				viewDirectory}},
		{"a mount that is shared, with a file", []string{"sh", "-c",
			"mkdir " + viewDirectory + "; mount -t tmpfs none " + viewDirectory + "; mount --make-shared " +
				viewDirectory +
				"; touch " + view + "; chmod 400 " + view}},
		{"two mounts", []string{"sh", "-c",
			"mkdir " + viewDirectory + "; mount -t tmpfs none " + viewDirectory + "; mount --make-private " +
				viewDirectory +
				"; touch " + view + "; mount -t tmpfs none " + viewDirectory}},
	} {
		removeViews()
		sh(t, row.prepare[0], row.prepare[1:]...)
		if failure, err := c.try("ADD"); err != nil || failure != nil {
			t.Errorf("%s: ADD: %v, %v", row.name, failure, err)
			continue
		}
		if !isView(view) {
			t.Errorf("%s: no view at %s", row.name, view)
		}
		c.must("CHECK")
		c.must("DEL")
	}
}
