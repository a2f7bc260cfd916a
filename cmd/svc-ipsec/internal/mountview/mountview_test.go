package mountview

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// directory returns a state directory for views. It skips the test outside of the sandbox, because the test changes
// mounts.
func directory(t *testing.T) string {
	t.Helper()
	if os.Getenv("SVC_TEST_GROUND") != "1" {
		t.Skip("needs the sandbox: SVC_TEST_GROUND=1 is not set")
	}
	path, err := os.MkdirTemp("/run", "svc-view-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for unix.Unmount(filepath.Join(path, pins), unix.MNT_DETACH) == nil {
		}
		if err := os.RemoveAll(path); err != nil {
			t.Error(err)
		}
	})
	return path
}

// executable returns the path of a copy of /bin/sh, which the test may replace.
func executable(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "svc-ipsec")
	if out, err := exec.Command("cp", "/bin/sh", path).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}

func ensure(t *testing.T, directory, executable string) string {
	t.Helper()
	var view string
	record := func(path string) error {
		view = path
		return nil
	}
	if err := Ensure(t.Context(), directory, executable, record); err != nil {
		t.Fatal(err)
	}
	return view
}

// in runs a shell command in a view.
func in(view, command string) (string, error) {
	out, err := exec.Command("nsenter", "--mount="+view, "/bin/sh", "-c", command).CombinedOutput()
	return string(out), err
}

func TestViewHasOnlyRequiredFiles(t *testing.T) {
	parent := directory(t)
	view := ensure(t, parent, executable(t))
	if err := os.Mkdir(filepath.Join(parent, "vpn"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, command, want string }{
		{"the root", "cd / && echo *", "bin dev etc lib lib64 proc run sbin sys tmp usr var"},
		{"/run, without D-Bus, journal and other namespaces", "cd /run && echo *",
			"svc-ipsec-launch " + filepath.Base(parent) + " systemd"},
		{"systemd's sockets", "cd /run/systemd && echo *", "notify"},
		{"/etc", "cd /etc && echo *", "hosts resolv.conf"},
		{"devices", "cd /dev && echo *", "full null random urandom zero"},
		{"empty directories", "echo /var/* /sys/* /tmp/*", "/var/* /sys/* /tmp/*"},
		{"a container that was created later", "ls " + parent, "vpn"},
		{"writable directories", "for d in / /usr /etc /tmp /var /dev /run /proc/sys/kernel; do " +
			"(: >$d/x) 2>/dev/null && echo $d; done; echo no more", "no more"},
		{"the launcher", Launcher + " -c 'echo runs'", "runs"},
	} {
		if got, err := in(view, test.command); err != nil || strings.TrimSpace(got) != test.want {
			t.Errorf("%s: got %q, %v, want %q", test.name, strings.TrimSpace(got), err, test.want)
		}
	}
	mounts, err := in(view, "cat /proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(mounts) {
		options := strings.Split(strings.Fields(line)[3], ",")
		if !slices.Contains(options, "nosuid") {
			t.Errorf("a mount permits set-user-id programs: %s", line)
		}
		if path := strings.Fields(line)[1]; strings.HasPrefix(path, "/usr") && !slices.Contains(options, "ro") {
			t.Errorf("a mount is not read-only: %s", line)
		}
	}
}

func TestViewHidesProcessesOfOtherUsers(t *testing.T) {
	view := ensure(t, directory(t), executable(t))
	const user = "2100000003"
	out, err := exec.Command("nsenter", "--mount="+view,
		"setpriv", "--reuid="+user, "--regid="+user, "--clear-groups", "/bin/sh", "-c",
		"cd /proc && for p in [0-9]*; do [ ! -d $p ] || stat -c %u $p; done | sort -u").CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != user {
		t.Errorf("processes of the users %s are visible, %v", strings.Fields(string(out)), err)
	}
}

func TestViewIsCreatedOncePerExecutable(t *testing.T) {
	parent, program := directory(t), executable(t)
	first := ensure(t, parent, program)
	if again := ensure(t, parent, program); again != first {
		t.Errorf("the second call returned another view: %s, %s", first, again)
	}
	if err := os.Remove(program); err != nil {
		t.Fatal(err)
	}
	if out, err := in(first, Launcher+" -c 'echo runs'"); err != nil || out != "runs\n" {
		t.Errorf("the launcher does not run after its file on the host was removed: %v %s", err, out)
	}
	if out, err := exec.Command("cp", "/bin/sh", program).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if second := ensure(t, parent, program); second == first {
		t.Error("a new executable has the view of the old one")
	}
}

// TestUnfinishedViewIsReplaced creates what a verb can leave if it is killed while it creates a view: a plain file, a
// directory that is not a mount point, or a mount that is shared.
func TestUnfinishedViewIsReplaced(t *testing.T) {
	program := executable(t)
	complete := filepath.Base(ensure(t, directory(t), program))
	const mountTmpfs = "mkdir -m 700 $0 && mount -t tmpfs tmpfs $0"
	for name, script := range map[string]string{
		"only the directory":                      "mkdir -m 700 $0",
		"a mount that is shared":                  mountTmpfs + " && mount --make-shared $0",
		"a plain file in the mount":               mountTmpfs + " && mount --make-private $0 && : >$0/" + complete,
		"a plain file in the directory, no mount": "mkdir -m 700 $0 && : >$0/" + complete,
	} {
		parent := directory(t)
		if out, err := exec.Command("sh", "-euc", script, filepath.Join(parent, pins)).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
		if out, err := in(ensure(t, parent, program), "echo works"); err != nil || out != "works\n" {
			t.Errorf("%s: %v %s", name, err, out)
		}
	}
}

func TestMountsOfViewAreNotOnHost(t *testing.T) {
	parent := directory(t)
	ensure(t, parent, executable(t))
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	var below []string
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); strings.HasPrefix(fields[1], parent) {
			below = append(below, fields[2])
		}
	}
	if !slices.Equal(below, []string{"tmpfs", "nsfs"}) {
		t.Errorf("mounts on the host: %v", below)
	}
}
