package model

import (
	"fmt"
	"strings"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/text/texttest"
)

func TestStatusesHaveFormatOfAgent(t *testing.T) {
	if got := string(
		PrintHostStatus(spec.HostStatus{Weight: 1, Quota: -1})); got != "weight: 1\nquota: -1\ncount: 0\n" {
		t.Errorf("%q", got)
	}
	id := "host_id {\n  msb: 3057556073290091537\n  lsb: 11474610151586498987\n}\n"
	status := spec.ContainerStatus{HostID: spec.HostID(hostID), InterfaceName: "vpn-60df5fda"}
	for _, row := range []struct {
		code               spec.StatusCode
		message, namespace string
		want               string
	}{
		{spec.Running, "it's \"é\"\n", "vpn-60df5fda",
			"status_code: RUNNING\nstatus_message: \"it\\'s \\\"\\303\\251\\\"\\n\"\n" + id +
				"namespace_name: \"vpn-60df5fda\"\ninterface_name: \"vpn-60df5fda\"\n"},
		{spec.Running, "", "",
			"status_code: RUNNING\nstatus_message: \"\"\n" + id +
				"namespace_name: \"\"\ninterface_name: \"vpn-60df5fda\"\n"},
		{
			spec.Starting, "", "",
			"status_code: STARTING\nstatus_message: \"\"\n" + id + "interface_name: \"vpn-60df5fda\"\n",
		},
		{
			spec.Stopping, "", "",
			"status_code: STOPPING\nstatus_message: \"\"\n" + id + "interface_name: \"vpn-60df5fda\"\n",
		},
		{spec.Failed, spec.LimitExceeded, "",
			"status_code: ERROR\nstatus_message: \"LIMIT_EXCEEDED\"\n" + id + "interface_name: \"vpn-60df5fda\"\n"},
		{spec.Running, "\xff\u0085", "n",
			"status_code: RUNNING\nstatus_message: \"?\\302\\205\"\n" + id +
				"namespace_name: \"n\"\ninterface_name: \"vpn-60df5fda\"\n"},
	} {
		status.Code, status.Message, status.NamespaceName = row.code, row.message, row.namespace
		data, err := PrintContainerStatus(status)
		if err != nil || string(data) != row.want {
			t.Errorf("%v: got %q\nwant %q", err, data, row.want)
		}
		if err := texttest.Check("ContainerStatus", data); err != nil {
			t.Error(err)
		}
		again, err := ReadContainerStatus(data)
		status.Message = strings.ToValidUTF8(status.Message, "?")
		if err != nil || again.Code != status.Code || again.Message != status.Message ||
			again.HostID != status.HostID ||
			again.NamespaceName != status.NamespaceName || again.InterfaceName != status.InterfaceName {
			t.Errorf("%v: %+v", err, again)
		}
	}
	data := PrintHostStatus(spec.HostStatus{Weight: 3, Quota: 0, Count: 20})
	if err := texttest.Check("ContainerServiceStatus", data); err != nil {
		t.Error(err)
	}
	got, err := ReadHostStatus([]byte("quota: 4"))
	if want := (spec.HostStatus{Weight: 1, Quota: 4}); err != nil || got != want {
		t.Errorf("%v %+v", err, got)
	}
	status.HostID = "host-1"
	if _, err := PrintContainerStatus(status); !isFault(err) {
		t.Error(err)
	}
	status.HostID, status.Code = spec.HostID(hostID), "PAUSED"
	if _, err := PrintContainerStatus(status); !isFault(err) {
		t.Error(err)
	}
}

// The data of a node is limited to one megabyte, and one byte of a message can need four bytes in text format.
func TestLongMessageFitsIntoNode(t *testing.T) {
	data, err := PrintContainerStatus(spec.ContainerStatus{
		Code: spec.Running, HostID: spec.HostID(hostID), Message: "x" + strings.Repeat("é", 1<<20),
	})
	if err != nil || len(data) > 1<<19 {
		t.Fatal(err, len(data))
	}
	values, err := texttest.Read("ContainerStatus", data)
	if message := values.Text("status_message"); err != nil || message != "x"+strings.Repeat("é", (64<<10-1)/2) {
		t.Error(err, len(message))
	}
}

