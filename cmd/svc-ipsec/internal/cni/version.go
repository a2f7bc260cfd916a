package cni

import (
	"encoding/json"
	"io"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// ServiceType is the service type of this executable.
const ServiceType spec.ServiceType = "IPSEC"

// Version is the version of this executable, a semantic version.
type Version string

// SupportedVersions returns the supported versions of the CNI specification, oldest first. It implements
// version.PluginInfo.
func (Version) SupportedVersions() []string { return []string{"0.4.0", "1.0.0", spec.CNIVersion} }

// Encode writes the answer to VERSION.
func (v Version) Encode(w io.Writer) error {
	return json.NewEncoder(w).Encode(spec.VersionAnswer{
		CNIVersion:        spec.CNIVersion,
		SupportedVersions: v.SupportedVersions(),
		ServiceType:       ServiceType,
		ServiceVersion:    string(v),
		ContractVersion:   spec.ContractVersion,
		Reconfigure:       true,
		UserNamespace:     true,
		LastValid:         true,
		Validate:          true,
		CheckOn:           []string{spec.CheckOnXFRM, spec.CheckOnNetwork},
	})
}
