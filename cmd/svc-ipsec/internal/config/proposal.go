package config

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// maxProposals is the maximum number of proposals in one policy.
const maxProposals = 8

// proposal is one algorithm of each kind.
type proposal struct{ encryption, integrity, group algorithm }

var proposalKeys = []string{"encryptionAlgorithm", "authAlgorithm", "pfs"}

// proposals decodes the proposals of a policy, the preferred one first. A policy has either a single proposal in its
// own keys, or a list under the key proposals.
func proposals(key string, fields map[string]json.RawMessage, where use) ([]proposal, error) {
	if absent(fields["proposals"]) {
		single := make([]proposal, 1)
		return single, single[0].decode(key, fields, where)
	}
	for _, single := range proposalKeys {
		if !absent(fields[single]) {
			return nil, &spec.Fault{
				Key: key + "." + single, Value: kind(fields[single]), Allowed: "none beside proposals, or no proposals",
			}
		}
	}
	key += ".proposals"
	items, err := array(key, fields["proposals"], maxProposals)
	if err != nil {
		return nil, err
	}
	if len(items) == 0 {
		return nil, &spec.Fault{Key: key, Value: "an empty list", Allowed: fmt.Sprint("a list of 1 to ", maxProposals)}
	}
	list := make([]proposal, len(items))
	for i, item := range items {
		place := fmt.Sprintf("%s[%d]", key, i)
		fields, err := object(place, item, proposalKeys)
		if err == nil {
			err = list[i].decode(place, fields, where)
		}
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}

func (p *proposal) decode(key string, fields map[string]json.RawMessage, where use) (err error) {
	pickKey := func(name string, table []algorithm, defaultValue string) (algorithm, error) {
		return pick(key+"."+name, fields[name], table, defaultValue, where)
	}
	if p.encryption, err = pickKey("encryptionAlgorithm", encryptions, "aes-256"); err != nil {
		return err
	}
	if p.integrity, err = pickKey("authAlgorithm", integrities, "sha256"); err != nil {
		return err
	}
	p.group, err = pickKey("pfs", groups, "group14")
	return err
}

// oneGroup returns a fault if the proposals for Child SAs name different groups. Libreswan supports one group for them,
// because the peer cannot request another one.
func oneGroup(key string, list []proposal) error {
	for i, p := range list {
		if p.group != list[0].group {
			return &spec.Fault{
				Key: fmt.Sprintf("%s.proposals[%d].pfs", key, i), Value: p.group.value,
				Allowed: list[0].group.value + ", as in the first: one group for all",
			}
		}
	}
	return nil
}

// formatProposals returns the proposals in Libreswan's syntax, without duplicates. Two proposals for AH that differ
// only in the cipher are duplicates, because AH ignores it.
func formatProposals(list []proposal, where use) string {
	var texts []string
	for _, p := range list {
		if text := compose(p.encryption, p.integrity, p.group, where); !slices.Contains(texts, text) {
			texts = append(texts, text)
		}
	}
	return strings.Join(texts, ",")
}
