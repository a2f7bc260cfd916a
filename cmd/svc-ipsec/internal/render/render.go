// Package render writes the files that Libreswan reads: ipsec.conf, one file for each conn, and ipsec.secrets.
//
// It has no side effects: it turns validated values into bytes. Every value comes from package config, whose types
// exclude quotes, line breaks and blanks where the format does not allow them; secrets are written in hex. Libreswan
// 4.10 and 5 accept the same text.
package render

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
)

// Paths are the absolute paths of one container's files. They are the same on the host and in the daemon's mount view.
type Paths struct {
	NSS     string
	Secrets string
	Conns   string // the directory of the conns that are loaded at every start
	Run     string // PID file, control socket, working directory
	Empty   string // an empty directory for features that are not used (certificate revocation lists)
}

// Setup returns ipsec.conf in two files. The first has only the settings, the second also includes the conns; package
// launch chooses which of them the daemon reads at its start.
//
// Without absolute paths the daemon would read the host's files. IKEv1 is accepted so that an IKEv1 connection can be
// added to a running daemon; if there is no such connection, the guard (package network) drops IKEv1 packets.
// audit-log=no is needed because 4.10 exits at the first SA if it lacks the permission to write to the kernel's audit
// log.
//
// A half-open IKE SA takes about 30 kB. Libreswan's default thresholds are meant for a daemon that has a host for
// itself: cookies from 25,000, no new IKE SA from 50,000. With the thresholds set here (1,000 and 4,000), half-open
// IKE SAs take 30 MB and 120 MB of the unit's MemoryHigh of 512 MB. Both thresholds are higher than any number of
// connections that start at the same time.
func Setup(p Paths) (settings, all []byte) {
	settings = fmt.Appendf(nil, `config setup
	nssdir=%s
	ipsecdir=%s
	secretsfile=%s
	dumpdir=%s
	audit-log=no
	logtime=no
	nhelpers=1
	uniqueids=yes
	ikev1-policy=accept
	ddos-ike-threshold=1000
	max-halfopen-ike=4000
`, p.NSS, p.Empty, p.Secrets, p.Run)
	return settings, fmt.Appendf(nil, "%s\ninclude %s\n", settings, filepath.Join(p.Conns, "*.conf"))
}

// Conn returns the file of one pair of a connection. Its last line depends on the secret, so a file on disk shows
// whether the conn in the daemon is the wanted one.
func Conn(c *config.Connection, pair config.Pair) []byte { return render(c, pair, false) }

// FormerConn returns the file that earlier versions, from 0.1.0 on, wrote for the same pair. A conn with that file
// works. It is replaced by the file of this version when that interrupts no tunnel.
func FormerConn(c *config.Connection, pair config.Pair) []byte { return render(c, pair, true) }

func render(c *config.Connection, pair config.Pair, former bool) []byte {
	var b bytes.Buffer
	set := func(key string, value any) { fmt.Fprintf(&b, "\t%s=%v\n", key, value) }
	fmt.Fprintf(&b, "conn %s\n", pair.Conn)
	// Unquoted, Libreswan parses an alias of digits as a number and ignores it.
	set("connalias", `"`+c.Alias()+`"`)
	set("left", c.LocalAddress)
	set("leftid", c.LocalID)
	if c.ByCertificate() {
		set("leftcert", c.Certificate.Nickname)
		// A peer that has only the certificate of our CA need not request ours.
		set("leftsendcert", "always")
	}
	if !pair.Host {
		set("leftsubnet", pair.Local)
	}
	// This plugin manages the routes. The daemon's updown script would need a shell, and would remove the routes when
	// the tunnel goes down.
	set("leftupdown", "%disabled")
	set("right", c.PeerAddress)
	set("rightid", c.PeerID)
	if !pair.Host {
		set("rightsubnet", pair.Peer)
	}
	if c.ByCertificate() {
		set("rightca", c.Certificate.PeerCA)
		set("authby", c.Certificate.AuthBy)
	} else {
		set("authby", "secret")
	}
	set("ikev2", map[string]string{"v1": "no", "v2": "yes"}[c.IKE.Version])
	if c.IKE.Aggressive {
		set("aggressive", "yes")
	}
	set("ike", c.IKE.Proposals)
	if c.IPsec.Protocol == "ah" {
		// 4.10 refuses `ah=` alone, and before 5.3 it has another meaning.
		set("phase2", "ah")
		set("phase2alg", c.IPsec.Proposals)
	} else {
		set("esp", c.IPsec.Proposals)
	}
	set("pfs", map[bool]string{false: "yes", true: "no"}[c.IPsec.NoPFS])
	set("type", map[bool]string{false: "tunnel", true: "transport"}[c.IPsec.Transport])
	set("ikelifetime", seconds(c.IKE.Lifetime))
	set("salifetime", seconds(c.IPsec.Lifetime))
	// The default margin of 540 s, with a fuzz of 100 %, would leave no time for short lifetimes.
	set("rekeymargin", seconds(max(1, min(540, min(c.IKE.Lifetime, c.IPsec.Lifetime)/4))))
	if c.DPD.Interval > 0 {
		set("dpdaction", c.DPD.Action)
		if c.IKE.Version == "v1" {
			set("dpddelay", seconds(c.DPD.Interval))
			set("dpdtimeout", seconds(IKEv1DPDTimeout(c.DPD)))
		} else {
			delay, interval, timeout := Liveness(c.DPD) // IKEv2 ignores dpdtimeout
			if former {
				delay = c.DPD.Interval
				interval, timeout = retransmission(1000 * answerTimeout(c.DPD))
			}
			set("dpddelay", seconds(delay))
			set("retransmit-interval", strconv.Itoa(interval))
			set("retransmit-timeout", seconds(timeout))
		}
	}
	// The notification makes the peer delete all other SAs with this host. IKEv2 sends it with an IKE SA that replaces
	// no other; a rekey does not authenticate again (RFC 7296, section 2.4). IKEv1 sends it with every IKE SA that it
	// initiates, so a rekey would delete the tunnels. Libreswan 4.10 and 5.2 have no setting that limits it to the
	// first IKE SA after a start.
	set("initial-contact", map[bool]string{true: "yes", false: "no"}[c.IKE.Version == "v2" || former])
	set("fragmentation", "yes")
	set("auto", auto(c.ResponseOnly))
	sum := sha256.Sum256(append([]byte(c.Alias()+"\x00"+c.Certificate.Digest), c.PSK.Reveal()...))
	fmt.Fprintf(&b, "# key %s\n", hex.EncodeToString(sum[:8]))
	return b.Bytes()
}

