package spec

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// row is one string and whether a check must accept it.
type row struct {
	name  string
	value string
	ok    bool
}

// hostile are strings that every check of a name or an id must refuse. Each could change the meaning of a path, a unit
// name, a shell command or a line of a configuration file.
var hostile = []row{
	{"an empty string is refused", "", false},
	{"a parent directory is refused", "..", false},
	{"a path is refused", "../a", false},
	{"a slash inside is refused", "a/b", false},
	{"a leading dot is refused", ".a", false},
	{"a leading hyphen is refused, because it would start an option", "-rf", false},
	{"a newline at the end is refused", "a\n", false},
	{"a newline inside is refused", "a\nb", false},
	{"a carriage return is refused", "a\r", false},
	{"a NUL is refused", "a\x00b", false},
	{"a blank is refused", "a b", false},
	{"a tab is refused", "a\tb", false},
	{"a double quote is refused", `a"b`, false},
	{"a single quote is refused", `a'b`, false},
	{"a semicolon is refused", "a;b", false},
	{"a command substitution is refused", "$(id)", false},
	{"a backtick is refused", "`id`", false},
	{"a backslash is refused", `a\x2d`, false},
	{"a percent sign is refused, because it starts a systemd specifier", "a%i", false},
	{"a colon is refused, because it separates the parts of unit names and owner tags", "a:b", false},
	{"an at sign is refused, because it starts a systemd instance name", "a@b", false},
	{"a letter outside of ASCII is refused", "vpn-ä", false},
	{"a full-width letter is refused", "ｖpn", false},
	{"invalid UTF-8 is refused", "a\xff", false},
	{"a bidirectional override is refused", "a\u202eb", false},
}

func check(t *testing.T, key string, rows []row, parse func(string) error) {
	t.Helper()
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			err := parse(r.value)
			if (err == nil) != r.ok {
				t.Fatalf("%q: %v", r.value, err)
			}
			var fault *Fault
			if err != nil && (!errors.As(err, &fault) || fault.Key != key || fault.Value != r.value) {
				t.Errorf("%q: the error is not a Fault with this key and value: %#v", r.value, err)
			}
		})
	}
}

func TestParseName(t *testing.T) {
	check(t, "k", append([]row{
		{"MidoNet's form passes", "vpn-60df5fda", true},
		{"one letter passes", "a", true},
		{"a leading digit passes", "0a", true},
		{"dots, hyphens and underscores pass", "a.b-c_d", true},
		{"two dots inside a name pass, they are not a parent directory", "a..b", true},
		{"15 bytes pass", "a23456789012345", true},
		{"16 bytes are refused, interface names have at most 15", "a234567890123456", false},
		{"supervisor is refused, svc-supervisor.service is the supervisor's own unit", "supervisor", false},
		{"all is refused, it is not an interface below /proc/sys/net", "all", false},
		{"default is refused, it is not an interface below /proc/sys/net", "default", false},
		{"Supervisor with a capital letter passes", "Supervisor", true},
	}, hostile...), func(s string) error { _, err := ParseName("k", s); return err })
}

func TestParseServiceType(t *testing.T) {
	check(t, "k", append([]row{
		{"IPSEC passes", "IPSEC", true},
		{"digits and underscores pass after the first letter", "A_1", true},
		{"31 bytes pass", "A" + strings.Repeat("B", 30), true},
		{"32 bytes are refused", "A" + strings.Repeat("B", 31), false},
		{"lower case is refused", "ipsec", false},
		{"a dot is refused, it separates the parts of a record's file name", "A.B", false},
		{"a hyphen is refused, systemd would nest the slice", "A-B", false},
		{"a leading digit is refused", "1A", false},
		{"SUPERVISOR is refused, its slice would have the supervisor's name", "SUPERVISOR", false},
	}, hostile...), func(s string) error { _, err := ParseServiceType("k", s); return err })
}

func TestParseID(t *testing.T) {
	check(t, "k", append([]row{
		{"a UUID passes", "7f1c2a34-0000-4000-8000-00000000beef", true},
		{"64 bytes pass", strings.Repeat("a", 64), true},
		{"65 bytes are refused", strings.Repeat("a", 65), false},
	}, hostile...), func(s string) error { _, err := ParseID[ContainerID]("k", s); return err })
}

func TestCheckLinkName(t *testing.T) {
	check(t, "k", []row{
		{"a bridge passes", "br-left", true},
		{"a dot and an at sign pass, the kernel allows them", "eth0.100@x", true},
		{"three dots pass", "...", true},
		{"15 bytes pass", "a23456789012345", true},
		{"an empty string is refused", "", false},
		{"16 bytes are refused", "a234567890123456", false},
		{"a single dot is refused", ".", false},
		{"two dots are refused", "..", false},
		{"a slash is refused", "a/b", false},
		{"a colon is refused", "a:b", false},
		{"a blank is refused", "a b", false},
		{"a newline at the end is refused", "a\n", false},
		{"a control character is refused", "a\x1b", false},
		{"a letter outside of ASCII is refused", "brücke", false},
	}, func(s string) error { return CheckLinkName("k", s) })
}

