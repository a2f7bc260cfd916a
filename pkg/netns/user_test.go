package netns

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// testUser is a user id as a container has one.
const testUser = 2100000007

// inUserNamespace runs a program as root of the user namespace that owns a named namespace.
func inUserNamespace(t *testing.T, name string, program ...string) (string, error) {
	t.Helper()
	namespace, err := os.Open(Directory.Path(owner(name).Name))
	if err != nil {
		t.Fatal(err)
	}
	defer namespace.Close()
	user, err := UserNamespace(namespace)
	if err != nil {
		t.Fatal(err)
	}
	defer user.Close()
	cmd := exec.Command("nsenter", append([]string{"--net=/proc/self/fd/3", "--user=/proc/self/fd/4"}, program...)...)
	cmd.ExtraFiles = []*os.File{namespace, user}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestNamespaceIsOwnedByTheUserItWasMadeFor(t *testing.T) {
	ground(t)
	Directory.cleanUp(t, "ns-user")
	if err := Directory.Make(owner("ns-user"), testUser); err != nil {
		t.Fatal(err)
	}
	Directory.state(t, "ns-user", Ours)
	namespace, err := os.Open(Directory.Path("ns-user"))
	if err != nil {
		t.Fatal(err)
	}
	defer namespace.Close()
	if id, own, err := UserOf(namespace); id != testUser || own || err != nil {
		t.Errorf("owner %d, own user namespace %v, %v", id, own, err)
	}
	for _, file := range []string{"uid_map", "gid_map"} {
		out, err := inUserNamespace(t, "ns-user", "cat", "/proc/self/"+file)
		if err != nil || strings.Join(strings.Fields(out), " ") != "0 2100000007 1" {
			t.Errorf("%s: %q %v", file, out, err)
		}
	}
	if shown := ip(t, "-n", "ns-user", "link", "show", "lo"); !strings.Contains(shown, "LOOPBACK,UP") {
		t.Errorf("lo: %s", shown)
	}
	if err := Directory.Remove("ns-user"); err != nil {
		t.Error(err)
	}
}

func TestNoUserNamespaceCanBeMadeInside(t *testing.T) {
	ground(t)
	Directory.cleanUp(t, "ns-nested")
	if err := Directory.Make(owner("ns-nested"), testUser); err != nil {
		t.Fatal(err)
	}
	out, err := inUserNamespace(t, "ns-nested", "unshare", "--user", "true")
	if err == nil || !strings.Contains(out, "No space left on device") {
		t.Errorf("unshare --user: %v %s", err, out)
	}
}

func TestNamespaceWithoutUserIsOwnedByTheInitialUserNamespace(t *testing.T) {
	ground(t)
	Directory.make(t, "ns-plain")
	namespace, err := os.Open(Directory.Path("ns-plain"))
	if err != nil {
		t.Fatal(err)
	}
	defer namespace.Close()
	if id, own, err := UserOf(namespace); id != 0 || !own || err != nil {
		t.Errorf("owner %d, own user namespace %v, %v", id, own, err)
	}
}

// TestHostWithoutUserNamespaces sets the limit in a user namespace of the test: below it no other can be made.
func TestHostWithoutUserNamespaces(t *testing.T) {
	ground(t)
	if os.Getenv("SVC_TEST_LIMITED") == "" {
		out, err := exec.Command("unshare", "--user", "--map-root-user", "sh", "-c",
			`echo 0 >/proc/sys/user/max_user_namespaces && SVC_TEST_LIMITED=1 exec "$0" -test.run "^$1$" -test.v`, os.Args[0], t.Name()).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
			t.Errorf("%v: %s", err, out)
		}
		return
	}
	if _, err := newOwned(0); !errors.Is(err, ErrNoUserNamespaces) {
		t.Errorf("got %v", err)
	}
}

func BenchmarkMakeOwned(b *testing.B) {
	if os.Getenv("SVC_TEST_GROUND") != "1" {
		b.Skip("needs the sandbox")
	}
	for b.Loop() {
		file, err := newOwned(testUser)
		if err != nil {
			b.Fatal(err)
		}
		_ = file.Close()
	}
}
