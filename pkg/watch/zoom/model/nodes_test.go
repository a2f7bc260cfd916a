package model

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/text/texttest"
)

const otherHost UUID = "2a6e9f0c-8d4b-4c11-9f3e-ffffffffffff"

// canonicalConnection has every key that MidoNet can represent.
const canonicalConnection = `{"id": "f0000000-0000-4000-8000-000000000001", "name": "to Orléans",
	"adminStateUp": false,
	"peerAddress": "200.200.200.2", "peerId": "@right.example", "localId": "100.100.100.2",
	"localCidrs": ["10.1.0.0/24", "fd01::/64"], "peerCidrs": ["10.2.0.1/24", "fd02::/64"],
	"initiator": "response-only", "mtu": 1400, "psk": "it's \"ä\" \\ \u0001 <secret>",
	"dpd": {"action": "restart-by-peer", "interval": 10, "timeout": 60},
	"ikePolicy": {"ikeVersion": "v1", "phase1NegotiationMode": "main", "encryptionAlgorithm": "3des",
		"authAlgorithm": "sha1", "pfs": "group5", "lifetime": 600},
	"ipsecPolicy": {"transformProtocol": "ah", "encapsulationMode": "transport", "encryptionAlgorithm": "aes-192",
		"authAlgorithm": "sha1", "pfs": "group14", "lifetime": 1200}}`

// objects returns the native objects of two hosts: one with an IPSEC container, a port without a container, and
// settings, and another host with a container of another type.
func objects() []spec.Object {
	h, p, q, c, r := hostID, portID, plainPort, containerID, routerID
	object := func(key, format string, arguments ...any) spec.Object {
		return spec.Object{Key: key, Value: fmt.Appendf(nil, format, arguments...)}
	}
	other := manyID("c", 7)
	return []spec.Object{
		object("bindings/"+string(h)+"/"+string(p),
			`{"portId":%q,"hostId":%q,"interfaceName":"vpn-60df5fda","containerId":%q,`+
				`"addresses":["169.254.0.1/30"],"mac":"ac:ca:ba:00:00:01"}`,
			p, h, c),
		object("bindings/"+string(h)+"/"+string(q), `{"portId":%q,"hostId":%q,"interfaceName":"tap0"}`, q, h),
		object("bindings/"+string(otherHost)+"/"+string(externalPort),
			`{"portId":%q,"hostId":%q,"interfaceName":"hpx-1","containerId":%q,"addresses":["fd00::1/126"]}`,
			externalPort, otherHost, other),
		object("config/default", `{"log-level":"warn","status-interval":"1m0s"}`),
		object("config/hosts/"+string(h), `{"log-level.containers.ipsec":"debug"}`),
		object("configurations/"+string(r),
			`{"id":%q,"name":"VPN","externalIps":["100.100.100.2"],"externalMac":"ca:08:1a:94:29:0e","connections":[%s]}`,
			r, canonicalConnection),
		object("configurations/"+string(manyID("7", 9)), `{"id":%q}`, manyID("7", 9)),
		object("containers/"+string(c), `{"id":%q,"serviceType":"IPSEC","groupId":%q,"configurationId":%q,"portId":%q}`,
			c, groupID, r, p),
		object("containers/"+string(other),
			`{"id":%q,"serviceType":"HAPROXY","groupId":%q,"configurationId":%q,"portId":%q}`,
			other, groupID, manyID("7", 9), externalPort),
		object("groups/"+string(groupID), `{"id":%q,"policy":"leastContainers","hostIds":[%q,%q]}`, groupID, h, otherHost),
		object("hosts/"+string(h), `{"id":%q,"name":"one","containerWeight":3,"containerLimit":0}`, h),
		object("hosts/"+string(otherHost), `{"id":%q,"containerWeight":1,"containerLimit":-1}`, otherHost),
	}
}

// with returns the objects after replacing old by text in the object whose key starts with key.
func with(t *testing.T, key, old, text string) []spec.Object {
	t.Helper()
	all := objects()
	for i := range all {
		if strings.HasPrefix(all[i].Key, key) && bytes.Contains(all[i].Value, []byte(old)) {
			all[i].Value = bytes.Replace(all[i].Value, []byte(old), []byte(text), 1)
			return all
		}
	}
	t.Fatalf("no %s has %q", key, old)
	return nil
}