// IKEv1DPDTimeout returns for how many seconds IKEv1 waits for an answer, so that a silent peer is declared dead at the
// timeout. pluto sends a request after an interval without packets, and sends at least two requests.
func IKEv1DPDTimeout(d config.DPD) int {
	return max(d.Timeout-d.Interval, min(d.Timeout, d.Interval+1))
}

// minAnswerTime is the least number of seconds that a peer gets to answer, because it may be busy with a large
// Diffie-Hellman group.
const minAnswerTime = 4

// maxRetransmission is the maximum number of seconds for which pluto retransmits an IKEv2 message. It waits for half of
// that before the last retransmission, and then starts again with a new IKE SA. So an absent peer gets a message at
// least every 60 seconds.
const maxRetransmission = 119

// Liveness returns the settings of dead peer detection for IKEv2: after how many seconds of silence pluto sends a
// request, after how many milliseconds it retransmits the request for the first time, and after how many seconds it
// gives up. A silent peer is declared dead at the timeout.
//
// The retransmission settings apply to all messages, also to the first one to an absent peer. If the timeout is much
// longer than the interval, pluto therefore sends the request later, instead of retransmitting it for longer.
func Liveness(d config.DPD) (delay, interval, timeout int) {
	remaining := answerTimeout(d)
	if remaining <= maxRetransmission {
		interval, timeout = retransmission(1000 * remaining)
		return d.Interval, interval, timeout
	}
	interval, timeout = retransmission(1000 * maxRetransmission)
	return d.Timeout - maxRetransmission, interval, timeout
}

// answerTimeout returns for how many seconds IKEv2 waits for an answer.
func answerTimeout(d config.DPD) int { return max(d.Timeout-d.Interval, min(minAnswerTime, d.Timeout)) }

// retransmission returns after how many milliseconds a packet is retransmitted for the first time, and after how many
// seconds pluto gives up, for a total of about remaining milliseconds. pluto waits for the first interval once more,
// then twice as long, and so on. It checks only at the end of each wait whether the timeout has passed (double_delay in
// its retransmit.c), so a wait has to end at the timeout.
func retransmission(remaining int) (interval, timeout int) {
	waits := 1
	for interval = remaining; interval >= 1000; interval /= 2 {
		waits *= 2
	}
	return interval, interval * waits / 1000
}

// Networks parses the networks from a file that Conn wrote. They are invalid for a conn in transport mode.
func Networks(conn []byte) (n config.Networks) {
	for line := range strings.Lines(string(conn)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch key {
		case "leftsubnet":
			n.Local, _ = netip.ParsePrefix(value)
		case "rightsubnet":
			n.Peer, _ = netip.ParsePrefix(value)
		}
	}
	return n
}

func seconds(n int) string { return fmt.Sprintf("%ds", n) }

// auto returns what the daemon does with a conn at its start: initiate it, or only load it and wait for the peer (add).
func auto(responseOnly bool) string {
	if responseOnly {
		return "add"
	}
	return "start"
}

// Secrets returns ipsec.secrets with the pre-shared key of every pair of identities. Keys are written in hex, because
// every other form excludes some bytes, and the daemon logs a line that it refuses.
func Secrets(connections []*config.Connection) []byte {
	var b bytes.Buffer
	seen := map[string]bool{}
	for _, c := range connections {
		if c.ByCertificate() {
			continue
		}
		line := fmt.Sprintf("%s %s : PSK 0x%s\n", c.LocalID, c.PeerID, hex.EncodeToString(c.PSK.Reveal()))
		if !seen[line] {
			b.WriteString(line)
		}
		seen[line] = true
	}
	return b.Bytes()
}
