// Package credential parses the certificate files of a connection: the own certificate with the private key, and the
// certificates of the certificate authorities of the peer.
//
// It does no I/O. It converts the contents of PEM files to DER, with names for the daemon's key database. Credentials
// with different contents have different names. Certificate and key match, and are of a type that Libreswan supports.
// Errors never contain any part of the private key.
package credential

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Credential holds the certificates and the key of one connection, with their names in the daemon's key database.
type Credential struct {
	Nickname string    // the name of the certificate and its key
	AuthBy   string    // the value of Libreswan's authby option
	PeerCA   string    // the required issuer of the peer's certificate: a distinguished name, or SameCA
	Digest   string    // of all certificates
	NotAfter time.Time // when the own certificate expires
	Chain    []Authority
	Roots    []Authority

	leaf *x509.Certificate
	key  crypto.Signer
}

// Authority is the certificate of a certificate authority, with its name in the database.
type Authority struct {
	Nickname string
	DER      []byte
}

// SameCA is Libreswan's keyword for the issuer of the own certificate.
const SameCA = "%same"

// minRSABits is the minimum length of an RSA key, as in RFC 8247.
const minRSABits = 2048

// ErrExpired is returned for a certificate that has expired. Peers do not accept it.
var ErrExpired = errors.New("the certificate has expired")

// Read parses the contents of the three files. The first certificate in certificate is the own one, and the others are
// its chain. The first one in authorities must be a root, to which the peer's certificate must have a chain.
func Read(certificate, key, authorities []byte, now time.Time) (*Credential, error) {
	own, err := certificates(certificate)
	if err != nil {
		return nil, fmt.Errorf("certificateFile: %w", err)
	}
	c := &Credential{leaf: own[0], NotAfter: own[0].NotAfter}
	switch {
	case now.After(c.leaf.NotAfter):
		return nil, fmt.Errorf("certificateFile: %w at %s", ErrExpired, c.leaf.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(c.leaf.NotBefore):
		return nil, fmt.Errorf("certificateFile: the certificate is not valid before %s",
			c.leaf.NotBefore.UTC().Format(time.RFC3339))
	case c.leaf.IsCA:
		return nil, errors.New("certificateFile: the first certificate is a CA certificate: " +
			"allowed: the certificate of the connection first")
	}
	if c.key, err = privateKey(key); err != nil {
		return nil, fmt.Errorf("privateKeyFile: %w", err)
	}
	if c.AuthBy, err = authBy(c.leaf, c.key); err != nil {
		return nil, err
	}
	roots, err := certificates(authorities)
	if err != nil {
		return nil, fmt.Errorf("caFile: %w", err)
	}
	for _, ca := range append(own[1:], roots...) {
		if !ca.IsCA {
			return nil, fmt.Errorf("caFile, certificateFile: the certificate of %s is not a CA certificate: "+
				"allowed: CA certificates, and the certificate of the connection first in certificateFile",
				spec.Quote(ca.Subject.String()))
		}
	}
	if roots[0].CheckSignatureFrom(roots[0]) != nil {
		return nil, errors.New("caFile: the first certificate is not self-signed: allowed: a root certificate first")
	}
	c.Chain, c.Roots = nameAuthorities(own[1:]), nameAuthorities(roots)
	c.PeerCA = SameCA
	if string(c.leaf.RawIssuer) != string(roots[0].RawSubject) {
		if c.PeerCA, err = distinguishedName(roots[0].RawSubject); err != nil {
			return nil, fmt.Errorf("caFile: %w", err)
		}
	}
	c.setNames()
	return c, nil
}

// setNames sets Nickname and Digest. The first half of the nickname identifies the key, because a renewed certificate
// may have the same key.
func (c *Credential) setNames() {
	c.Nickname = "svc-" + short(c.leaf.RawSubjectPublicKeyInfo) + "-" + short(c.leaf.Raw)
	all := sha256.New()
	all.Write([]byte(c.Nickname))
	for _, authorities := range [][]Authority{c.Chain, c.Roots} {
		all.Write([]byte{0})
		for _, authority := range authorities {
			all.Write([]byte(authority.Nickname))
		}
	}
	c.Digest = hex.EncodeToString(all.Sum(nil))
}

func nameAuthorities(certificates []*x509.Certificate) []Authority {
	var list []Authority
	for _, certificate := range certificates {
		list = append(list, Authority{"ca-" + short(certificate.Raw), certificate.Raw})
	}
	return list
}

func short(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

// authBy returns the value of Libreswan's authby option for the key. It returns an error if the key does not match the
// certificate, or if its type or length is not supported.
func authBy(leaf *x509.Certificate, key crypto.Signer) (string, error) {
	matches := false
	value := ""
	switch public := leaf.PublicKey.(type) {
	case *rsa.PublicKey:
		if bits := public.N.BitLen(); bits < minRSABits {
			return "", fmt.Errorf("certificateFile: an RSA key of %d bits: allowed: %d or more", bits, minRSABits)
		}
		value, matches = "rsasig", public.Equal(key.Public())
	case *ecdsa.PublicKey:
		value, matches = "ecdsa", public.Equal(key.Public())
	default:
		return "", fmt.Errorf("certificateFile: a key of kind %s: allowed: RSA, ECDSA", leaf.PublicKeyAlgorithm)
	}
	if !matches {
		return "", errors.New("privateKeyFile: the key is not the certificate's")
	}
	return value, nil
}

// DER returns the own certificate.
func (c *Credential) DER() []byte { return c.leaf.Raw }

// PKCS12 encodes the certificate and the key. A private key can be imported into the database only in this format.
func (c *Credential) PKCS12(password string) ([]byte, error) {
	return pkcs12.Modern2023.Encode(c.key, c.leaf, nil, password)
}
