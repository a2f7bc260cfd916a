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

// certutilLimit is the time limit of one run of certutil or pk12util, which normally take about 10 ms.
const certutilLimit = 10 * time.Second

// rootTrust is certutil's trust flags for a root CA.
const rootTrust = "CT,,"

// nicknameLine matches a certificate of this plugin in the output of certutil -L: its nickname and its trust flags. The
// flag u means that the database has its private key.
var nicknameLine = lazyregexp.New(`^((?:svc|ca)-[0-9a-f-]+) +([A-Za-z]*,[A-Za-z]*,[A-Za-z]*) *$`)

// Import adds credentials to the daemon's key database, whether the daemon runs or not. It keeps existing entries. It
// returns the credentials that could not be imported, by nickname, with the reasons.
func (k *KeyDatabase) Import(ctx context.Context, credentials []*credential.Credential) (map[string]string, error) {
	failed := map[string]string{}
	if len(credentials) == 0 {
		return failed, nil
	}
	present, err := k.nicknames(ctx)
	if err != nil {
		return nil, err
	}
	tmpDir := k.files.newImport()
	defer func() { _ = os.RemoveAll(tmpDir) }()
	if err := os.RemoveAll(tmpDir); err != nil {
		return nil, fmt.Errorf("import certificates: %w", err)
	}
	if err := os.Mkdir(tmpDir, 0o700); err != nil {
		return nil, fmt.Errorf("import certificates: %w", err)
	}
	roots := false
	for _, c := range credentials {
		added, err := k.importOne(ctx, c, present, tmpDir)
		if err != nil {
			failed[c.Nickname] = oneLine(err.Error())
		}
		roots = roots || added
	}
	if roots {
		k.flushRoots(ctx)
	}
	return failed, nil
}

func (k *KeyDatabase) importOne(ctx context.Context, c *credential.Credential, present map[string]string,
	tmpDir string,
) (roots bool, err error) {
	add := func(nickname, trust string, der []byte) error {
		if _, ok := present[nickname]; ok {
			return nil
		}
		file := filepath.Join(tmpDir, "certificate")
		if err := os.WriteFile(file, der, 0o600); err != nil {
			return err
		}
		if _, err := k.certutil(ctx, "-A", "-n", nickname, "-t", trust, "-i", file); err != nil {
			return err
		}
		present[nickname] = trust
		return nil
	}
	for _, root := range c.Roots {
		trust, known := present[root.Nickname]
		switch {
		case !known:
			err = add(root.Nickname, rootTrust, root.DER)
		case strings.Contains(trust, "C"):
			continue
		default: // until now it was only an intermediate CA of another certificate
			_, err = k.certutil(ctx, "-M", "-n", root.Nickname, "-t", rootTrust)
		}
		if err != nil {
			return roots, err
		}
		present[root.Nickname], roots = rootTrust, true
	}
	for _, authority := range c.Chain {
		if err := add(authority.Nickname, ",,", authority.DER); err != nil {
			return roots, err
		}
	}
	if strings.Contains(present[c.Nickname], "u") {
		return roots, nil
	}
	// The certificate is imported before its key, so that NSS assigns its nickname to the key.
	if err := add(c.Nickname, ",,", c.DER()); err != nil {
		return roots, err
	}
	return roots, k.importKey(ctx, c, tmpDir)
}

// importKey imports the private key from files that only root can read. The password is in a file too.
func (k *KeyDatabase) importKey(ctx context.Context, c *credential.Credential, tmpDir string) error {
	password := rand.Text()
	packed, err := c.PKCS12(password)
	if err != nil {
		return fmt.Errorf("pack the private key: %w", err)
	}
	file := filepath.Join(tmpDir, "key.p12")
	passwordFile, none := filepath.Join(tmpDir, "password"), filepath.Join(tmpDir, "none")
	for path, content := range map[string][]byte{file: packed, passwordFile: []byte(password), none: []byte("\n")} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return err
		}
	}
	if err := k.checkFiles(); err != nil {
		return err
	}
	_, err = run(ctx, certutilLimit, k.tools.PK12util, "-i", file, "-d", "sql:"+k.files.NSS(), "-w", passwordFile, "-k",
		none)
	return err
}

// Missing returns which of these certificates the key database lacks, or has without their private key. If certutil is
// not installed, no certificate counts as missing: the daemon then refuses the conns whose certificate it does not
// find.
func (k *KeyDatabase) Missing(ctx context.Context, nicknames []string) ([]string, error) {
	if len(nicknames) == 0 {
		return nil, nil
	}
	if _, err := os.Stat(k.files.NSS()); errors.Is(err, fs.ErrNotExist) {
		return nicknames, nil
	}
	if k.tools.Certutil == "" {
		return nil, nil
	}
	present, err := k.nicknames(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(nicknames), func(nickname string) bool {
		return strings.Contains(present[nickname], "u")
	}), nil
}

// Prune removes from the key database what none of the credentials needs, because an unused private key is still a
// secret. The certificates in kept stay, with their keys. Their CAs are unknown, so all CAs stay too if there is any
// such certificate.
func (k *KeyDatabase) Prune(ctx context.Context, credentials []*credential.Credential, kept []string) error {
	present, err := k.nicknames(ctx)
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
	defer func() { // also if a later deletion fails
		if roots {
			k.flushRoots(ctx)
		}
	}()
	for nickname := range present {
		if needed[nickname] || len(kept) > 0 && strings.HasPrefix(nickname, "ca-") {
			continue
		}
		how := "-D"
		if strings.HasPrefix(nickname, "svc-") && !keys[keyOf(nickname)] {
			how = "-F" // deletes the private key too
		}
		if _, err := k.certutil(ctx, how, "-n", nickname); err != nil {
			return err
		}
		roots = roots || strings.HasPrefix(nickname, "ca-")
	}
	return nil
}

// keyOf returns the part of a certificate's nickname that identifies its private key.
func keyOf(nickname string) string { return nickname[:strings.LastIndexByte(nickname, '-')] }

// nicknames returns the certificates of this plugin in the key database, with their trust flags.
func (k *KeyDatabase) nicknames(ctx context.Context) (map[string]string, error) {
	output, err := k.certutil(ctx, "-L")
	if err != nil {
		return nil, err
	}
	present := map[string]string{}
	for line := range strings.Lines(output) {
		if m := nicknameLine.FindStringSubmatch(strings.TrimRight(line, "\n")); m != nil {
			present[m[1]] = m[2]
		}
	}
	return present, nil
}

func (k *KeyDatabase) certutil(ctx context.Context, verb string, args ...string) (string, error) {
	if err := k.checkFiles(); err != nil {
		return "", err
	}
	return run(ctx, certutilLimit, k.tools.Certutil, append([]string{verb, "-d", "sql:" + k.files.NSS()}, args...)...)
}

// checkFiles returns an error if the key database has anything but regular files. certutil would block on a pipe.
func (k *KeyDatabase) checkFiles() error {
	entries, err := os.ReadDir(k.files.NSS())
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // certutil itself reports a missing database
		return fmt.Errorf("read the key database: %w", err)
	}
	for _, entry := range entries {
		if !entry.Type().IsRegular() {
			return fmt.Errorf("read the key database: %s: %w", entry.Name(), regular.ErrNotRegular)
		}
	}
	return nil
}