func TestUnitOwner(t *testing.T) {
	for _, r := range []struct {
		name, unit, owner string
	}{
		{"the main unit", "svc-vpn-60df5fda.service", "vpn-60df5fda"},
		{"a unit with a role", "svc-vpn-60df5fda:dns.service", "vpn-60df5fda"},
		{"a role with a dot", "svc-a:b.c.service", "a"},
		{"a name with a dot", "svc-a.b.service", "a.b"},
		{"a name that ends in .service", "svc-a.service.service", "a.service"},
		{"the supervisor's own unit has no owner", "svc-supervisor.service", ""},
		{"a unit with a role of the supervisor has no owner", "svc-supervisor:x.service", ""},
		{"a slice has no owner", "svc-ipsec.slice", ""},
		{"a socket has no owner", "svc-a.socket", ""},
		{"a unit of another program has no owner", "sshd.service", ""},
		{"a unit with an empty name has no owner", "svc-.service", ""},
		{"a unit with an empty role has no owner", "svc-a:.service", ""},
		{"a unit with two roles has no owner", "svc-a:b:c.service", ""},
		{"a unit whose role has a slash has no owner", "svc-a:b/c.service", ""},
		{"a unit whose role has a newline has no owner", "svc-a:b\n.service", ""},
		{"a unit whose role is too long has no owner", "svc-a:" + strings.Repeat("b", 65) + ".service", ""},
		{"a unit whose name is too long has no owner", "svc-a234567890123456.service", ""},
		{"an instance of a template has no owner", "svc-a@b.service", ""},
	} {
		t.Run(r.name, func(t *testing.T) {
			owner, ok := UnitOwner(r.unit)
			if ok != (r.owner != "") || ok && string(owner) != r.owner {
				t.Errorf("%s: %q, %v", r.unit, owner, ok)
			}
			if r.owner != "" && !Name(r.owner).OwnsUnit(r.unit) {
				t.Errorf("%s does not own %s", r.owner, r.unit)
			}
			if Name("other").OwnsUnit(r.unit) {
				t.Errorf("other owns %s", r.unit)
			}
		})
	}
}

func TestSliceIsNestedOnlyBelowSvcSlice(t *testing.T) {
	for serviceType, want := range map[ServiceType]string{"IPSEC": "svc-ipsec.slice", "A_B2": "svc-a_b2.slice"} {
		if got := serviceType.Slice(); got != want {
			t.Errorf("%s: %s", serviceType, got)
		}
	}
}

func TestNameOwnsItsOwnUnitsOnly(t *testing.T) {
	names := rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9_.-]{0,14}`).Filter(func(s string) bool {
		return s != "supervisor" && s != "all" && s != "default"
	})
	roles := rapid.StringMatching(`[A-Za-z0-9_.-]{1,64}`)
	rapid.Check(t, func(t *rapid.T) {
		a, b, role := Name(names.Draw(t, "a")), Name(names.Draw(t, "b")), roles.Draw(t, "role")
		for _, unit := range []string{a.Unit(), "svc-" + string(a) + ":" + role + ".service"} {
			if !a.OwnsUnit(unit) {
				t.Fatalf("%s does not own %s", a, unit)
			}
			if a != b && b.OwnsUnit(unit) {
				t.Fatalf("%s owns %s of %s", b, unit, a)
			}
		}
	})
}

// A string that is accepted as a name or an id is safe in a path, in a unit name and as an unquoted argument of a shell
// command.
func TestAcceptedStringsAreHarmless(t *testing.T) {
	harmless := regexp.MustCompile(`\A[A-Za-z0-9][A-Za-z0-9_.-]*\z`)
	pieces := rapid.SampledFrom([]string{
		"a", "Z", "0", ".", "-", "_", "/", "..", "\n", "\x00", " ", ":", "@", "%", "$", "'", "\\", "ä",
	})
	rapid.Check(t, func(t *rapid.T) {
		s := strings.Join(rapid.SliceOfN(pieces, 0, 20).Draw(t, "pieces"), "")
		_, nameErr := ParseName("k", s)
		_, typeErr := ParseServiceType("k", s)
		_, idErr := ParseID[PortID]("k", s)
		for _, err := range []error{nameErr, typeErr, idErr} {
			if err == nil && !harmless.MatchString(s) {
				t.Fatalf("%q passes", s)
			}
		}
	})
}
