package model

import (
	"slices"
	"strings"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

func TestExportOfFixtures(t *testing.T) {
	s := fixture(t)
	exported, faults := Export(midonet, s.data)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	golden(t, "export.json", exported)
	s.data[midonet.Object(Port, externalPort)] = []byte("id")
	_, faults = Export(midonet, s.data)
	if len(faults) == 0 || !strings.HasPrefix(faults[0].String(), midonet.Object(Port, externalPort)+": line 1") {
		t.Errorf("export with an unreadable port: %v", faults)
	}
}

func TestExportLeavesOutUnreadableObjects(t *testing.T) {
	const another UUID = "a0000000-0000-4000-8000-00000000000a"
	configuration := string(native.ConfigurationKey(spec.ConfigurationID(routerID)))
	container := string(native.ContainerKey(spec.ContainerID(containerID)))
	binding := string(native.BindingKey(spec.HostID(hostID), spec.PortID(portID)))
	group := string(native.GroupKey(spec.GroupID(groupID)))
	lost := func(path string) func(*fakeSnapshot) { return func(s *fakeSnapshot) { delete(s.data, path) } }
	bad := func(path string) func(*fakeSnapshot) { return func(s *fakeSnapshot) { s.data[path] = []byte("}") } }
	for _, row := range []struct {
		name    string
		change  func(*fakeSnapshot)
		without []string // the keys that are not exported
		faults  []string
	}{
		{"a connection that does not exist", lost(midonet.Object(IPSecSiteConnection, wholeConn)), nil,
			[]string{midonet.Object(IPSecSiteConnection, wholeConn) + ": no such object, and " +
				midonet.Object(VpnService, serviceID) + " names it"}},
		{"a connection that cannot be parsed", bad(midonet.Object(IPSecSiteConnection, wholeConn)), nil,
			[]string{midonet.Object(IPSecSiteConnection, wholeConn) + ": line 1"}},
		{"a VPN service that does not exist", lost(midonet.Object(VpnService, serviceID)), nil,
			[]string{midonet.Object(VpnService, serviceID) + ": no such object, and " +
				midonet.Object(Router, routerID) +
				" names it"}},
		{
			"a router that does not exist", lost(midonet.Object(Router, routerID)),
			[]string{configuration, container, binding},
			[]string{container + ": configurationId names " + configuration + ", which is not exported",
				binding + ": containerId names " + container}},
		{
			"a router that cannot be parsed", bad(midonet.Object(Router, routerID)),
			[]string{configuration, container, binding},
			[]string{midonet.Object(Router, routerID) + ": line 1", container + ": ", binding + ": "}},
		{
			"a container that does not exist", lost(midonet.Object(ServiceContainer, containerID)),
			[]string{container, binding},
			[]string{binding + ": containerId names " + container}},
		{"a group that cannot be parsed", bad(midonet.Object(ServiceContainerGroup, groupID)),
			[]string{group, container, binding},
			[]string{midonet.Object(ServiceContainerGroup, groupID) + ": line 1", container + ": groupId names",
				binding + ": "}},
		{"the container's port cannot be parsed", bad(midonet.Object(Port, portID)), []string{binding},
			[]string{midonet.Object(Port, portID) + ": line 1"}},
		{"settings that are no JSON", bad(midonet.HostSettings(hostID)),
			[]string{string(native.SettingsKey(spec.SettingScope(hostID)))},
			[]string{midonet.HostSettings(hostID) + ": is not one JSON object"}},
		{"an object to which nothing refers", bad(midonet.Object(VpnService, another)), nil,
			[]string{midonet.Object(VpnService, another) + ": line 1"}},
		{"a name that is no UUID", func(s *fakeSnapshot) { s.data[midonet.Objects(Host)+"/x"] = nil }, nil,
			[]string{midonet.Objects(Host) + `/x: id "x": allowed: a UUID`}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := fixture(t)
			whole, faults := Export(midonet, s.data)
			if len(faults) > 0 {
				t.Fatal(faults)
			}
			row.change(s)
			exported, faults := Export(midonet, s.data)
			keys := func(objects []spec.Object) (keys []string) {
				for _, o := range objects {
					keys = append(keys, o.Key)
				}
				return keys
			}
			want := slices.DeleteFunc(keys(whole), func(key string) bool { return slices.Contains(row.without, key) })
			if got := keys(exported); !slices.Equal(got, want) {
				t.Errorf("exported %v\nwant     %v", got, want)
			}
			for _, text := range row.faults {
				if !slices.ContainsFunc(
					faults, func(f native.Fault) bool { return strings.HasPrefix(f.String(), text) }) {
					t.Errorf("no fault %q in %v", text, faults)
				}
			}
			if again, faults := native.Exportable(exported, nil); len(faults) > 0 || len(again) != len(exported) {
				t.Errorf("the exported objects have faults: %v", faults)
			}
		})
	}
}
