package netns

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// testUser is a user id from the range of the containers.
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

func TestANamespaceIsOwnedByTheGivenUser(t *testing.T) {
	needsSandbox(t)
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

// users returns a registry in which the owner has testUser.
func users(owner spec.Owner) Users {
	return func(id uint32) (spec.Owner, bool, error) { return owner, id == testUser, nil }
}

func TestProgramsInANamespaceCannotChangeItsOwner(t *testing.T) {
	needsSandbox(t)
	const name = "ns-captured"
	d := Directory.WithUsers(users(owner(name)))
	for _, test := range []struct{ what, script string }{
		{"the alias of lo is another container's tag", "ip link set lo alias svc-supervisor:ns-other:id"},
		{"the alias of lo is removed", `ip link set lo alias ""`},
		{"lo is down and renamed", "ip link set lo down && ip link set lo name gone"},
		{"another interface has the name lo",
			"ip link set lo down && ip link set lo name gone && ip link add lo type veth peer name other"},
	} {
		t.Run(test.what, func(t *testing.T) {
			Directory.cleanUp(t, name)
			if err := d.Make(owner(name), testUser); err != nil {
				t.Fatal(err)
			}
			if out, err := inUserNamespace(t, name, "sh", "-c", test.script); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if before, err := Directory.Observe(name); err == nil && before.State == Ours {
				t.Error("the namespace is ours without the registry too, so the test proves nothing")
			}
			if got := d.state(t, name, Ours); got.Owner != owner(name) {
				t.Errorf("owner %v", got.Owner)
			}
			if list, err := d.List(); err != nil || len(list) != 1 || list[0].State != Ours {
				t.Errorf("list %v, %v", list, err)
			}
			if err := d.Remove(name); err != nil {
				t.Fatal(err)
			}
			d.state(t, name, Absent)
		})
	}
}

func TestTheRegistryDecidesWhoOwnsTheNamespaceOfAUser(t *testing.T) {
	needsSandbox(t)
	const name = "ns-registry"
	other := spec.Owner{Network: spec.Network, Name: "ns-other", ContainerID: "id"}
	byHand := spec.Owner{Network: spec.NetworkByHand, Name: name, ContainerID: "id"}
	broken := errors.New("registry not readable")
	for _, test := range []struct {
		what  string
		user  uint32
		users Users
		state State
		owner spec.Owner
	}{
		{"another container has the user id", testUser, users(other), Foreign, other},
		{"a container of another network has the user id", testUser, users(byHand), Foreign, byHand},
		{"no container has the user id: the alias decides", testUser + 1, users(other), Ours, owner(name)},
		{"no registry is configured: the alias decides", testUser, nil, Ours, owner(name)},
		{"the registry is not readable", testUser,
			func(uint32) (spec.Owner, bool, error) { return spec.Owner{}, false, broken }, Unknown, spec.Owner{}},
		{"the namespace was made for no user id: the registry is not used", 0,
			func(uint32) (spec.Owner, bool, error) { return spec.Owner{}, false, broken }, Ours, owner(name)},
	} {
		t.Run(test.what, func(t *testing.T) {
			Directory.cleanUp(t, name)
			if err := Directory.Make(owner(name), test.user); err != nil {
				t.Fatal(err)
			}
			d := Directory.WithUsers(test.users)
			got, err := d.Observe(name)
			if got.State != test.state || got.Owner != test.owner || errors.Is(err, broken) != (test.state == Unknown) {
				t.Errorf("%s of %v, %v", got.State, got.Owner, err)
			}
			switch err := d.Remove(name); {
			case test.state == Foreign && !errors.Is(err, ErrForeign), test.state == Unknown && !errors.Is(err, broken),
				test.state == Ours && err != nil:
				t.Errorf("remove: %v", err)
			}
			if after, _ := d.Observe(name); (after.State == Absent) != (test.state == Ours) {
				t.Errorf("state %s after Remove", after.State)
			}
		})
	}
}

func TestNoUserNamespaceCanBeMadeInANamespace(t *testing.T) {
	needsSandbox(t)
	Directory.cleanUp(t, "ns-nested")
	if err := Directory.Make(owner("ns-nested"), testUser); err != nil {
		t.Fatal(err)
	}
	out, err := inUserNamespace(t, "ns-nested", "unshare", "--user", "true")
	if err == nil || !strings.Contains(out, "No space left on device") {
		t.Errorf("unshare --user: %v %s", err, out)
	}
}

func TestANamespaceWithoutUserIsOwnedByTheInitialUserNamespace(t *testing.T) {
	needsSandbox(t)
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

// The test sets max_user_namespaces to 0 in a user namespace of its own, so that no other can be made below it.
func TestAHostWithoutUserNamespaces(t *testing.T) {
	needsSandbox(t)
	if os.Getenv("SVC_TEST_LIMITED") == "" {
		const script = `echo 0 >/proc/sys/user/max_user_namespaces &&
			SVC_TEST_LIMITED=1 exec "$0" -test.run "^$1$" -test.v`
		out, err := exec.Command("unshare", "--user", "--map-root-user", "sh", "-c", script, os.Args[0], t.Name()).
			CombinedOutput()
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
