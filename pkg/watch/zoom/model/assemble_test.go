package model

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/text/texttest"
)

func TestAssembleReturnsDesiredState(t *testing.T) {
	s := fixture(t)
	r := Assemble(midonet, s, hostID)
	if !r.Final || len(r.Missing) > 0 || len(r.Faults) > 0 {
		t.Fatalf("%+v", r)
	}
	golden(t, "desired.json", r.Desired)
	for _, path := range []string{
		midonet.Object(IPSecSiteConnection, unseenConn), midonet.HostAlive(hostID),
		midonet.Object(ServiceContainerGroup, groupID),
	} {
		if s.gets[path] > 0 {
			t.Errorf("%s is read, but not needed", path)
		}
	}
}

// A caller starts without any node and fetches the missing ones until the result is final. Each round fetches all
// nodes that are known to be needed.
func TestMissingNodesAreFetchedUntilFinal(t *testing.T) {
	s := fixture(t)
	want := Assemble(midonet, s, hostID)
	fetched := newFakeSnapshot()
	for path := range s.data {
		fetched.states[path] = NotFetched
	}
	a := NewAssembler(midonet, hostID)
	var rounds [][]string
	for {
		r := a.Assemble(fetched)
		if r.Final {
			if !reflect.DeepEqual(r, want) {
				t.Errorf("got  %+v\nwant %+v", r, want)
			}
			break
		}
		rounds = append(rounds, r.Missing)
		for _, path := range r.Missing {
			if fetched.states[path] != NotFetched {
				t.Fatalf("%s is reported as missing after it was fetched", path)
			}
			delete(fetched.states, path)
			fetched.data[path] = s.data[path]
		}
	}
	counts := make([]int, len(rounds))
	for i, round := range rounds {
		counts[i] = len(round)
	}
	// 1: two settings nodes, the mappings and the host; 2: its template and two ports; 3: the container; 4: the router;
	// 5: its services and its other ports; 6: the connections of the service that is up.
	if !slices.Equal(counts, []int{4, 3, 1, 1, 4, 3}) {
		t.Errorf("%d", counts)
	}
}

