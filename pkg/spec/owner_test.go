package spec

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// aliasLimit is the kernel's for a link alias, with the NUL (IFALIASZ, linux/if.h).
const aliasLimit = 256

func TestAnOwnerTagIsReadBackAsItWasMade(t *testing.T) {
	networks := rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9_.-]{0,149}`)
	names := rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9_.-]{0,14}`).Filter(func(s string) bool { return s != "supervisor" })
	ids := rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9_.-]{0,63}`)
	rapid.Check(t, func(t *rapid.T) {
		owner := Owner{networks.Draw(t, "network"), Name(names.Draw(t, "name")), ContainerID(ids.Draw(t, "id"))}
		tag := owner.String()
		if len(tag) >= aliasLimit {
			t.Fatalf("%d bytes are too long for an alias", len(tag))
		}
		if back, ok := ParseOwner(tag); !ok || back != owner {
			t.Fatalf("%q was read as %+v, %v", tag, back, ok)
		}
	})
}

func TestWhatIsNoOwnerTagIsNobodys(t *testing.T) {
	for _, r := range []struct{ name, tag string }{
		{"nothing", ""},
		{"a person's alias", "uplink to the lab"},
		{"two words", "svc-supervisor:a"},
		{"four words", "svc-supervisor:a:b:c"},
		{"no network", ":a:b"},
		{"no name", "svc-supervisor::b"},
		{"no container id", "svc-supervisor:a:"},
		{"a name that is a path", "svc-supervisor:../a:b"},
		{"a name that is too long", "svc-supervisor:a234567890123456:b"},
		{"the supervisor's own name", "svc-supervisor:supervisor:b"},
		{"an id that is too long", "svc-supervisor:a:" + strings.Repeat("b", 65)},
		{"a newline at the end", "svc-supervisor:a:b\n"},
	} {
		t.Run(r.name, func(t *testing.T) {
			if owner, ok := ParseOwner(r.tag); ok {
				t.Errorf("%q was read as %+v", r.tag, owner)
			}
		})
	}
}

func TestATagIsOursByNetworkAndNameAlone(t *testing.T) {
	for _, r := range []struct {
		name string
		tag  string
		ours bool
	}{
		{"the supervisor's, of this name", "svc-supervisor:a:id1", true},
		{"the supervisor's, with another container id", "svc-supervisor:a:id2", true},
		{"the supervisor's, of another name", "svc-supervisor:b:id1", false},
		{"one made by hand", "by-hand:a:id1", false},
		{"a foreign runtime's", "podman:a:id1", false},
	} {
		t.Run(r.name, func(t *testing.T) {
			owner, ok := ParseOwner(r.tag)
			if !ok || owner.Ours("a") != r.ours {
				t.Errorf("%+v, %v", owner, ok)
			}
		})
	}
}

func FuzzOwner(f *testing.F) {
	for _, tag := range []string{"svc-supervisor:a:b", "by-hand:vpn-60df5fda:7f1c", "a:b", "::", "x:a.b:c\n", "ä:b:c"} {
		f.Add(tag)
	}
	f.Fuzz(func(t *testing.T, tag string) {
		owner, ok := ParseOwner(tag)
		if !ok {
			return
		}
		if owner.String() != tag {
			t.Errorf("%q was read as %q", tag, owner)
		}
		if _, err := ParseName("name", string(owner.Name)); err != nil {
			t.Error(err)
		}
	})
}
