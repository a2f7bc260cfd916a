package native

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// parse parses YAML that must be valid.
func parse(t *testing.T, yaml string) *Document {
	t.Helper()
	document, err := Parse([]byte(yaml), YAML)
	if err != nil {
		t.Fatal(err)
	}
	return document
}

func TestHostDefaults(t *testing.T) {
	rows := []struct {
		yaml string
		want spec.Host
	}{
		{"id: h", spec.Host{ID: "h", Weight: 1, Limit: -1}},
		{"{id: h, name: left, containerWeight: 0, containerLimit: 0}", spec.Host{ID: "h", Name: "left"}},
		{"{id: h, containerWeight: null, containerLimit: 7}", spec.Host{ID: "h", Weight: 1, Limit: 7}},
	}
	for _, row := range rows {
		host, faults := parse(t, row.yaml).Host("h")
		if len(faults.All()) > 0 || host != row.want {
			t.Errorf("%s: got %+v %v", row.yaml, host, faults.All())
		}
	}
}

func TestBindingHasCheckedValues(t *testing.T) {
	binding, faults := parse(t, `
portId: p
hostId: h
interfaceName: vpn-1
containerId: c
addresses: [169.254.0.1/30, "fd00::1/126"]
mac: ca:08:1a:94:29:0e
bridge: br-left
`).Binding("h", "p")
	if len(faults.All()) > 0 {
		t.Fatal(faults.All())
	}
	if !binding.Bound || binding.InterfaceName != "vpn-1" || binding.ContainerID != "c" ||
		!slices.Equal(binding.Port.Addresses, []string{"169.254.0.1/30", "fd00::1/126"}) ||
		binding.Port.MAC != "ca:08:1a:94:29:0e" || binding.Port.Bridge != "br-left" {
		t.Errorf("got %+v", binding)
	}
}

func TestFaultNamesKeyAndAllowedValues(t *testing.T) {
	host := func(d *Document) Faults { _, f := d.Host("h"); return f }
	binding := func(d *Document) Faults { _, f := d.Binding("h", "p"); return f }
	container := func(d *Document) Faults { _, f := d.Container("c"); return f }
	group := func(d *Document) Faults { _, f := d.Group("g"); return f }
	configuration := func(d *Document) Faults { _, f := d.Configuration("k"); return f }
	const bound = "portId: p\nhostId: h\ncontainerId: c\ninterfaceName: vpn-1\n"

	rows := []struct {
		name string
		read func(*Document) Faults
		yaml string
		form string // contained in the first fault of form; "": no such fault
		want string // contained in the first fault of value; "": no such fault
	}{
		{"a host of another id", host, "id: x", `id "x": allowed: h, as in the object's key`, ""},
		{"a host without an id", host, "name: x", `id "": allowed: h`, ""},
		{
			"an id that is a number", host, "id: 7",
			`id "7": allowed: a string; one that looks like a number in quotes`, "",
		},
		{
			"a weight that is a string", host, "{id: h, containerWeight: '1'}",
			`containerWeight "a string": allowed: a whole number`, "",
		},
		{
			"a weight with a fraction", host, "{id: h, containerWeight: 1.5}",
			`containerWeight "1.5": allowed: a whole number`, "",
		},
		{
			"a weight that is too large", host, "{id: h, containerWeight: 99999999999999999999}",
			"allowed: a whole number", "",
		},
		{"a negative weight", host, "{id: h, containerWeight: -1}", "", `containerWeight "-1": allowed: 0`},
		{"a limit below -1", host, "{id: h, containerLimit: -2}", "", `containerLimit "-2": allowed: -1`},
		{
			"a misspelt key", host, "{id: h, containerweight: 2}",
			`unknown key "containerweight": allowed: id, name, containerWeight, containerLimit`, "",
		},

		{"a binding in the folder of another host", binding, "{portId: p, hostId: x}", `hostId "x": allowed: h`, ""},
		{"a binding copied from another port", binding, "{portId: x, hostId: h}", `portId "x": allowed: p`, ""},
		{"addresses that are a string", binding, bound + "addresses: 10.0.0.1/30", "allowed: a list of strings", ""},
		{"addresses that are numbers", binding, bound + "addresses: [10]", "allowed: a list of strings", ""},
		{
			"an interface name that leaves its directory", binding,
			"{portId: p, hostId: h, containerId: c, interfaceName: ../x}", "",
			`interfaceName "../x": allowed: a letter`,
		},
		{
			"an interface name of 16 bytes", binding,
			"{portId: p, hostId: h, containerId: c, interfaceName: abcdefghijklmnop}",
			"", `interfaceName "abcdefghijklmnop": allowed`,
		},
		{
			"an interface name of two lines", binding, `{portId: p, hostId: h, containerId: c, interfaceName: "a\nb"}`,
			"", `interfaceName "a\nb": allowed`,
		},
		{
			"an interface name with a NUL", binding, `{portId: p, hostId: h, containerId: c, interfaceName: "a\0"}`, "",
			`interfaceName "a\x00": allowed`,
		},
		{"no interface name", binding, "{portId: p, hostId: h, containerId: c}", "", `interfaceName "": allowed`},
		{
			"a container id with a quote", binding, `{portId: p, hostId: h, interfaceName: a, containerId: "a'b"}`, "",
			`containerId "a'b": allowed`,
		},
		{
			"an address without a prefix length", binding, bound + "addresses: [10.0.0.1]", "",
			`addresses "10.0.0.1": allowed`,
		},
		{
			"two addresses of a family", binding, bound + "addresses: [10.0.0.1/30, 10.0.1.1/30]", "",
			"at most one address of each family",
		},
		{"a group MAC", binding, bound + "mac: 01:08:1a:94:29:0e", "", `mac "01:08:1a:94:29:0e": allowed`},
		{"a bridge with a slash", binding, bound + "bridge: a/b", "", `bridge "a/b": allowed`},

		{
			"a service type in lower case", container, "{id: c, serviceType: ipsec}", "",
			`serviceType "ipsec": allowed: a capital`,
		},
		{"a hostile group id", container, "{id: c, groupId: $(reboot)}", "", `groupId "$(reboot)": allowed`},
		{
			"a configuration id that leaves its directory", container, "{id: c, configurationId: ../../etc/shadow}", "",
			`configurationId "../../etc/shadow": allowed`,
		},
		{"a port id with a semicolon", container, "{id: c, portId: a;b}", "", `portId "a;b": allowed`},

		{
			"an unknown policy", group, "{id: g, policy: random}", "",
			`policy "random": allowed: leastContainers, weighted`,
		},
		{
			"a host of a group with an invalid id", group, "{id: g, policy: weighted, hostIds: [a/b]}", "",
			`hostIds "a/b": allowed`,
		},

		{"a configuration of another id", configuration, "id: x", `id "another": allowed: k`, ""},
		{"a configuration whose id is a list", configuration, "id: [k]", `id "another": allowed: k`, ""},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			faults := row.read(parse(t, row.yaml))
			first := func(list []*spec.Fault) string {
				if len(list) == 0 {
					return ""
				}
				return list[0].Error()
			}
			form, value := first(faults.Form), first(faults.Value)
			if !strings.Contains(form, row.form) || row.form == "" && form != "" {
				t.Errorf("form: got %s, want %s", form, row.form)
			}
			if !strings.Contains(value, row.want) || row.want == "" && value != "" {
				t.Errorf("value: got %s, want %s", value, row.want)
			}
		})
	}
}

