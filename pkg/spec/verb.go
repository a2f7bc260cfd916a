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

// Validate is a verb of the contract and not of CNI: an executable that offers it says what is wrong with a configuration, and changes
// nothing.
const Validate Verb = "VALIDATE"

// Validation is what VALIDATE answers. An empty list of faults is a good configuration.
type Validation struct {
	CNIVersion string            `json:"cniVersion"`
	Faults     []ValidationFault `json:"faults"`
}

// ValidationFault is one fault of a configuration.
type ValidationFault struct {
	Key     string `json:"key,omitempty"`     // below configuration: connections[0].mtu
	Wrong   string `json:"wrong"`             // the value in quotes, or what is wrong
	Allowed string `json:"allowed,omitempty"` // "" where Wrong says it
}

// The events of checkOn. Each asks for CHECK soon after the named part of the container's network changed.
const (
	// CheckOnXFRM covers the kernel's IPsec state (XFRM) of the container's network namespace.
	CheckOnXFRM = "xfrm"
	// CheckOnNetwork covers the links, addresses, routes, routing rules, forwarding and rp_filter settings and nftables rules of the
	// container's network namespace, and the host's end of its veth.
	CheckOnNetwork = "network"
)

// Events are the events after which CHECK of a container is due. The zero value is none.
type Events struct{ XFRM, Network bool }

// ParseEvents reads the value of checkOn. It also returns the names that this version does not know.
func ParseEvents(names []string) (events Events, unknown []string) {
	for _, name := range names {
		switch name {
		case CheckOnXFRM:
			events.XFRM = true
		case CheckOnNetwork:
			events.Network = true
		default:
			unknown = append(unknown, name)
		}
	}
	return events, unknown
}

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
	// LastValid says that ADD takes the last valid configuration, and runs it where an edit is refused.
	LastValid bool `json:"lastValid,omitempty"`
	// Validate says that the executable serves the verb VALIDATE.
	Validate bool `json:"validate,omitempty"`
}
