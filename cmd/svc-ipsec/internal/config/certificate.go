package config

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// CertificateFiles are the paths of the files that a connection with authMode certificate uses to authenticate.
type CertificateFiles struct {
	Certificate string `json:"certificate"`
	PrivateKey  string `json:"privateKey"`
	CA          string `json:"ca"`
}

// Certificate holds the values of a conn section that come from the contents of CertificateFiles. Fault says why the
// files cannot be used now. If Fault and Nickname are both set, the values are those that were read from the files
// last. A Certificate contains no secret.
type Certificate struct {
	Nickname string `json:"nickname,omitempty"` // in the daemon's key database
	AuthBy   string `json:"authBy,omitempty"`   // the value of Libreswan's authby option: the kind of signature
	PeerCA   string `json:"peerCa,omitempty"`   // the issuer of the peer's certificate: sameCA, or a distinguished name
	Digest   string `json:"digest,omitempty"`   // changes when the contents of any file change
	Fault    string `json:"fault,omitempty"`
	// Ends is the time at which the certificate expires.
	Ends time.Time `json:"ends,omitzero"`
}

var certificateKeys = []string{"certificateFile", "privateKeyFile", "caFile"}

// sameCA is Libreswan's keyword for the issuer of the local certificate.
const sameCA = "%same"

// decodeAuthentication reads authMode and the keys that belong to it: a pre-shared key, or the paths of certificates.
func (c *Connection) decodeAuthentication(key string, fields map[string]json.RawMessage) error {
	mode, err := choice(key+".authMode", fields["authMode"], "psk", "certificate")
	if err != nil {
		return err
	}
	if mode == "psk" {
		if !absent(fields["certificate"]) {
			return &spec.Fault{
				Key: key + ".certificate", Value: kind(fields["certificate"]), Allowed: "none with authMode psk",
			}
		}
		return c.decodePSK(key, fields)
	}
	for _, name := range pskKeys {
		if !absent(fields[name]) {
			return &spec.Fault{Key: key + "." + name, Value: "[secret]", Allowed: "none with authMode certificate"}
		}
	}
	if c.PeerID.kind == kindKeyID {
		return &spec.Fault{
			Key: key + ".peerId", Value: c.PeerID.text,
			Allowed: "with authMode certificate what a certificate can hold: no key id",
		}
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
		path *string
	}{{"certificateFile", &f.Certificate}, {"privateKeyFile", &f.PrivateKey}, {"caFile", &f.CA}} {
		if *file.path, err = filePath(key+"."+file.key, fields[file.key]); err != nil {
			return err
		}
	}
	return nil
}

// ByCertificate reports whether the connection has authMode certificate.
func (c *Connection) ByCertificate() bool { return c.Files != CertificateFiles{} }

// Certificates lists the certificate files of the connections that Wanted returns, each set of files once.
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

// applyCertificate sets Certificate, and LocalID if the document has none, from the contents of the certificate files.
// It returns an error if no contents are known. Contents from an earlier read count if the files cannot be read now.
func (c *Connection) applyCertificate(found Found) error {
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
		return fmt.Errorf("%s.certificate.certificateFile %s: an ECDSA key: allowed: RSA, with ikeVersion v1",
			c.place, spec.Quote(c.Files.Certificate))
	}
	if certificate.PeerCA != sameCA {
		name, fault := distinguishedName(certificate.PeerCA)
		if fault != nil {
			return fmt.Errorf("%s.certificate.caFile %s: the root's subject is %s: "+
				"allowed: the issuer of our own certificate, or a subject like C=FR, O=Example, CN=ca",
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

// authentication returns a key that is equal for two connections if they use the same certificate, or if both use a
// pre-shared key.
func (c *Connection) authentication() string {
	return strings.Join([]string{c.Certificate.Nickname, c.Certificate.PeerCA, c.Certificate.Digest}, " ")
}
