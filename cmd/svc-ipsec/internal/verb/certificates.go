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
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/libreswan"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// unreadRetry is how soon ADD is asked for again when the key database could not be read, or did not take a certificate.
const unreadRetry = 30 * time.Second

// maxPEM is how large a file of certificates, or of a key, may be.
const maxPEM = 64 << 10

// readCertificates reads what connections by certificate authenticate with. The credentials themselves are for the daemon's
// key database alone. What cannot be read, or does not fit together since not all of it is renewed yet, stays what it was
// as long as that has not expired.
func (c *change) readCertificates(all []config.CertificateFiles, last map[config.CertificateFiles]config.Certificate, now time.Time) map[config.CertificateFiles]config.Certificate {
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
		found[files] = config.Certificate{Nickname: read.Nickname, AuthBy: read.AuthBy, PeerCA: read.PeerCA, Digest: read.Digest, Ends: read.Ends}
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
	}{{"certificateFile", files.Certificate, false}, {"privateKeyFile", files.PrivateKey, true}, {"caFile", files.CA, false}} {
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

// wantedCredentials lists those of the connections to run, as far as their files could be read.
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

// certify puts the credentials into the key database and takes the conns of those that it does not take out of specs. What
// runs already, by its file, stays where the database cannot be read.
func (c *change) certify(ctx context.Context, d *libreswan.Daemon, specs []libreswan.Spec, files map[string][]byte) ([]libreswan.Spec, error) {
	wanted, kept := c.wantedCredentials(), c.keptCertificates()
	if len(wanted) > 0 && !c.recorded.PrivateKeys {
		// If the verb is killed after the import, the next ADD removes the private keys that it does not need.
		c.recorded.PrivateKeys = true
		if err := c.folder.Save(c.recorded); err != nil {
			return specs, err
		}
	}
	failed, unread := d.Import(ctx, wanted)
	c.unread = unread != nil || len(failed) > 0
	if unread == nil {
		var lost []string
		lost, unread = d.Lacks(ctx, slices.Collect(maps.Keys(kept)))
		for _, nickname := range lost {
			failed[nickname] = kept[nickname]
		}
	}
	c.unread = c.unread || unread != nil
	var left []libreswan.Spec
	for _, s := range specs {
		reason, no := failed[s.Certificate]
		if unread != nil && s.Certificate != "" && !bytes.Equal(files[s.Name], s.Text) {
			reason, no = unread.Error(), true
		}
		if no {
			c.refused[s.Name] = "certificate: not imported: " + reason
		} else {
			left = append(left, s)
		}
	}
	return left, nil
}

// prune takes out of the key database what is no longer needed there. That it cannot costs no tunnel.
func (c *change) prune(ctx context.Context, d *libreswan.Daemon) {
	if !c.recorded.PrivateKeys || c.tools.Certutil == "" {
		return
	}
	wanted, kept := c.wantedCredentials(), slices.Collect(maps.Keys(c.keptCertificates()))
	err := d.Prune(ctx, wanted, kept)
	if err == nil && len(wanted)+len(kept) == 0 {
		c.recorded.PrivateKeys = false // saved by finish: if the verb is killed before, the next ADD prunes again
	}
	if err != nil {
		c.Log.Warn("unused certificates stay in the key database", slog.String("container", string(c.request.owner.Name)), slog.Any("error", err))
	}
}

// database gives a daemon that is to be started a new key database; or leaves it the old one, if a certificate that cannot
// be read now is in there.
func (c *change) database(ctx context.Context, d *libreswan.Daemon) error {
	template := filepath.Join(c.Root, nssTemplate)
	if kept := c.keptCertificates(); len(kept) > 0 {
		if err := d.TakeNSS(ctx, template); err != nil {
			return err
		}
		if lost, err := d.Lacks(ctx, slices.Collect(maps.Keys(kept))); err != nil || len(lost) < len(kept) {
			return err
		}
	}
	return d.MakeNSS(ctx, template)
}
