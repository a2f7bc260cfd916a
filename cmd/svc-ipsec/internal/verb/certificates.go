package verb

import (
	"bytes"
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/credential"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/endpoint"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/libreswan"
)

// databaseRetry is the delay of the next ADD after the key database could not be read or a certificate could not be
// imported.
const databaseRetry = 30 * time.Second

// keyDatabase brings the certificates of the wanted connections into the daemon's key database, and removes the others.
type keyDatabase struct {
	daemon      *libreswan.Daemon
	record      *record
	wanted      []*config.Connection
	credentials map[string]*credential.Credential // those whose files could be read, by digest
	template    string                            // path of the empty database that is created once per host
	failed      bool                              // the database could not be read, or a certificate not be imported
	log         *slog.Logger
}

// readable returns the credentials of the wanted connections whose files could be read, each once.
func (k *keyDatabase) readable() []*credential.Credential {
	var list []*credential.Credential
	seen := map[string]bool{"": true}
	for _, connection := range k.wanted {
		if digest := connection.Certificate.Digest; !seen[digest] {
			if read := k.credentials[digest]; read != nil {
				list = append(list, read)
			}
			seen[digest] = true
		}
	}
	return list
}

// stale returns the certificates of wanted connections whose files could not be read, by nickname, with the reasons.
// Only the daemon's key database contains them.
func (k *keyDatabase) stale() map[string]string {
	kept := map[string]string{}
	for _, connection := range k.wanted {
		if certificate := connection.Certificate; certificate.Nickname != "" &&
			k.credentials[certificate.Digest] == nil {
			kept[certificate.Nickname] = certificate.Fault
		}
	}
	return kept
}

// load imports the credentials. It returns the conns whose certificate could not be imported, with the reasons. If the
// database cannot be read, conns that run unchanged, judged by their files, are not among them.
func (k *keyDatabase) load(ctx context.Context, conns []endpoint.Conn,
	files map[string][]byte,
) (refused map[string]string, err error) {
	wanted, kept := k.readable(), k.stale()
	if len(wanted) > 0 && !k.record.state.PrivateKeys {
		// Saved before the import: if the verb is killed after it, the next ADD removes the private keys that it does
		// not need.
		k.record.state.PrivateKeys = true
		if err := k.record.save(); err != nil {
			return nil, err
		}
	}
	failed, unread := k.daemon.KeyDatabase().Import(ctx, wanted)
	k.failed = unread != nil || len(failed) > 0
	if unread == nil {
		var lost []string
		lost, unread = k.daemon.KeyDatabase().Missing(ctx, slices.Collect(maps.Keys(kept)))
		for _, nickname := range lost {
			failed[nickname] = kept[nickname]
		}
	}
	k.failed = k.failed || unread != nil
	refused = map[string]string{}
	for _, conn := range conns {
		nickname := conn.Connection.Certificate.Nickname
		reason, isRefused := failed[nickname]
		unchanged := bytes.Equal(files[conn.Name], conn.Text) || bytes.Equal(files[conn.Name], conn.Former)
		if unread != nil && nickname != "" && !unchanged {
			reason, isRefused = unread.Error(), true
		}
		if isRefused {
			refused[conn.Name] = "certificate: not imported: " + reason
		}
	}
	return refused, nil
}

// prune removes from the database what no wanted connection needs. A failure is only logged, because it affects no
// tunnel.
func (k *keyDatabase) prune(ctx context.Context) {
	if !k.record.state.PrivateKeys || k.daemon.Tools.Certutil == "" {
		return
	}
	wanted, kept := k.readable(), slices.Collect(maps.Keys(k.stale()))
	err := k.daemon.KeyDatabase().Prune(ctx, wanted, kept)
	if err == nil && len(wanted)+len(kept) == 0 {
		// finish saves it. If the verb is killed before that, the next ADD prunes again.
		k.record.state.PrivateKeys = false
	}
	if err != nil {
		k.log.Warn("unused certificates stay in the key database",
			slog.String("container", string(k.daemon.Owner.Name)), slog.Any("error", err))
	}
}

// create creates a new database for a daemon that is about to be started. It keeps the existing database if that has a
// certificate whose files cannot be read now.
func (k *keyDatabase) create(ctx context.Context) error {
	if kept := k.stale(); len(kept) > 0 {
		if err := k.daemon.KeyDatabase().Reuse(ctx, k.template); err != nil {
			return err
		}
		if lost, err := k.daemon.KeyDatabase().Missing(ctx, slices.Collect(maps.Keys(kept))); err != nil ||
			len(lost) < len(kept) {
			return err
		}
	}
	return k.daemon.KeyDatabase().Create(ctx, k.template)
}
