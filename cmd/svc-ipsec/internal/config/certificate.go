package config

import (
	"encoding/json"
	"time"
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
	// NotAfter is the time at which the certificate expires.
	NotAfter time.Time `json:"ends,omitzero"`
}

var certificateKeys = []string{"certificateFile", "privateKeyFile", "caFile"}

// sameCA is Libreswan's keyword for the issuer of the local certificate.
const sameCA = "%same"

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
