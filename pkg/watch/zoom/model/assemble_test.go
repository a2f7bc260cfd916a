package model

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

func TestATreeIsReadIntoADesiredSet(t *testing.T) {
	s := fixture(t)
	r := Assemble(midonet, s, hostID)
	if !r.Final || len(r.Missing) > 0 || len(r.Faults) > 0 {
		t.Fatalf("%+v", r)
	}
	golden(t, "desired.json", r.Desired)
	for _, path := range []string{midonet.Object(IPSecSiteConnection, unseenConn), midonet.HostAlive(hostID), midonet.Object(ServiceContainerGroup, groupID)} {
		if s.gets[path] > 0 {
			t.Errorf("%s is read, and nothing needs it", path)
		}
	}
}

// A caller with nothing fetches what is missing until nothing is: each round trip brings all that is known to be needed.
func TestWhatIsMissingIsNamedUntilNothingIs(t *testing.T) {
	s := fixture(t)
	want := Assemble(midonet, s, hostID)
	fetched := &stand{map[string][]byte{}, map[string]State{}, map[string]int{}}
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
				t.Fatalf("%s is missing though it was fetched", path)
			}
			delete(fetched.states, path)
			fetched.data[path] = s.data[path]
		}
	}
	counts := make([]int, len(rounds))
	for i, round := range rounds {
		counts[i] = len(round)
	}
	// Settings, mappings and the host; its template and two ports; the container; the router; its services and other
	// ports; the connections of the service that is up.
	if !slices.Equal(counts, []int{4, 3, 1, 1, 4, 3}) {
		t.Errorf("%d", counts)
	}
}

