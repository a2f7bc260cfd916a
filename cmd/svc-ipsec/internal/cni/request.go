// Package cni is the contract with the runtime, apart from what the verbs do: it decodes and validates the network
// configuration and the environment, and encodes results and errors. It writes nothing but answers.
package cni

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/network"
	"github.com/svc-supervisor/svc-supervisor/internal/strictjson"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Request is the decoded and validated input of a verb.
type Request struct {
	Owner         spec.Owner
	Interface     string
	CNIVersion    string
	Port          *spec.Port
	Configuration *config.Configuration
	Chained       bool
	PrevResult    network.PrevResult
	Previous      types.Result // the result of the previous plugin, which ADD returns

	Document       json.RawMessage // the configuration of the network configuration, as given
	LastValid      json.RawMessage // the last valid configuration, as the runtime recorded it
	KeepsLastValid bool            // the runtime records the last valid configuration (it sent the key lastValid)
}

// confKeys are the allowed keys of a network configuration: those of this project, those of CNI, and those that
// runtimes add. CNI also uses keys that begin with cni.dev/.
var confKeys = []string{"cniVersion", "cniVersions", "name", "type", "container", "port", "configuration",
	"lastValid", "prevResult", "capabilities", "runtimeConfig", "args", "ipam", "dns", "disableCheck", "disableGC",
	"loadOnlyInlinedPlugins", "plugins"}

// Identify returns the owner of the container. It succeeds for everything that DEL has to accept.
func Identify(args *skel.CmdArgs) (spec.Owner, error) {
	var named struct {
		Name      string `json:"name"`
		Container struct {
			InterfaceName string `json:"interfaceName"`
		} `json:"container"`
	}
	// A network configuration that cannot be decoded here contains no name.
	_ = json.Unmarshal(args.StdinData, &named)
	owner := spec.Owner{Network: named.Name}
	var err error
	if owner.ContainerID, err = spec.ParseID[spec.ContainerID]("CNI_CONTAINERID", args.ContainerID); err != nil {
		return owner, Fail(spec.CodeEnvironment, "%w", err)
	}
	if len(owner.Network) > 150 {
		return owner, &spec.Fault{
			Key: "name", Value: owner.Network, Allowed: "at most 150 bytes: the owner tag must fit into a link alias",
		}
	}
	if named.Container.InterfaceName == "" {
		owner.Name = generatedName(named.Name, args.ContainerID, args.IfName)
		return owner, nil
	}
	owner.Name, err = spec.ParseName("container.interfaceName", named.Container.InterfaceName)
	return owner, err
}

// generatedName returns the name of a container whose runtime gives it none.
func generatedName(network, id, iface string) spec.Name {
	sum := sha256.Sum256([]byte(network + "\x00" + id + "\x00" + iface))
	return spec.Name("x" + hex.EncodeToString(sum[:5]))
}

// Decode decodes and validates a whole request: the input of ADD, or the configuration that ADD recorded for CHECK.
func Decode(args *skel.CmdArgs) (*Request, error) {
	r, err := DecodeRequest(args)
	if err != nil {
		return nil, err
	}
	return r, r.SetConfiguration(r.Document)
}

// DecodeRequest decodes a request, except for the content of its configuration.
func DecodeRequest(args *skel.CmdArgs) (*Request, error) {
	if !utf8.Valid(args.StdinData) {
		return nil, Fail(spec.CodeDecode, "network configuration: not UTF-8")
	}
	owner, err := Identify(args)
	if err != nil {
		return nil, err
	}
	if spec.IsSysctlDirectory(args.IfName) {
		return nil, Fail(spec.CodeEnvironment, "CNI_IFNAME %q: allowed: an interface name other than all and default",
			args.IfName)
	}
	r := &Request{Owner: owner, Interface: args.IfName}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(args.StdinData, &fields); err != nil {
		return nil, Fail(spec.CodeDecode, "network configuration: not a JSON object")
	}
	for key := range fields {
		if !slices.Contains(confKeys, key) && !strings.HasPrefix(key, "cni.dev/") {
			return nil, &spec.Fault{
				Key: "unknown key", Value: key, Allowed: strings.Join(confKeys, ", ") + ", cni.dev/…",
			}
		}
	}
	_ = json.Unmarshal(fields["cniVersion"], &r.CNIVersion)
	if err := r.decodeContainer(fields["container"]); err != nil {
		return nil, err
	}
	if err := decodeStrict("port", fields["port"], &r.Port); err != nil {
		return nil, err
	}
	r.Document, r.LastValid = fields["configuration"], fields["lastValid"]
	_, r.KeepsLastValid = fields["lastValid"]
	return r, r.decodePrevious(fields["prevResult"])
}

// SetConfiguration decodes a configuration and stores it in the request. An error is a fault of the configuration as a
// whole.
func (r *Request) SetConfiguration(configuration json.RawMessage) (err error) {
	if r.Configuration, err = config.Decode(configuration); err != nil || !r.Chained {
		return err
	}
	return r.usePrevResult()
}

