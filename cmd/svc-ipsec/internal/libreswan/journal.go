package libreswan

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/internal/lazyregexp"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

// Journal is what the daemon of one unit has logged.
type Journal struct {
	bus  *unit.Bus
	unit string
}

// since returns what the daemon has logged since the given time, oldest first, or "" if there is no readable journal.
// If invocation is not empty, only lines of that systemd invocation are returned, because an earlier daemon of the same
// name may have logged other reasons.
func (j Journal) since(ctx context.Context, since time.Time, invocation string) string {
	journalctl := find("journalctl", programDirs)
	if journalctl == "" {
		return ""
	}
	args := []string{"--quiet", "--no-pager", "--output=cat", "--lines=2000",
		"--since=@" + strconv.FormatInt(since.Add(-time.Second).Unix(), 10)}
	if invocation != "" {
		args = append(args, "_SYSTEMD_INVOCATION_ID="+invocation)
	} else {
		args = append(args, "--unit="+j.unit)
	}
	output, err := run(ctx, 5*time.Second, journalctl, args...)
	if err != nil {
		return ""
	}
	return output
}

// logLine matches a line about one conn: "conn"[1] 200.200.200.2 #3: text. The peer of an instance may follow the name.
var logLine = lazyregexp.New(`^(?:ERROR: )?"([A-Za-z0-9_-]{1,80})"` +
	`(?:\[[0-9]+\])?(?: [0-9a-f.:]+|[^#:"]*)(?: #[0-9]+)?: (.*)$`)

// packetLine matches a line about a packet that belongs to no conn: packet from 200.200.200.2:500: text.
var packetLine = lazyregexp.New(`^packet from ([0-9a-f.:\[\]]+): (.*)$`)

// LoadFailures returns the reasons in a daemon's log why conns were not loaded, by conn.
func LoadFailures(log string) map[string]string {
	reasons := map[string]string{}
	for line := range strings.Lines(log) {
		m := logLine.FindStringSubmatch(strings.TrimRight(line, "\r\n"))
		if m == nil {
			continue
		}
		if _, text, ok := strings.Cut(m[2], "failed to add "); ok {
			if _, reason, ok := strings.Cut(text, ": "); ok {
				reasons[m[1]] = oneLine(reason)
			}
		}
	}
	return reasons
}

// evidence is the kind of log line from which a reason was derived.
type evidence int

const (
	reported      evidence = iota // reported by the peer, pluto or the kernel
	noRoute                       // reported by the network; obsolete once the peer has answered
	interrupted                   // a guess: the peer answered, and then stopped answering
	retransmitted                 // a guess: a message was retransmitted
)

// replaces reports whether a later reason replaces an earlier one. A guess does not replace a reported reason, because
// there is always a retransmission between two reports.
func (e evidence) replaces(earlier evidence) bool {
	return e < interrupted || earlier >= interrupted || e == interrupted && earlier == noRoute
}

// idMismatch is logged for a peer whose identity is not the expected one.
const idMismatch = "mismatched on first found connection"

// failures maps text in pluto's log to the reason that is published. If a line contains several of the texts, the first
// entry applies.
var failures = []struct {
	text, reason string
	by           evidence
}{
	{"SEC_ERROR_EXPIRED_CERTIFICATE", "the peer's certificate has expired", reported},
	{"SEC_ERROR_UNKNOWN_ISSUER", "the peer's certificate is of another CA", reported},
	{"SEC_ERROR_UNTRUSTED_ISSUER", "the peer's certificate is of another CA", reported},
	{"NSS: ERROR: IPsec certificate", "the peer's certificate is not valid", reported},
	{"X509: authentication failed", "the peer's certificate is not of its id", reported},
	{"no certificate matched", "the peer's certificate is of another CA, or not of its id", reported},
	{idMismatch, "the peer's id is not peerId", reported}, // the responder logs AUTHENTICATION_FAILED after it
	{"AUTHENTICATION_FAILED", "AUTHENTICATION_FAILED", reported},
	{"mismatch of preshared secrets", "AUTHENTICATION_FAILED", reported}, // IKEv1 has no notification for it
	{"Hash Payload does not match", "AUTHENTICATION_FAILED", reported},   // aggressive mode, initiator
	// Aggressive mode, responder: the peer sends its error unencrypted.
	{"message must be encrypted", "AUTHENTICATION_FAILED", reported},
	{"NO_PROPOSAL_CHOSEN", "NO_PROPOSAL_CHOSEN", reported},
	{"no acceptable Oakley Transform", "NO_PROPOSAL_CHOSEN", reported}, // IKEv1, responder
	{"TS_UNACCEPTABLE", "TS_UNACCEPTABLE", reported},
	{"compatible Traffic Selectors", "TS_UNACCEPTABLE", reported}, // 4.10, responder
	{"INVALID_ID_INFORMATION", "INVALID_ID_INFORMATION", reported},
	{"INVALID_KE_PAYLOAD", "INVALID_KE_PAYLOAD", reported},
	{"netlink response for Add SA", "the kernel refused the SA", reported},
	// It is the first message that is encrypted with the key, and the two messages before it were answered.
	{"STATE_MAIN_I3: retransmission", "AUTHENTICATION_FAILED", interrupted},
	// IKEv1: a message that cannot be decrypted, for example an unencrypted error. An initiator refuses our identity or
	// certificate in this way.
	{"malformed payload in packet", "AUTHENTICATION_FAILED", interrupted},
	{"retransmission; will wait", NoAnswer, retransmitted},
	{"timeout exceeded after", NoAnswer, retransmitted},
	{"max number of retransmissions", NoAnswer, retransmitted},
	{"No route to host", "no route to the peer", noRoute},
	{"Network is unreachable", "no route to the peer", noRoute},
	{"Connection refused", "the peer refuses UDP", noRoute},
	{"we cannot identify ourselves", "no interface has the external address", reported},
}

