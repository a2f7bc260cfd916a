package verb

import (
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/skel"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/cni"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/endpoint"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/network"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/state"
)

// record is what state.json has about a container that a verb changes.
type record struct {
	dir    *state.Directory
	state  *state.State      // the content of state.json; later steps change it and save it again
	before *state.Attachment // the attachment when the verb began, nil if the container is new
	marked bool              // state.json says that the reconfigure is incomplete
}

// loadRecord reads the state.json of a container, if it has one.
func loadRecord(dir *state.Directory) (*record, error) {
	recorded, err := dir.Load()
	if err != nil {
		return nil, err
	}
	if recorded == nil {
		return &record{dir: dir, state: new(state.State)}, nil
	}
	return &record{dir: dir, state: recorded, before: &recorded.Attachment}, nil
}

func (r *record) isNew() bool { return r.before == nil }

func (r *record) save() error { return r.dir.Save(r.state) }

// replace saves another state in the place of the recorded one.
func (r *record) replace(s *state.State) error {
	if err := r.dir.Save(s); err != nil {
		return err
	}
	r.state = s
	return nil
}

// markIncomplete records that a reconfigure from one network to another is incomplete, and what it does not change.
// What an earlier reconfigure that is still incomplete has changed remains excluded. daemonStays means that the daemon
// runs before, during and after the reconfigure. old is nil if the network of the last successful ADD is unknown.
func (r *record) markIncomplete(old, plan *network.Plan, bridge string, daemonStays bool) error {
	now := state.Incomplete{
		Network: network.Plan{Interface: plan.Interface, Chained: plan.Chained},
		Bridges: []string{r.before.Bridge, bridge},
		Peers:   slices.Clone(plan.Guard.Peers),
		Daemon:  daemonStays,
	}
	if old != nil {
		now.Network, now.Peers = *old.Common(plan), append(now.Peers, old.Guard.Peers...)
	}
	if earlier := r.state.Incomplete; earlier != nil {
		now.Network = *earlier.Network.Common(plan)
		now.Bridges, now.Peers = append(now.Bridges, earlier.Bridges...), append(now.Peers, earlier.Peers...)
		now.Daemon = now.Daemon && earlier.Daemon
	}
	slices.Sort(now.Bridges)
	now.Bridges = slices.DeleteFunc(slices.Compact(now.Bridges), func(name string) bool { return name == "" })
	slices.SortFunc(now.Peers, netip.Prefix.Compare)
	now.Peers = slices.Compact(now.Peers)
	r.state.Incomplete, r.marked = &now, true
	return r.save()
}

// bridges returns the bridges of which the host's end of the veth may be a port.
func (r *record) bridges() []string {
	switch {
	case r.state.Incomplete != nil:
		return r.state.Incomplete.Bridges
	case r.before != nil && r.before.Bridge != "":
		return []string{r.before.Bridge}
	}
	return nil
}

// lastRequest returns the request of the last successful ADD.
func (r *record) lastRequest() (*cni.Request, error) {
	return cni.Decode(&skel.CmdArgs{
		ContainerID: string(r.before.ContainerID), IfName: r.before.Interface, StdinData: r.state.Configuration,
	})
}

// resolve resolves the request of the last successful ADD with the key files, certificates and addresses that that ADD
// had found, and returns the network that it configured.
func (r *record) resolve(last *cni.Request, loaded map[string][]byte) (*network.Plan, error) {
	last.Configuration.Found = r.state.Found.Config()
	last.Configuration.Resolve(prepareResolve(last, loaded, r.state.Chosen))
	return last.Plan()
}

// lastPlan returns the network that the last successful ADD configured, or nil if it is unknown.
func (r *record) lastPlan(loaded map[string][]byte) *network.Plan {
	if r.isNew() {
		return nil
	}
	last, err := r.lastRequest()
	if err != nil {
		return nil
	}
	plan, err := r.resolve(last, loaded)
	if err != nil {
		return nil
	}
	return plan
}

// prepareResolve prepares the configuration of an earlier ADD for Resolve, and returns the comparison that Resolve
// needs. Faults that only this release refuses are accepted in connections that already run.
func prepareResolve(r *cni.Request, loaded map[string][]byte,
	chosen map[string]string,
) func(*config.Connection) config.Standing {
	compareLastADD := endpoint.CompareLastADD(loaded, chosen)
	r.Configuration.Loaded, r.Configuration.InternalAddresses = endpoint.Networks(loaded), r.InternalAddresses()
	r.Configuration.Accepted = func(c *config.Connection) bool { return compareLastADD(c) != config.New }
	return compareLastADD
}
