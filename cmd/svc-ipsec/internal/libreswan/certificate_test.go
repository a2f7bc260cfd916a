package libreswan

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/credential"
)

// The CA was imported as an intermediate CA of one connection and becomes the root CA of another connection's peer.
func TestExistingCABecomesTrustedRoot(t *testing.T) {
	for _, test := range []struct {
		trust, calls string
	}{
		{",,", "certutil -M -d sql:DIR/nss -n ca-0a -t CT,, whack --impair trigger:FREE_ROOT_CERTS"},
		{"CT,,", ""},
		{"CTu,u,u", ""},
	} {
		d, calls := fakeDaemon(t)
		d.Tools.Certutil = filepath.Join(d.Dir, "certutil")
		if err := os.WriteFile(d.Tools.Certutil, []byte(`#!/bin/sh
[ "$1" = -L ] || echo "certutil $*" >>"$(dirname "$0")/calls"
echo "svc-0b-0c       u,u,u"
echo "ca-0a           `+test.trust+`"
`), 0o700); err != nil {
			t.Fatal(err)
		}
		failed, err := d.KeyDatabase().Import(t.Context(), []*credential.Credential{{Nickname: "svc-0b-0c",
			Roots: []credential.Authority{{Nickname: "ca-0a"}}}})
		if err != nil || len(failed) != 0 {
			t.Fatal(failed, err)
		}
		got := strings.ReplaceAll(calls(), "--ctlsocket "+d.Files().socket()+" ", "")
		if got = strings.Join(strings.Fields(strings.ReplaceAll(got, d.Dir, "DIR")), " "); got != test.calls {
			t.Errorf("trust flags %s: calls %q", test.trust, got)
		}
	}
}

func TestNicknameLine(t *testing.T) {
	for line, want := range map[string][2]string{
		"svc-a44b40523a3d7b28-27b809ad6039b77d                        u,u,u": {
			"svc-a44b40523a3d7b28-27b809ad6039b77d", "u,u,u",
		},
		"ca-27b809ad6039b77d                                          CT,,  ": {
			"ca-27b809ad6039b77d", "CT,,",
		},
		"svc-a44b40523a3d7b28-27b809ad6039b77d                        ,,    ": {
			"svc-a44b40523a3d7b28-27b809ad6039b77d", ",,",
		},
		"another's                                                    u,u,u":            {},
		"Certificate Nickname                                         Trust Attributes": {},
		"":      {},
		"ca-zz": {},
	} {
		m := nicknameLine.FindStringSubmatch(line)
		if want[0] == "" && m != nil || want[0] != "" && (m == nil || m[1] != want[0] || m[2] != want[1]) {
			t.Errorf("%q: got %q", line, m)
		}
	}
}

func TestReasonOfRefusedCertificate(t *testing.T) {
	const ownReply = `"a-0-0" #1: responding to IKE_AUTH message (ID 1) from 100.100.100.2:500 with encrypted ` +
		`notification AUTHENTICATION_FAILED` + "\n"
	for _, test := range []struct{ log, reason string }{
		{
			`"a-0-0" #1: NSS: ERROR: IPsec certificate CN=right,O=Example,C=FR invalid: ` +
				`SEC_ERROR_EXPIRED_CERTIFICATE: Peer's Certificate has expired.` + "\n" + ownReply,
			"the peer's certificate has expired",
		},
		{
			`"a-0-0" #1: NSS: ERROR: IPsec certificate CN=x invalid: SEC_ERROR_UNKNOWN_ISSUER: Peer's Certificate ` +
				`issuer is not recognized.` + "\n" + ownReply, "the peer's certificate is of another CA",
		},
		{
			`"a-0-0" #1: NSS: ERROR: IPsec certificate CN=x invalid: SEC_ERROR_INADEQUATE_KEY_USAGE: Certificate key ` +
				`usage inadequate` + "\n" + ownReply, "the peer's certificate is not valid",
		},
		{`"a-0-0" #1: X509: authentication failed; peer certificate subjectAltName extension does not match ID_FQDN ` +
			`'other.example.org'` + "\n" +
			`"a-0-0" #1: sending encrypted notification INVALID_ID_INFORMATION to 200.200.200.2:500` + "\n",
			"the peer's certificate is not of its id"},
		{`"a-0-0" #1: authentication failed: no certificate matched RSASSA-PSS with SHA2_512 and '@right.example.org'` +
			"\n",
			"the peer's certificate is of another CA, or not of its id"},
		// pluto then compares the certificate's subject, so this line is no failure.
		{`"a-0-0" #1: peer certificate subjectAltName extension does not match ID_DER_ASN1_DN 'C=FR, CN=x'` + "\n", ""},
		{ownReply, "AUTHENTICATION_FAILED"},
		{
			`"a-0-0" #1: X509: authentication failed; x` + "\n" +
				`"a-0-0" #2: IKE SA authentication request rejected by peer: AUTHENTICATION_FAILED` + "\n",
			"AUTHENTICATION_FAILED",
		},
	} {
		if got := LastFailures(test.log)["a-0-0"]; got != test.reason {
			t.Errorf("got %q, want %q of\n%s", got, test.reason, test.log)
		}
	}
}
