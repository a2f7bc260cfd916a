package network

import (
	"net"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
)

func TestTunnels(t *testing.T) {
	localAddr, peerAddr := net.ParseIP("100.100.100.2"), net.ParseIP("200.200.200.2")
	localNet, peerNet := netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("10.2.0.0/24")
	tunnel := policy{selector: selector{localNet, peerNet}, direction: netlink.XFRM_DIR_OUT,
		action:    netlink.XFRM_POLICY_ALLOW,
		templates: []template{{address(localAddr), address(peerAddr), 16389}}}
	state := func(source, destination net.IP, id int, bytes, added uint64) netlink.XfrmState {
		return netlink.XfrmState{Src: source, Dst: destination, Reqid: id,
			Statistics: netlink.XfrmStateStats{Bytes: bytes, AddTime: added}}
	}
	out, in := state(localAddr, peerAddr, 16389, 84, 1000), state(peerAddr, localAddr, 16389, 168, 990)
	blocked := tunnel
	blocked.action = netlink.XFRM_POLICY_BLOCK
	for _, test := range []struct {
		name     string
		policies []policy
		states   []netlink.XfrmState
		want     map[config.Networks]Tunnel
	}{
		{"a policy with SAs in both directions is a tunnel", []policy{tunnel}, []netlink.XfrmState{out, in},
			map[config.Networks]Tunnel{{Local: localNet, Peer: peerNet}: {Since: time.Unix(990, 0), In: 168, Out: 84}}},
		{"the bytes of SAs that replace others are added", []policy{tunnel},
			[]netlink.XfrmState{out, in, state(localAddr, peerAddr, 16389, 16, 2000)},
			map[config.Networks]Tunnel{
				{Local: localNet, Peer: peerNet}: {Since: time.Unix(990, 0), In: 168, Out: 100},
			}},
		{"SAs in one direction are no tunnel", []policy{tunnel}, []netlink.XfrmState{out},
			map[config.Networks]Tunnel{}},
		{"SAs of another policy do not count", []policy{tunnel},
			[]netlink.XfrmState{state(localAddr, peerAddr, 7, 1, 1), in}, map[config.Networks]Tunnel{}},
		{"a block policy is no tunnel", []policy{blocked}, []netlink.XfrmState{out, in}, map[config.Networks]Tunnel{}},
		{"SAs without a policy are no tunnel", nil, []netlink.XfrmState{out, in}, map[config.Networks]Tunnel{}},
	} {
		if got := tunnels(test.policies, test.states); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: got %v", test.name, got)
		}
	}
}
