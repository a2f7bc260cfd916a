package zoomtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/model"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/text/texttest"
)

const (
	hostID       model.UUID = "2a6e9f0c-8d4b-4c11-9f3e-0123456789ab"
	portID       model.UUID = "60df5fda-0000-4000-8000-000000000001"
	plainPort    model.UUID = "60df5fda-0000-4000-8000-000000000002"
	externalPort model.UUID = "60df5fda-0000-4000-8000-000000000003"
	containerID  model.UUID = "c0000000-0000-4000-8000-000000000001"
	groupID      model.UUID = "90000000-0000-4000-8000-000000000001"
	routerID     model.UUID = "70000000-0000-4000-8000-000000000001"
	haproxyID    model.UUID = "70000000-0000-4000-8000-000000000009"
)

var midonet = func() model.Tree {
	tree, err := model.ParseRoot(model.DefaultRoot)
	if err != nil {
		panic(err)
	}
	return tree
}()

// snapshot is a model.Snapshot that contains the data of every node, by path.
type snapshot map[string][]byte

func (s snapshot) Get(path string) ([]byte, model.State) {
	if data, ok := s[path]; ok {
		return data, model.Present
	}
	return nil, model.Absent
}

func snapshotOf(t *testing.T, objects []spec.Object) snapshot {
	t.Helper()
	nodes, err := Nodes(midonet, objects)
	if err != nil {
		t.Fatal(err)
	}
	s := snapshot{}
	for _, n := range nodes {
		s[n.Path] = n.Data
	}
	return s
}

const otherHost model.UUID = "2a6e9f0c-8d4b-4c11-9f3e-ffffffffffff"

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
	const other = "c0000000-0000-4000-8000-000000000007"
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
			`{"id":%q,"name":"VPN","externalIps":["100.100.100.2"],"externalMac":"ca:08:1a:94:29:0e",`+
				`"connections":[%s]}`,
			r, canonicalConnection),
		object("configurations/"+string(haproxyID), `{"id":%q}`, haproxyID),
		object("containers/"+string(c), `{"id":%q,"serviceType":"IPSEC","groupId":%q,"configurationId":%q,"portId":%q}`,
			c, groupID, r, p),
		object("containers/"+other,
			`{"id":%q,"serviceType":"HAPROXY","groupId":%q,"configurationId":%q,"portId":%q}`,
			other, groupID, haproxyID, externalPort),
		object("groups/"+string(groupID), `{"id":%q,"policy":"leastContainers","hostIds":[%q,%q]}`, groupID, h,
			otherHost),
		object("hosts/"+string(h), `{"id":%q,"name":"one","containerWeight":3,"containerLimit":0}`, h),
		object("hosts/"+string(otherHost), `{"id":%q,"containerWeight":1,"containerLimit":-1}`, otherHost),
	}
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
	s := snapshotOf(t, all)
	for _, host := range []model.UUID{hostID, otherHost} {
		want, faults := native.Assemble(t.Context(), nativeOf(all), spec.HostID(host))
		if len(faults) > 0 || want.Unread != "" || len(want.Bindings) != 1 ||
			want.Bindings[0].Reading != spec.Complete {
			t.Fatalf("%+v %v", want, faults)
		}
		r := model.Assemble(midonet, s, host)
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
		if n.Class == "" {
			continue
		}
		if err := texttest.Check(string(n.Class), n.Data); err != nil {
			t.Errorf("%s: %v\n%s", n.Path, err, n.Data)
		}
		read[n.Path], _ = texttest.Read(string(n.Class), n.Data)
	}
	ids := func(values texttest.Values, name string) (ids []string) {
		for _, value := range values[name] {
			ids = append(ids, texttest.Values{"id": {value}}.UUID("id"))
		}
		return ids
	}
	references := 0
	for _, row := range []struct {
		left  model.Class
		field string
		right model.Class
		back  string
	}{ // section 1.4 of MidoNet's bindings, limited to the references that Nodes writes
		{model.Port, "host_id", model.Host, "port_ids"},
		{model.Port, "service_container_id", model.ServiceContainer, "port_id"},
		{model.ServiceContainer, "service_group_id", model.ServiceContainerGroup, "service_container_ids"},
		{model.ServiceContainerGroup, "host_group_id", model.HostGroup, "service_group_ids"},
		{model.Router, "port_ids", model.Port, "router_id"},
		{model.VpnService, "router_id", model.Router, "vpn_service_ids"},
		{model.VpnService, "ipsec_site_connection_ids", model.IPSecSiteConnection, "vpnservice_id"},
		{model.Host, "host_group_ids", model.HostGroup, "host_ids"},
	} {
		for _, way := range []struct {
			from  model.Class
			field string
			to    model.Class
			back  string
		}{{row.left, row.field, row.right, row.back}, {row.right, row.back, row.left, row.field}} {
			for path, values := range read {
				id, ok := strings.CutPrefix(path, midonet.Objects(way.from)+"/")
				if !ok {
					continue
				}
				for _, to := range ids(values, way.field) {
					references++
					if !slices.Contains(ids(read[midonet.Object(way.to, model.UUID(to))], way.back), id) {
						t.Errorf("%s names %s %s by %s, which does not name it by %s", path, way.to, to, way.field,
							way.back)
					}
				}
			}
		}
	}
	if references != 2*(3+2+2+1+2+1+1+2) {
		t.Errorf("%d references", references)
	}
}

