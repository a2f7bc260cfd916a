package verb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/credential"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/endpoint"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/libreswan"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// databaseRetry is the delay of the next ADD after the key database could not be read or a certificate could not be
// imported.
const databaseRetry = 30 * time.Second

// maxPEM is the maximum size in bytes of a file with certificates or with a private key.
const maxPEM = 64 << 10

// readCertificates reads the files of the connections that authenticate by certificate. The result describes the
// certificates; the credentials themselves go only into c.credentials and the daemon's key database. If files cannot be
// read, or do not belong together because they are being renewed, the last certificate is used until it expires.
func (c *change) readCertificates(all []config.CertificateFiles,
	last map[config.CertificateFiles]config.Certificate, now time.Time,
) map[config.CertificateFiles]config.Certificate {
	found := map[config.CertificateFiles]config.Certificate{}
	c.credentials = map[string]*credential.Credential{}
	for _, files := range all {
		read, err := c.readCertificate(files, now)
		if err != nil {
			kept := last[files]
			if errors.Is(err, credential.ErrExpired) || !kept.Ends.After(now) {
				kept = config.Certificate{}
			}
			kept.Fault = err.Error()
			found[files] = kept
			continue
		}
		found[files] = config.Certificate{
			Nickname: read.Nickname, AuthBy: read.AuthBy, PeerCA: read.PeerCA, Digest: read.Digest, Ends: read.Ends,
		}
		c.credentials[read.Digest] = read
	}
	return found
}

func (c *change) readCertificate(files config.CertificateFiles, now time.Time) (*credential.Credential, error) {
	for name, program := range map[string]string{"certutil": c.tools.Certutil, "pk12util": c.tools.PK12util} {
		if program == "" {
			return nil, fmt.Errorf("missing on this host: %s (Debian: libnss3-tools)", name)
		}
	}
	var contents [3][]byte
	for i, file := range []struct {
		key, path string
		secret    bool
	}{
		{"certificateFile", files.Certificate, false},
		{"privateKeyFile", files.PrivateKey, true},
		{"caFile", files.CA, false},
	} {
		content, err := c.keys.Read(file.path, maxPEM, file.secret)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", file.key, spec.Quote(file.path), err)
		}
		contents[i] = content
	}
	read, err := credential.Read(contents[0], contents[1], contents[2], now)
	if err != nil {
		return nil, fmt.Errorf("%w (of %s)", err, path.Base(files.Certificate))
	}
	return read, nil
}

// wantedCredentials returns the credentials of the wanted connections whose files could be read, each once.
func (c *change) wantedCredentials() []*credential.Credential {
	var list []*credential.Credential
	seen := map[string]bool{"": true}
	for _, connection := range c.request.configuration.Wanted() {
		if digest := connection.Certificate.Digest; !seen[digest] {
			if read := c.credentials[digest]; read != nil {
				list = append(list, read)
			}
			seen[digest] = true
		}
	}
	return list
}

// importCertificates imports the credentials into the key database. It returns the conns without those whose
// certificate could not be imported, and records the reasons of those in c.refused. If the database cannot be read,
// conns that run unchanged, judged by their files, are not removed.
func (c *change) importCertificates(ctx context.Context, d *libreswan.Daemon, conns []endpoint.Conn,
	files map[string][]byte,
) ([]endpoint.Conn, error) {
	wanted, kept := c.wantedCredentials(), c.staleCertificates()
	if len(wanted) > 0 && !c.recorded.PrivateKeys {
		// Saved before the import: if the verb is killed after it, the next ADD removes the private keys that it does not
		// need.
		c.recorded.PrivateKeys = true
		if err := c.dir.Save(c.recorded); err != nil {
			return conns, err
		}
	}
	failed, unread := d.Import(ctx, wanted)
	c.databaseFailed = unread != nil || len(failed) > 0
	if unread == nil {
		var lost []string
		lost, unread = d.Missing(ctx, slices.Collect(maps.Keys(kept)))
		for _, nickname := range lost {
			failed[nickname] = kept[nickname]
		}
	}
	c.databaseFailed = c.databaseFailed || unread != nil
	var left []endpoint.Conn
	for _, conn := range conns {
		certificate := conn.Connection.Certificate.Nickname
		reason, isRefused := failed[certificate]
		if unread != nil && certificate != "" && !bytes.Equal(files[conn.Name], conn.Text) {
			reason, isRefused = unread.Error(), true
		}
		if isRefused {
			c.refused[conn.Name] = "certificate: not imported: " + reason
		} else {
			left = append(left, conn)
		}
	}
	return left, nil
}

// prune removes from the key database what no wanted connection needs. A failure is only logged, because it affects no
// tunnel.
func (c *change) prune(ctx context.Context, d *libreswan.Daemon) {
	if !c.recorded.PrivateKeys || c.tools.Certutil == "" {
		return
	}
	wanted, kept := c.wantedCredentials(), slices.Collect(maps.Keys(c.staleCertificates()))
	err := d.Prune(ctx, wanted, kept)
	if err == nil && len(wanted)+len(kept) == 0 {
		c.recorded.PrivateKeys = false // finish saves it; if the verb is killed before that, the next ADD prunes again
	}
	if err != nil {
		c.Log.Warn("unused certificates stay in the key database",
			slog.String("container", string(c.request.owner.Name)), slog.Any("error", err))
	}
}

// prepareDatabase creates a new key database for a daemon that is about to be started. It keeps the existing database
// if that has a certificate whose files cannot be read now.
func (c *change) prepareDatabase(ctx context.Context, d *libreswan.Daemon) error {
	template := filepath.Join(c.Root, nssTemplate)
	if kept := c.staleCertificates(); len(kept) > 0 {
		if err := d.ReuseNSS(ctx, template); err != nil {
			return err
		}
		if lost, err := d.Missing(ctx, slices.Collect(maps.Keys(kept))); err != nil || len(lost) < len(kept) {
			return err
		}
	}
	return d.CreateNSS(ctx, template)
}