func TestUnknownIsNeverTakenForAbsent(t *testing.T) {
	port, container, router := midonet.Object(Port, portID), midonet.Object(ServiceContainer, containerID), midonet.Object(Router, routerID)
	service, conn, outer := midonet.Object(VpnService, serviceID), midonet.Object(IPSecSiteConnection, wholeConn), midonet.Object(Port, outerPort)
	replace := func(path, old, with string) func(*stand) {
		return func(s *stand) { s.replace(t, path, old, with) }
	}
	state := func(path string, state State) func(*stand) {
		return func(s *stand) { s.states[path] = state }
	}
	data := func(path, data string) func(*stand) {
		return func(s *stand) { s.data[path] = []byte(data) }
	}
	for _, row := range []struct {
		name    string
		change  func(*stand)
		reading spec.Reading
		fault   string // "" for none
	}{
		{"a port that the host names is not there", state(port, Absent), spec.Unread, port + ": no such object, and " + midonet.Object(Host, hostID) + " names it"},
		{"a port cannot be read", state(port, Unreadable), spec.Unread, port + ": no permission"},
		{"a port is an empty node", data(port, ""), spec.Unread, port + `: id "": allowed: ` + string(portID) + ", as in the node's path"},
		{"a port has another's id", replace(port, "msb: ", "msb: 1"), spec.Unread, port + ": id"},
		{"a port has half an id", replace(port, "  lsb: 9223372036854775809\n", ""), spec.Unread, port + `: id.lsb "": allowed: it is required`},
		{"a port is cut off", data(port, "id {\n  msb: 1"), spec.Unread, port + ": line 2, column 9: the input ends within a message: allowed: }"},
		{"a port of 2 MB", data(port, strings.Repeat("#", 2<<20)), spec.Unread, port + ": has 2097152 bytes: allowed: 1048576"},
		{"an address has no subnet", replace(port, "version: V4", "version: V6"), spec.Unknown, port + `: port_subnet "": allowed: the subnet of port_address 169.254.0.1`},
		{"an address of a new IP version", replace(port, "version: V4", "version: V10"), spec.Unknown, port + `: port_subnet.version "V10": allowed: V4, V6`},
		{"an interface name with a slash", replace(port, "vpn-60df5fda", "vpn/60df5fda"), spec.Refused, port + `: interface_name "vpn/60df5fda": allowed`},
		{"a bad MAC of the port", replace(port, "ac:ca:ba:00:00:01", "no"), spec.Refused, port + `: mac "no": allowed`},
		{"the container is not there", state(container, Absent), spec.Unknown, container + ": no such object, and " + port + " names it"},
		{"the container has no group", replace(container, "service_group_id", "other_id"), spec.Unknown, container + ": not set: service_group_id: allowed: all three of type, group and configuration"},
		{"a type in lower case", replace(container, "IPSEC", "ipsec"), spec.Refused, container + `: service_type "ipsec": allowed`},
		{"the container says another port", replace(container, "port_id {\n  msb: 6", "port_id {\n  msb: 5"), spec.Unknown, container + ": port_id"},
		{"the router is not there", state(router, Absent), spec.Unknown, router + ": no such object, and " + container + " names it"},
		{"the router cannot be read", state(router, Unreadable), spec.Unknown, router + ": no permission"},
		{"a VPN service is not there", state(service, Absent), spec.Unknown, service + ": no such object, and " + router + " names it"},
		{"a connection is not there", state(conn, Absent), spec.Unknown, conn + ": no such object, and " + service + " names it"},
		{"an unknown value of an enum", replace(conn, "AES_256", "AES_256_GCM"), spec.Unknown, conn + `: ikepolicy.encryption_algorithm "AES_256_GCM": allowed: DES_3, AES_128, AES_192, AES_256`},
		{"an unknown number of an enum", replace(conn, "initiator: RESPONSE_ONLY", "initiator: 3"), spec.Unknown, conn + `: initiator "3": allowed: BI_DIRECTIONAL, RESPONSE_ONLY`},
		{"a connection with a bad escape in its key", replace(conn, `psk: "`, `psk: "\u00e9`), spec.Unknown, conn + ": line"},
		{"a key that is a word", replace(conn, `psk: "`, `psk: hush dpd_interval: 3 name: "`), spec.Unknown, conn + `: psk "a word": allowed: a string in quotes`},
		{"a key that is not UTF-8", replace(conn, `psk: "`, `psk: "\377`), spec.Unknown, conn + `: psk "other bytes": allowed: UTF-8`},
		{"the outer port cannot be read", state(outer, Unreadable), spec.Unknown, outer + ": no permission\n" + router + ": none of its ports that can be read has the port_address 100.100.100.2"},
		{"another port of the router cannot be read", state(midonet.Object(Port, ipv6Port), Absent), spec.Whole, midonet.Object(Port, ipv6Port) + ": no such object, and " + router + " names it"},
		{"enums as numbers", replace(conn, "initiator: RESPONSE_ONLY", "initiator: 2"), spec.Whole, ""},
		{"fields of a later release", replace(conn, "mtu:", "later { field: [1, <>] } mtu:"), spec.Whole, ""},
		{"the outer port has no address", replace(outer, "100.100.100.2", "100.100.100.3"), spec.Whole, router + ": none of its ports has the port_address 100.100.100.2, the external_ip of its VPN services: nothing runs"},
		{"two external addresses", replace(midonet.Object(VpnService, downService), "100.100.100.2", "100.100.100.9"), spec.Whole, router + ": its VPN services have several external_ip, 100.100.100.2, 100.100.100.9: nothing runs"},
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
			if (b.Fault == "") != (b.Reading == spec.Whole) || b.Reading != spec.Unread && (b.Container.ContainerID == "") {
				t.Errorf("%+v", b)
			}
			if b.Reading == spec.Whole && b.Configuration == nil {
				t.Error("no configuration")
			}
			if got := faultTexts(r); (got == "") != (row.fault == "") || !strings.HasPrefix(got, row.fault) || strings.Contains(got, "secret") || strings.Contains(got, "hush") {
				t.Errorf("faults: %s", got)
			}
		})
	}
}

