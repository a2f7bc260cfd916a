package etcdtest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	rootUser     = "root"
	rootPassword = "etcdtest"
)

// files are the certificates of a cluster: their paths, and what the harness needs for its own client.
type files struct {
	CA, Cert, Key         string // paths: the CA certificate, and the certificate and key of a client
	serverCert, serverKey string
	authority             *x509.CertPool
	client                tls.Certificate
}

// CA returns the path of the CA certificate that signed the servers' certificate.
func (c *Cluster) CA() string { return c.files.CA }

// write creates a CA, a certificate for the servers and one for a client.
func (f *files) write(dir string) error {
	now := time.Now()
	template := func(serial int64, name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
			NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
			KeyUsage:    x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}
	}
	authority := template(1, "etcdtest")
	authority.IsCA, authority.BasicConstraintsValid, authority.KeyUsage = true, true, x509.KeyUsageCertSign
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	sign := func(name string, template *x509.Certificate, own *ecdsa.PrivateKey) (certFile, keyFile string, err error) {
		der, err := x509.CreateCertificate(rand.Reader, template, authority, &own.PublicKey, key)
		if err != nil {
			return "", "", err
		}
		private, err := x509.MarshalPKCS8PrivateKey(own)
		if err != nil {
			return "", "", err
		}
		certFile, keyFile = filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
		certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
		if err := os.WriteFile(certFile, certPEM, 0o644); err != nil {
			return "", "", err
		}
		keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
		return certFile, keyFile, os.WriteFile(keyFile, keyPEM, 0o600)
	}
	if f.CA, _, err = sign("ca", authority, key); err != nil {
		return err
	}
	server := template(2, "server")
	server.IPAddresses, server.DNSNames = []net.IP{net.IPv4(127, 0, 0, 1)}, []string{"localhost"}
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	if f.serverCert, f.serverKey, err = sign("server", server, own); err != nil {
		return err
	}
	if f.Cert, f.Key, err = sign("client", template(3, "client"), own); err != nil {
		return err
	}
	if f.client, err = tls.LoadX509KeyPair(f.Cert, f.Key); err != nil {
		return err
	}
	bytes, err := os.ReadFile(f.CA)
	f.authority = x509.NewCertPool()
	f.authority.AppendCertsFromPEM(bytes)
	return err
}

// arguments returns the arguments of a server.
func (f *files) arguments(o options) (arguments []string) {
	if o.tls {
		arguments = append(arguments, "--cert-file="+f.serverCert, "--key-file="+f.serverKey)
	}
	if o.clientCert {
		arguments = append(arguments, "--client-cert-auth", "--trusted-ca-file="+f.CA)
	}
	return arguments
}

// Auth enables authentication and creates a user that may read and write all keys below the prefix. Afterwards URL
// contains the user and the path of a password file. Auth must be called before Client.
func (c *Cluster) Auth(user, password, prefix string) {
	c.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), serveTimeout)
	defer cancel()
	client, err := c.dial(c.Endpoints()...)
	if err != nil {
		c.tb.Fatalf("etcdtest: %v", err)
	}
	defer client.Close()
	end := []byte(prefix)
	end[len(end)-1]++
	steps := []func() error{
		func() error { _, err := client.RoleAdd(ctx, "root"); return err },
		func() error { _, err := client.UserAdd(ctx, rootUser, rootPassword); return err },
		func() error { _, err := client.UserGrantRole(ctx, rootUser, "root"); return err },
		func() error { _, err := client.RoleAdd(ctx, user); return err },
		func() error {
			permission := clientv3.PermissionType(clientv3.PermReadWrite)
			_, err := client.RoleGrantPermission(ctx, user, prefix, string(end), permission)
			return err
		},
		func() error { _, err := client.UserAdd(ctx, user, password); return err },
		func() error { _, err := client.UserGrantRole(ctx, user, user); return err },
		func() error { _, err := client.AuthEnable(ctx); return err },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			c.tb.Fatalf("etcdtest: auth: %v", err)
		}
	}
	c.user, c.pass = user, filepath.Join(c.tb.TempDir(), "password")
	if err := os.WriteFile(c.pass, []byte(password+"\n"), 0o600); err != nil {
		c.tb.Fatalf("etcdtest: %v", err)
	}
}
