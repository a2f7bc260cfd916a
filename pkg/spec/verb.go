package spec

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