func TestUnusableNodeMakesBindingUnknown(t *testing.T) {
	port, external := midonet.Object(Port, portID), midonet.Object(Port, externalPort)
	container, router := midonet.Object(ServiceContainer, containerID), midonet.Object(Router, routerID)
	service, conn := midonet.Object(VpnService, serviceID), midonet.Object(IPSecSiteConnection, wholeConn)
	replace := func(path, old, with string) func(*fakeSnapshot) {
		return func(s *fakeSnapshot) { s.replace(t, path, old, with) }
	}
	state := func(path string, state State) func(*fakeSnapshot) {
		return func(s *fakeSnapshot) { s.states[path] = state }
	}
	data := func(path, data string) func(*fakeSnapshot) {
		return func(s *fakeSnapshot) { s.data[path] = []byte(data) }
	}
	for _, row := range []struct {
		name    string
		change  func(*fakeSnapshot)
		reading spec.Reading
		fault   string // "" for none
	}{
		{"a port of the host does not exist", state(port, Absent), spec.Unread,
			port + ": no such object, and " + midonet.Object(Host, hostID) + " names it"},
		{"a port cannot be read", state(port, Unreadable), spec.Unread, port + ": no permission"},
		{"a port is an empty node", data(port, ""), spec.Unread,
			port + `: id "": allowed: ` + string(portID) + ", as in the node's path"},
		{"a port has the id of another port", replace(port, "msb: ", "msb: 1"), spec.Unread, port + ": id"},
		{"a port has an id without lsb", replace(port, "  lsb: 9223372036854775809\n", ""), spec.Unread,
			port + `: id.lsb "": allowed: a value: the field is required`},
		{"a port is truncated", data(port, "id {\n  msb: 1"), spec.Unread,
			port + ": line 2, column 9: the input ends within a message: allowed: }"},
		{"a port of 2 MB", data(port, strings.Repeat("#", 2<<20)), spec.Unread,
			port + ": has 2097152 bytes: allowed: 1048576"},
		{"an address has no subnet", replace(port, "version: V4", "version: V6"), spec.Unknown,
			port + `: port_subnet "": allowed: the subnet of port_address 169.254.0.1`},
		{"an address of an unknown IP version", replace(port, "version: V4", "version: V10"), spec.Unknown,
			port + `: port_subnet.version "V10": allowed: V4, V6`},
		{"an interface name with a slash", replace(port, "vpn-60df5fda", "vpn/60df5fda"), spec.Refused,
			port + `: interface_name "vpn/60df5fda": allowed`},
		{"a bad MAC of the port", replace(port, "ac:ca:ba:00:00:01", "no"), spec.Refused, port + `: mac "no": allowed`},
		{"the container does not exist", state(container, Absent), spec.Unknown,
			container + ": no such object, and " + port + " names it"},
		{"the container has no group", replace(container, "service_group_id", "other_id"), spec.Unknown,
			container + ": not set: service_group_id: allowed: all three of type, group and configuration"},
		{"a type in lower case", replace(container, "IPSEC", "ipsec"), spec.Refused,
			container + `: service_type "ipsec": allowed`},
		{"the container names another port", replace(container, "port_id {\n  msb: 6", "port_id {\n  msb: 5"),
			spec.Unknown, container + ": port_id"},
		{"the router does not exist", state(router, Absent), spec.Unknown,
			router + ": no such object, and " + container + " names it"},
		{"the router cannot be read", state(router, Unreadable), spec.Unknown, router + ": no permission"},
		{"a VPN service does not exist", state(service, Absent), spec.Unknown,
			service + ": no such object, and " + router + " names it"},
		{"a connection does not exist", state(conn, Absent), spec.Unknown,
			conn + ": no such object, and " + service + " names it"},
		{"an unknown value of an enum", replace(conn, "AES_256", "AES_256_GCM"), spec.Unknown,
			conn + `: ikepolicy.encryption_algorithm "AES_256_GCM": allowed: DES_3, AES_128, AES_192, AES_256`},
		{"an unknown number of an enum", replace(conn, "initiator: RESPONSE_ONLY", "initiator: 3"), spec.Unknown,
			conn + `: initiator "3": allowed: BI_DIRECTIONAL, RESPONSE_ONLY`},
		{
			"a connection with a bad escape in its key", replace(conn, `psk: "`, `psk: "\u00e9`), spec.Unknown,
			conn + ": line",
		},
		{"a key without quotes", replace(conn, `psk: "`, `psk: hush dpd_interval: 3 name: "`), spec.Unknown,
			conn + `: psk "an unquoted value": allowed: a string in quotes`},
		{"a key that is not UTF-8", replace(conn, `psk: "`, `psk: "\377`), spec.Unknown,
			conn + `: psk "invalid UTF-8": allowed: UTF-8`},
		{"the external port cannot be read", state(external, Unreadable), spec.Unknown,
			external + ": no permission\n" + router +
				": none of its ports that can be read has the port_address 100.100.100.2"},
		{"another port of the router cannot be read", state(midonet.Object(Port, ipv6Port), Absent), spec.Complete,
			midonet.Object(Port, ipv6Port) + ": no such object, and " + router + " names it"},
		{"enums as numbers", replace(conn, "initiator: RESPONSE_ONLY", "initiator: 2"), spec.Complete, ""},
		{"fields of a later release", replace(conn, "mtu:", "later { field: [1, <>] } mtu:"), spec.Complete, ""},
		{"the external port has no address", replace(external, "100.100.100.2", "100.100.100.3"), spec.Complete,
			router +
				": none of its ports has the port_address 100.100.100.2, the external_ip of its VPN services: " +
				"nothing runs"},
		{"two external addresses", replace(midonet.Object(VpnService, downService), "100.100.100.2", "100.100.100.9"),
			spec.Complete,
			router + ": its VPN services have several external_ip, 100.100.100.2, 100.100.100.9: nothing runs"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := fixture(t)
			row.change(s)
			r := Assemble(midonet, s, hostID)
			if !r.Final || len(r.Desired.Bindings) != 1 || r.Desired.Unread != "" {
				t.Fatalf("%+v", r)
			}
			b := r.Desired.Bindings[0]
			if b.Reading != row.reading || b.PortID != spec.PortID(portID) {
				t.Errorf("%+v", b)
			}
			if (b.Fault == "") != (b.Reading == spec.Complete) ||
				b.Reading != spec.Unread && (b.Container.ContainerID == "") {
				t.Errorf("%+v", b)
			}
			if b.Reading == spec.Complete && b.Configuration == nil {
				t.Error("no configuration")
			}
			got := faultTexts(r)
			if (got == "") != (row.fault == "") || !strings.HasPrefix(got, row.fault) {
				t.Errorf("faults: %s", got)
			}
			if strings.Contains(got, "secret") || strings.Contains(got, "hush") {
				t.Errorf("a pre-shared key in the faults: %s", got)
			}
		})
	}
}

