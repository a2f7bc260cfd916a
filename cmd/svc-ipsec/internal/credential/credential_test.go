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

// holder is a certificate of a test and its key.
type holder struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

func (h holder) pem() []byte { return encode("CERTIFICATE", h.certificate.Raw) }

func (h holder) keyPEM(t *testing.T) []byte {
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

// issue makes a certificate; without an issuer it is a root.
func issue(t *testing.T, subject pkix.Name, key crypto.Signer, by *holder, ca bool) holder {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: subject, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), IsCA: ca,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature}
	if ca {
		template.KeyUsage = x509.KeyUsageCertSign
	}
	if by == nil {
		by = &holder{template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.certificate, key.Public(), by.key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return holder{certificate, key}
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

func called(names ...string) pkix.Name {
	return pkix.Name{Country: []string{"FR"}, Organization: []string{"Example"}, CommonName: strings.Join(names, " ")}
}

func TestACredentialIsNamedByItsContents(t *testing.T) {
	root, foreign := issue(t, called("ca"), ec(t), nil, true), issue(t, called("other"), ec(t), nil, true)
	between := issue(t, called("between"), ec(t), &root, true)
	leaf := issue(t, called("left"), rsaKey(t, 2048), &root, false)
	renewed := issue(t, called("left"), leaf.key, &root, false)
	below := issue(t, called("below"), ec(t), &between, false)
	read := func(h holder, certificates, roots []byte) *Credential {
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
	if again := read(leaf, append([]byte("a comment\n"), leaf.pem()...), root.pem()); again.Nickname != a.Nickname || again.Digest != a.Digest {
		t.Error("a comment makes another credential")
	}
	b := read(renewed, renewed.pem(), root.pem())
	key := func(nickname string) string { return nickname[:strings.LastIndexByte(nickname, '-')] }
	if b.Nickname == a.Nickname || b.Digest == a.Digest || key(b.Nickname) != key(a.Nickname) {
		t.Errorf("renewed: %s, before %s", b.Nickname, a.Nickname)
	}
	c := read(leaf, leaf.pem(), foreign.pem())
	if c.Nickname != a.Nickname || c.Digest == a.Digest || c.PeerCA != "C=FR, O=Example, CN=other" {
		t.Errorf("another authority: %+v", c)
	}
	d := read(below, append(below.pem(), between.pem()...), root.pem())
	if d.AuthBy != "ecdsa" || len(d.Chain) != 1 || d.PeerCA != "C=FR, O=Example, CN=ca" {
		t.Errorf("below another: %+v", d)
	}
}

func TestAKeyIsPackedAsItIs(t *testing.T) {
	root := issue(t, called("ca"), ec(t), nil, true)
	for _, signer := range []crypto.Signer{ec(t), rsaKey(t, 2048)} {
		leaf := issue(t, called("left"), signer, &root, false)
		c, err := Read(leaf.pem(), leaf.keyPEM(t), root.pem(), now)
		if err != nil {
			t.Fatal(err)
		}
		packed, err := c.PKCS12("word")
		if err != nil {
			t.Fatal(err)
		}
		key, certificate, err := pkcs12.Decode(packed, "word")
		if err != nil || !certificate.Equal(leaf.certificate) || !signer.(interface{ Equal(crypto.PrivateKey) bool }).Equal(key) {
			t.Errorf("got %v, %v", certificate, err)
		}
	}
}

func TestAKeyIsReadInEveryUsualForm(t *testing.T) {
	root := issue(t, called("ca"), ec(t), nil, true)
	curve, long := issue(t, called("left"), ec(t), &root, false), issue(t, called("left"), rsaKey(t, 2048), &root, false)
	sec1, err := x509.MarshalECPrivateKey(curve.key.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		of  holder
		key []byte
	}{
		"SEC 1 behind its parameters": {curve, append(encode("EC PARAMETERS", []byte{6, 8, 42, 134, 72, 206, 61, 3, 1, 7}), encode("EC PRIVATE KEY", sec1)...)},
		"PKCS #1":                     {long, encode("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(long.key.(*rsa.PrivateKey)))},
	} {
		if _, err := Read(test.of.pem(), test.key, root.pem(), now); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatCannotAuthenticateIsRefusedAndTellsNoKey(t *testing.T) {
	root := issue(t, called("ca"), ec(t), nil, true)
	odd := issue(t, called("caf\u00e9"), ec(t), nil, true)
	leaf := issue(t, called("left"), ec(t), &root, false)
	short := issue(t, called("short"), rsaKey(t, 1024), &root, false)
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other := issue(t, called("edwards"), edwards, &root, false)
	own, key, ca := leaf.pem(), leaf.keyPEM(t), root.pem()
	for _, test := range []struct {
		name                 string
		certificate, key, ca []byte
		at                   time.Time
		says                 string
	}{
		{"expired", own, key, ca, now.Add(2 * time.Hour), "certificateFile: the certificate has expired at 2026-03-01T13:00:00Z"},
		{"too early", own, key, ca, now.Add(-2 * time.Hour), "certificateFile: the certificate is not valid before"},
		{"an authority's", ca, root.keyPEM(t), ca, now, "certificateFile: the first certificate is an authority's"},
		{"no PEM", []byte("x"), key, ca, now, "certificateFile: 0 certificates in PEM"},
		{"something behind", append(own[:len(own):len(own)], "x"...), key, ca, now, "something behind them"},
		{"a key among certificates", append(own[:len(own):len(own)], key...), key, ca, now, `certificateFile: it holds a "PRIVATE KEY"`},
		{"damaged", encode("CERTIFICATE", []byte("x")), key, ca, now, "a certificate cannot be read"},
		{"too many", bytes.Repeat(own, 9), key, ca, now, "9 certificates"},
		{"a leaf in the chain", append(own[:len(own):len(own)], own...), key, ca, now, "is no authority's"},
		{"another's key", own, short.keyPEM(t), ca, now, "privateKeyFile: the key is not the certificate's"},
		{"no key", own, own, ca, now, `privateKeyFile: it holds a "CERTIFICATE"`},
		{"an empty key", own, nil, ca, now, "privateKeyFile: it holds no private key"},
		{"an encrypted key", own, encode("ENCRYPTED PRIVATE KEY", []byte("x")), ca, now, "not encrypted"},
		{"a damaged key", own, encode("PRIVATE KEY", []byte("secret-of-test")), ca, now, "privateKeyFile: the key cannot be read"},
		{"a short key", short.pem(), short.keyPEM(t), ca, now, "an RSA key of 1024 bits: allowed: 2048"},
		{"an Edwards curve", other.pem(), other.keyPEM(t), ca, now, "a key of kind Ed25519: allowed: RSA, ECDSA"},
		{"no root", own, key, own, now, "caFile, certificateFile: the certificate of"},
		{"a subject that cannot be written", own, key, odd.pem(), now, "caFile: the root's subject cannot be told to Libreswan"},
		{"a root that is none", own, key, issue(t, called("between"), ec(t), &root, true).pem(), now, "not signed by itself"},
	} {
		_, err := Read(test.certificate, test.key, test.ca, test.at)
		if err == nil || !strings.Contains(err.Error(), test.says) || strings.ContainsAny(err.Error(), "\n") || strings.Contains(err.Error(), "secret-of") {
			t.Errorf("%s: got %v, want %s", test.name, err, test.says)
		}
	}
}
