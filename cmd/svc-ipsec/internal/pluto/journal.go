package pluto

import (
	"context"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// journal reads what the daemon logged since a moment, oldest first; "" if there is no journal to read. Only what systemd's
// invocation of that id said counts, if one is given: a daemon of the same name before it had reasons of its own.
func (d *Daemon) journal(ctx context.Context, since time.Time, invocation string) string {
	journalctl := find("journalctl", programs)
	if journalctl == "" {
		return ""
	}
	args := []string{"--quiet", "--no-pager", "--output=cat", "--lines=2000", "--since=@" + strconv.FormatInt(since.Add(-time.Second).Unix(), 10)}
	if invocation != "" {
		args = append(args, "_SYSTEMD_INVOCATION_ID="+invocation)
	} else {
		args = append(args, "--unit="+d.Unit())
	}
	output, err := run(ctx, 5*time.Second, journalctl, args...)
	if err != nil {
		return ""
	}
	return output
}

// A line of one conn: "conn"[1] 200.200.200.2 #3: words. An instance's peer may follow the name.
var logLine = regexp.MustCompile(`^(?:ERROR: )?"([A-Za-z0-9_-]{1,80})"(?:\[[0-9]+\])?[^#:"]*(?: #[0-9]+)?: (.*)$`)

// LoadFailures reads why conns were not loaded out of a daemon's log.
func LoadFailures(log string) map[string]string {
	reasons := map[string]string{}
	for line := range strings.Lines(log) {
		m := logLine.FindStringSubmatch(strings.TrimRight(line, "\r\n"))
		if m == nil {
			continue
		}
		if _, words, ok := strings.Cut(m[2], "failed to add "); ok {
			if _, reason, ok := strings.Cut(words, ": "); ok {
				reasons[m[1]] = oneLine(reason)
			}
		}
	}
	return reasons
}

// failures are the words in which Libreswan tells why there is no tunnel, and what an operator is told.
var failures = []struct{ words, reason string }{
	{"SEC_ERROR_EXPIRED_CERTIFICATE", "the peer's certificate has expired"},
	{"SEC_ERROR_UNKNOWN_ISSUER", "the peer's certificate is of another CA"},
	{"SEC_ERROR_UNTRUSTED_ISSUER", "the peer's certificate is of another CA"},
	{"NSS: ERROR: IPsec certificate", "the peer's certificate is not valid"},
	{"X509: authentication failed", "the peer's certificate is not of its id"},
	{"no certificate matched", "the peer's certificate is of another CA, or not of its id"},
	{"AUTHENTICATION_FAILED", "AUTHENTICATION_FAILED"},
	{"NO_PROPOSAL_CHOSEN", "NO_PROPOSAL_CHOSEN"},
	{"TS_UNACCEPTABLE", "TS_UNACCEPTABLE"},
	{"INVALID_ID_INFORMATION", "INVALID_ID_INFORMATION"},
	{"INVALID_KE_PAYLOAD", "INVALID_KE_PAYLOAD"},
	{"netlink response for Add SA", "the kernel refused the SA"},
	{"retransmission", "no answer from the peer"},
	{"No route to host", "no route to the peer"},
	{"Network is unreachable", "no route to the peer"},
	{"Connection refused", "the peer refuses UDP"},
	{"we cannot identify ourselves", "no interface has the external address"},
}

// addedAnew is what the daemon says of a conn that it took, 4.10 and 5: "added IKEv2 connection".
var addedAnew = regexp.MustCompile(`^added .*connection`)

// LastFailures reads out of a daemon's log why each conn has no tunnel: the last word counts, and a tunnel that came up
// since clears it, or that the conn was added anew. The text of a line is the daemon's, and may be the peer's: it is only searched.
func LastFailures(log string) map[string]string {
	reasons := map[string]string{}
	for line := range strings.Lines(log) {
		m := logLine.FindStringSubmatch(strings.TrimRight(line, "\r\n"))
		if m == nil {
			continue
		}
		if strings.Contains(m[2], "established Child SA") || strings.Contains(m[2], "IPsec SA established") || addedAnew.MatchString(m[2]) {
			delete(reasons, m[1])
			continue
		}
		if ourAnswer(m[2]) && strings.HasPrefix(reasons[m[1]], "the peer's certificate") {
			continue // which is what it is the answer to
		}
		for _, f := range failures {
			if strings.Contains(m[2], f.words) {
				reasons[m[1]] = f.reason
				break
			}
		}
	}
	return reasons
}

// ourAnswer says whether a line tells what the daemon itself answers to its peer.
func ourAnswer(words string) bool {
	return strings.HasPrefix(words, "responding to ") || strings.HasPrefix(words, "sending encrypted notification ") || strings.HasPrefix(words, "sending notification ")
}

// Failures says why conns have no tunnel, as far as the daemon that runs told in the last minutes.
func (d *Daemon) Failures(ctx context.Context) map[string]string {
	u, err := d.Bus.Show(ctx, d.Unit())
	if err != nil || u.Invocation == "" {
		return nil
	}
	return LastFailures(d.journal(ctx, time.Now().Add(-10*time.Minute), u.Invocation))
}

// LastWords are the lines in which a daemon that did not start says why.
func (d *Daemon) LastWords(ctx context.Context, since time.Time) string {
	var words []string
	for line := range strings.Lines(d.journal(ctx, since, "")) {
		if strings.Contains(line, "FATAL") || strings.Contains(line, "ERROR") || strings.Contains(line, "cannot ") {
			words = append(words, strings.TrimSpace(line))
		}
	}
	return oneLine(strings.Join(words[max(0, len(words)-3):], "; "))
}
