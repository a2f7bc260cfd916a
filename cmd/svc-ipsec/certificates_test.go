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

// by is a configuration of one connection by certificate.
func by(certificate, external, peer, peerID, local, remote, more string) string {
	return fmt.Sprintf(`{"externalIps":[%q],"connections":[{"id":"cert","peerAddress":%q,"peerId":%q,"localCidrs":[%q],"peerCidrs":[%q],
		"authMode":"certificate","certificate":%s%s}]}`, external, peer, peerID, local, remote, certificate, more)
}

func TestTwoEndsKnowEachOtherByTheirCertificates(t *testing.T) {
	onGround(t)
	left, right := sites(t)
	ca, ends := newAuthority(t, "ca", nil), time.Now().Add(time.Hour)
	between := newAuthority(t, "between", ca)
	for _, test := range []struct {
		what, kind, version string
		leftID, rightID     string // whom the other end expects
		issuer              *authority
		database            int // how many certificates are needed, and keys
	}{
		{"IKEv2 by RSA, names", "rsa", "v2", "left.example.org", "right.example.org", ca, 3},
		{"IKEv2 by ECDSA, a subject", "ecdsa", "v2", "C=FR, O=Example, CN=left", "C=FR, O=Example, CN=right", ca, 3},
		{"IKEv1 by RSA", "rsa", "v1", "C=FR, O=Example, CN=left", "right.example.org", ca, 3},
		{"IKEv2 below another authority", "rsa", "v2", "left.example.org", "right.example.org", between, 4},
	} {
		version := `,"ikePolicy":{"ikeVersion":"` + test.version + `"}`
		right.configuration = by(test.issuer.issue("right", newKey(t, test.kind), ends, ca), "200.200.200.2", "100.100.100.2", test.leftID, "10.2.0.0/24", "10.1.0.0/24", version+`,"initiator":"response-only"`)
		left.configuration = by(test.issuer.issue("left", newKey(t, test.kind), ends, ca), "100.100.100.2", "200.200.200.2", test.rightID, "10.1.0.0/24", "10.2.0.0/24", version)
		before := known(left)
		right.must("ADD")
		left.must("ADD")
		if len(serials(left.whack("--status"))) != 1 {
			t.Fatalf("%s: %s", test.what, left.health().Connections[0].Reason)
		}
		eventually(t, test.what, func() bool { return known(left) > before })
		if network.KernelLacks(t.TempDir(), "esp", true) == "" {
			eventually(t, test.what+": the tunnel is up", func() bool {
				left.must("CHECK")
				return left.health().Connections[0].Status == spec.Active
			})
		}
		left.must("CHECK")
		left.private()
		// What the certificates before these brought is gone.
		database := sh(t, "certutil", "-L", "-d", "sql:/run/svc-ipsec/vpn-l/nss") + sh(t, "certutil", "-K", "-d", "sql:/run/svc-ipsec/vpn-l/nss")
		if len(inDatabase.FindAllString(database, -1)) != test.database {
			t.Errorf("%s: the key database has\n%s", test.what, database)
		}
	}
}

// inDatabase is a line of certutil's lists that names a certificate or a private key.
var inDatabase = regexp.MustCompile(`(?m)^(svc-|ca-|< *[0-9]+> )`)

// known counts how often a container's daemon knew its peer by a certificate.
func known(c *subject) int {
	said := tryShell("journalctl", "--no-pager", "-o", "cat", "-u", "svc-"+c.name)
	return len(regexp.MustCompile(`authenticated peer .*certificate .* issued by (CA )?'C=FR, O=Example, CN=`).FindAllString(said, -1))
}

