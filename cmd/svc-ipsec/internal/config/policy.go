package config

import (
	"encoding/json"
	"fmt"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// IKEPolicy is how the two daemons talk to each other.
type IKEPolicy struct {
	Version    string // v1 or v2
	Aggressive bool   // v1 alone
	Proposals  string // in Libreswan's words: encryption-integrity;group,…
	Lifetime   int    // seconds
}

// IPsecPolicy is how the traffic is protected.
type IPsecPolicy struct {
	Protocol  string // esp or ah
	Transport bool
	NoPFS     bool // no Diffie-Hellman exchange for a Child SA
	Proposals string
	Lifetime  int // seconds
}

const defaultLifetime = 3600

var (
	ikeKeys   = []string{"id", "name", "description", "ikeVersion", "phase1NegotiationMode", "encryptionAlgorithm", "authAlgorithm", "pfs", "proposals", "lifetime"}
	ipsecKeys = []string{"id", "name", "description", "transformProtocol", "encapsulationMode", "encryptionAlgorithm", "authAlgorithm", "pfs", "proposals", "lifetime"}
)

func (c *Connection) decodePolicies(key string, fields map[string]json.RawMessage) error {
	if err := c.IKE.decode(key+".ikePolicy", fields["ikePolicy"]); err != nil {
		return err
	}
	if err := c.IPsec.decode(key+".ipsecPolicy", fields["ipsecPolicy"], c.IKE.Version); err != nil {
		return err
	}
	return c.checkSubnets(key)
}

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
	// IKEv2 has no modes; Neutron sends its default, main, with it.
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
		// Its first packet holds the key exchange already.
		return &spec.Fault{Key: key + ".proposals", Value: fmt.Sprint(len(list), " proposals"), Allowed: "exactly one with phase1NegotiationMode aggressive"}
	}
	p.Proposals = write(list, use)
	p.Lifetime, err = number(key+".lifetime", fields["lifetime"], 1, 86400, defaultLifetime)
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
	p.Proposals, p.NoPFS = write(list, use), list[0].group.value == noGroup
	p.Lifetime, err = number(key+".lifetime", fields["lifetime"], 1, 86400, defaultLifetime)
	return err
}

func policy(key string, raw json.RawMessage, keys []string) (map[string]json.RawMessage, error) {
	if absent(raw) {
		return map[string]json.RawMessage{}, nil
	}
	return object(key, raw, keys)
}
