package config

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// CertificateFiles are the paths of what a connection by certificate authenticates with.
type CertificateFiles struct {
	Certificate string `json:"certificate"`
	PrivateKey  string `json:"privateKey"`
	CA          string `json:"ca"`
}

// Certificate is what of the contents of those files stands in a conn, and why it cannot be had now: with both, it is the
// last that was found. It holds no secret.
type Certificate struct {
	Nickname string    `json:"nickname,omitempty"` // in the daemon's key database
	AuthBy   string    `json:"authBy,omitempty"`   // how it signs, in Libreswan's words
	PeerCA   string    `json:"peerCa,omitempty"`   // who must have issued the peer's: sameCA, or a distinguished name
	Digest   string    `json:"digest,omitempty"`   // changes with any of the contents
	Fault    string    `json:"fault,omitempty"`
	Ends     time.Time `json:"ends,omitzero"` // when it expires
}

var certificateKeys = []string{"certificateFile", "privateKeyFile", "caFile"}

// sameCA is Libreswan's word for the issuer of our own certificate.
const sameCA = "%same"

// decodeAuthentication reads how the two ends know each other: by a key that both have, or by certificates.
func (c *Connection) decodeAuthentication(key string, fields map[string]json.RawMessage) error {
	mode, err := choice(key+".authMode", fields["authMode"], "psk", "certificate")
	if err != nil {
		return err
	}
	if mode == "psk" {
		if !absent(fields["certificate"]) {
			return &spec.Fault{Key: key + ".certificate", Value: kind(fields["certificate"]), Allowed: "none with authMode psk"}
		}
		return c.decodePSK(key, fields)
	}
	for _, name := range pskKeys {
		if !absent(fields[name]) {
			return &spec.Fault{Key: key + "." + name, Value: "[secret]", Allowed: "none with authMode certificate"}
		}
	}
	if c.PeerID.kind == kindKeyID {
		return &spec.Fault{Key: key + ".peerId", Value: c.PeerID.text, Allowed: "with authMode certificate what a certificate can hold: no key id"}
	}
	return c.Files.decode(key+".certificate", fields["certificate"])
}

func (f *CertificateFiles) decode(key string, raw json.RawMessage) error {
	fields, err := object(key, raw, certificateKeys)
	if err != nil {
		return err
	}
	for _, file := range []struct {
		key  string
		into *string
	}{{"certificateFile", &f.Certificate}, {"privateKeyFile", &f.PrivateKey}, {"caFile", &f.CA}} {
		if *file.into, err = filePath(key+"."+file.key, fields[file.key]); err != nil {
			return err
		}
	}
	return nil
}

// ByCertificate says whether the connection authenticates by certificates.
func (c *Connection) ByCertificate() bool { return c.Files != CertificateFiles{} }

// Certificates lists the files of connections by certificate that may run, each set once.
func (c *Configuration) Certificates() []CertificateFiles {
	var list []CertificateFiles
	seen := map[CertificateFiles]bool{{}: true}
	for _, connection := range c.Wanted() {
		if !seen[connection.Files] {
			list = append(list, connection.Files)
		}
		seen[connection.Files] = true
	}
	return list
}

// takeCertificate takes what was found in the files, now or before.
func (c *Connection) takeCertificate(found Found) error {
	if !c.ByCertificate() || !c.Up {
		return nil
	}
	certificate, ok := found.Certificates[c.Files]
	switch {
	case !ok:
		return fmt.Errorf("%s.certificate.certificateFile %s: was not read", c.place, spec.Quote(c.Files.Certificate))
	case certificate.Nickname == "":
		return fmt.Errorf("%s.certificate: %s", c.place, certificate.Fault)
	case certificate.AuthBy == "ecdsa" && c.IKE.Version == "v1":
		return fmt.Errorf("%s.certificate.certificateFile %s: an ECDSA key: allowed: RSA, with ikeVersion v1", c.place, spec.Quote(c.Files.Certificate))
	}
	if certificate.PeerCA != sameCA {
		name, fault := distinguishedName(certificate.PeerCA)
		if fault != nil {
			return fmt.Errorf("%s.certificate.caFile %s: the root's subject is %s: allowed: the issuer of our own certificate, or a subject like C=FR, O=Example, CN=ca",
				c.place, spec.Quote(c.Files.CA), spec.Quote(certificate.PeerCA))
		}
		certificate.PeerCA = name.String()
	}
	c.Certificate = certificate
	if c.LocalID.IsZero() {
		c.LocalID = Identity{kindDN, fromCertificate}
	}
	return nil
}

// authentication tells one way to authenticate from another for one peer address.
func (c *Connection) authentication() string {
	return strings.Join([]string{c.Certificate.Nickname, c.Certificate.PeerCA, c.Certificate.Digest}, " ")
}
