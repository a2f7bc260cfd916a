package spec

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	types100 "github.com/containernetworking/cni/pkg/types/100"
)

// Result is the output of a successful ADD: a CNI result with the container's units and, if known, its health. Raw is
// the object as printed; if it has lastValid, it is encoded again without that. The supervisor passes it to later verbs
// as prevResult.
type Result struct {
	CNI    types100.Result
	Units  []string
	Health *Health
	// LastValid is the configuration that the next ADD gets as the last valid one. If it is nil, the configuration that
	// this ADD was given is the last valid one. It contains secrets and is not in Raw.
	LastValid json.RawMessage
	Raw       json.RawMessage
}

// ParseResult decodes and checks the result of ADD for the container of that name. It refuses a unit whose name does
// not belong to the container.
func ParseResult(stdout []byte, name Name) (*Result, error) {
	result := &Result{Raw: json.RawMessage(stdout)}
	if err := DecodeOutput("result", stdout, &result.CNI); err != nil {
		return nil, err
	}
	if result.CNI.CNIVersion != CNIVersion {
		return nil, &Fault{"cniVersion", result.CNI.CNIVersion, CNIVersion}
	}
	var ours struct {
		Units  []string `json:"units"`
		Health *Health  `json:"health"`

		LastValid json.RawMessage `json:"lastValid"`
	}
	if err := DecodeOutput("result", stdout, &ours); err != nil {
		return nil, err
	}
	for _, unit := range ours.Units {
		if !name.OwnsUnit(unit) {
			return nil, &Fault{"units", unit, fmt.Sprintf("svc-%s.service or svc-%[1]s:<role>.service", name)}
		}
	}
	if ours.Health != nil {
		if err := ours.Health.Check(); err != nil {
			return nil, in("health", err)
		}
	}
	result.Units, result.Health = ours.Units, ours.Health
	if len(ours.LastValid) > 0 && string(ours.LastValid) != "null" {
		result.LastValid = ours.LastValid
		var all map[string]json.RawMessage
		if err := json.Unmarshal(stdout, &all); err != nil {
			return nil, fmt.Errorf("result: %w", err)
		}
		// Keys are decoded regardless of their case, so they are also removed that way.
		maps.DeleteFunc(all, func(key string, _ json.RawMessage) bool { return strings.EqualFold(key, "lastValid") })
		var err error
		if result.Raw, err = json.Marshal(all); err != nil {
			return nil, fmt.Errorf("result: %w", err)
		}
	}
	return result, nil
}
