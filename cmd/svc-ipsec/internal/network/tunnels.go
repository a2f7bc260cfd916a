package network

import (
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
)

// Tunnel has the kernel's counters for a pair of networks.
type Tunnel struct {
	Since   time.Time // when the oldest of its SAs was added
	In, Out uint64    // bytes
}

func tunnels(policies []policy, states []netlink.XfrmState) map[config.Networks]Tunnel {
	found := map[config.Networks]Tunnel{}
	for _, p := range policies {
		if p.direction != netlink.XFRM_DIR_OUT || p.action != netlink.XFRM_POLICY_ALLOW || len(p.templates) == 0 {
			continue
		}
		local, peer, id := p.templates[0].source, p.templates[0].destination, p.templates[0].reqid
		out, outSince := sumSAs(states, local, peer, id)
		in, inSince := sumSAs(states, peer, local, id)
		if outSince.IsZero() || inSince.IsZero() {
			continue
		}
		if inSince.Before(outSince) {
			outSince = inSince
		}
		found[config.Networks{Local: p.source, Peer: p.destination}] = Tunnel{Since: outSince, In: in, Out: out}
	}
	return found
}

// sumSAs adds up the bytes of the SAs of one direction. The time is that of the oldest SA, zero if there is none.
func sumSAs(states []netlink.XfrmState, source, destination netip.Addr, id int) (bytes uint64, since time.Time) {
	for _, s := range states {
		if s.Reqid != id || address(s.Src) != source || address(s.Dst) != destination {
			continue
		}
		bytes += s.Statistics.Bytes
		if added := time.Unix(int64(s.Statistics.AddTime), 0); since.IsZero() || added.Before(since) {
			since = added
		}
	}
	return bytes, since
}
