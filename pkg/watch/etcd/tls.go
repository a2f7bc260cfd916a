package etcd

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"

	"github.com/svc-supervisor/svc-supervisor/internal/inputfile"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// tlsConfig returns the TLS configuration and the content of the CA file. A server certificate must contain the host
// name of its endpoint. The client certificate is read again for every connection, so that a renewed one is used.
func (l Location) tlsConfig() (*tls.Config, []byte, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	var authority []byte
	if l.CA != "" {
		var err error
		if authority, err = readFile("ca", l.CA, 0); err != nil {
			return nil, nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(authority) {
			return nil, nil, &spec.Fault{Key: "ca", Value: l.CA, Allowed: "a file with certificates in PEM"}
		}
	}
	if l.Cert != "" {
		if _, err := l.certificate(); err != nil {
			return nil, nil, err
		}
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return l.certificate()
		}
	}
	return config, authority, nil
}

func (l Location) certificate() (*tls.Certificate, error) {
	cert, err := readFile("cert", l.Cert, 0)
	if err != nil {
		return nil, err
	}
	key, err := readSecret("key", l.Key)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key.Reveal())
	if err != nil {
		return nil, fmt.Errorf("cert %s and key %s: %w", l.Cert, l.Key, err)
	}
	return &pair, nil
}

// readSecret reads a regular file without permissions for others.
func readSecret(key, path string) (spec.Secret, error) {
	content, err := readFile(key, path, 0o007)
	return spec.NewSecret(content), err
}

// readFile reads a regular file. It returns an error if the file has one of the refused permissions.
func readFile(key, path string, refused fs.FileMode) ([]byte, error) {
	file, stat, err := inputfile.Open(path)
	if err != nil {
		return nil, fileFault(key, path, err)
	}
	defer file.Close()
	switch mode := stat.Mode(); {
	case refused != 0 && (!mode.IsRegular() || mode.Perm()&refused != 0):
		allowed := fmt.Sprintf("a regular file that others may not read (chmod 600), and this is %v", mode)
		return nil, &spec.Fault{Key: key, Value: path, Allowed: allowed}
	case !mode.IsRegular():
		return nil, &spec.Fault{Key: key, Value: path, Allowed: fmt.Sprintf("a regular file, and this is %v", mode)}
	}
	content, err := inputfile.Read(file, stat)
	if err != nil {
		return nil, fileFault(key, path, err)
	}
	return content, nil
}

func fileFault(key, path string, err error) error {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		err = pathError.Err
	}
	return fmt.Errorf("%s %s: %w", key, path, err)
}
