package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// authority is a certificate authority of a test.
type authority struct {
	t             *testing.T
	dir           string
	certificate   *x509.Certificate
	key           crypto.Signer
	file          string
	intermediates []byte // the certificates between issued certificates and the root, in PEM
}

// newAuthority creates a root, or an intermediate authority below root if root is not nil.
func newAuthority(t *testing.T, name string, root *authority) *authority {
	t.Helper()
	dir, err := os.MkdirTemp("", "ca") // a short name, because reasons are truncated
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	a := &authority{t: t, dir: dir, key: newKey(t, "rsa"), file: filepath.Join(dir, "ca.pem")}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: subjectOf(name),
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	issuer, by := template, a.key
	if root != nil {
		issuer, by = root.certificate, root.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, a.key.Public(), by)
	if err == nil {
		a.certificate, err = x509.ParseCertificate(der)
	}
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, a.file, "CERTIFICATE", der, 0o644)
	if root != nil {
		a.intermediates = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	return a
}

func subjectOf(name string) pkix.Name {
	return pkix.Name{Country: []string{"FR"}, Organization: []string{"Example"}, CommonName: name}
}

func newKey(t *testing.T, kind string) crypto.Signer {
	t.Helper()
	if kind == "rsa" {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func writePEM(t *testing.T, path, kind string, der []byte, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode); err != nil {
		t.Fatal(err)
	}
}

// issue writes a certificate and its key. name is the common name and, as a host name or an IP address, the alternative
// name. issue returns the JSON object for the key "certificate" of a connection, in which caFile is the file of peers.
func (a *authority) issue(name string, key crypto.Signer, ends time.Time, peers *authority) string {
	a.t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: subjectOf(name),
		NotBefore: time.Now().Add(-time.Hour), NotAfter: ends,
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true, DNSNames: []string{name + ".example.org"},
	}
	if ip := net.ParseIP(name); ip != nil {
		template.DNSNames, template.IPAddresses = nil, []net.IP{ip}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	encodedKey, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	file := filepath.Join(a.dir, name)
	chain := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), a.intermediates...)
	if err := os.WriteFile(file+".pem", chain, 0o644); err != nil {
		a.t.Fatal(err)
	}
	writePEM(a.t, file+".key", "PRIVATE KEY", encodedKey, 0o600)
	return fmt.Sprintf(`{"certificateFile":%q,"privateKeyFile":%q,"caFile":%q}`, file+".pem", file+".key", peers.file)
}
