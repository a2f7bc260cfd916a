package spec

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// aliasLimit is the kernel's limit for a link alias, including the NUL (IFALIASZ, linux/if.h).
const aliasLimit = 256

func TestParseOwnerReversesString(t *testing.T) {
	networks := rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9_.-]{0,149}`)
	names := rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9_.-]{0,14}`).
		Filter(func(s string) bool { return s != "supervisor" })
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

func TestParseOwnerRefusesOtherStrings(t *testing.T) {
	for _, r := range []struct{ name, tag string }{
		{"an empty alias", ""},
		{"an alias that an administrator set", "uplink to the lab"},
		{"two parts", "svc-supervisor:a"},
		{"four parts", "svc-supervisor:a:b:c"},
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

func TestOursComparesNetworkAndNameOnly(t *testing.T) {
	for _, r := range []struct {
		name string
		tag  string
		ours bool
	}{
		{"a tag of the supervisor with this name", "svc-supervisor:a:id1", true},
		{"a tag of the supervisor with this name and another container id", "svc-supervisor:a:id2", true},
		{"a tag of the supervisor with another name", "svc-supervisor:b:id1", false},
		{"a tag of svc-supervisor exec", "by-hand:a:id1", false},
		{"a tag of another runtime", "podman:a:id1", false},
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
