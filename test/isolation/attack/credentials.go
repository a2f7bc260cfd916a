package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// credentials makes the certificate of a CA, and a certificate with its private key that the CA has issued, as files in
// a directory: ca.pem, left.pem and left.key. It is not an attack, but a test needs the files, and the environment may
// have no program that issues certificates.
func credentials(args []string) (string, error) {
	authority, authorityKey, err := issue("ca", nil, nil)
	if err != nil {
		return "", err
	}
	certificate, key, err := issue("left", authority, authorityKey)
	if err != nil {
		return "", err
	}
	packed, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", err
	}
	for name, block := range map[string]*pem.Block{
		"ca.pem":   {Type: "CERTIFICATE", Bytes: authority.Raw},
		"left.pem": {Type: "CERTIFICATE", Bytes: certificate.Raw},
		"left.key": {Type: "PRIVATE KEY", Bytes: packed},
	} {
		if err := os.WriteFile(filepath.Join(args[0], name), pem.EncodeToMemory(block), 0o600); err != nil {
			return "", err
		}
	}
	return "", nil
}

// issue makes a certificate that is signed by the parent, or a self-signed CA certificate if parent is nil.
func issue(name string, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (
	*x509.Certificate, *ecdsa.PrivateKey, error,
) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, DNSNames: []string{name + ".example.org"}}
	if parent == nil {
		template.IsCA, template.KeyUsage, template.DNSNames = true, x509.KeyUsageCertSign, nil
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		return nil, nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	return certificate, key, err
}
