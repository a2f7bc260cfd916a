package verb

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/cni"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/network"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/state"
)

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
	s := &state.State{Attachment: state.Attachment{Network: "n", ContainerID: "c", Bridge: "br-a"}}
	dir := &state.Directory{Path: t.TempDir()}
	recorded := &record{dir: dir, state: s, before: &s.Attachment}
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
		request, err := cni.Decode(cniArgs(fullConf))
		if err != nil {
			t.Fatal(err)
		}
		request.Port.Bridge = step.to.Bridge
		change := &change{request: request, record: recorded, daemon: new(daemonChange),
			network: &networkChange{record: recorded, old: a, plan: step.to}}
		if err := change.markIncomplete(); err != nil {
			t.Fatal(err)
		}
		if step.bridges == nil {
			if s.Incomplete != nil || recorded.marked {
				t.Errorf("%s: %+v", step.name, s.Incomplete)
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
		if guarded := change.network.bothGuards().Peers; len(guarded) != len(step.peers) {
			t.Errorf("%s: guarded networks: %v", step.name, guarded)
		}
	}
}
