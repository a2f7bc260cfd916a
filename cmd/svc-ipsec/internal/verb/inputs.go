package verb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path"
	"slices"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/credential"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/libreswan"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/lookup"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// maxPEM is the maximum size in bytes of a file with certificates or with a private key.
const maxPEM = 64 << 10

// inputs reads the key files and certificates, and resolves the peer names, that configurations refer to. If one is
// missing, only the connections that need it are affected. The value that the last successful ADD found is then used,
// so that an edit of another connection does not interrupt a tunnel.
type inputs struct {
	keys        *lookup.KeyFiles
	resolver    lookup.Resolver
	tools       libreswan.Tools
	last        config.Found           // what the last successful ADD found
	names       map[string]config.Name // results of the name lookups of this ADD, by peer name
	credentials map[string]*credential.Credential
}

// read returns what the configuration refers to, as it is now.
func (i *inputs) read(ctx context.Context, wanted *config.Configuration) config.Found {
	now := time.Now()
	return config.Found{
		Files:        i.readKeys(wanted.PSKFiles()),
		Certificates: i.readCertificates(wanted.Certificates(), now),
		Names:        i.lookUpPeers(ctx, wanted),
		At:           now,
	}
}

// warnOfUnexpected logs the key files outside of the directory for them.
func (i *inputs) warnOfUnexpected(log *slog.Logger, keyDirectory string, container spec.Name) {
	for _, path := range i.keys.Unexpected() {
		log.Warn("a key file is outside of /etc/svc-supervisor: name the directory of key files in "+keyDirectory,
			slog.String("container", string(container)), slog.String("file", path))
	}
}

// readKeys reads files with pre-shared keys. It removes one newline at the end, because editors add one; everything
// else is the key.
func (i *inputs) readKeys(paths []string) map[string]config.File {
	files := map[string]config.File{}
	for _, path := range paths {
		content, err := i.keys.Read(path, config.MaxSecret+1, true)
		content = bytes.TrimSuffix(content, []byte("\n"))
		if err == nil && (len(content) == 0 || len(content) > config.MaxSecret) {
			err = fmt.Errorf("%d bytes: allowed: 1 to %d, less one newline at the end", len(content), config.MaxSecret)
		}
		if err != nil {
			files[path] = config.File{Content: i.last.Files[path].Content, Fault: err.Error()}
			continue
		}
		files[path] = config.File{Content: spec.NewSecret(content)}
	}
	return files
}

// readCertificates reads the files of the connections that authenticate by certificate. The result describes the
// certificates; the credentials themselves go only into i.credentials and the daemon's key database. If files cannot be
// read, or do not belong together because they are being renewed, the last certificate is used until it expires.
func (i *inputs) readCertificates(all []config.CertificateFiles,
	now time.Time,
) map[config.CertificateFiles]config.Certificate {
	found := map[config.CertificateFiles]config.Certificate{}
	i.credentials = map[string]*credential.Credential{}
	for _, files := range all {
		read, err := i.readCertificate(files, now)
		if err != nil {
			kept := i.last.Certificates[files]
			if errors.Is(err, credential.ErrExpired) || !kept.NotAfter.After(now) {
				kept = config.Certificate{}
			}
			kept.Fault = err.Error()
			found[files] = kept
			continue
		}
		found[files] = config.Certificate{
			Nickname: read.Nickname, AuthBy: read.AuthBy, PeerCA: read.PeerCA,
			Digest: read.Digest, NotAfter: read.NotAfter,
		}
		i.credentials[read.Digest] = read
	}
	return found
}

func (i *inputs) readCertificate(files config.CertificateFiles, now time.Time) (*credential.Credential, error) {
	for name, program := range map[string]string{"certutil": i.tools.Certutil, "pk12util": i.tools.PK12util} {
		if program == "" {
			return nil, fmt.Errorf("missing on this host: %s (Debian: libnss3-tools)", name)
		}
	}
	var contents [3][]byte
	for n, file := range []struct {
		key, path string
		secret    bool
	}{
		{"certificateFile", files.Certificate, false},
		{"privateKeyFile", files.PrivateKey, true},
		{"caFile", files.CA, false},
	} {
		content, err := i.keys.Read(file.path, maxPEM, file.secret)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", file.key, spec.Quote(file.path), err)
		}
		contents[n] = content
	}
	read, err := credential.Read(contents[0], contents[1], contents[2], now)
	if err != nil {
		return nil, fmt.Errorf("%w (of %s)", err, path.Base(files.Certificate))
	}
	return read, nil
}

// lookUpPeers resolves the names of the peers, each once for each ADD. If the lookup of a name fails, the address of
// the last successful ADD is used.
func (i *inputs) lookUpPeers(ctx context.Context, configuration *config.Configuration) map[string]config.Name {
	families := addressFamilies(configuration.ExternalIPs)
	if families == "" {
		return nil // no external address, so no connection can run
	}
	if i.names == nil {
		i.names = map[string]config.Name{}
	}
	wanted := configuration.PeerNames()
	unknown := slices.DeleteFunc(slices.Clone(wanted),
		func(name string) bool { _, known := i.names[name]; return known })
	for name, answer := range lookup.Names(ctx, i.resolver, families, unknown) {
		last := i.last.Names[name].Address
		if answer.Fault != "" {
			i.names[name] = config.Name{Address: last, Fault: answer.Fault}
		} else {
			i.names[name] = config.Name{Address: chooseAddress(answer.Addresses, last)}
		}
	}
	names := map[string]config.Name{}
	for _, name := range wanted {
		names[name] = i.names[name]
	}
	return names
}

// addressFamilies returns the network argument for the resolver: the address families for which the container has an
// external address, or "" if it has none.
func addressFamilies(external []netip.Addr) string {
	four := slices.ContainsFunc(external, netip.Addr.Is4)
	six := slices.ContainsFunc(external, netip.Addr.Is6)
	switch {
	case four && six:
		return "ip"
	case four:
		return "ip4"
	case six:
		return "ip6"
	}
	return ""
}

// chooseAddress keeps the last address as long as the name resolves to it. DNS servers return addresses in varying
// order, and a change of address interrupts the tunnel.
func chooseAddress(addresses []netip.Addr, last netip.Addr) netip.Addr {
	if slices.Contains(addresses, last) {
		return last
	}
	return addresses[0]
}