func TestAPortThatAsksForNothingHereIsNoBinding(t *testing.T) {
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
		if r := Assemble(midonet, s, hostID); !r.Final || len(r.Desired.Bindings)+len(r.Faults) > 0 || r.Desired.Unread != "" {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestWithoutAnExternalAddressNothingRuns(t *testing.T) {
	s := fixture(t)
	for _, id := range []UUID{serviceID, downService} {
		s.replace(t, midonet.Object(VpnService, id), "external_ip", "other_ip")
	}
	r := Assemble(midonet, s, hostID)
	text := string(r.Desired.Bindings[0].Configuration)
	if strings.Contains(text, "external") || strings.Contains(text, "localId") || !strings.Contains(text, string(wholeConn)) {
		t.Error(text)
	}
	if got := faultTexts(r); !strings.Contains(got, "its VPN services have no external_ip: nothing runs") {
		t.Error(got)
	}
}

func TestBindingHasANoteWhenNothingRunsForWantOfAnExternalAddress(t *testing.T) {
	router := midonet.Object(Router, routerID) + ": "
	for _, row := range []struct {
		name   string
		change func(*stand)
		note   string
	}{
		{"an external address that a port has", func(*stand) {}, ""},
		{"none", func(s *stand) {
			for _, id := range []UUID{serviceID, downService} {
				s.replace(t, midonet.Object(VpnService, id), "external_ip", "other_ip")
			}
		}, "its VPN services have no external_ip: nothing runs: allowed: one"},
		{"two", func(s *stand) {
			path := midonet.Object(VpnService, downService)
			s.data[path] = append(s.data[path], "external_ip { version: V4 address: \"192.0.2.99\" }\n"...)
		}, "its VPN services have several external_ip, "},
		{"one that no port has", func(s *stand) {
			for _, id := range []UUID{serviceID, downService} {
				path := midonet.Object(VpnService, id)
				s.data[path] = append(s.data[path], "external_ip { version: V4 address: \"192.0.2.99\" }\n"...)
			}
		}, "none of its ports has the port_address 192.0.2.99, the external_ip of its VPN services: nothing runs: allowed: one that has"},
	} {
		s := fixture(t)
		row.change(s)
		b := Assemble(midonet, s, hostID).Desired.Bindings[0]
		if b.Reading != spec.Whole || (b.Note == "") != (row.note == "") || row.note != "" && !strings.HasPrefix(b.Note, router+row.note) {
			t.Errorf("%s: %v %q", row.name, b.Reading, b.Note)
		}
	}
}

func TestAnotherTypeGetsTheIdOfItsConfiguration(t *testing.T) {
	s := fixture(t)
	s.replace(t, midonet.Object(ServiceContainer, containerID), "IPSEC", "HAPROXY")
	r := Assemble(midonet, s, hostID)
	if got := string(r.Desired.Bindings[0].Configuration); got != `{"id":"`+string(routerID)+`"}` || r.Desired.Bindings[0].Reading != spec.Whole {
		t.Errorf("%+v", r.Desired)
	}
}

func TestNothingIsKnownOfAHostWithoutItsObject(t *testing.T) {
	path := midonet.Object(Host, hostID)
	for name, row := range map[string]struct {
		change func(*stand)
		unread string
	}{
		"no object":  {func(s *stand) { delete(s.data, path) }, path + ": no Host object: nothing is known of this host, and all stays as it is"},
		"unreadable": {func(s *stand) { s.states[path] = Unreadable }, path + ": no permission"},
		"garbage":    {func(s *stand) { s.data[path] = []byte("{}") }, path + ": line 1, column 1: no field's name"},
		"empty":      {func(s *stand) { s.data[path] = []byte("") }, path + `: id ""`},
		"a bad port": {func(s *stand) { s.replace(t, path, "port_ids {\n  msb: ", "port_ids {\n  mbs: ") }, path + ": port_ids.msb"},
	} {
		s := fixture(t)
		a := NewAssembler(midonet, hostID)
		before := a.Assemble(s)
		row.change(s)
		r := a.Assemble(s)
		if !r.Final || !strings.HasPrefix(r.Desired.Unread, row.unread) || len(r.Desired.Bindings) > 0 || r.Desired.Host.ID != spec.HostID(hostID) || len(r.Faults) != 1 {
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

func TestWeightAndLimitHaveMidoNetsDefaults(t *testing.T) {
	path := midonet.Object(Host, hostID)
	for change, want := range map[string]spec.Host{
		"container_weight: 3\ncontainer_limit: 20": {Weight: 3, Limit: 20},
		"container_weight: 0\n":                    {Weight: 0, Limit: -1},
		"":                                         {Weight: 1, Limit: -1},
		"container_weight: -2 container_limit: -7": {Weight: 0, Limit: -1},
	} {
		s := fixture(t)
		s.replace(t, path, "container_weight: 3\ncontainer_limit: 20", change)
		if got := Assemble(midonet, s, hostID).Desired.Host; got.Weight != want.Weight || got.Limit != want.Limit || got.Name == "" {
			t.Errorf("%q: %+v", change, got)
		}
	}
}

// A thousand bindings, one of which changes: the others are neither parsed nor made anew.
func TestAChangeOfOneBindingIsWorkedOutAlone(t *testing.T) {
	s := many(t, 1000)
	a := NewAssembler(midonet, hostID)
	before := a.Assemble(s)
	if !before.Final || len(before.Desired.Bindings) != 1000 || len(before.Faults) > 0 {
		t.Fatalf("%d bindings, faults %s", len(before.Desired.Bindings), faultTexts(before))
	}
	changed := midonet.Object(IPSecSiteConnection, manyID("f", 7))
	s.data[changed] = []byte(strings.Replace(string(s.data[changed]), "mtu: 1400", "mtu: 1399", 1))
	after := a.Assemble(s)
	if fresh := Assemble(midonet, s, hostID); !reflect.DeepEqual(after, fresh) {
		t.Fatal("it is not what a fresh assembly comes to")
	}
	differ := 0
	for i := range after.Desired.Bindings {
		was, is := before.Desired.Bindings[i].Configuration, after.Desired.Bindings[i].Configuration
		if &was[0] != &is[0] {
			differ++
		}
	}
	if differ != 1 {
		t.Errorf("%d bindings were made anew", differ)
	}
}

var sizes = []int{1000, 10000}

func BenchmarkChange(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := many(b, n)
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

// many is a host with n VPN routers.
func many(t testing.TB, n int) *stand {
	t.Helper()
	objects := []spec.Object{{Key: "hosts/" + string(hostID), Value: fmt.Appendf(nil, `{"id": %q}`, hostID)}}
	add := func(key, format string, arguments ...any) {
		objects = append(objects, spec.Object{Key: key, Value: fmt.Appendf(nil, format, arguments...)})
	}
	for i := range n {
		port, container, router, conn := manyID("6", i), manyID("c", i), manyID("7", i), manyID("f", i)
		add("bindings/"+string(hostID)+"/"+string(port), `{"portId": %q, "hostId": %q, "interfaceName": "vpn-%d", "containerId": %q, "addresses": ["169.254.0.1/30"], "mac": "ac:ca:ba:00:00:01"}`, port, hostID, i, container)
		add("containers/"+string(container), `{"id": %q, "serviceType": "IPSEC", "groupId": %q, "configurationId": %q}`, container, groupID, router)
		add("configurations/"+string(router), `{"id": %q, "externalIps": ["100.100.100.2"], "externalMac": "ca:08:1a:94:29:0e", "connections": [{"id": %q, "peerAddress": "200.200.200.2", "psk": "x", "mtu": 1400,
			"localCidrs": ["10.1.0.0/24"], "peerCidrs": ["10.2.0.0/24"], "ikePolicy": {"authAlgorithm": "sha1"}, "ipsecPolicy": {"authAlgorithm": "sha1"}}]}`, router, conn)
	}
	nodes, err := Nodes(midonet, objects)
	if err != nil {
		t.Fatal(err)
	}
	return treeOf(t, nodes)
}

func BenchmarkColdStart(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := many(b, n)
			b.ReportAllocs()
			for b.Loop() {
				if !Assemble(midonet, s, hostID).Final {
					b.Fatal("not final")
				}
			}
		})
	}
}