func TestACertificateThatDoesNotHoldIsAReason(t *testing.T) {
	onGround(t)
	left, right := sites(t)
	ca, other, hour := newAuthority(t, "ca", nil), newAuthority(t, "other", nil), time.Now().Add(time.Hour)
	psk := `},{"id":"psk","peerAddress":"200.200.200.9","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.9.0.0/24"],"psk":"k"`
	ours := func(peers *authority, ends time.Time) string { return ca.issue("left", newKey(t, "rsa"), ends, peers) }
	leftBy := func(certificate, peerID string) {
		t.Helper()
		left.configuration = by(certificate, "100.100.100.2", "200.200.200.2", peerID, "10.1.0.0/24", "10.2.0.0/24", psk)
		left.must("ADD")
	}
	rightBy := func(certificate string) {
		t.Helper()
		right.configuration = by(certificate, "200.200.200.2", "100.100.100.2", "left.example.org", "10.2.0.0/24", "10.1.0.0/24", `,"initiator":"response-only"`)
		right.must("ADD")
	}
	says := func(reason string) {
		t.Helper()
		eventually(t, reason, func() bool {
			left.must("CHECK")
			return strings.Contains(left.health().Connections[0].Reason, reason)
		})
	}
	began := time.Now()
	rightBy(other.issue("right", newKey(t, "rsa"), hour, ca))
	span := time.Since(began)
	leftBy(ours(ca, hour), "right.example.org")
	serial := serials(left.whack("--status"))["psk-0-0"]
	says("the peer's certificate is of another CA")

	// The daemon, which runs, is told of the other authority.
	before := known(left)
	leftBy(ours(other, hour), "right.example.org")
	eventually(t, "the other authority is known", func() bool { return known(left) > before })
	leftBy(ours(other, hour), "wrong.example.org")
	says("the peer's certificate is not of its id")

	for _, test := range []struct {
		ends      time.Time
		key, says string
	}{
		{time.Now().Add(-time.Minute), "left.key", "certificate: certificateFile: the certificate has expired at "},
		{hour, "none.key", "privateKeyFile"},
		{hour, "left.pem", "mode 0644"},
	} {
		leftBy(strings.Replace(ours(other, test.ends), "left.key", test.key, 1), "right.example.org")
		contains(t, "the reason", left.health().Connections[0].Reason, test.says)
		left.must("CHECK")
		contains(t, "the reason that CHECK tells", left.health().Connections[0].Reason, test.says)
	}

	soon := time.Now().Add(2*time.Second + 3*span) // it must be good while it is added
	rightBy(ca.issue("right", newKey(t, "rsa"), soon, ca))
	time.Sleep(time.Until(soon.Add(time.Second))) // what the test is about: the certificate ends by the clock
	leftBy(ours(ca, hour), "right.example.org")
	says("the peer's certificate has expired")
	if now := serials(left.whack("--status"))["psk-0-0"]; serial == "" || now != serial {
		t.Errorf("the other conn was added again: %q, before %q", now, serial)
	}
	said := sh(t, "journalctl", "--no-pager", "-o", "export")
	if strings.Contains(said, "PRIVATE KEY") || strings.Contains(said, "pk12util -") {
		t.Error("the journal tells of a private key")
	}
}

// A root that came in with the chain of one connection is trusted once another one names it.
func TestARootOfAChainIsTrustedWhereAnotherConnectionNamesIt(t *testing.T) {
	onGround(t)
	c := newContainer(t, "vpn-root")
	ca, other, hour := newAuthority(t, "ca", nil), newAuthority(t, "other", nil), time.Now().Add(time.Hour)
	var err error
	if ca.between, err = os.ReadFile(ca.file); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(ca.certificate.Raw)
	trust := regexp.MustCompile(`(?m)^ca-` + hex.EncodeToString(sum[:8]) + ` +(\S+)`)
	certificate := ca.issue("left", newKey(t, "rsa"), hour, other)
	second := `},{"id":"second","peerAddress":"200.200.200.8","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.8.0.0/24"],
		"authMode":"certificate","certificate":` + other.issue("second", newKey(t, "rsa"), hour, ca)
	serial := ""
	for _, test := range []struct{ more, trust string }{{"", ",,"}, {second, "CT,,"}, {second, "CT,,"}} {
		c.configuration = by(certificate, "100.100.100.2", "200.200.200.2", "right.example.org", "10.1.0.0/24", "10.2.0.0/24", test.more)
		c.must("ADD")
		database := sh(t, "certutil", "-L", "-d", "sql:/run/svc-ipsec/vpn-root/nss")
		if m := trust.FindStringSubmatch(database); m == nil || m[1] != test.trust {
			t.Errorf("want %s:\n%s", test.trust, database)
		}
		now := serials(c.whack("--status"))
		if serial != "" && now["cert-0-0"] != serial || test.more != "" && now["second-0-0"] == "" {
			t.Errorf("conns %v, of the first before %s", now, serial)
		}
		serial = now["cert-0-0"]
	}
}

func TestARenewedCertificateForTheSameKeyKeepsTheKey(t *testing.T) {
	onGround(t)
	c := newContainer(t, "vpn-renew")
	ca, key := newAuthority(t, "ca", nil), newKey(t, "rsa")
	add := func(ends time.Duration) (conn, database string) {
		t.Helper()
		c.configuration = by(ca.issue("left", key, time.Now().Add(ends), ca), "100.100.100.2", "200.200.200.2", "right.example.org", "10.1.0.0/24", "10.2.0.0/24", "")
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
		t.Errorf("the conn was added again for nothing: %v, before %v", now, serial)
	}
	c.startAnew("ActiveState", "active")
	c.must("CHECK")
	c.configuration = fmt.Sprintf(oneConnection, "")
	c.must("ADD")
	if database := sh(t, "certutil", "-L", "-d", "sql:/run/svc-ipsec/vpn-renew/nss"); strings.Contains(database, "svc-") || strings.Contains(database, "ca-") {
		t.Errorf("what nobody needs is left:\n%s", database)
	}
}