func TestPortWithoutContainerIsNoBinding(t *testing.T) {
	port := midonet.Object(Port, portID)
	for name, change := range map[string][2]string{
		"another host's":       {"host_id {\n  msb: 3", "host_id {\n  msb: 2"},
		"no host":              {"\nhost_id", "\nother_id"},
		"no interface":         {"interface_name", "other_name"},
		"an empty interface":   {`interface_name: "vpn-60df5fda"`, `interface_name: ""`},
		"no service container": {"service_container_id", "other_id"},
	} {
		s := fixture(t)
		s.replace(t, port, change[0], change[1])
		r := Assemble(midonet, s, hostID)
		if !r.Final || len(r.Desired.Bindings)+len(r.Faults) > 0 || r.Desired.Unread != "" {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestConfigurationWithoutExternalAddress(t *testing.T) {
	s := fixture(t)
	for _, id := range []UUID{serviceID, downService} {
		s.replace(t, midonet.Object(VpnService, id), "external_ip", "other_ip")
	}
	r := Assemble(midonet, s, hostID)
	text := string(r.Desired.Bindings[0].Configuration)
	if strings.Contains(text, "external") || strings.Contains(text, "localId") ||
		!strings.Contains(text, string(wholeConn)) {
		t.Error(text)
	}
	if got := faultTexts(r); !strings.Contains(got, "its VPN services have no external_ip: nothing runs") {
		t.Error(got)
	}
}

func TestNoteExplainsMissingExternalAddress(t *testing.T) {
	router := midonet.Object(Router, routerID) + ": "
	for _, row := range []struct {
		name   string
		change func(*fakeSnapshot)
		note   string
	}{
		{"an external address that a port has", func(*fakeSnapshot) {}, ""},
		{"none", func(s *fakeSnapshot) {
			for _, id := range []UUID{serviceID, downService} {
				s.replace(t, midonet.Object(VpnService, id), "external_ip", "other_ip")
			}
		}, "its VPN services have no external_ip: nothing runs: allowed: one"},
		{"two", func(s *fakeSnapshot) {
			path := midonet.Object(VpnService, downService)
			s.data[path] = append(s.data[path], "external_ip { version: V4 address: \"192.0.2.99\" }\n"...)
		}, "its VPN services have several external_ip, "},
		{"one that no port has", func(s *fakeSnapshot) {
			for _, id := range []UUID{serviceID, downService} {
				path := midonet.Object(VpnService, id)
				s.data[path] = append(s.data[path], "external_ip { version: V4 address: \"192.0.2.99\" }\n"...)
			}
		}, "none of its ports has the port_address 192.0.2.99, the external_ip of its VPN services: " +
			"nothing runs: allowed: one that has"},
	} {
		s := fixture(t)
		row.change(s)
		b := Assemble(midonet, s, hostID).Desired.Bindings[0]
		if b.Reading != spec.Complete || (b.Note == "") != (row.note == "") ||
			row.note != "" && !strings.HasPrefix(b.Note, router+row.note) {
			t.Errorf("%s: %v %q", row.name, b.Reading, b.Note)
		}
	}
}

func TestOtherServiceTypeGetsConfigurationID(t *testing.T) {
	s := fixture(t)
	s.replace(t, midonet.Object(ServiceContainer, containerID), "IPSEC", "HAPROXY")
	r := Assemble(midonet, s, hostID)
	b := r.Desired.Bindings[0]
	if got := string(b.Configuration); got != `{"id":"`+string(routerID)+`"}` || b.Reading != spec.Complete {
		t.Errorf("%+v", r.Desired)
	}
}

func TestHostWithoutObjectIsUnknown(t *testing.T) {
	path := midonet.Object(Host, hostID)
	for name, row := range map[string]struct {
		change func(*fakeSnapshot)
		unread string
	}{
		"no object": {func(s *fakeSnapshot) { delete(s.data, path) },
			path + ": no Host object: nothing is known of this host, and all stays as it is"},
		"unreadable": {func(s *fakeSnapshot) { s.states[path] = Unreadable }, path + ": no permission"},
		"garbage": {func(s *fakeSnapshot) { s.data[path] = []byte("{}") },
			path + ": line 1, column 1: missing field name"},
		"empty": {func(s *fakeSnapshot) { s.data[path] = []byte("") }, path + `: id ""`},
		"a bad port": {func(s *fakeSnapshot) { s.replace(t, path, "port_ids {\n  msb: ", "port_ids {\n  mbs: ") },
			path + ": port_ids.msb"},
	} {
		s := fixture(t)
		a := NewAssembler(midonet, hostID)
		before := a.Assemble(s)
		row.change(s)
		r := a.Assemble(s)
		if !r.Final || !strings.HasPrefix(r.Desired.Unread, row.unread) || len(r.Desired.Bindings) > 0 ||
			r.Desired.Host.ID != spec.HostID(hostID) || len(r.Faults) != 1 {
			t.Errorf("%s: %+v", name, r)
		}
		if r.Desired.Settings["log-level"] != "debug" {
			t.Errorf("%s: %+v", name, r.Desired.Settings)
		}
		if again := a.Assemble(fixture(t)); !reflect.DeepEqual(again, before) {
			t.Errorf("%s: %+v", name, again)
		}
	}
}

func TestWeightAndLimitHaveMidoNetDefaults(t *testing.T) {
	path := midonet.Object(Host, hostID)
	for change, want := range map[string]spec.Host{
		"container_weight: 3\ncontainer_limit: 20": {Weight: 3, Limit: 20},
		"container_weight: 0\n":                    {Weight: 0, Limit: -1},
		"":                                         {Weight: 1, Limit: -1},
		"container_weight: -2 container_limit: -7": {Weight: 0, Limit: -1},
	} {
		s := fixture(t)
		s.replace(t, path, "container_weight: 3\ncontainer_limit: 20", change)
		got := Assemble(midonet, s, hostID).Desired.Host
		if got.Weight != want.Weight || got.Limit != want.Limit || got.Name == "" {
			t.Errorf("%q: %+v", change, got)
		}
	}
}

// One of a thousand bindings changes. The other bindings are neither parsed nor built again.
func TestUnchangedBindingsAreReused(t *testing.T) {
	s := treeWithRouters(t, 1000)
	a := NewAssembler(midonet, hostID)
	before := a.Assemble(s)
	if !before.Final || len(before.Desired.Bindings) != 1000 || len(before.Faults) > 0 {
		t.Fatalf("%d bindings, faults %s", len(before.Desired.Bindings), faultTexts(before))
	}
	changed := midonet.Object(IPSecSiteConnection, manyID("f", 7))
	s.data[changed] = []byte(strings.Replace(string(s.data[changed]), "mtu: 1400", "mtu: 1399", 1))
	after := a.Assemble(s)
	if fresh := Assemble(midonet, s, hostID); !reflect.DeepEqual(after, fresh) {
		t.Fatal("the result differs from that of a new Assembler")
	}
	differ := 0
	for i := range after.Desired.Bindings {
		was, is := before.Desired.Bindings[i].Configuration, after.Desired.Bindings[i].Configuration
		if &was[0] != &is[0] {
			differ++
		}
	}
	if differ != 1 {
		t.Errorf("%d bindings were built again", differ)
	}
}

var sizes = []int{1000, 10000}

func BenchmarkChange(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := treeWithRouters(b, n)
			a := NewAssembler(midonet, hostID)
			a.Assemble(s)
			path := midonet.Object(IPSecSiteConnection, manyID("f", 7))
			texts := []string{string(s.data[path]), strings.Replace(string(s.data[path]), "mtu: 1400", "mtu: 1399", 1)}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				s.data[path] = []byte(texts[i%2])
				if !a.Assemble(s).Final {
					b.Fatal("not final")
				}
			}
		})
	}
}

