package libreswan

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/credential"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/regular"
	"github.com/svc-supervisor/svc-supervisor/internal/lazyregexp"
)

// certutilLimit bounds one run of certutil or pk12util, which take some 10 ms.
const certutilLimit = 10 * time.Second

// trusted is what a root is for, in certutil's words.
const trusted = "CT,,"

// nicknameLine is a line of certutil's list: a name of ours and what it is trusted for; u is that its key is there.
var nicknameLine = lazyregexp.New(`^((?:svc|ca)-[0-9a-f-]+) +([A-Za-z]*,[A-Za-z]*,[A-Za-z]*) *$`)

// Import puts credentials into the daemon's key database, running or not, and leaves what is there already. It returns the
// reason of each that could not be put, by nickname.
func (d *Daemon) Import(ctx context.Context, credentials []*credential.Credential) (map[string]string, error) {
	failed := map[string]string{}
	if len(credentials) == 0 {
		return failed, nil
	}
	there, err := d.nicknames(ctx)
	if err != nil {
		return nil, err
	}
	aside := filepath.Join(d.Dir, ".new-import") // what is left of it by a crash is tidied up with the folder
	defer func() { _ = os.RemoveAll(aside) }()
	if err := os.RemoveAll(aside); err != nil {
		return nil, fmt.Errorf("import certificates: %w", err)
	}
	if err := os.Mkdir(aside, 0o700); err != nil {
		return nil, fmt.Errorf("import certificates: %w", err)
	}
	roots := false
	for _, c := range credentials {
		added, err := d.importOne(ctx, c, there, aside)
		if err != nil {
			failed[c.Nickname] = oneLine(err.Error())
		}
		roots = roots || added
	}
	if roots {
		d.forgetRoots(ctx)
	}
	return failed, nil
}

func (d *Daemon) importOne(ctx context.Context, c *credential.Credential, there map[string]string, aside string) (roots bool, err error) {
	add := func(nickname, trust string, der []byte) error {
		if _, ok := there[nickname]; ok {
			return nil
		}
		file := filepath.Join(aside, "certificate")
		if err := os.WriteFile(file, der, 0o600); err != nil {
			return err
		}
		_, err := d.certutil(ctx, "-A", "-n", nickname, "-t", trust, "-i", file)
		there[nickname] = trust
		return err
	}
	for _, root := range c.Roots {
		trust, known := there[root.Nickname]
		switch {
		case !known:
			err = add(root.Nickname, trusted, root.DER)
		case strings.Contains(trust, "C"):
			continue
		default: // so far it only stood between another's certificate and its root
			_, err = d.certutil(ctx, "-M", "-n", root.Nickname, "-t", trusted)
		}
		if err != nil {
			return roots, err
		}
		there[root.Nickname], roots = trusted, true
	}
	for _, authority := range c.Chain {
		if err := add(authority.Nickname, ",,", authority.DER); err != nil {
			return roots, err
		}
	}
	if strings.Contains(there[c.Nickname], "u") {
		return roots, nil
	}
	// The certificate first: the key then belongs to its nickname.
	if err := add(c.Nickname, ",,", c.DER()); err != nil {
		return roots, err
	}
	return roots, d.importKey(ctx, c, aside)
}

// importKey brings the private key in by files that root alone reads, the password included.
func (d *Daemon) importKey(ctx context.Context, c *credential.Credential, aside string) error {
	password := rand.Text()
	packed, err := c.PKCS12(password)
	if err != nil {
		return fmt.Errorf("pack the private key: %w", err)
	}
	file, passwordFile, none := filepath.Join(aside, "key.p12"), filepath.Join(aside, "password"), filepath.Join(aside, "none")
	for path, content := range map[string][]byte{file: packed, passwordFile: []byte(password), none: []byte("\n")} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return err
		}
	}
	if err := d.readableNSS(); err != nil {
		return err
	}
	_, err = run(ctx, certutilLimit, d.Tools.PK12util, "-i", file, "-d", "sql:"+d.NSS(), "-w", passwordFile, "-k", none)
	return err
}

