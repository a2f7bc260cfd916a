package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/network"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// certificateDocument returns a configuration with one connection that has authMode certificate.
func certificateDocument(certificate, external, peer, peerID, local, remote, more string) string {
	return fmt.Sprintf(`{"externalIps":[%q],"connections":[{"id":"cert","peerAddress":%q,"peerId":%q,
		"localCidrs":[%q],"peerCidrs":[%q],"authMode":"certificate","certificate":%s%s}]}`,
		external, peer, peerID, local, remote, certificate, more)
}

// leftCertificate returns the configuration of the left end of a tunnel to right.example.org, with the connection of
// certificateDocument.
func leftCertificate(certificate, more string) string {
	return certificateDocument(certificate, "100.100.100.2", "200.200.200.2", "right.example.org",
		"10.1.0.0/24", "10.2.0.0/24", more)
}

func TestTwoEndsKnowEachOtherByTheirCertificates(t *testing.T) {
	requireSandbox(t)
	left, right := sites(t)
	ca, ends := newAuthority(t, "ca", nil), time.Now().Add(time.Hour)
	intermediate := newAuthority(t, "between", ca)
	for _, test := range []struct {
		what, kind, version string
		leftID, rightID     string // the id that the other end expects
		issuer              *authority
		database            int // the number of certificates and keys that the key database must contain
	}{
		{"IKEv2 by RSA, names", "rsa", "v2", "left.example.org", "right.example.org", ca, 3},
		{"IKEv2 by ECDSA, a subject", "ecdsa", "v2", "C=FR, O=Example, CN=left", "C=FR, O=Example, CN=right", ca, 3},
		{"IKEv1 by RSA", "rsa", "v1", "C=FR, O=Example, CN=left", "right.example.org", ca, 3},
		{"IKEv2 below another authority", "rsa", "v2", "left.example.org", "right.example.org", intermediate, 4},
	} {
		version := `,"ikePolicy":{"ikeVersion":"` + test.version + `"}`
		right.configuration = certificateDocument(test.issuer.issue("right", newKey(t, test.kind), ends, ca),
			"200.200.200.2", "100.100.100.2", test.leftID, "10.2.0.0/24", "10.1.0.0/24",
			version+`,"initiator":"response-only"`)
		left.configuration = certificateDocument(test.issuer.issue("left", newKey(t, test.kind), ends, ca),
			"100.100.100.2", "200.200.200.2", test.rightID, "10.1.0.0/24", "10.2.0.0/24", version)
		before := authentications(left)
		right.must("ADD")
		left.must("ADD")
		if len(serials(left.whack("--status"))) != 1 {
			t.Fatalf("%s: %s", test.what, left.health().Connections[0].Reason)
		}
		eventually(t, test.what, func() bool { return authentications(left) > before })
		if network.KernelLacks(t.TempDir(), "esp", true) == "" {
			eventually(t, test.what+": the tunnel is up", func() bool {
				left.must("CHECK")
				return left.health().Connections[0].Status == spec.Active
			})
		}
		left.must("CHECK")
		left.requirePrivateFiles()
		// The database contains no certificates and keys of earlier rows.
		const nss = "sql:/run/svc-ipsec/vpn-l/nss"
		database := sh(t, "certutil", "-L", "-d", nss) + sh(t, "certutil", "-K", "-d", nss)
		if len(inDatabase.FindAllString(database, -1)) != test.database {
			t.Errorf("%s: the key database has\n%s", test.what, database)
		}
	}
}

// inDatabase matches the lines in the output of certutil that name a certificate or a private key.
var inDatabase = regexp.MustCompile(`(?m)^(svc-|ca-|< *[0-9]+> )`)

var authenticated = regexp.MustCompile(`authenticated peer .*certificate .* issued by (CA )?'C=FR, O=Example, CN=`)

// authentications returns how many times the daemon of a container has authenticated its peer by a certificate.
func authentications(c *container) int {
	journal := tryShell("journalctl", "--no-pager", "-o", "cat", "-u", "svc-"+c.name)
	return len(authenticated.FindAllString(journal, -1))
}

