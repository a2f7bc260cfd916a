package state

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Found is the stored form of config.Found. It contains secrets.
type Found struct {
	Files        map[string]FoundFile `json:"files,omitempty"` // by path
	Names        map[string]FoundName `json:"names,omitempty"` // by the name of the peer
	Certificates []FoundCertificate   `json:"certificates,omitempty"`
	At           time.Time            `json:"at,omitzero"`
}

// FoundFile is the content of a key file. If Fault is set, the file could not be read, and the content is from an
// earlier read.
type FoundFile struct {
	Content []byte `json:"content,omitempty"`
	Fault   string `json:"fault,omitempty"`
}

// FoundName is the address of a peer. If Fault is set, the name could not be resolved, and the address is from an
// earlier lookup.
type FoundName struct {
	Address netip.Addr `json:"address"`
	Fault   string     `json:"fault,omitempty"`
}

// FoundCertificate is a certificate and the files that it was read from.
type FoundCertificate struct {
	Files config.CertificateFiles `json:"files"`
	Found config.Certificate      `json:"found"`
}

// NewFound returns the stored form of found. Lists in it are sorted, so that equal values have equal JSON texts.
func NewFound(found config.Found) Found {
	stored := Found{Files: map[string]FoundFile{}, Names: map[string]FoundName{}, At: found.At}
	for path, file := range found.Files {
		stored.Files[path] = FoundFile{Content: file.Content.Reveal(), Fault: file.Fault}
	}
	for name, peer := range found.Names {
		stored.Names[name] = FoundName(peer)
	}
	for files, certificate := range found.Certificates {
		stored.Certificates = append(stored.Certificates, FoundCertificate{files, certificate})
	}
	slices.SortFunc(stored.Certificates, func(a, b FoundCertificate) int {
		return cmp.Or(cmp.Compare(a.Files.Certificate, b.Files.Certificate),
			cmp.Compare(a.Files.PrivateKey, b.Files.PrivateKey), cmp.Compare(a.Files.CA, b.Files.CA))
	})
	return stored
}

// Config converts the stored form to config.Found.
func (f *Found) Config() config.Found {
	found := config.Found{
		Files: map[string]config.File{}, Names: map[string]config.Name{},
		Certificates: map[config.CertificateFiles]config.Certificate{}, At: f.At,
	}
	for path, file := range f.Files {
		found.Files[path] = config.File{Content: spec.NewSecret(file.Content), Fault: file.Fault}
	}
	for name, peer := range f.Names {
		found.Names[name] = config.Name(peer)
	}
	for _, certificate := range f.Certificates {
		found.Certificates[certificate.Files] = certificate.Found
	}
	return found
}
