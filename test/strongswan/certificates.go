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
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// certificateDirectory contains the certificates and keys of our end.
const certificateDirectory = "/etc/svc-supervisor/certificates"

// issueCertificates issues certificates for both ends, with RSA and with ECDSA keys, each kind from a CA of its own. It
// writes those of our end to certificateDirectory, and those of the peer to the directories of swanctl.
func issueCertificates(swanctl string) error {
	for _, kind := range []string{"rsa", "ecdsa"} {
		caKey, err := newKey(kind)
		if err != nil {
			return err
		}
		ca := template("CA of "+kind, 1)
		ca.IsCA, ca.BasicConstraintsValid, ca.KeyUsage = true, true, x509.KeyUsageCertSign
		caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
		if err != nil {
			return err
		}
		caPaths := []string{
			filepath.Join(certificateDirectory, kind+"-ca.pem"), filepath.Join(swanctl, "x509ca", kind+".pem"),
		}
		for _, path := range caPaths {
			if err := writePEM(path, "CERTIFICATE", caDER); err != nil {
				return err
			}
		}
		for i, end := range []struct{ name, certificate, key string }{
			{"left", filepath.Join(certificateDirectory, kind+".pem"),
				filepath.Join(certificateDirectory, kind+"-key.pem")},
			{"right", filepath.Join(swanctl, "x509", kind+".pem"), filepath.Join(swanctl, "private", kind+".pem")},
		} {
			key, err := newKey(kind)
			if err != nil {
				return err
			}
			certificate := template(end.name, int64(i+2))
			certificate.KeyUsage = x509.KeyUsageDigitalSignature
			certificate.DNSNames = []string{end.name + ".example.org"}
			certificate.EmailAddresses = []string{"vpn@" + end.name + ".example.org"}
			der, err := x509.CreateCertificate(rand.Reader, certificate, ca, key.Public(), caKey)
			if err != nil {
				return err
			}
			keyDER, err := x509.MarshalPKCS8PrivateKey(key)
			if err != nil {
				return err
			}
			if err := writePEM(end.certificate, "CERTIFICATE", der); err != nil {
				return err
			}
			if err := writePEM(end.key, "PRIVATE KEY", keyDER); err != nil {
				return err
			}
		}
	}
	return nil
}

func newKey(kind string) (crypto.Signer, error) {
	if kind == "rsa" {
		return rsa.GenerateKey(rand.Reader, 2048)
	}
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}

func template(name string, serial int64) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial),
		Subject:      pkix.Name{Country: []string{"FR"}, Organization: []string{"Example"}, CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(240 * time.Hour),
	}
}

func writePEM(path, kind string, der []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