func TestReasonsOfInvalidCertificates(t *testing.T) {
	requireSandbox(t)
	left, right := sites(t)
	ca, other, hour := newAuthority(t, "ca", nil), newAuthority(t, "other", nil), time.Now().Add(time.Hour)
	psk := `},{"id":"psk","peerAddress":"200.200.200.9","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.9.0.0/24"],` +
		`"psk":"k"`
	issueLeft := func(peers *authority, ends time.Time) string {
		return ca.issue("left", newKey(t, "rsa"), ends, peers)
	}
	addLeft := func(certificate, peerID string) {
		t.Helper()
		left.configuration = certificateDocument(certificate, "100.100.100.2", "200.200.200.2", peerID,
			"10.1.0.0/24", "10.2.0.0/24", psk)
		left.must("ADD")
	}
	addRight := func(certificate string) {
		t.Helper()
		right.configuration = certificateDocument(certificate, "200.200.200.2", "100.100.100.2", "left.example.org",
			"10.2.0.0/24", "10.1.0.0/24", `,"initiator":"response-only"`)
		right.must("ADD")
	}
	requireReason := func(reason string) {
		t.Helper()
		eventually(t, reason, func() bool {
			left.must("CHECK")
			return strings.Contains(left.health().Connections[0].Reason, reason)
		})
	}
	start := time.Now()
	addRight(other.issue("right", newKey(t, "rsa"), hour, ca))
	addTime := time.Since(start)
	addLeft(issueLeft(ca, hour), "right.example.org")
	serial := serials(left.whack("--status"))["psk-0-0"]
	requireReason("the peer's certificate is of another CA")

	// The running daemon gets the other authority.
	before := authentications(left)
	addLeft(issueLeft(other, hour), "right.example.org")
	eventually(t, "the peer is authenticated by the other authority", func() bool {
		return authentications(left) > before
	})
	addLeft(issueLeft(other, hour), "wrong.example.org")
	requireReason("the peer's certificate is not of its id")

	for _, test := range []struct {
		ends      time.Time
		key, want string
	}{
		{time.Now().Add(-time.Minute), "left.key", "certificate: certificateFile: the certificate has expired at "},
		{hour, "none.key", "privateKeyFile"},
		{hour, "left.pem", "mode 0644"},
	} {
		addLeft(strings.Replace(issueLeft(other, test.ends), "left.key", test.key, 1), "right.example.org")
		contains(t, "the reason", left.health().Connections[0].Reason, test.want)
		left.must("CHECK")
		contains(t, "the reason after CHECK", left.health().Connections[0].Reason, test.want)
	}

	soon := time.Now().Add(2*time.Second + 3*addTime) // the certificate must be valid during ADD
	addRight(ca.issue("right", newKey(t, "rsa"), soon, ca))
	time.Sleep(time.Until(soon.Add(time.Second))) // until the certificate has expired
	addLeft(issueLeft(ca, hour), "right.example.org")
	requireReason("the peer's certificate has expired")
	if now := serials(left.whack("--status"))["psk-0-0"]; serial == "" || now != serial {
		t.Errorf("the other conn was loaded again: %q, before %q", now, serial)
	}
	journal := sh(t, "journalctl", "--no-pager", "-o", "export")
	if strings.Contains(journal, "PRIVATE KEY") || strings.Contains(journal, "pk12util -") {
		t.Error("the journal contains a private key or its import")
	}
}

// TestRootOfChainBecomesTrusted has a root that is imported as a part of the chain of one connection. It must become
// trusted when another connection names it as caFile.
func TestRootOfChainBecomesTrusted(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-root")
	ca, other, hour := newAuthority(t, "ca", nil), newAuthority(t, "other", nil), time.Now().Add(time.Hour)
	var err error
	if ca.intermediates, err = os.ReadFile(ca.file); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(ca.certificate.Raw)
	trust := regexp.MustCompile(`(?m)^ca-` + hex.EncodeToString(sum[:8]) + ` +(\S+)`)
	certificate := ca.issue("left", newKey(t, "rsa"), hour, other)
	second := `},{"id":"second","peerAddress":"200.200.200.8","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.8.0.0/24"],
		"authMode":"certificate","certificate":` + other.issue("second", newKey(t, "rsa"), hour, ca)
	serial := ""
	for _, test := range []struct{ more, trust string }{{"", ",,"}, {second, "CT,,"}, {second, "CT,,"}} {
		c.configuration = leftCertificate(certificate, test.more)
		c.must("ADD")
		database := sh(t, "certutil", "-L", "-d", "sql:/run/svc-ipsec/vpn-root/nss")
		if m := trust.FindStringSubmatch(database); m == nil || m[1] != test.trust {
			t.Errorf("want %s:\n%s", test.trust, database)
		}
		now := serials(c.whack("--status"))
		if serial != "" && now["cert-0-0"] != serial || test.more != "" && now["second-0-0"] == "" {
			t.Errorf("conns %v, the first one before %s", now, serial)
		}
		serial = now["cert-0-0"]
	}
}

func TestRenewedCertificateKeepsTheKey(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-renew")
	ca, key := newAuthority(t, "ca", nil), newKey(t, "rsa")
	add := func(ends time.Duration) (conn, database string) {
		t.Helper()
		c.configuration = leftCertificate(ca.issue("left", key, time.Now().Add(ends), ca), "")
		c.must("ADD")
		text, err := os.ReadFile("/run/svc-ipsec/vpn-renew/conns/cert-0-0.conf")
		if err != nil {
			t.Fatalf("%v: %s", err, c.health().Connections[0].Reason)
		}
		return string(text), sh(t, "certutil", "-L", "-d", "sql:/run/svc-ipsec/vpn-renew/nss")
	}
	first, _ := add(time.Hour)
	second, database := add(2 * time.Hour)
	if first == second || strings.Count(database, "svc-") != 1 || !strings.Contains(database, "u,u,u") {
		t.Errorf("the key database has\n%s", database)
	}
	serial := serials(c.whack("--status"))
	c.must("ADD")
	if now := serials(c.whack("--status")); serial["cert-0-0"] == "" || now["cert-0-0"] != serial["cert-0-0"] {
		t.Errorf("an unchanged conn was loaded again: %v, before %v", now, serial)
	}
	c.killDaemon("ActiveState", "active")
	c.must("CHECK")
	c.configuration = fmt.Sprintf(oneConnection, "")
	c.must("ADD")
	database = sh(t, "certutil", "-L", "-d", "sql:/run/svc-ipsec/vpn-renew/nss")
	if strings.Contains(database, "svc-") || strings.Contains(database, "ca-") {
		t.Errorf("unused certificates remain:\n%s", database)
	}
}
