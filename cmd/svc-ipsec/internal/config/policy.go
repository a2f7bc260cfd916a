package config

import (
	"encoding/json"
	"fmt"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// IKEPolicy holds the parameters of the IKE SA.
type IKEPolicy struct {
	Version    string // v1 or v2
	Aggressive bool   // aggressive mode; only with v1
	Proposals  string // in Libreswan's syntax: encryption-integrity;group,…
	Lifetime   int    // seconds
}

// IPsecPolicy holds the parameters of the Child SAs.
type IPsecPolicy struct {
	Protocol  string // esp or ah
	Transport bool
	NoPFS     bool // Child SAs have no Diffie-Hellman exchange of their own
	Proposals string
	Lifetime  int // seconds
}

const defaultLifetime = 3600

var (
	ikeKeys = []string{
		"id", "name", "description", "ikeVersion", "phase1NegotiationMode",
		"encryptionAlgorithm", "authAlgorithm", "pfs", "proposals", "lifetime",
	}
	ipsecKeys = []string{
		"id", "name", "description", "transformProtocol", "encapsulationMode",
		"encryptionAlgorithm", "authAlgorithm", "pfs", "proposals", "lifetime",
	}
)

func (p *IKEPolicy) decode(key string, raw json.RawMessage) error {
	fields, err := policy(key, raw, ikeKeys)
	if err != nil {
		return err
	}
	if p.Version, err = choice(key+".ikeVersion", fields["ikeVersion"], "v2", "v1"); err != nil {
		return err
	}
	mode, err := choice(key+".phase1NegotiationMode", fields["phase1NegotiationMode"], "main", "aggressive")
	if err != nil {
		return err
	}
	// IKEv2 has no modes. Neutron sends the default of the key, main, for IKEv2 too, so main is accepted.
	p.Aggressive = mode == "aggressive"
	if p.Aggressive && p.Version != "v1" {
		return &spec.Fault{Key: key + ".phase1NegotiationMode", Value: mode, Allowed: "main, for ikeVersion v2"}
	}
	use := useIKEv2
	if p.Version == "v1" {
		use = useIKEv1
	}
	list, err := proposals(key, fields, use)
	if err != nil {
		return err
	}
	if p.Aggressive && len(list) > 1 {
		// In aggressive mode the first packet already contains the key exchange, so the group cannot be negotiated.
		return &spec.Fault{
			Key: key + ".proposals", Value: fmt.Sprint(len(list), " proposals"),
			Allowed: "exactly one with phase1NegotiationMode aggressive",
		}
	}
	p.Proposals = formatProposals(list, use)
	p.Lifetime, err = lifetime(key+".lifetime", fields["lifetime"])
	return err
}

func (p *IPsecPolicy) decode(key string, raw json.RawMessage, version string) error {
	fields, err := policy(key, raw, ipsecKeys)
	if err != nil {
		return err
	}
	if p.Protocol, err = choice(key+".transformProtocol", fields["transformProtocol"], "esp", "ah"); err != nil {
		return err
	}
	mode, err := choice(key+".encapsulationMode", fields["encapsulationMode"], "tunnel", "transport")
	if err != nil {
		return err
	}
	p.Transport = mode == "transport"
	use := map[string]use{"espv1": useESPv1, "espv2": useESPv2, "ahv1": useAHv1, "ahv2": useAHv2}[p.Protocol+version]
	list, err := proposals(key, fields, use)
	if err != nil {
		return err
	}
	if err := oneGroup(key, list); err != nil {
		return err
	}
	p.Proposals, p.NoPFS = formatProposals(list, use), list[0].group.value == noGroup
	p.Lifetime, err = lifetime(key+".lifetime", fields["lifetime"])
	return err
}

func policy(key string, raw json.RawMessage, keys []string) (map[string]json.RawMessage, error) {
	if absent(raw) {
		return map[string]json.RawMessage{}, nil
	}
	return object(key, raw, keys)
}
