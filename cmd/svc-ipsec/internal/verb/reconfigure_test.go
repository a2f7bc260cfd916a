package verb

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/libreswan"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/network"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/state"
)

func TestCompareConns(t *testing.T) {
	specs := func(names ...string) (specs []libreswan.Spec) {
		for _, name := range names {
			specs = append(specs, libreswan.Spec{Name: name, Text: []byte("conn " + name)})
		}
		return specs
	}
	for _, test := range []struct {
		name                      string
		wanted                    []libreswan.Spec
		files                     map[string]string
		loaded                    map[string]libreswan.Conn
		gone, retired, load, same []string
	}{
		{"an unchanged conn is kept", specs("a"), map[string]string{"a": "conn a"},
			map[string]libreswan.Conn{"a": {}},
			nil, nil, nil, []string{"a"}},
		{"an unwanted conn is deleted", nil, map[string]string{"a": "conn a"}, map[string]libreswan.Conn{"a": {}},
			[]string{"a"}, []string{"a"}, nil, nil},
		{"a changed conn is replaced", specs("a"), map[string]string{"a": "conn a, former"},
			map[string]libreswan.Conn{"a": {}},
			[]string{"a"}, []string{"a"}, []string{"a"}, nil},
		{"an unoriented conn is replaced", specs("a"), map[string]string{"a": "conn a"},
			map[string]libreswan.Conn{"a": {Unoriented: true}},
			[]string{"a"}, []string{"a"}, []string{"a"}, nil},
		{"a conn that an earlier ADD loaded and did not record is deleted", specs("a"), map[string]string{"a": "conn a"},
			map[string]libreswan.Conn{"a": {}, "b": {}},
			nil, []string{"b"}, nil, []string{"a"}},
		{"a conn that an earlier ADD deleted and did not load again is loaded", specs("a"), nil, map[string]libreswan.Conn{},
			nil, nil, []string{"a"}, nil},
		{"the file of an earlier version is kept while a tunnel to the peer is up",
			[]libreswan.Spec{{Name: "b", Text: []byte("conn b"), Former: []byte("conn b, former")}},
			map[string]string{"b": "conn b, former"}, map[string]libreswan.Conn{"b": {}}, nil, nil, nil, []string{"b"}},
		{"the file of an earlier version is replaced if no tunnel to the peer is up",
			[]libreswan.Spec{{Name: "a", Text: []byte("conn a"), Former: []byte("conn a, former")}},
			map[string]string{"a": "conn a, former"}, map[string]libreswan.Conn{"a": {}}, []string{"a"}, []string{"a"},
			[]string{"a"}, nil},
		{"a conn that the daemon has lost is loaded again", specs("a"), map[string]string{"a": "conn a"},
			map[string]libreswan.Conn{},
			[]string{"a"}, nil, []string{"a"}, nil},
	} {
		files := map[string][]byte{}
		for name, text := range test.files {
			files[name] = []byte(text)
		}
		names := func(specs []libreswan.Spec) (names []string) {
			for _, s := range specs {
				names = append(names, s.Name)
			}
			return names
		}
		got := compareConns(test.wanted, files, test.loaded, map[string]bool{"b": true})
		if !slices.Equal(got.files, test.gone) || !slices.Equal(got.retire, test.retired) ||
			!slices.Equal(names(got.load), test.load) ||
			!slices.Equal(names(got.same), test.same) || got.stop || got.start {
			t.Errorf("%s: %+v", test.name, got)
		}
		if len(files) != len(test.files) {
			t.Errorf("%s: the caller's map was changed", test.name)
		}
	}
}

// Several reconfigures are killed, one after the other.
func TestIncompleteReconfiguresAccumulate(t *testing.T) {
	prefix := netip.MustParsePrefix
	plan := func(bridge string, networks ...string) *network.Plan {
		p := &network.Plan{Interface: "svc0", Bridge: bridge}
		for _, text := range networks {
			p.Routes = append(p.Routes, network.Route{Destination: prefix(text)})
			p.Guard.Peers = append(p.Guard.Peers, prefix(text))
		}
		return p
	}
	a, b, c := plan("br-a", "10.1.0.0/24", "10.2.0.0/24"), plan("", "10.1.0.0/24", "10.3.0.0/24"),
		plan("br-c", "10.1.0.0/24", "10.2.0.0/24")
	recorded := &state.State{Attachment: state.Attachment{Network: "n", ContainerID: "c", Bridge: "br-a"}}
	dir := &state.Directory{Path: t.TempDir()}
	for _, step := range []struct {
		name     string
		to       *network.Plan
		bridges  []string
		networks []string // networks that all configurations have
		peers    []string // networks of the peers of all configurations
	}{
		{"nothing changes", a, nil, nil, nil},
		{"the network changes", b, []string{"br-a"}, []string{"10.1.0.0/24"},
			[]string{"10.1.0.0/24", "10.2.0.0/24", "10.3.0.0/24"}},
		{"the network changes again", c, []string{"br-a", "br-c"}, []string{"10.1.0.0/24"},
			[]string{"10.1.0.0/24", "10.2.0.0/24", "10.3.0.0/24"}},
		{"the network changes back", a, []string{"br-a", "br-c"}, []string{"10.1.0.0/24"},
			[]string{"10.1.0.0/24", "10.2.0.0/24", "10.3.0.0/24"}},
	} {
		request, err := decode(cniArgs(fullConf))
		if err != nil {
			t.Fatal(err)
		}
		request.port.Bridge = step.to.Bridge
		change := &change{request: request, dir: dir, recorded: recorded, before: &recorded.Attachment, old: a, plan: step.to}
		if err := change.markIncomplete(); err != nil {
			t.Fatal(err)
		}
		if step.bridges == nil {
			if recorded.Incomplete != nil || change.marked {
				t.Errorf("%s: %+v", step.name, recorded.Incomplete)
			}
			continue
		}
		read, err := dir.Load()
		if err != nil {
			t.Fatal(err)
		}
		var networks, peers []string
		for _, route := range read.Incomplete.Network.Routes {
			networks = append(networks, route.Destination.String())
		}
		for _, peer := range read.Incomplete.Peers {
			peers = append(peers, peer.String())
		}
		if !slices.Equal(networks, step.networks) || !slices.Equal(peers, step.peers) ||
			!slices.Equal(read.Incomplete.Bridges, step.bridges) ||
			read.Incomplete.Network.Bridge != "" {
			t.Errorf("%s: %+v", step.name, read.Incomplete)
		}
		if guarded := change.bothGuards().Peers; len(guarded) != len(step.peers) {
			t.Errorf("%s: guarded networks: %v", step.name, guarded)
		}
	}
}