// plain removes the name of the configuration, which no executable reads and Assemble leaves out.
func plain(all []spec.Object) []spec.Object {
	for i := range all {
		all[i].Value = bytes.Replace(all[i].Value, []byte(`"name":"VPN",`), nil, 1)
	}
	return all
}

func TestNodesHaveSameDesiredStateAsNativeObjects(t *testing.T) {
	all := plain(objects())
	nodes, err := Nodes(midonet, all)
	if err != nil {
		t.Fatal(err)
	}
	s := treeOf(t, nodes)
	for _, host := range []UUID{hostID, otherHost} {
		want, faults := native.Assemble(t.Context(), nativeOf(all), spec.HostID(host))
		if len(faults) > 0 || want.Unread != "" || len(want.Bindings) != 1 || want.Bindings[0].Reading != spec.Whole {
			t.Fatalf("%+v %v", want, faults)
		}
		r := Assemble(midonet, s, host)
		if got, want := canonical(t, r.Desired), canonical(t, want); !r.Final || len(r.Faults) > 0 || got != want {
			t.Errorf("faults %v\ngot  %s\nwant %s", r.Faults, got, want)
		}
	}
}

func TestNodesAreValidAndReferencesHaveBothEnds(t *testing.T) {
	nodes, err := Nodes(midonet, objects())
	if err != nil {
		t.Fatal(err)
	}
	read := map[string]texttest.Values{}
	for _, n := range nodes {
		if n.class == "" {
			continue
		}
		if err := texttest.Check(string(n.class), n.Data); err != nil {
			t.Errorf("%s: %v\n%s", n.Path, err, n.Data)
		}
		read[n.Path], _ = texttest.Read(string(n.class), n.Data)
	}
	ids := func(values texttest.Values, name string) (ids []string) {
		for _, value := range values[name] {
			ids = append(ids, texttest.Values{"id": {value}}.UUID("id"))
		}
		return ids
	}
	references := 0
	for _, row := range []struct {
		left  Class
		field string
		right Class
		back  string
	}{ // section 1.4 of MidoNet's bindings, limited to the references that an import writes
		{Port, "host_id", Host, "port_ids"},
		{Port, "service_container_id", ServiceContainer, "port_id"},
		{ServiceContainer, "service_group_id", ServiceContainerGroup, "service_container_ids"},
		{ServiceContainerGroup, "host_group_id", HostGroup, "service_group_ids"},
		{Router, "port_ids", Port, "router_id"},
		{VpnService, "router_id", Router, "vpn_service_ids"},
		{VpnService, "ipsec_site_connection_ids", IPSecSiteConnection, "vpnservice_id"},
		{Host, "host_group_ids", HostGroup, "host_ids"},
	} {
		for _, way := range []struct {
			from  Class
			field string
			to    Class
			back  string
		}{{row.left, row.field, row.right, row.back}, {row.right, row.back, row.left, row.field}} {
			for path, values := range read {
				id, ok := strings.CutPrefix(path, midonet.Objects(way.from)+"/")
				if !ok {
					continue
				}
				for _, to := range ids(values, way.field) {
					references++
					if !slices.Contains(ids(read[midonet.Object(way.to, UUID(to))], way.back), id) {
						t.Errorf("%s names %s %s by %s, which does not name it by %s", path, way.to, to, way.field, way.back)
					}
				}
			}
		}
	}
	if references != 2*(3+2+2+1+2+1+1+2) {
		t.Errorf("%d references", references)
	}
}

func TestExportReturnsImportedObjects(t *testing.T) {
	all := objects()
	nodes, err := Nodes(midonet, all)
	if err != nil {
		t.Fatal(err)
	}
	exported, err := Export(midonet, treeOf(t, nodes).data)
	if err != nil {
		t.Fatal(err)
	}
	if len(exported) != len(all) {
		t.Errorf("%d objects of %d", len(exported), len(all))
	}
	want := nativeOf(all)
	for i, object := range exported {
		if i > 0 && exported[i-1].Key >= object.Key {
			t.Errorf("%s is not sorted", object.Key)
		}
		if got, want := canonicalJSON(t, object.Value), canonicalJSON(t, want[object.Key]); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", object.Key, got, want)
		}
	}
}

