package credential

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/internal/lazyregexp"
)

// maxCertificates is the maximum number of certificates in one file.
const maxCertificates = 8

func certificates(text []byte) ([]*x509.Certificate, error) {
	var list []*x509.Certificate
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		text = rest
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("the file contains a PEM block %.40q: allowed: certificates", block.Type)
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errors.New("a certificate cannot be parsed: allowed: X.509 in PEM")
		}
		list = append(list, certificate)
	}
	if len(list) == 0 || len(list) > maxCertificates || len(bytes.TrimSpace(text)) > 0 {
		return nil, fmt.Errorf("%d certificates in PEM, or other data after them: allowed: 1 to %d",
			len(list), maxCertificates)
	}
	return list, nil
}

// privateKey parses a key in PKCS #8, PKCS #1 or SEC 1 format. It ignores a block with the parameters of the curve
// before the key, which OpenSSL writes.
func privateKey(text []byte) (crypto.Signer, error) {
	const allowed = "allowed: one RSA or ECDSA key in PEM, not encrypted"
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			return nil, errors.New("the file contains no private key: " + allowed)
		}
		text = rest
		if block.Type == "EC PARAMETERS" {
			continue
		}
		var key any
		var err error
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		default:
			return nil, fmt.Errorf("the file contains a PEM block %.40q: %s", block.Type, allowed)
		}
		signer, ok := key.(crypto.Signer)
		if err != nil || !ok {
			return nil, errors.New("the key cannot be parsed: " + allowed)
		}
		return signer, nil
	}
}

// attributes maps the object identifiers of attributes to their names in Libreswan.
var attributes = map[string]string{
	"2.5.4.6": "C", "2.5.4.8": "ST", "2.5.4.7": "L", "2.5.4.10": "O", "2.5.4.11": "OU", "2.5.4.3": "CN",
	"0.9.2342.19200300.100.1.25": "DC", "0.9.2342.19200300.100.1.1": "UID", "1.2.840.113549.1.9.1": "E",
}

var plainValue = lazyregexp.New(`^[A-Za-z0-9]([A-Za-z0-9 ._@()':&-]*[A-Za-z0-9.)])?$`)

// distinguishedName returns a subject in the syntax of Libreswan's configuration.
func distinguishedName(der []byte) (string, error) {
	var sequence pkix.RDNSequence
	if rest, err := asn1.Unmarshal(der, &sequence); err != nil || len(rest) > 0 || len(sequence) == 0 {
		return "", errors.New("the root's subject is empty or cannot be parsed")
	}
	var parts []string
	for _, set := range sequence {
		for _, attribute := range set {
			value, ok := attribute.Value.(string)
			name := attributes[attribute.Type.String()]
			if !ok || name == "" || len(set) > 1 || !plainValue.MatchString(value) {
				return "", fmt.Errorf("attribute %s of the root's subject is not supported: allowed: "+
					"the issuer of our own certificate, or a subject like C=FR, O=Example, CN=ca in ASCII",
					attribute.Type)
			}
			parts = append(parts, name+"="+value)
		}
	}
	return strings.Join(parts, ", "), nil
}