func (r *Request) decodeContainer(raw json.RawMessage) error {
	var c *spec.Container
	if err := decodeStrict("container", raw, &c); err != nil || c == nil {
		return err
	}
	// Manual calls may omit the IDs that only the supervisor needs.
	whole := *c
	for _, id := range []*string{
		(*string)(&whole.PortID), (*string)(&whole.HostID), (*string)(&whole.GroupID),
		(*string)(&whole.ConfigurationID),
	} {
		if *id == "" {
			*id = "none"
		}
	}
	if err := whole.Check(); err != nil {
		return FaultBelow("container", err)
	}
	if c.ServiceType != ServiceType {
		return &spec.Fault{Key: "container.serviceType", Value: string(c.ServiceType), Allowed: string(ServiceType)}
	}
	if c.ContainerID != r.Owner.ContainerID {
		return &spec.Fault{
			Key: "container.containerId", Value: string(c.ContainerID),
			Allowed: "CNI_CONTAINERID, which is " + string(r.Owner.ContainerID),
		}
	}
	return nil
}

// decodePrevious decodes the result of the previous plugin. A container with one is chained: its interface belongs to
// that plugin.
func (r *Request) decodePrevious(raw json.RawMessage) error {
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	plain, err := version.NewResult(r.CNIVersion, raw)
	if err != nil {
		return Fail(spec.CodeDecode, "prevResult: %w", err)
	}
	result, err := types100.NewResultFromResult(plain)
	if err != nil {
		return Fail(spec.CodeDecode, "prevResult: %w", err)
	}
	if r.Port != nil {
		return &spec.Fault{Key: "port", Value: "an object", Allowed: "none after another plugin (prevResult)"}
	}
	r.Chained, r.Previous = true, plain
	for _, ip := range result.IPs {
		if i := ip.Interface; i != nil &&
			(*i < 0 || *i >= len(result.Interfaces) || result.Interfaces[*i].Name != r.Interface) {
			continue
		}
		address, ok := netip.AddrFromSlice(ip.Address.IP)
		if !ok {
			continue
		}
		ones, _ := ip.Address.Mask.Size()
		r.PrevResult.Addresses = append(r.PrevResult.Addresses, netip.PrefixFrom(address.Unmap(), ones))
		if gateway, ok := netip.AddrFromSlice(ip.Gateway); ok {
			r.PrevResult.Gateways = append(r.PrevResult.Gateways, gateway.Unmap())
		}
	}
	return nil
}

// usePrevResult takes the external addresses from the result of the previous plugin, or checks that it contains the
// configured ones.
func (r *Request) usePrevResult() error {
	if len(r.Configuration.ExternalIPs) == 0 {
		for _, p := range r.PrevResult.Addresses {
			if !r.Configuration.External(p.Addr()).IsValid() && !p.Addr().IsLinkLocalUnicast() {
				r.Configuration.ExternalIPs = append(r.Configuration.ExternalIPs, p.Addr())
			}
		}
		return nil
	}
	var allowed []string
	for _, p := range r.PrevResult.Addresses {
		allowed = append(allowed, p.Addr().String())
	}
	for _, ip := range r.Configuration.ExternalIPs {
		if !slices.Contains(allowed, ip.String()) {
			return &spec.Fault{
				Key: "configuration.externalIps", Value: ip.String(),
				Allowed: "the addresses of prevResult: " + strings.Join(allowed, ", "),
			}
		}
	}
	return nil
}

// decodeStrict decodes a JSON object and refuses unknown keys. The error may repeat input, because none of these
// objects contains a secret.
func decodeStrict[T any](key string, raw json.RawMessage, into **T) error {
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	value := new(T)
	if err := strictjson.Unmarshal(raw, value); err != nil {
		return Fail(spec.CodeConfiguration, "%s: %s", key, strings.TrimPrefix(err.Error(), "json: "))
	}
	*into = value
	return nil
}

// FaultBelow returns a fault of a value below a key. The fault then names the whole path.
func FaultBelow(key string, err error) error {
	if f, ok := err.(*spec.Fault); ok {
		return &spec.Fault{Key: key + "." + f.Key, Value: f.Value, Allowed: f.Allowed}
	}
	return err
}

// Plan returns the network that the request asks for. Resolve must have been called before.
func (r *Request) Plan() (*network.Plan, error) {
	if r.Chained {
		return network.NewChainedPlan(r.Interface, r.PrevResult, r.Configuration), nil
	}
	return network.NewPlan(r.Interface, r.Port, r.Configuration)
}

// Bridge returns the name of the bridge that the host's end of the link has to be attached to, "" if none.
func (r *Request) Bridge() string {
	if r.Port == nil {
		return ""
	}
	return r.Port.Bridge
}

// InternalAddresses returns the container's addresses other than the external ones.
func (r *Request) InternalAddresses() []netip.Addr {
	var inside []netip.Addr
	if r.Port != nil {
		for _, s := range r.Port.Addresses {
			if gateway, err := spec.ParseCIDR("port.addresses", s); err == nil {
				inside = append(inside, gateway.Addr().Next())
			}
		}
	}
	for _, p := range r.PrevResult.Addresses {
		inside = append(inside, p.Addr())
	}
	return slices.DeleteFunc(inside, func(a netip.Addr) bool { return slices.Contains(r.Configuration.ExternalIPs, a) })
}