func canonicalJSON(t *testing.T, value []byte) string {
	return canonical(t, spec.Desired{Bindings: []spec.Binding{{Configuration: value}}})
}

func TestExportOfFixtures(t *testing.T) {
	s := fixture(t)
	exported, err := Export(midonet, s.data)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "export.json", exported)
	s.data[midonet.Object(Port, externalPort)] = []byte("id")
	_, err = Export(midonet, s.data)
	if err == nil || !strings.HasPrefix(err.Error(), midonet.Object(Port, externalPort)+": line 1") {
		t.Errorf("export with an unreadable port: %v", err)
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
			[]string{midonet.Object(VpnService, serviceID) + ": no such object, and " + midonet.Object(Router, routerID) +
				" names it"}},
		{"a router that does not exist", lost(midonet.Object(Router, routerID)), []string{configuration, container, binding},
			[]string{container + ": configurationId names " + configuration + ", which is not exported",
				binding + ": containerId names " + container}},
		{"a router that cannot be parsed", bad(midonet.Object(Router, routerID)), []string{configuration, container, binding},
			[]string{midonet.Object(Router, routerID) + ": line 1", container + ": ", binding + ": "}},
		{"a container that does not exist", lost(midonet.Object(ServiceContainer, containerID)), []string{container, binding},
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
			whole, err := Export(midonet, s.data)
			if err != nil {
				t.Fatal(err)
			}
			row.change(s)
			exported, faults := ExportReadable(midonet, s.data)
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
				if !slices.ContainsFunc(faults, func(f native.Fault) bool { return strings.HasPrefix(f.String(), text) }) {
					t.Errorf("no fault %q in %v", text, faults)
				}
			}
			if again, faults := native.Exportable(exported, nil); len(faults) > 0 || len(again) != len(exported) {
				t.Errorf("the exported objects have faults: %v", faults)
			}
		})
	}
}

func TestImportKeepsUnknownFields(t *testing.T) {
	nodes, err := Nodes(midonet, objects())
	if err != nil {
		t.Fatal(err)
	}
	s := fixture(t)
	for _, n := range nodes {
		old, ok := s.data[n.Path]
		if !ok {
			s.data[n.Path] = n.Data
			continue
		}
		data, err := n.Onto(old)
		if err != nil {
			t.Fatal(err)
		}
		again, err := n.Onto(data)
		if err != nil || !bytes.Equal(again, data) {
			t.Errorf("%s: changed by the second import: %v\n%s\n%s", n.Path, err, data, again)
		}
		if n.class != "" {
			if err := texttest.Check(string(n.class), data); err != nil {
				t.Errorf("%v\n%s", err, data)
			}
		}
		s.data[n.Path] = data
	}
	// Fields that no native object has.
	for path, kept := range map[string][]string{
		midonet.Object(Port, portID): {
			"tunnel_key: 18446744073709551615\n", "remote_mac_entry_ids {", "vif_id {", "qos_policy_id {"},
		midonet.Object(Router, routerID): {"load_balancer_id {", "as_number: -1\n", "tenant_id: \"admin\"\n"},
		midonet.Object(Host, hostID): {
			"tunnel_zone_ids {", "enforce_container_limit: false\n", "container_weight: 3\n", "name: \"one\"\n",
			"container_limit: 0\n"},
		midonet.Object(IPSecSiteConnection, wholeConn): {"route_ids {"},
		midonet.TemplateSettings("default"): {
			`"simulation_threads": 1.50`, `"root": "WARN"`, `"ipsec-pluto": "TRACE"`,
			`"status_update_interval": "60s"`},
	} {
		for _, text := range kept {
			if !strings.Contains(string(s.data[path]), text) {
				t.Errorf("%s lost %q:\n%s", path, text, s.data[path])
			}
		}
	}
	want, _ := native.Assemble(t.Context(), nativeOf(plain(objects())), spec.HostID(hostID))
	r := Assemble(midonet, s, hostID)
	want.Settings, r.Desired.Settings = nil, nil // the fixture has a template, which native objects cannot represent
	if got, want := canonical(t, r.Desired), canonical(t, want); len(r.Faults) > 0 || got != want {
		t.Errorf("faults %v\ngot  %s\nwant %s", r.Faults, got, want)
	}
}

