package verb

import (
	"fmt"
	"maps"
	"slices"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// staleInputs lists the inputs (names, key files, certificates) that could not be read and for which the last value is
// used.
func staleInputs(found config.Found) []string {
	var messages []string
	for _, name := range slices.Sorted(maps.Keys(found.Names)) {
		if peer := found.Names[name]; peer.Fault != "" && peer.Address.IsValid() {
			messages = append(messages,
				fmt.Sprintf("peer name %s: %s: its last address %s is used", name, peer.Fault, peer.Address))
		}
	}
	for _, path := range slices.Sorted(maps.Keys(found.Files)) {
		if file := found.Files[path]; file.Fault != "" && len(file.Content.Reveal()) > 0 {
			messages = append(messages,
				fmt.Sprintf("pskFile %s cannot be read, the last key is kept: %s", spec.Quote(path), file.Fault))
		}
	}
	for _, files := range slices.SortedFunc(maps.Keys(found.Certificates), byPath) {
		if certificate := found.Certificates[files]; certificate.Fault != "" && certificate.Nickname != "" {
			messages = append(messages,
				fmt.Sprintf("certificateFile %s cannot be taken, the last certificate is kept: %s",
					spec.Quote(files.Certificate), certificate.Fault))
		}
	}
	return messages
}

func byPath(a, b config.CertificateFiles) int {
	return slices.Compare([]string{a.Certificate, a.PrivateKey, a.CA}, []string{b.Certificate, b.PrivateKey, b.CA})
}
