package spec

import (
	"encoding/json"
	"fmt"

	"github.com/Masterminds/semver/v3"
)

// Verb is CNI_COMMAND.
type Verb string

// The verbs of CNI 1.1.
const (
	Add     Verb = "ADD"
	Check   Verb = "CHECK"
	Del     Verb = "DEL"
	GC      Verb = "GC"
	Status  Verb = "STATUS"
	Version Verb = "VERSION"
)

// CheckOnXFRM in checkOn asks for CHECK soon after the kernel's IPsec state (XFRM) of the container's network namespace changed.
const CheckOnXFRM = "xfrm"

// VersionAnswer is what VERSION answers: CNI's two fields and the contract's. CheckOn lists the events after which CHECK is due; it
// may have words that a later version of the supervisor knows.
type VersionAnswer struct {
	CNIVersion        string      `json:"cniVersion"`
	SupportedVersions []string    `json:"supportedVersions"`
	ServiceType       ServiceType `json:"serviceType"`
	ServiceVersion    string      `json:"serviceVersion"`
	ContractVersion   int         `json:"contractVersion"`
	Reconfigure       bool        `json:"reconfigure,omitempty"`
	CheckOn           []string    `json:"checkOn,omitempty"`
	// UserNamespace asks for a network namespace that is owned by a user namespace of the container's user id.
	UserNamespace bool `json:"userNamespace,omitempty"`
}

// ParseVersionAnswer reads and checks an answer to VERSION. It wants the contract's fields too: an ordinary CNI plugin on
// the plugin path is refused.
func ParseVersionAnswer(stdout []byte) (*VersionAnswer, *semver.Version, error) {
	answer := new(VersionAnswer)
	if err := json.Unmarshal(stdout, answer); err != nil {
		return nil, nil, fmt.Errorf("answer to VERSION: %w", err)
	}
	if _, err := ParseServiceType("serviceType", string(answer.ServiceType)); err != nil {
		return nil, nil, err
	}
	version, err := semver.StrictNewVersion(answer.ServiceVersion)
	if err != nil {
		return nil, nil, &Fault{"serviceVersion", answer.ServiceVersion, "a semantic version, like 1.4.0 or 1.4.0-rc1"}
	}
	if answer.ContractVersion != ContractVersion {
		return nil, nil, &Fault{"contractVersion", fmt.Sprint(answer.ContractVersion), fmt.Sprint(ContractVersion)}
	}
	for _, v := range answer.SupportedVersions {
		if v == CNIVersion {
			return answer, version, nil
		}
	}
	return nil, nil, &Fault{"supportedVersions", fmt.Sprint(answer.SupportedVersions), "a list with " + CNIVersion}
}