func TestImportReplacesUnparsableObjectsAndRefusesUnparsableSettings(t *testing.T) {
	nodes, err := Nodes(midonet, objects())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		data, err := n.Onto([]byte("${no}"))
		if (n.class == "") != (err != nil) || err == nil && !bytes.Equal(data, n.Data) {
			t.Errorf("%s: %v %s", n.Path, err, data)
		}
	}
}

// A reader that reads during an import must find every object before it finds a reference to it.
func TestReferencedNodesAreWrittenFirst(t *testing.T) {
	nodes, err := Nodes(midonet, objects())
	if err != nil {
		t.Fatal(err)
	}
	s := treeOf(t, nil)
	for _, n := range nodes {
		s.data[n.Path] = n.Data
		r := Assemble(midonet, s, hostID)
		if r.Desired.Unread == "" && len(r.Faults) > 0 {
			t.Errorf("after %s: %s", n.Path, faultTexts(r))
		}
	}
}

// A single object can be imported into a tree that already has the objects to which it refers.
func TestImportOfOneObjectRefersToExistingOnes(t *testing.T) {
	s := fixture(t)
	port := manyID("6", 5)
	nodes, err := Nodes(midonet, []spec.Object{{
		Key: "bindings/" + string(hostID) + "/" + string(port),
		Value: fmt.Appendf(nil, `{"portId":%q,"hostId":%q,"interfaceName":"vpn-2","containerId":%q}`,
			port, hostID, manyID("c", 5)),
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		old, ok := s.data[n.Path]
		switch {
		case ok:
			if s.data[n.Path], err = n.Onto(old); err != nil {
				t.Fatal(err)
			}
		case n.Data != nil:
			s.data[n.Path] = n.Data
		}
	}
	r := Assemble(midonet, s, hostID)
	if len(r.Desired.Bindings) != 2 || r.Desired.Host.Weight != 3 {
		t.Fatalf("%+v", r)
	}
	fault := midonet.Object(ServiceContainer, manyID("c", 5)) + ": no such object, and " +
		midonet.Object(Port, port) + " names it"
	known := r.Desired.Bindings[0].Reading != spec.Unknown && r.Desired.Bindings[1].Reading != spec.Unknown
	if known || faultTexts(r) != fault {
		t.Errorf("%+v", r.Desired)
	}
}

func TestImportWritesDefaultsOfExecutable(t *testing.T) {
	connection := `{"id":"f0000000-0000-4000-8000-000000000001","peerAddress":"200.200.200.2","psk":"x",
		"localCidrs":["10.1.0.0/24"],"peerCidrs":["10.2.0.0/24"],
		"ikePolicy":{"authAlgorithm":"sha1","id":"a policy's"},"ipsecPolicy":{"authAlgorithm":"sha1"},
		"dpd":{"interval":40},"authMode":"psk","description":"d"}`
	all := []spec.Object{{
		Key: "configurations/" + string(routerID),
		Value: fmt.Appendf(nil,
			`{"externalIps":["100.100.100.2"],"externalMac":"ca:08:1a:94:29:0e","connections":[%s]}`, connection),
	}}
	nodes, err := Nodes(midonet, all)
	if err != nil {
		t.Fatal(err)
	}
	s := treeOf(t, nodes)
	exported, err := Export(midonet, s.data)
	if err != nil || len(exported) != 1 {
		t.Fatal(err, exported)
	}
	for _, want := range []string{
		`"adminStateUp":true`, `"mtu":1500`, `"initiator":"bi-directional"`,
		`"dpd":{"action":"hold","interval":40,"timeout":160}`,
		`"ikePolicy":{"ikeVersion":"v2","phase1NegotiationMode":"main","encryptionAlgorithm":"aes-256",` +
			`"authAlgorithm":"sha1","pfs":"group14","lifetime":3600}`,
		`"ipsecPolicy":{"transformProtocol":"esp","encapsulationMode":"tunnel","encryptionAlgorithm":"aes-256",` +
			`"authAlgorithm":"sha1","pfs":"group14","lifetime":3600}`,
	} {
		if !strings.Contains(string(exported[0].Value), want) {
			t.Errorf("%s has no %s", exported[0].Value, want)
		}
	}
}

func TestImportRejectsWhatMidoNetCannotRepresent(t *testing.T) {
	conf := "configurations/" + string(routerID)
	binding := "bindings/" + string(hostID) + "/" + string(portID)
	for _, row := range []struct{ key, old, text, fault string }{
		{conf, `"authAlgorithm": "sha1"`, `"authAlgorithm": "sha256"`,
			conf + `: connections[0].ikePolicy.authAlgorithm "sha256": allowed: sha1: MidoNet has no other value`},
		{conf, `"authAlgorithm": "sha1", "pfs": "group14"`, `"pfs": "group14"`,
			conf + `: connections[0].ipsecPolicy.authAlgorithm "sha256 (the default)": allowed: sha1`},
		{conf, `"pfs": "group5"`, `"pfs": "group19"`,
			conf + `: connections[0].ikePolicy.pfs "group19": allowed: group2, group5, group14`},
		{conf, `"phase1NegotiationMode": "main"`, `"phase1NegotiationMode": "aggressive"`,
			conf + `: connections[0].ikePolicy.phase1NegotiationMode "aggressive": allowed: main`},
		{conf, `"id": "f0000000-0000-4000-8000-000000000001"`, `"id": "office"`,
			conf + `: connections[0].id "office": allowed: a UUID`},
		{conf, `"localId": "100.100.100.2"`, `"localId": "me"`,
			conf + `: connections[0].localId "me": allowed: the external address`},
		{conf, `"mtu": 1400`, `"mtu": 5000000000`, conf + `: connections[0].mtu "5000000000": allowed: at most 4294967295`},
		{conf, `"mtu": 1400`, `"mtu": "much"`, conf + `: connections[0].mtu "string": allowed: a value of another type`},
		{conf, `"psk": "it's`, `"psk": 5, "authMode": "it's`,
			conf + `: connections[0].psk "number": allowed: a value of another type`},
		{conf, `"mtu": 1400`, `"bgp": 1400`, conf + `: connections[0].unknown key "bgp": allowed`},
		{conf, `"connections":[`, `"connections":[17,`, conf + `: connections[0] "number": allowed`},
		{conf, `"10.2.0.1/24"`, `"10.2.0.1"`, conf + `: connections[0].peerCidrs "10.2.0.1": allowed`},
		{conf, `"externalIps":["100.100.100.2"]`, `"externalIps":["100.100.100.2","fd::1"]`,
			conf + `: externalIps "fd::1": allowed: one`},
		{conf, `"externalIps":["100.100.100.2"],`, ``, conf + `: externalIps "": allowed: one`},
		{conf, `"externalMac":"ca:08:1a:94:29:0e",`, ``, conf + `: externalMac "": allowed: a unicast MAC`},
		{binding, `"mac"`, `"bridge":"br0","mac"`, binding + `: bridge "br0": allowed: none`},
		{binding, `["169.254.0.1/30"]`, `["169.254.0.1/30","fd00::1/126"]`,
			binding + `: addresses "fd00::1/126": allowed: one`},
		{binding, `"hostId"`, `"hostID"`, binding + `: unknown key "hostID": allowed`},
		{conf, `"lifetime": 600`, `"lifetime": "600"`,
			conf + `: connections[0].ikePolicy.lifetime "string": allowed: a value of another type`},
		{conf, `"externalMac":"ca:08:1a:94:29:0e"`, `"externalMac":7`,
			conf + `: externalMac "number": allowed: a value of another type`},
		{"config/default", `"log-level"`, `"log-level.containers.haproxy"`,
			`config/default: /midonet/config/templates/default: setting "log-level.containers.haproxy": allowed: log-level, log-level.containers`},
		{"hosts/" + string(hostID), `"containerWeight":3`, `"containerWeight":-3`,
			"hosts/" + string(hostID) + `: containerWeight "-3"`},
		{"configurations/" + string(manyID("7", 9)), `{`, `{"n": 1, `,
			"configurations/" + string(manyID("7", 9)) + `: of type HAPROXY: unknown key "n"`},
	} {
		_, err := Nodes(midonet, with(t, row.key, row.old, row.text))
		if err == nil || !strings.HasPrefix(err.Error(), row.fault) || strings.Contains(err.Error(), "secret>") ||
			strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v\nwant %s", row.text, err, row.fault)
		}
	}
	for key, fault := range map[string]string{
		"hosts/host-1":                   `hosts/host-1: id "host-1": allowed: a UUID in lower case`,
		"bindings/host-1/p":              `bindings/host-1/p: hostId "host-1": allowed: a UUID`,
		"bindings/" + string(hostID):     `portId "": allowed: a UUID`,
		"things/x":                       `key "things/x": allowed: hosts/<id>`,
		"config/hosts/h":                 `config/hosts/h: host "h": allowed: a UUID`,
		"config/other":                   `config/other: key "other": allowed: default, hosts/<id>`,
		"containers/../../etc":           `id "../../etc": allowed: a UUID`,
		"hosts/" + string(hostID) + "/x": `id`,
	} {
		_, err := Nodes(midonet, []spec.Object{{Key: key, Value: []byte(`{"id":"x"}`)}})
		if err == nil || !strings.Contains(err.Error(), fault) {
			t.Errorf("%s: %v", key, err)
		}
	}
	twice := append(objects(), objects()[0])
	if _, err := Nodes(midonet, twice); err == nil || !strings.HasSuffix(err.Error(), "duplicate object") {
		t.Error(err)
	}
}

func TestDerivedIDsAreStableUUIDs(t *testing.T) {
	id := deriveID(routerID, "VPN service")
	_, err := ParseUUID("id", id)
	if err != nil || id != deriveID(routerID, "VPN service") || id == deriveID(routerID, "external port") {
		t.Error(id, err)
	}
	if id[14] != '8' || !strings.ContainsRune("89ab", rune(id[19])) {
		t.Errorf("%s is not of version 8", id)
	}
}

func TestEditHostKeepsOtherFields(t *testing.T) {
	s := fixture(t)
	before := string(s.data[midonet.Object(Host, hostID)])
	data, err := EditHost([]byte(before), spec.HostWeight, 7)
	want := strings.Replace(before, "container_weight: 3", "container_weight: 7", 1)
	if err != nil || string(data) != want {
		t.Errorf("%v\n%s", err, data)
	}
	bare := "id {\n  msb: 1\n  lsb: 2\n}\nbrand_new: \"\\303\"\nport_ids {\n  msb: 3\n  lsb: 4\n}\n"
	data, err = EditHost([]byte(bare), spec.HostLimit, -1)
	if want := strings.Replace(bare, "port_ids", "container_limit: -1\nport_ids", 1); err != nil || string(data) != want {
		t.Errorf("%v\n%s", err, data)
	}
	for _, row := range []struct {
		data, field string
		n           int
		isFault     bool
	}{
		{bare, spec.HostWeight, -1, true}, {bare, spec.HostLimit, -2, true}, {bare, "name", 1, true},
		{bare, spec.HostWeight, 1 << 31, true}, {"id {", spec.HostWeight, 1, false},
	} {
		if _, err := EditHost([]byte(row.data), row.field, row.n); err == nil || isFault(err) != row.isFault {
			t.Errorf("%+v: %v", row, err)
		}
	}
}

// FuzzObjects checks that no data causes more than faults of one line, for any class of object.
func FuzzObjects(f *testing.F) {
	s := fixture(f)
	paths := sortedKeys(s.data)
	for i, path := range paths {
		f.Add(uint8(i), s.data[path])
	}
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		path := paths[int(which)%len(paths)]
		before := s.data[path]
		defer func() { s.data[path] = before }()
		s.data[path] = data
		r := Assemble(midonet, s, hostID)
		for _, fault := range r.Faults {
			if text := fault.String(); strings.ContainsAny(text, "\n\r") || len(text) > 1000 {
				t.Fatalf("%q", text)
			}
		}
		if again := Assemble(midonet, s, hostID); !reflect.DeepEqual(again, r) {
			t.Fatalf("%+v\n%+v", r, again)
		}
		if objects, err := Export(midonet, s.data); err == nil {
			if _, err := Nodes(midonet, objects); err != nil && strings.ContainsAny(err.Error(), "\n\r") {
				t.Fatal(err)
			}
		}
		_, _ = EditHost(data, spec.HostWeight, 1)
		_, _ = EditSetting(data, "log-level", "debug")
		_, _ = ReadContainerStatus(data)
		_, _ = ReadHostStatus(data)
	})
}
