// Package credential reads what a connection by certificate authenticates with: its own certificate with the private key,
// and the authority of its peer's.
//
// It is pure: contents of PEM files in, names and DER out. It promises that a credential of other contents has other
// names, that certificate and key belong together and are of a kind that Libreswan takes, and that no fault repeats
// anything of the private key.
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

// Credential is one connection's: what has to be in the daemon's key database, and under which names.
type Credential struct {
	Nickname string // of the certificate and its key
	AuthBy   string // in Libreswan's words
	PeerCA   string // of whom the peer's certificate must be: a distinguished name, or SameCA
	Digest   string // of all certificates
	Ends     time.Time
	Chain    []Authority
	Roots    []Authority

	leaf *x509.Certificate
	key  crypto.Signer
}

// Authority is a certificate that vouches for others, with its name in the database.
type Authority struct {
	Nickname string
	DER      []byte
}

// SameCA is Libreswan's word for the authority of our own certificate.
const SameCA = "%same"

// leastRSA is the shortest RSA key, as in RFC 8247.
const leastRSA = 2048

// ErrExpired is of a certificate whose time is over: no peer takes it.
var ErrExpired = errors.New("the certificate has expired")

// Read reads the contents of the three files. The first certificate is our own, the rest its chain; the first authority is
// a root, and the one that the peer's certificate must lead to.
func Read(certificate, key, authorities []byte, now time.Time) (*Credential, error) {
	own, err := certificates(certificate)
	if err != nil {
		return nil, fmt.Errorf("certificateFile: %w", err)
	}
	c := &Credential{leaf: own[0], Ends: own[0].NotAfter}
	switch {
	case now.After(c.leaf.NotAfter):
		return nil, fmt.Errorf("certificateFile: %w at %s", ErrExpired, c.leaf.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(c.leaf.NotBefore):
		return nil, fmt.Errorf("certificateFile: the certificate is not valid before %s", c.leaf.NotBefore.UTC().Format(time.RFC3339))
	case c.leaf.IsCA:
		return nil, errors.New("certificateFile: the first certificate is an authority's: allowed: that of the connection first")
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
			return nil, fmt.Errorf("caFile, certificateFile: the certificate of %s is no authority's: allowed: authorities, and first in certificateFile that of the connection",
				spec.Quote(ca.Subject.String()))
		}
	}
	if roots[0].CheckSignatureFrom(roots[0]) != nil {
		return nil, errors.New("caFile: the first certificate is not signed by itself: allowed: a root first")
	}
	c.Chain, c.Roots = named(own[1:]), named(roots)
	c.PeerCA = SameCA
	if string(c.leaf.RawIssuer) != string(roots[0].RawSubject) {
		if c.PeerCA, err = distinguishedName(roots[0].RawSubject); err != nil {
			return nil, fmt.Errorf("caFile: %w", err)
		}
	}
	c.name()
	return c, nil
}

// name makes the names. The first half of the nickname is the key's, since a new certificate may be for the old key.
func (c *Credential) name() {
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

func named(certificates []*x509.Certificate) []Authority {
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

// authBy says how the key signs, and wants it to be the certificate's.
func authBy(leaf *x509.Certificate, key crypto.Signer) (string, error) {
	belongs := false
	word := ""
	switch public := leaf.PublicKey.(type) {
	case *rsa.PublicKey:
		if public.N.BitLen() < leastRSA {
			return "", fmt.Errorf("certificateFile: an RSA key of %d bits: allowed: %d or more", public.N.BitLen(), leastRSA)
		}
		word, belongs = "rsasig", public.Equal(key.Public())
	case *ecdsa.PublicKey:
		word, belongs = "ecdsa", public.Equal(key.Public())
	default:
		return "", fmt.Errorf("certificateFile: a key of kind %s: allowed: RSA, ECDSA", leaf.PublicKeyAlgorithm)
	}
	if !belongs {
		return "", errors.New("privateKeyFile: the key is not the certificate's")
	}
	return word, nil
}

// DER is our own certificate.
func (c *Credential) DER() []byte { return c.leaf.Raw }

// PKCS12 packs certificate and key, which the database takes in no other form.
func (c *Credential) PKCS12(password string) ([]byte, error) {
	return pkcs12.Modern2023.Encode(c.key, c.leaf, nil, password)
}
