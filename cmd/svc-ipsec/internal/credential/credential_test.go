package credential

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// issued is a certificate with its private key.
type issued struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

func (h issued) pem() []byte { return encode("CERTIFICATE", h.certificate.Raw) }

func (h issued) keyPEM(t *testing.T) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(h.key)
	if err != nil {
		t.Fatal(err)
	}
	return encode("PRIVATE KEY", der)
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// issue creates a certificate that is signed by the issuer by. If by is nil, the certificate is self-signed.
func issue(t *testing.T, subject pkix.Name, key crypto.Signer, by *issued, ca bool) issued {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: subject, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IsCA: ca, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if ca {
		template.KeyUsage = x509.KeyUsageCertSign
	}
	if by == nil {
		by = &issued{template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.certificate, key.Public(), by.key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return issued{certificate, key}
}

func ec(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func rsaKey(t *testing.T, bits int) crypto.Signer {
	t.Helper()
	t.Setenv("GODEBUG", "rsa1024min=0")
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func subject(commonName string) pkix.Name {
	return pkix.Name{Country: []string{"FR"}, Organization: []string{"Example"}, CommonName: commonName}
}

func TestNamesDependOnContents(t *testing.T) {
	root, foreign := issue(t, subject("ca"), ec(t), nil, true), issue(t, subject("other"), ec(t), nil, true)
	intermediate := issue(t, subject("between"), ec(t), &root, true)
	leaf := issue(t, subject("left"), rsaKey(t, 2048), &root, false)
	renewed := issue(t, subject("left"), leaf.key, &root, false)
	below := issue(t, subject("below"), ec(t), &intermediate, false)
	read := func(h issued, certificates, roots []byte) *Credential {
		t.Helper()
		c, err := Read(certificates, h.keyPEM(t), roots, now)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	a := read(leaf, leaf.pem(), root.pem())
	if a.AuthBy != "rsasig" || a.PeerCA != SameCA || len(a.Chain) != 0 || len(a.Roots) != 1 {
		t.Errorf("got %+v", a)
	}
	commented := read(leaf, append([]byte("a comment\n"), leaf.pem()...), root.pem())
	if commented.Nickname != a.Nickname || commented.Digest != a.Digest {
		t.Error("a comment changed the names")
	}
	b := read(renewed, renewed.pem(), root.pem())
	key := func(nickname string) string { return nickname[:strings.LastIndexByte(nickname, '-')] }
	if b.Nickname == a.Nickname || b.Digest == a.Digest || key(b.Nickname) != key(a.Nickname) {
		t.Errorf("renewed certificate: %s, before %s", b.Nickname, a.Nickname)
	}
	c := read(leaf, leaf.pem(), foreign.pem())
	if c.Nickname != a.Nickname || c.Digest == a.Digest || c.PeerCA != "C=FR, O=Example, CN=other" {
		t.Errorf("another authority: %+v", c)
	}
	d := read(below, append(below.pem(), intermediate.pem()...), root.pem())
	if d.AuthBy != "ecdsa" || len(d.Chain) != 1 || d.PeerCA != "C=FR, O=Example, CN=ca" {
		t.Errorf("with an intermediate authority: %+v", d)
	}
}

func TestPKCS12ContainsCertificateAndKey(t *testing.T) {
	root := issue(t, subject("ca"), ec(t), nil, true)
	for _, signer := range []crypto.Signer{ec(t), rsaKey(t, 2048)} {
		leaf := issue(t, subject("left"), signer, &root, false)
		c, err := Read(leaf.pem(), leaf.keyPEM(t), root.pem(), now)
		if err != nil {
			t.Fatal(err)
		}
		encoded, err := c.PKCS12("password")
		if err != nil {
			t.Fatal(err)
		}
		key, certificate, err := pkcs12.Decode(encoded, "password")
		if err != nil || !certificate.Equal(leaf.certificate) ||
			!signer.(interface{ Equal(crypto.PrivateKey) bool }).Equal(key) {
			t.Errorf("got %v, %v", certificate, err)
		}
	}
}

func TestPrivateKeyFormats(t *testing.T) {
	root := issue(t, subject("ca"), ec(t), nil, true)
	ecLeaf := issue(t, subject("left"), ec(t), &root, false)
	rsaLeaf := issue(t, subject("left"), rsaKey(t, 2048), &root, false)
	sec1, err := x509.MarshalECPrivateKey(ecLeaf.key.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	parameters := encode("EC PARAMETERS", []byte{6, 8, 42, 134, 72, 206, 61, 3, 1, 7})
	pkcs1 := x509.MarshalPKCS1PrivateKey(rsaLeaf.key.(*rsa.PrivateKey))
	for name, test := range map[string]struct {
		leaf issued
		key  []byte
	}{
		"SEC 1 after its parameters": {ecLeaf, append(parameters, encode("EC PRIVATE KEY", sec1)...)},
		"PKCS #1":                    {rsaLeaf, encode("RSA PRIVATE KEY", pkcs1)},
	} {
		if _, err := Read(test.leaf.pem(), test.key, root.pem(), now); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestInvalidFilesAreRefused(t *testing.T) {
	root := issue(t, subject("ca"), ec(t), nil, true)
	odd := issue(t, subject("caf\u00e9"), ec(t), nil, true)
	leaf := issue(t, subject("left"), ec(t), &root, false)
	short := issue(t, subject("short"), rsaKey(t, 1024), &root, false)
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other := issue(t, subject("edwards"), edwards, &root, false)
	own, key, ca := leaf.pem(), leaf.keyPEM(t), root.pem()
	for _, test := range []struct {
		name                 string
		certificate, key, ca []byte
		at                   time.Time
		want                 string
	}{
		{"expired", own, key, ca, now.Add(2 * time.Hour),
			"certificateFile: the certificate has expired at 2026-03-01T13:00:00Z"},
		{"too early", own, key, ca, now.Add(-2 * time.Hour), "certificateFile: the certificate is not valid before"},
		{"a CA certificate", ca, root.keyPEM(t), ca, now, "certificateFile: the first certificate is a CA certificate"},
		{"no PEM", []byte("x"), key, ca, now, "certificateFile: 0 certificates in PEM"},
		{"data after the certificate", append(own[:len(own):len(own)], "x"...), key, ca, now, "other data after them"},
		{"a key among certificates", append(own[:len(own):len(own)], key...), key, ca, now,
			`certificateFile: the file contains a PEM block "PRIVATE KEY"`},
		{"damaged", encode("CERTIFICATE", []byte("x")), key, ca, now, "a certificate cannot be parsed"},
		{"too many", bytes.Repeat(own, 9), key, ca, now, "9 certificates"},
		{"a leaf in the chain", append(own[:len(own):len(own)], own...), key, ca, now, "is not a CA certificate"},
		{"the key of another certificate", own, short.keyPEM(t), ca, now,
			"privateKeyFile: the key is not the certificate's"},
		{"no key", own, own, ca, now, `privateKeyFile: the file contains a PEM block "CERTIFICATE"`},
		{"an empty key", own, nil, ca, now, "privateKeyFile: the file contains no private key"},
		{"an encrypted key", own, encode("ENCRYPTED PRIVATE KEY", []byte("x")), ca, now, "not encrypted"},
		{"a damaged key", own, encode("PRIVATE KEY", []byte("secret-of-test")), ca, now,
			"privateKeyFile: the key cannot be parsed"},
		{"a short key", short.pem(), short.keyPEM(t), ca, now, "an RSA key of 1024 bits: allowed: 2048"},
		{"an Edwards curve", other.pem(), other.keyPEM(t), ca, now, "a key of kind Ed25519: allowed: RSA, ECDSA"},
		{"no root", own, key, own, now, "caFile, certificateFile: the certificate of"},
		{"a subject that is not ASCII", own, key, odd.pem(), now, "caFile: attribute 2.5.4.3 of the root's subject"},
		{"an intermediate authority as the root", own, key, issue(t, subject("between"), ec(t), &root, true).pem(), now,
			"not self-signed"},
	} {
		_, err := Read(test.certificate, test.key, test.ca, test.at)
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.ContainsAny(err.Error(), "\n") ||
			strings.Contains(err.Error(), "secret-of") {
			t.Errorf("%s: got %v, want %s", test.name, err, test.want)
		}
	}
}