func TestExportReturnsObjectsOfNodes(t *testing.T) {
	all := objects()
	exported, faults := model.Export(midonet, snapshotOf(t, all))
	if len(faults) > 0 {
		t.Fatal(faults)
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

// nativeReader passes native objects to native.Assemble, whose result the tests compare with that of model.Assemble.
type nativeReader map[string]json.RawMessage

func (r nativeReader) Get(_ context.Context, key native.Key) (*native.Document, error) {
	value, ok := r[string(key)]
	if !ok {
		return nil, native.ErrAbsent
	}
	return native.Parse(value, native.JSON)
}

func (r nativeReader) Bindings(_ context.Context, host spec.HostID) (ports []string, err error) {
	for key := range r {
		if port, ok := strings.CutPrefix(key, string(native.BindingsKey(host))+"/"); ok {
			ports = append(ports, port)
		}
	}
	return ports, nil
}

func nativeOf(objects []spec.Object) nativeReader {
	r := nativeReader{}
	for _, object := range objects {
		r[object.Key] = object.Value
	}
	return r
}

// canonical encodes a desired state as JSON with sorted keys in the configurations, so that two of them can be
// compared.
func canonical(t testing.TB, desired spec.Desired) string {
	t.Helper()
	desired.Bindings = slices.Clone(desired.Bindings)
	for i := range desired.Bindings {
		b := &desired.Bindings[i]
		if b.Configuration == nil {
			continue
		}
		var value any
		decoder := json.NewDecoder(bytes.NewReader(b.Configuration))
		decoder.UseNumber()
		if err := decoder.Decode(&value); err != nil {
			t.Fatal(err)
		}
		b.Configuration = marshal(t, value)
	}
	return string(marshal(t, desired))
}

func marshal(t testing.TB, value any) json.RawMessage {
	t.Helper()
	data, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// A member that is missing has the default of svc-ipsec, not that of MidoNet.
func TestNodesHaveDefaultsOfExecutable(t *testing.T) {
	exported, faults := model.Export(midonet, snapshotOf(t, []spec.Object{{
		Key: "configurations/" + string(routerID),
		Value: json.RawMessage(`{"externalIps":["100.100.100.2"],"externalMac":"ca:08:1a:94:29:0e","connections":[
			{"id":"f0000000-0000-4000-8000-000000000001","peerAddress":"200.200.200.2","psk":"x",
			"localCidrs":["10.1.0.0/24"],"peerCidrs":["10.2.0.0/24"],
			"ikePolicy":{"authAlgorithm":"sha1"},"ipsecPolicy":{"authAlgorithm":"sha1"}}]}`),
	}}))
	if len(faults) > 0 || len(exported) != 1 {
		t.Fatal(faults, exported)
	}
	for _, want := range []string{
		`"adminStateUp":true`, `"mtu":1500`, `"initiator":"bi-directional"`,
		`"dpd":{"action":"hold","interval":30,"timeout":120}`,
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

func TestNodesRefuseWhatMidoNetCannotRepresent(t *testing.T) {
	for _, row := range []struct{ old, with string }{
		{`"authAlgorithm": "sha1", "pfs": "group5"`, `"authAlgorithm": "sha256", "pfs": "group5"`},
		{`"authAlgorithm": "sha1", "pfs": "group5"`, `"pfs": "group5"`},
		{`"pfs": "group5"`, `"pfs": "group19"`},
		{`"id": "f0000000-0000-4000-8000-000000000001"`, `"id": "office"`},
		{`"localId": "100.100.100.2"`, `"localId": "me"`},
		{`"mtu": 1400`, `"mtu": 5000000000`},
		{`"mtu": 1400`, `"bgp": 1400`},
		{`"externalIps":["100.100.100.2"]`, `"externalIps":["100.100.100.2","fd::1"]`},
		{`"mac"`, `"bridge":"br0","mac"`},
		{`{"log-level":"warn"`, `{"log-level.containers.haproxy":"warn"`},
	} {
		all, found := objects(), false
		for i := range all {
			value := bytes.Replace(all[i].Value, []byte(row.old), []byte(row.with), 1)
			found = found || !bytes.Equal(value, all[i].Value)
			all[i].Value = value
		}
		if nodes, err := Nodes(midonet, all); err == nil || nodes != nil || !found {
			t.Errorf("%s: %d nodes, error %v", row.with, len(nodes), err)
		}
	}
	if _, err := Nodes(midonet, []spec.Object{{Key: "hosts/host-1", Value: []byte(`{}`)}}); err == nil {
		t.Error("an id that is not a UUID is accepted")
	}
}
