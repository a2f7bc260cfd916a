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
var logLine = lazyregexp.New(`^(?:ERROR: )?"([A-Za-z0-9_-]{1,80})"(?:\[[0-9]+\])?[^#:"]*(?: #[0-9]+)?: (.*)$`)

// A line about a packet that belongs to no conn: packet from 200.200.200.2:500: words.
var packetLine = lazyregexp.New(`^packet from ([0-9a-f.:\[\]]+): (.*)$`)

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

// evidence is how a reason is known.
type evidence int

const (
	answer  evidence = iota // the peer, pluto or the kernel says so
	noRoute                 // the network says so: it no longer holds once the peer has answered
	broken                  // a guess: the peer answered, and then no more
	silence                 // a guess: a message was sent again
)

// replaces reports whether a reason that is read later replaces an earlier one. A guess replaces no answer: between two answers
// there is always a retransmission.
func (e evidence) replaces(earlier evidence) bool {
	return e < broken || earlier >= broken || e == broken && earlier == noRoute
}

// otherID is in the line about a peer whose identity is not the expected one.
const otherID = "mismatched on first found connection"

// failures maps text in pluto's log to the reason that is published. The first text that a line contains counts.
var failures = []struct {
	words, reason string
	by            evidence
}{
	{"SEC_ERROR_EXPIRED_CERTIFICATE", "the peer's certificate has expired", answer},
	{"SEC_ERROR_UNKNOWN_ISSUER", "the peer's certificate is of another CA", answer},
	{"SEC_ERROR_UNTRUSTED_ISSUER", "the peer's certificate is of another CA", answer},
	{"NSS: ERROR: IPsec certificate", "the peer's certificate is not valid", answer},
	{"X509: authentication failed", "the peer's certificate is not of its id", answer},
	{"no certificate matched", "the peer's certificate is of another CA, or not of its id", answer},
	{otherID, "the peer's id is not peerId", answer}, // the responder logs AUTHENTICATION_FAILED after it
	{"AUTHENTICATION_FAILED", "AUTHENTICATION_FAILED", answer},
	{"mismatch of preshared secrets", "AUTHENTICATION_FAILED", answer}, // IKEv1 has no notification for it
	{"Hash Payload does not match", "AUTHENTICATION_FAILED", answer},   // aggressive mode, the initiator
	{"message must be encrypted", "AUTHENTICATION_FAILED", answer},     // and the responder: the peer's error is not encrypted
	{"NO_PROPOSAL_CHOSEN", "NO_PROPOSAL_CHOSEN", answer},
	{"no acceptable Oakley Transform", "NO_PROPOSAL_CHOSEN", answer}, // IKEv1, the responder
	{"TS_UNACCEPTABLE", "TS_UNACCEPTABLE", answer},
	{"compatible Traffic Selectors", "TS_UNACCEPTABLE", answer}, // 4.10, the responder
	{"INVALID_ID_INFORMATION", "INVALID_ID_INFORMATION", answer},
	{"INVALID_KE_PAYLOAD", "INVALID_KE_PAYLOAD", answer},
	{"netlink response for Add SA", "the kernel refused the SA", answer},
	// The first message that is encrypted with the key, after two that were answered.
	{"STATE_MAIN_I3: retransmission", "AUTHENTICATION_FAILED", broken},
	// IKEv1: a message that cannot be decrypted, an error in clear for example. The initiator refuses our identity or certificate like that.
	{"malformed payload in packet", "AUTHENTICATION_FAILED", broken},
	{"retransmission; will wait", NoAnswer, silence},
	{"timeout exceeded after", NoAnswer, silence},
	{"max number of retransmissions", NoAnswer, silence},
	{"No route to host", "no route to the peer", noRoute},
	{"Network is unreachable", "no route to the peer", noRoute},
	{"Connection refused", "the peer refuses UDP", noRoute},
	{"we cannot identify ourselves", "no interface has the external address", answer},
}

// NoAnswer is the reason of a conn whose peer does not answer.
const NoAnswer = "no answer from the peer"

// refusals are texts in pluto's log about an IKE packet that no conn matches.
var refusals = []string{
	"no connection has been authorized", "no matching connection has been authorized", // main and aggressive mode
	"no suitable connection found",                 // IKEv2
	"no (wildcard) connection has been configured", // aggressive mode of 4.10
}

// LastFailures reads out of a daemon's log why each conn has no tunnel. The last reason counts. A tunnel that came up since
// clears it, as does another conn under the same name. The text of a line is the daemon's, and may be the peer's: it is only searched.
//
// The result also has a reason for the address of each peer whose packets no conn matches, until any conn is loaded.
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
		if strings.HasPrefix(m[2], "added ") || strings.Contains(m[2], "established Child SA") || strings.Contains(m[2], "IPsec SA established") {
			delete(reasons, m[1])
			delete(known, m[1])
			continue
		}
		if strings.HasPrefix(reasons[m[1]], "the peer's certificate") && (ourAnswer(m[2]) || strings.Contains(m[2], otherID)) {
			continue // the line follows from that certificate error
		}
		for _, f := range failures {
			if !strings.Contains(m[2], f.words) {
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

// refusedPeer returns the address of a peer whose packet no conn matches; it is not valid if the line does not say that.
func refusedPeer(line string) netip.Addr {
	m := packetLine.FindStringSubmatch(line)
	if m == nil || !slices.ContainsFunc(refusals, func(words string) bool { return strings.Contains(m[2], words) }) {
		return netip.Addr{}
	}
	peer, _ := netip.ParseAddrPort(m[1])
	return peer.Addr()
}

// ourAnswer says whether a line tells what the daemon itself answers to its peer.
func ourAnswer(words string) bool {
	return strings.HasPrefix(words, "responding to ") || strings.HasPrefix(words, "sending encrypted notification ") || strings.HasPrefix(words, "sending notification ")
}

// Failures returns why conns have no Child SA, as far as the daemon has logged it in the last ten minutes. invocation is that of the
// daemon's unit; "" if it is not known.
func (d *Daemon) Failures(ctx context.Context, invocation string) map[string]string {
	if invocation == "" {
		u, err := d.Bus.Show(ctx, d.Unit())
		if err != nil || u.Invocation == "" {
			return nil
		}
		invocation = u.Invocation
	}
	return LastFailures(d.journal(ctx, time.Now().Add(-10*time.Minute), invocation))
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