// NoAnswer is the reason of a conn whose peer does not answer.
const NoAnswer = "no answer from the peer"

// refusals are texts in pluto's log about an IKE packet that matches no conn.
var refusals = []string{
	"no connection has been authorized", "no matching connection has been authorized", // main and aggressive mode
	"no suitable connection found",                 // IKEv2
	"no (wildcard) connection has been configured", // aggressive mode of 4.10
}

// LastFailures returns the reasons in a daemon's log why conns have no tunnel, by conn. The last reason counts. It is
// cleared if a tunnel of the conn comes up, or if another conn is loaded under the same name. The daemon, and possibly
// its peer, chooses the text of a line, so the text is only searched and never copied.
//
// The result also has a reason for the address of each peer whose packets match no conn. Loading any conn clears these
// reasons.
func LastFailures(log string) map[string]string {
	reasons, known := map[string]string{}, map[string]evidence{}
	for line := range strings.Lines(log) {
		line = strings.TrimRight(line, "\r\n")
		m := logLine.FindStringSubmatch(line)
		if m == nil {
			if peer := refusedPeer(line); peer.IsValid() {
				reasons[peer.String()] = "the peer's IKE version, mode, authMode or id is not the one of the connection"
			}
			continue
		}
		if strings.HasPrefix(m[2], "added ") {
			maps.DeleteFunc(reasons, func(key, _ string) bool { return strings.ContainsAny(key, ".:") })
		}
		if strings.HasPrefix(m[2], "added ") || strings.Contains(m[2], "established Child SA") ||
			strings.Contains(m[2], "IPsec SA established") {
			delete(reasons, m[1])
			delete(known, m[1])
			continue
		}
		if strings.HasPrefix(reasons[m[1]], "the peer's certificate") &&
			(isOwnReply(m[2]) || strings.Contains(m[2], idMismatch)) {
			continue // the line is a consequence of the certificate error
		}
		for _, f := range failures {
			if !strings.Contains(m[2], f.text) {
				continue
			}
			if earlier, found := known[m[1]]; !found || f.by.replaces(earlier) {
				reasons[m[1]], known[m[1]] = f.reason, f.by
			}
			break
		}
	}
	return reasons
}

// refusedPeer returns the address of a peer whose packet matches no conn. It is invalid if the line is about something
// else.
func refusedPeer(line string) netip.Addr {
	m := packetLine.FindStringSubmatch(line)
	if m == nil || !slices.ContainsFunc(refusals, func(text string) bool { return strings.Contains(m[2], text) }) {
		return netip.Addr{}
	}
	peer, _ := netip.ParseAddrPort(m[1])
	return peer.Addr()
}

// isOwnReply reports whether a line is about a message that the daemon itself sends to its peer.
func isOwnReply(text string) bool {
	return strings.HasPrefix(text, "responding to ") || strings.HasPrefix(text, "sending encrypted notification ") ||
		strings.HasPrefix(text, "sending notification ")
}

// Failures returns the reasons why conns have no Child SA, as far as the daemon has logged them in the last ten
// minutes. invocation is systemd's invocation ID of the daemon's unit, or "" if the caller does not know it.
func (j Journal) Failures(ctx context.Context, invocation string) map[string]string {
	if invocation == "" {
		u, err := j.bus.Show(ctx, j.unit)
		if err != nil || u.Invocation == "" {
			return nil
		}
		invocation = u.Invocation
	}
	return LastFailures(j.since(ctx, time.Now().Add(-10*time.Minute), invocation))
}

// StartErrors returns the last errors that a daemon logged which did not start, in one line.
func (j Journal) StartErrors(ctx context.Context, since time.Time) string {
	var text []string
	for line := range strings.Lines(j.since(ctx, since, "")) {
		if strings.Contains(line, "FATAL") || strings.Contains(line, "ERROR") || strings.Contains(line, "cannot ") {
			text = append(text, strings.TrimSpace(line))
		}
	}
	return oneLine(strings.Join(text[max(0, len(text)-3):], "; "))
}

var startLine = lazyregexp.New(`^Starting Pluto \(Libreswan Version v?([0-9A-Za-z._~+-]{1,40}) `)

// startedVersion returns the version in the newest "Starting Pluto" line of this start of the unit, or "?" if the
// journal has no such line any more. A daemon that an attacker controls can log such a line. The version only decides
// whether the verbs query this daemon.
func (j Journal) startedVersion(ctx context.Context, invocation string) string {
	journalctl := find("journalctl", programDirs)
	if journalctl == "" || invocation == "" {
		return "?"
	}
	output, err := run(ctx, 5*time.Second, journalctl, "--quiet", "--no-pager", "--output=cat", "--lines=1",
		"--grep=^Starting Pluto", "_SYSTEMD_INVOCATION_ID="+invocation)
	if err != nil {
		return "?"
	}
	if m := startLine.FindStringSubmatch(output); m != nil {
		return m[1]
	}
	return "?"
}
