// Minimal is the service executable svc-bench. Its containers consist of a veth pair and a unit that runs sleep. The
// difference between the cost of such a container and the floor (see bench/floor) is the cost of the supervisor, of one
// process for each verb, and of the contract.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	cniversion "github.com/containernetworking/cni/pkg/version"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

const version = `{"cniVersion":"1.1.0","supportedVersions":["1.1.0"],"contractVersion":1,` +
	`"serviceType":"BENCH","serviceVersion":"1.0.0"}`

// started is the file to which the start of each verb is appended, if the file exists: the time in ns, the verb, and
// the container id.
const started = "/run/svc-bench.started"

func main() {
	if f, err := os.OpenFile(started, os.O_WRONLY|os.O_APPEND, 0); err == nil {
		fmt.Fprintln(f, time.Now().UnixNano(), os.Getenv("CNI_COMMAND"), os.Getenv("CNI_CONTAINERID"))
		_ = f.Close()
	}
	if os.Getenv("CNI_COMMAND") == "VERSION" { // the answer of package skel does not have the keys of the contract
		fmt.Println(version)
		return
	}
	err := skel.PluginMainFuncsWithError(skel.CNIFuncs{
		Add: add, Del: remove, Check: check,
		GC:     func(*skel.CmdArgs) error { return nil },
		Status: func(*skel.CmdArgs) error { return nil },
	}, cniversion.All, "CNI svc-bench plugin v1.0.0")
	if err != nil {
		_ = json.NewEncoder(os.Stdout).Encode(spec.Error{
			CNIVersion: spec.CNIVersion, Code: spec.Code(err.Code), Msg: err.Msg,
		})
		os.Exit(1)
	}
}

// ownerOf returns the owner tag of the container that a verb is called for.
func ownerOf(args *skel.CmdArgs) (spec.Owner, error) {
	var conf struct {
		Name      string
		Container struct{ InterfaceName spec.Name }
	}
	if err := json.Unmarshal(args.StdinData, &conf); err != nil {
		return spec.Owner{}, types.NewError(types.ErrDecodingFailure, err.Error(), "")
	}
	return spec.Owner{
		Network: conf.Name, Name: conf.Container.InterfaceName, ContainerID: spec.ContainerID(args.ContainerID),
	}, nil
}

func add(args *skel.CmdArgs) error {
	owner, err := ownerOf(args)
	if err != nil {
		return err
	}
	if err := makeLink(owner, args.Netns, args.IfName); err != nil {
		return err
	}
	bus := unit.Open()
	defer bus.Close()
	err = bus.Start(context.Background(), unit.Transient{
		Name: owner.Name.Unit(), Owner: owner, Slice: spec.ServiceType("BENCH").Slice(), Type: unit.Exec,
		ExecStart: unit.Command{"/usr/bin/nsenter", "--net=" + args.Netns, "--", "/bin/sleep", "infinity"},
	})
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"cniVersion": spec.CNIVersion, "units": []string{owner.Name.Unit()},
		"interfaces": []map[string]string{{"name": args.IfName, "sandbox": args.Netns}},
	})
}

func makeLink(owner spec.Owner, path, inside string) error {
	namespace, err := netns.GetFromPath(path)
	if err != nil {
		return err
	}
	defer namespace.Close()
	veth := &netlink.Veth{
		LinkAttrs: netlink.NewLinkAttrs(), PeerName: inside, PeerNamespace: netlink.NsFd(int(namespace)),
	}
	veth.Name = string(owner.Name)
	if err := netlink.LinkAdd(veth); err != nil {
		return err
	}
	return errors.Join(netlink.LinkSetAlias(veth, owner.String()), netlink.LinkSetUp(veth))
}

func remove(args *skel.CmdArgs) error {
	owner, err := ownerOf(args)
	if err != nil {
		return err
	}
	bus := unit.Open()
	defer bus.Close()
	if err := bus.Stop(context.Background(), owner.Name.Unit()); err != nil {
		return err
	}
	link, err := netlink.LinkByName(string(owner.Name))
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err != nil {
		return err
	}
	return netlink.LinkDel(link)
}

func check(args *skel.CmdArgs) error {
	owner, err := ownerOf(args)
	if err != nil {
		return err
	}
	bus := unit.Open()
	defer bus.Close()
	details, err := bus.Show(context.Background(), owner.Name.Unit())
	if err == nil && !details.Running() {
		err = fmt.Errorf("unit %s does not run: %s", owner.Name.Unit(), details.State())
	}
	return err
}
