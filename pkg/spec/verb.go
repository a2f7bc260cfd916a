package spec

// Verb is a value of CNI_COMMAND.
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

// Validate is a verb of this project's contract and not of CNI. An executable that offers it reports the faults of a
// configuration and changes nothing.
const Validate Verb = "VALIDATE"

// Validation is the output of VALIDATE. The configuration is valid if the list of faults is empty.
type Validation struct {
	CNIVersion string            `json:"cniVersion"`
	Faults     []ValidationFault `json:"faults"`
}

// ValidationFault is one fault of a configuration.
type ValidationFault struct {
	Key     string `json:"key,omitempty"`     // below configuration: connections[0].mtu
	Wrong   string `json:"wrong"`             // the quoted value, or a description of the fault
	Allowed string `json:"allowed,omitempty"` // "" if Wrong already describes the allowed values
}

// The values of checkOn. Each requests a CHECK soon after the named part of the container's network changed.
const (
	// CheckOnXFRM covers the kernel's IPsec state (XFRM) of the container's network namespace.
	CheckOnXFRM = "xfrm"
	// CheckOnNetwork covers the links, addresses, routes, routing rules, forwarding and rp_filter settings and nftables
	// rules of the container's network namespace, and the host's end of its veth.
	CheckOnNetwork = "network"
)

// Events is the set of events after which a CHECK of the container is due. The zero value is the empty set.
type Events struct{ XFRM, Network bool }

// ParseEvents parses the value of checkOn. It also returns the names that this version does not know.
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

// VersionAnswer is the output of VERSION: the two fields of CNI and those of this project's contract. CheckOn lists the
// events after which CHECK is due. It may contain values that only a later version of the supervisor knows.
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
	// LastValid is set if ADD accepts the last valid configuration, and runs it for each part whose edit it refuses.
	LastValid bool `json:"lastValid,omitempty"`
	// Validate is set if the executable serves the verb VALIDATE.
	Validate bool `json:"validate,omitempty"`
}