func manyID(kind string, i int) UUID {
	return UUID(fmt.Sprintf("%s0000000-0000-4000-8000-%012x", kind, i))
}

// treeWithRouters returns a host with n VPN routers.
func treeWithRouters(t testing.TB, n int) *fakeSnapshot {
	t.Helper()
	s := newFakeSnapshot()
	put := func(class Class, id UUID, values texttest.Values) {
		values["id"] = []any{texttest.UUID(string(id))}
		data, err := texttest.Print(string(class), values)
		if err != nil {
			t.Fatal(err)
		}
		s.data[midonet.Object(class, id)] = data
	}
	address := func(address string) texttest.Values {
		return texttest.Values{"version": {"V4"}, "address": {address}}
	}
	subnet := func(address string, bits int) texttest.Values {
		return texttest.Values{"version": {"V4"}, "address": {address}, "prefix_length": {bits}}
	}
	var ports []any
	for i := range n {
		id := func(kind string) texttest.Values { return texttest.UUID(string(manyID(kind, i))) }
		ports = append(ports, id("6"))
		put(Port, manyID("6", i), texttest.Values{
			"router_id": {id("7")}, "host_id": {texttest.UUID(string(hostID))},
			"interface_name": {fmt.Sprint("vpn-", i)},
			"port_subnet":    {subnet("169.254.0.1", 30)}, "port_address": {address("169.254.0.1")},
			"port_mac": {"ac:ca:ba:00:00:01"}, "service_container_id": {id("c")},
		})
		put(ServiceContainer, manyID("c", i), texttest.Values{
			"service_group_id": {texttest.UUID(string(groupID))}, "port_id": {id("6")}, "service_type": {"IPSEC"},
			"configuration_id": {id("7")},
		})
		put(Router, manyID("7", i), texttest.Values{"port_ids": {id("8"), id("6")}, "vpn_service_ids": {id("5")}})
		put(Port, manyID("8", i), texttest.Values{
			"router_id": {id("7")}, "port_subnet": {subnet("100.100.100.2", 32)},
			"port_address": {address("100.100.100.2")}, "port_mac": {"ca:08:1a:94:29:0e"},
		})
		put(VpnService, manyID("5", i), texttest.Values{
			"router_id": {id("7")}, "external_ip": {address("100.100.100.2")}, "container_id": {id("c")},
			"ipsec_site_connection_ids": {id("f")},
		})
		put(IPSecSiteConnection, manyID("f", i), texttest.Values{
			"peer_address": {"200.200.200.2"}, "peer_cidrs": {subnet("10.2.0.0", 24)},
			"local_cidrs": {subnet("10.1.0.0", 24)}, "mtu": {1400}, "psk": {"x"}, "dpd_interval": {30},
			"dpd_timeout":   {120},
			"vpnservice_id": {id("5")}, "ikepolicy": {texttest.Values{"ike_version": {"V2"}, "lifetime_value": {3600}}},
			"ipsecpolicy": {texttest.Values{"pfs": {"GROUP14"}, "lifetime_value": {3600}}},
		})
	}
	put(Host, hostID, texttest.Values{"port_ids": ports})
	return s
}

func BenchmarkColdStart(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := treeWithRouters(b, n)
			b.ReportAllocs()
			for b.Loop() {
				if !Assemble(midonet, s, hostID).Final {
					b.Fatal("not final")
				}
			}
		})
	}
}