func TestRefusedValueIsEmpty(t *testing.T) {
	document := parse(t, `{portId: p, hostId: h, interfaceName: ../x, containerId: "a\nb", bridge: a/b}`)
	binding, _ := document.Binding("h", "p")
	if !binding.Bound || binding.InterfaceName != "" || binding.ContainerID != "" || binding.Port.Bridge != "" {
		t.Errorf("got %+v", binding)
	}
	document = parse(t, `{id: c, serviceType: "a b", groupId: ../x, configurationId: "a/b", portId: "x'"}`)
	container, _ := document.Container("c")
	if container.ServiceType != "" || container.GroupID != "" || container.ConfigurationID != "" ||
		container.PortID != "" {
		t.Errorf("got %+v", container)
	}
	if len(container.Missing) > 0 {
		t.Errorf("refused values count as not set: %v", container.Missing)
	}
}

func TestPlainPortMayHaveAnyInterface(t *testing.T) {
	binding, faults := parse(t, `{portId: p, hostId: h, interfaceName: "qvo:1 x", mac: "?"}`).Binding("h", "p")
	if binding.Bound || len(faults.All()) > 0 {
		t.Errorf("got %+v %v", binding, faults.All())
	}
}

func TestContainerListsMissingKeys(t *testing.T) {
	container, faults := parse(t, "{id: c, groupId: null, serviceType: ''}").Container("c")
	want := []string{"serviceType", "groupId", "configurationId"}
	if !slices.Equal(container.Missing, want) || len(faults.All()) > 0 {
		t.Errorf("got %v %v", container.Missing, faults.All())
	}
}

func TestRefusedSettingDoesNotAffectOthers(t *testing.T) {
	rows := []struct {
		name, yaml string
		want       map[string]string
		faults     int
	}{
		{
			"valid settings", "{log-level: WARN, log-level.containers.ipsec: debug, status-interval: 5s}",
			map[string]string{"log-level": "warn", "log-level.containers.ipsec": "debug", "status-interval": "5s"}, 0,
		},
		{"no settings", "{}", nil, 0},
		{
			"a nested setting", "{log-level: {containers: debug}, status-interval: 5s}",
			map[string]string{"status-interval": "5s"}, 1,
		},
		{"a list and nothing", "{log-level: [info], status-interval: null}", nil, 2},
		{
			"an unknown setting and a number", "{loglevel: info, status-interval: 10, log-level: info}",
			map[string]string{"log-level": "info"}, 2,
		},
		{"a boolean", "{log-level: true}", nil, 1},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			got, faults := parse(t, row.yaml).Settings()
			if !maps.Equal(got, row.want) || (got == nil) != (row.want == nil) || len(faults.All()) != row.faults {
				t.Errorf("got %v %v", got, faults.All())
			}
		})
	}
}

func TestOnlyPlainPortIsReduced(t *testing.T) {
	for _, row := range []struct {
		name, text string
		plain      bool
	}{
		{"a plain port", `{"portId":"p","hostId":"h","interfaceName":"tap0"}`, true},
		{
			"a plain port with values that no container may have",
			`{"portId":"p","hostId":"h","interfaceName":"a name that is too long","mac":"x","containerId":null}`, true,
		},
		{"a port with a container", `{"portId":"p","hostId":"h","interfaceName":"vpn","containerId":"c"}`, false},
		{"a port of another id", `{"portId":"q","hostId":"h","interfaceName":"tap0"}`, false},
		{"a port with an unknown key", `{"portId":"p","hostId":"h","containerID":"c"}`, false},
	} {
		d, err := Parse([]byte(row.text), JSON)
		if err != nil {
			t.Fatal(err)
		}
		if got := ReducePort(d, "h", "p"); (got == PlainPort) != row.plain || !row.plain && got != d {
			t.Errorf("%s: plain %v", row.name, got == PlainPort)
		}
	}
}
