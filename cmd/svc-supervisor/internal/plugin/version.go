package plugin

import (
	"fmt"

	"github.com/Masterminds/semver/v3"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// parseVersionAnswer parses and checks an answer to VERSION. The keys of the contract are required, so an ordinary CNI
// plugin is an error.
func parseVersionAnswer(stdout []byte) (*spec.VersionAnswer, *semver.Version, error) {
	answer := new(spec.VersionAnswer)
	if err := spec.DecodeOutput("answer to VERSION", stdout, answer); err != nil {
		return nil, nil, err
	}
	if _, err := spec.ParseServiceType("serviceType", string(answer.ServiceType)); err != nil {
		return nil, nil, err
	}
	version, err := semver.StrictNewVersion(answer.ServiceVersion)
	if err != nil {
		return nil, nil, &spec.Fault{
			Key: "serviceVersion", Value: answer.ServiceVersion, Allowed: "a semantic version, like 1.4.0 or 1.4.0-rc1",
		}
	}
	if answer.ContractVersion != spec.ContractVersion {
		return nil, nil, &spec.Fault{
			Key: "contractVersion", Value: fmt.Sprint(answer.ContractVersion),
			Allowed: fmt.Sprint(spec.ContractVersion),
		}
	}
	for _, v := range answer.SupportedVersions {
		if v == spec.CNIVersion {
			return answer, version, nil
		}
	}
	return nil, nil, &spec.Fault{
		Key: "supportedVersions", Value: fmt.Sprint(answer.SupportedVersions),
		Allowed: "a list with " + spec.CNIVersion,
	}
}