// Lacks lists which of these certificates the key database has not, or not with their key. Without certutil they count as
// there: the daemon itself refuses what needs another.
func (d *Daemon) Lacks(ctx context.Context, nicknames []string) ([]string, error) {
	if len(nicknames) == 0 {
		return nil, nil
	}
	if _, err := os.Stat(d.NSS()); errors.Is(err, fs.ErrNotExist) {
		return nicknames, nil
	}
	if d.Tools.Certutil == "" {
		return nil, nil
	}
	there, err := d.nicknames(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(nicknames), func(nickname string) bool { return strings.Contains(there[nickname], "u") }), nil
}

// Prune takes out of the key database what none of the credentials needs: what is left of a key that is no longer used is
// a secret too. Others are kept by their nicknames: their authorities are not known, so all authorities stay with them.
func (d *Daemon) Prune(ctx context.Context, credentials []*credential.Credential, kept []string) error {
	there, err := d.nicknames(ctx)
	if err != nil {
		return err
	}
	needed, keys := map[string]bool{}, map[string]bool{}
	for _, c := range credentials {
		needed[c.Nickname], keys[keyOf(c.Nickname)] = true, true
		for _, authority := range append(c.Chain, c.Roots...) {
			needed[authority.Nickname] = true
		}
	}
	for _, nickname := range kept {
		needed[nickname], keys[keyOf(nickname)] = true, true
	}
	roots := false
	for nickname := range there {
		if needed[nickname] || len(kept) > 0 && strings.HasPrefix(nickname, "ca-") {
			continue
		}
		how := "-D"
		if strings.HasPrefix(nickname, "svc-") && !keys[keyOf(nickname)] {
			how = "-F" // the key as well
		}
		if _, err := d.certutil(ctx, how, "-n", nickname); err != nil {
			return err
		}
		roots = roots || strings.HasPrefix(nickname, "ca-")
	}
	if roots {
		d.forgetRoots(ctx)
	}
	return nil
}

// keyOf is the part of a nickname that is its key's.
func keyOf(nickname string) string { return nickname[:strings.LastIndexByte(nickname, '-')] }

// forgetRoots makes a daemon that runs look at its authorities anew. It keeps them as long as it is asked for one at least
// every five minutes, and 4.10 has no other way to tell it; --rereadcerts does this from 5.0 on, and reloads all conns.
func (d *Daemon) forgetRoots(ctx context.Context) {
	_, _ = d.whack(ctx, "--impair", "trigger:FREE_ROOT_CERTS")
}

// nicknames lists what the key database has of ours, and what it is trusted for.
func (d *Daemon) nicknames(ctx context.Context) (map[string]string, error) {
	output, err := d.certutil(ctx, "-L")
	if err != nil {
		return nil, err
	}
	there := map[string]string{}
	for line := range strings.Lines(output) {
		if m := nicknameLine.FindStringSubmatch(strings.TrimRight(line, "\n")); m != nil {
			there[m[1]] = m[2]
		}
	}
	return there, nil
}

func (d *Daemon) certutil(ctx context.Context, verb string, args ...string) (string, error) {
	if err := d.readableNSS(); err != nil {
		return "", err
	}
	return run(ctx, certutilLimit, d.Tools.Certutil, append([]string{verb, "-d", "sql:" + d.NSS()}, args...)...)
}

// readableNSS returns an error if the key database has anything but regular files: certutil would wait for the writer of a pipe.
func (d *Daemon) readableNSS() error {
	entries, err := os.ReadDir(d.NSS())
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // certutil reports a database that does not exist
		return fmt.Errorf("read the key database: %w", err)
	}
	for _, entry := range entries {
		if !entry.Type().IsRegular() {
			return fmt.Errorf("read the key database: %s: %w", entry.Name(), regular.ErrNot)
		}
	}
	return nil
}
