package verb

import (
	"cmp"
	"errors"
	"io/fs"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/broken"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/cni"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/network"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/state"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// checkNetwork compares the network with the plan. path is the one that the runtime passed. The result is a request
// for ADD if a guard, a neighbour entry or a sysctl has to be set again.
func checkNetwork(r *cni.Request, plan *network.Plan, recorded *state.State, path string) (*spec.Again, error) {
	a := &recorded.Attachment
	if err := checkNamespace(a, path); err != nil {
		return nil, err
	}
	namespace, err := network.Open(a.Namespace)
	if err != nil {
		return nil, err
	}
	defer namespace.Close()
	if err := namespace.Verify(plan); err != nil {
		return nil, err
	}
	wrong, err := namespace.Sysctls().Wrong(plan)
	if err != nil {
		return nil, err
	}
	guard, err := checkGuard(namespace, plan.Guard, recorded)
	if err != nil {
		return nil, err
	}
	if r.Chained {
		return cmp.Or(guard, againFor(wrong)), nil
	}
	wrongHost, err := checkHostLink(r.Owner, plan.Bridge)
	if err != nil {
		return nil, err
	}
	wrongNeighbour, err := namespace.WrongNeighbour(plan)
	if err != nil {
		return nil, err
	}
	return cmp.Or(againFor(wrongHost), guard, againFor(wrongNeighbour), againFor(wrong)), nil
}

// againFor returns the request for the ADD that corrects a setting, or nil if none is wrong.
func againFor(wrong string) *spec.Again {
	if wrong == "" {
		return nil
	}
	return &spec.Again{Reason: wrong}
}

// checkNamespace returns an error if the recorded path or the path that the runtime passed is not the container's
// namespace.
func checkNamespace(a *state.Attachment, path string) error {
	for _, p := range []string{a.Namespace, path} {
		inode, err := state.Inode(p)
		if errors.Is(err, fs.ErrNotExist) {
			return broken.Errorf("%s is gone", p)
		}
		if errors.Is(err, state.ErrNoNamespace) {
			return broken.Errorf("no namespace is mounted on %s", p)
		}
		if err != nil {
			return err
		}
		if inode != a.Inode {
			return broken.Errorf("%s is another namespace than the container's", p)
		}
	}
	return nil
}

// checkGuard compares the guard with the wanted one. The result is a request for the ADD that sets it again, or nil.
func checkGuard(namespace *network.Namespace, wanted network.Guard, recorded *state.State) (*spec.Again, error) {
	kind := recorded.Attachment.Guard
	found, err := namespace.Guard().Check(kind, wanted, recorded.GuardDigest)
	if err != nil {
		return nil, err
	}
	switch {
	case kind == network.GuardTable && found == network.GuardMissing:
		return nil, broken.Errorf("the guard against packets in clear is gone")
	case kind == network.GuardPolicies && found != network.GuardComplete:
		// Libreswan 5 flushes policies of this kind whenever systemd restarts it. The tunnels work, so this is no
		// reason to remove the container.
		return &spec.Again{Reason: "the guard's policies are gone"}, nil
	case kind == network.GuardTable && found == network.GuardChanged:
		return &spec.Again{Reason: "the guard against packets in clear was changed"}, nil
	case recorded.GuardRules != string(wanted.Rules()): // set by an earlier version, or by an ADD that failed
		return &spec.Again{Reason: "the guard against packets in clear is not the one of this configuration"}, nil
	}
	return nil, nil
}

// checkHostLink checks the host's end of the veth. wrong is a setting that ADD corrects in place, "" if none.
func checkHostLink(owner spec.Owner, bridgeName string) (wrong string, err error) {
	host, err := network.FindHostLink(owner)
	switch {
	case err != nil:
		return "", err
	case host == nil:
		return "", broken.Errorf("interface %s is gone", owner.Name)
	case !host.Up:
		return "", broken.Errorf("interface %s is down", owner.Name)
	}
	if wrong, err = network.WrongHostSetting(owner); err != nil || bridgeName == "" {
		return wrong, err
	}
	// The same lookup as in ADD, because the name may be an alternative name.
	bridge, err := network.FindBridge(bridgeName)
	if errors.Is(err, network.ErrNoBridge) {
		return "", broken.Errorf("bridge %s is gone", bridgeName)
	}
	if err != nil {
		return "", err
	}
	if host.Master != bridge.Attrs().Index {
		return "", broken.Errorf("interface %s is not in bridge %s", owner.Name, bridgeName)
	}
	return wrong, nil
}
