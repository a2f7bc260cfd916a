package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestEachFailedNegotiationHasAReason runs two daemons with configurations that do not match, and compares the reasons
// of both ends. With SVC_TEST_RECORD=FILE it writes the logs of the daemons to FILE, in the format of the fixtures of
// package libreswan.
func TestEachFailedNegotiationHasAReason(t *testing.T) {
	requireSandbox(t)
	left, right := sites(t)
	const v1 = `"ikePolicy":{"ikeVersion":"v1"}`
	const aggressive = `"ikePolicy":{"ikeVersion":"v1","phase1NegotiationMode":"aggressive"}`
	ca, other, hour := newAuthority(t, "ca", nil), newAuthority(t, "other", nil), time.Now().Add(time.Hour)
	const byCertificate = `"psk":null,"authMode":"certificate",`
	leftCertificate := byCertificate + `"peerId":"right.example.org","certificate":` +
		ca.issue("left", newKey(t, "rsa"), hour, ca)
	rightCertificate := byCertificate + `"peerId":"left.example.org","certificate":`
	good := rightCertificate + ca.issue("right", newKey(t, "rsa"), hour, ca)
	expiring := *ca
	expiring.dir = t.TempDir()
	const unsuitable = "the peer's IKE version, mode, authMode or id is not the one of the connection"
	var record strings.Builder
	var addTime time.Duration // the longest time that the two ADDs of the right end took
	for i, test := range []struct {
		what, left, right       string
		leftReason, rightReason string
	}{
		{"IKEv2, another key", `"psk":"another key-of-the-ground-test"`, ``, "AUTHENTICATION_FAILED",
			"AUTHENTICATION_FAILED"},
		{"IKEv2, the initiator has another id", `"localId":"me"`, ``, "AUTHENTICATION_FAILED", "AUTHENTICATION_FAILED"},
		{"IKEv2, the initiator expects another id", `"peerId":"you"`, ``, "the peer's id is not peerId", "-"},
		{"IKEv2, the responder has another id", ``, `"localId":"you"`, "the peer's id is not peerId", "-"},
		{"IKEv2, the responder expects another id", ``, `"peerId":"you"`, "AUTHENTICATION_FAILED",
			"AUTHENTICATION_FAILED"},
		{"IKEv2, another cipher of the IKE SA", `"ikePolicy":{"encryptionAlgorithm":"aes-128"}`, ``,
			"NO_PROPOSAL_CHOSEN", "NO_PROPOSAL_CHOSEN"},
		{"IKEv2, another group of the IKE SA", `"ikePolicy":{"pfs":"group19"}`, ``, "NO_PROPOSAL_CHOSEN",
			"NO_PROPOSAL_CHOSEN"},
		{"IKEv2, another first group of the IKE SA", `"ikePolicy":{"proposals":[{"pfs":"group19"},{"pfs":"group15"}]}`,
			``, "NO_PROPOSAL_CHOSEN", "NO_PROPOSAL_CHOSEN"},
		{"IKEv2, another cipher of ESP", `"ipsecPolicy":{"encryptionAlgorithm":"aes-128"}`, ``, "NO_PROPOSAL_CHOSEN",
			"NO_PROPOSAL_CHOSEN"},
		{"IKEv2, AH", `"ipsecPolicy":{"transformProtocol":"ah"}`, ``, "NO_PROPOSAL_CHOSEN", "NO_PROPOSAL_CHOSEN"},
		{"IKEv2, other networks", `"peerCidrs":["10.9.0.0/24"]`, ``, "TS_UNACCEPTABLE", "TS_UNACCEPTABLE"},
		{"IKEv2, transport mode", `"localCidrs":null,"peerCidrs":null,"ipsecPolicy":{"encapsulationMode":"transport"}`,
			``, "TS_UNACCEPTABLE", "TS_UNACCEPTABLE"},
		{"IKEv2, to IKEv1", ``, v1, "NO_PROPOSAL_CHOSEN", unsuitable},
		{"IKEv2, the peer's certificate has expired", leftCertificate, "", "the peer's certificate has expired", "-"},
		{"IKEv2, the peer's certificate is of another CA", leftCertificate,
			rightCertificate + other.issue("right", newKey(t, "rsa"), hour, ca),
			"the peer's certificate is of another CA", "-"},
		{"IKEv2, the initiator's certificate is of another CA",
			byCertificate + `"peerId":"right.example.org","certificate":` +
				other.issue("left", newKey(t, "rsa"), hour, ca),
			good, "AUTHENTICATION_FAILED", "the peer's certificate is of another CA"},
		{"IKEv2, a key to a certificate", ``, good, "AUTHENTICATION_FAILED", "AUTHENTICATION_FAILED"},
		{"IKEv2, a certificate to a key", leftCertificate, ``, "AUTHENTICATION_FAILED",
			"the peer's certificate is not of its id|AUTHENTICATION_FAILED"},
		{"IKEv2, a key to a certificate, with the ids", `"localId":"left.example.org","peerId":"right.example.org"`,
			good, "AUTHENTICATION_FAILED", "AUTHENTICATION_FAILED"},
		{"IKEv2, a certificate to a key, with the ids", leftCertificate,
			`"localId":"right.example.org","peerId":"left.example.org"`, "AUTHENTICATION_FAILED",
			"AUTHENTICATION_FAILED"},

		{"IKEv1, another key", v1 + `,"psk":"another key-of-the-ground-test"`, v1, "AUTHENTICATION_FAILED",
			"AUTHENTICATION_FAILED"},
		{"IKEv1, the initiator has another id", v1 + `,"localId":"me"`, v1, "INVALID_ID_INFORMATION",
			"INVALID_ID_INFORMATION"},
		{"IKEv1, the initiator expects another id", v1 + `,"peerId":"you"`, v1, "INVALID_ID_INFORMATION",
			"AUTHENTICATION_FAILED|INVALID_ID_INFORMATION"},
		{"IKEv1, another cipher of the IKE SA", `"ikePolicy":{"ikeVersion":"v1","encryptionAlgorithm":"aes-128"}`, v1,
			"NO_PROPOSAL_CHOSEN", "NO_PROPOSAL_CHOSEN"},
		{"IKEv1, another group of the IKE SA", `"ikePolicy":{"ikeVersion":"v1","pfs":"group15"}`, v1,
			"NO_PROPOSAL_CHOSEN", "NO_PROPOSAL_CHOSEN"},
		{"IKEv1, another cipher of ESP", v1 + `,"ipsecPolicy":{"encryptionAlgorithm":"aes-128"}`, v1,
			"NO_PROPOSAL_CHOSEN", "NO_PROPOSAL_CHOSEN"},
		{"IKEv1, no group of ESP", v1 + `,"ipsecPolicy":{"pfs":"none"}`, v1, "NO_PROPOSAL_CHOSEN",
			"NO_PROPOSAL_CHOSEN"},
		{"IKEv1, AH", v1 + `,"ipsecPolicy":{"transformProtocol":"ah"}`, v1, "NO_PROPOSAL_CHOSEN", "NO_PROPOSAL_CHOSEN"},
		{"IKEv1, other networks", v1 + `,"peerCidrs":["10.9.0.0/24"]`, v1, "INVALID_ID_INFORMATION",
			"INVALID_ID_INFORMATION"},
		{"IKEv1, transport mode",
			v1 + `,"localCidrs":null,"peerCidrs":null,"ipsecPolicy":{"encapsulationMode":"transport"}`,
			v1, "INVALID_ID_INFORMATION", "INVALID_ID_INFORMATION"},
		{"IKEv1, to IKEv2", v1, ``, "no answer from the peer", "-"},
		{"IKEv1, to aggressive mode", v1, aggressive, "no answer from the peer", unsuitable},
		{"IKEv1, the peer's certificate is of another CA", v1 + "," + leftCertificate,
			v1 + "," + rightCertificate + other.issue("right", newKey(t, "rsa"), hour, ca),
			"the peer's certificate is of another CA", "AUTHENTICATION_FAILED|INVALID_ID_INFORMATION"},
		{"IKEv1, a key to a certificate", v1, v1 + "," + good, "no answer from the peer", unsuitable},
		{"IKEv1, a certificate to a key", v1 + "," + leftCertificate, v1, "no answer from the peer", unsuitable},

		{"IKEv1 aggressive, another key", aggressive + `,"psk":"another key-of-the-ground-test"`, aggressive,
			"AUTHENTICATION_FAILED", "AUTHENTICATION_FAILED"},
		{"IKEv1 aggressive, the initiator has another id", aggressive + `,"localId":"me"`, aggressive,
			"no answer from the peer", unsuitable},
		{"IKEv1 aggressive, the initiator expects another id", aggressive + `,"peerId":"you"`, aggressive,
			"INVALID_ID_INFORMATION", "AUTHENTICATION_FAILED"},
		{"IKEv1 aggressive, another cipher of the IKE SA",
			`"ikePolicy":{"ikeVersion":"v1","phase1NegotiationMode":"aggressive","encryptionAlgorithm":"aes-128"}`,
			aggressive, "NO_PROPOSAL_CHOSEN", "NO_PROPOSAL_CHOSEN"},
		{"IKEv1 aggressive, to main mode", aggressive, v1, "no answer from the peer", unsuitable},
	} {
		if only := os.Getenv("SVC_TEST_ONLY"); only != "" && !strings.Contains(test.what, only) {
			continue
		}
		start := time.Now()
		// The connections have different names in each row, so later log lines of an earlier connection are ignored.
		expires := time.Now().Add(3*time.Second + 4*addTime)
		expired := strings.Contains(test.what, "expired")
		if expired {
			test.right = rightCertificate + expiring.issue("right", newKey(t, "rsa"), expires, ca)
		}
		// A negotiation of the row before this one must not reach the other end of this row.
		left.configuration = oneEnd(t, true, "idle", `"peerAddress":"200.200.200.9"`)
		left.must("ADD")
		right.configuration = oneEnd(t, false, fmt.Sprintf("r%02d", i), test.right)
		left.configuration = oneEnd(t, true, fmt.Sprintf("l%02d", i), test.left)
		right.must("ADD")
		addTime = max(addTime, time.Since(start))
		if expired {
			time.Sleep(time.Until(expires.Add(time.Second))) // until the certificate has expired
		}
		left.must("ADD")
		for _, end := range []struct {
			c          *container
			name, want string
		}{{left, "initiator", test.leftReason}, {right, "responder", test.rightReason}} {
			if end.want == "-" { // this end detects no error, except for missing ESP in the kernel
				continue
			}
			reason, wanted := "", strings.Split(end.want, "|") // the reason with 4.10, and with 5.2 if it is different
			for deadline := time.Now().Add(time.Minute); !slices.Contains(wanted, reason) &&
				time.Now().Before(deadline); {
				time.Sleep(100 * time.Millisecond)
				end.c.must("CHECK")
				reason = end.c.health().Connections[0].Reason
			}
			if !slices.Contains(wanted, reason) {
				t.Errorf("%s, the %s: %q, want %q", test.what, end.name, reason, end.want)
			}
			text := sh(t, "journalctl", "--no-pager", "-o", "cat", "-u", "svc-"+end.c.name,
				fmt.Sprintf("--since=@%d", start.Unix()))
			conn := fmt.Sprintf("%c%02d-0-0", end.c.name[len(end.c.name)-1], i)
			fmt.Fprintf(&record, "# %s, the %s: %s\n%s", test.what, end.name, reason, linesAbout(text, conn))
		}
	}
	if path := os.Getenv("SVC_TEST_RECORD"); path != "" {
		if err := os.WriteFile(filepath.Clean(path), []byte(record.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// linesAbout returns the lines of a log about a conn, or about a packet that matches no conn. Of lines that differ only
// in the numbers of states, it returns the first one. It replaces the name of the conn by c-0-0.
func linesAbout(log, conn string) string {
	var text strings.Builder
	seen := map[string]bool{}
	for line := range strings.Lines(log) {
		about := strings.Contains(line, `"`+conn+`"`) || strings.HasPrefix(line, "packet from ")
		if !about || strings.Contains(line, "SA proposals") || strings.Contains(line, `":   `) {
			continue
		}
		line = strings.ReplaceAll(line, conn, "c-0-0")
		if key := stateNumber.ReplaceAllString(line, "#"); !seen[key] {
			text.WriteString(line)
			seen[key] = true
		}
	}
	return text.String()
}

var stateNumber = regexp.MustCompile(`#[0-9]+`)