func TestStatusMessageListsConnections(t *testing.T) {
	message := func(status spec.ContainerStatus) string {
		t.Helper()
		status.Code, status.HostID = spec.Running, spec.HostID(hostID)
		data, err := PrintContainerStatus(status)
		if err != nil {
			t.Fatal(err)
		}
		values, err := texttest.Read("ContainerStatus", data)
		if err != nil {
			t.Fatal(err)
		}
		return values.Text("status_message")
	}
	connections := []spec.Connection{
		{ID: "c1", Name: "to-paris", Peer: "203.0.113.9", Status: spec.Active},
		{ID: "c2", Status: spec.Down, Reason: "the peer refuses the\npre-shared key"},
		{ID: "c3", Name: "to-rome", Peer: "203.0.113.10", Status: spec.Down},
	}
	list := "connection c2: DOWN: the peer refuses the pre-shared key\nconnection to-rome (203.0.113.10): DOWN\n" +
		"connection to-paris (203.0.113.9): ACTIVE"
	if got := message(spec.ContainerStatus{Connections: connections}); got != list {
		t.Errorf("got  %q\nwant %q", got, list)
	}
	got := message(spec.ContainerStatus{Message: "no connection can run: see their reasons", Connections: connections})
	if want := "no connection can run: see their reasons\n" + list; got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	many := make([]spec.Connection, 1000)
	for i := range many {
		many[i] = spec.Connection{ID: "c", Status: spec.Active, Reason: strings.Repeat("é", 100)}
	}
	many[999] = spec.Connection{ID: "the last one", Status: spec.Down}
	lines := strings.Split(message(spec.ContainerStatus{Connections: many}), "\n")
	count := fmt.Sprintf("and %d more connections", len(many)-(len(lines)-1))
	if lines[0] != "connection the last one: DOWN" || lines[len(lines)-1] != count {
		t.Errorf("%q … %q of %d lines", lines[0], lines[len(lines)-1], len(lines))
	}
	got = message(spec.ContainerStatus{Message: strings.Repeat("é", 64<<10), Connections: connections})
	if len(got) > 64<<10+64 || !strings.HasSuffix(got, "\nand 3 more connections") {
		t.Errorf("%d bytes that end in %q", len(got), got[len(got)-40:])
	}
}

func TestPathsOfTree(t *testing.T) {
	host, state := string(hostID), "/midonet/zoom/0/state/"+string(hostID)
	for path, want := range map[string]string{
		midonet.Object(Host, hostID): "/midonet/zoom/0/models/Host/" + host,
		midonet.HostState(hostID):    state + "/Host/" + host + "/container",
		midonet.HostAlive(hostID):    state + "/Host/" + host + "/alive",
		midonet.ContainerState(hostID, containerID): state + "/ServiceContainer/" + string(containerID) +
			"/status",
		midonet.Mutex():                                                "/midonet/zoom/0/locks/zoom-topology",
		midonet.TemplateSettings("default"):                            "/midonet/config/templates/default",
		midonet.HostSettings(hostID):                                   "/midonet/config/nodes/" + host,
		midonet.TemplateMappings():                                     "/midonet/config/template-mappings",
		must(midonet.Settings(spec.SettingDefault)):                    "/midonet/config/templates/default",
		must(midonet.Settings("2a6e9f0c-8d4b-4c11-9f3e-0123456789ab")): "/midonet/config/nodes/" + host,
	} {
		if path != want {
			t.Errorf("got %s, want %s", path, want)
		}
	}
	if _, err := midonet.Settings("local"); !isFault(err) {
		t.Error(err)
	}
	for root, want := range map[string]string{
		"": "/midonet", "/midonet/": "/midonet", "/midonet/v1": "/midonet", "/a/b-1.c": "/a/b-1.c",
	} {
		if tree, err := ParseRoot(root); err != nil || tree.Root() != want {
			t.Errorf("%q: %q %v", root, tree.Root(), err)
		}
	}
	for _, root := range []string{"midonet", "/a//b", "/..", "/a/../b", "/a b", "/a\x00", "/é", "/."} {
		if _, err := ParseRoot(root); !isFault(err) {
			t.Errorf("%q: %v", root, err)
		}
	}
	for _, id := range []string{
		"", "host-1", "2A6E9F0C-8D4B-4C11-9F3E-0123456789AB", "2a6e9f0c-8d4b-4c11-9f3e-0123456789ab/..",
		"2a6e9f0c8d4b4c119f3e0123456789ab", "2a6e9f0c-8d4b-4c11-9f3e-0123456789ab\n",
	} {
		if _, err := ParseUUID("id", id); !isFault(err) {
			t.Errorf("%q: %v", id, err)
		}
	}
}

func must(path string, err error) string {
	if err != nil {
		panic(err)
	}
	return path
}
