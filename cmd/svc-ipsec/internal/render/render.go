// Package render writes what Libreswan reads: ipsec.conf, one file a conn, ipsec.secrets.
//
// It is pure: checked values in, bytes out. Every value comes from room config, whose types cannot hold a quote, a line
// break or a blank where the format has no place for one; secrets are hex. Libreswan 4.10 and 5 read the same text.
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

// Places are the absolute paths of one container's files, the same in the host's and the daemon's view.
type Places struct {
	NSS     string
	Secrets string
	Conns   string // the folder of the conns that are loaded at every start
	Run     string // pid, control socket, working directory
	Empty   string // a folder for what is not used (certificate revocation lists)
}

// Setup is ipsec.conf. Without absolute paths the daemon would read the host's. IKEv1 is accepted here so that a
// connection of that version can be added to a running daemon; the guard (package network) drops its packets where there is
// none. Without leave to write to the kernel's audit log 4.10 ends at the first SA, so it does not try.
//
// A half-open IKE SA takes some 30 kB, and Libreswan's thresholds are for a daemon that owns a host: cookies from 25,000, no new IKE SA
// from 50,000. These are 30 MB and 120 MB of the unit's MemoryHigh of 512 MB, and more than any number of connections that start
// at once.
//
// It is in two files. The first has the settings alone, the second includes the connections; package launch chooses which of
// them the daemon reads at its start.
func Setup(p Places) (settings, all []byte) {
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

// Conn is the file of one pair of a connection. Its last line changes with the secret, so that a file on disk tells
// whether the conn in the daemon is the wanted one.
func Conn(c *config.Connection, pair config.Pair) []byte { return render(c, pair, false) }

// FormerConn is the file that earlier versions, from 0.1.0 on, wrote for the same pair. A conn with that file works. It is loaded with
// the file of this version when that interrupts no tunnel.
func FormerConn(c *config.Connection, pair config.Pair) []byte { return render(c, pair, true) }

func render(c *config.Connection, pair config.Pair, former bool) []byte {
	var b bytes.Buffer
	put := func(key string, value any) { fmt.Fprintf(&b, "\t%s=%v\n", key, value) }
	fmt.Fprintf(&b, "conn %s\n", pair.Conn)
	put("connalias", `"`+c.Alias()+`"`) // digits alone are a number to Libreswan, and no alias, unless they are quoted
	put("left", c.LocalAddress)
	put("leftid", c.LocalID)
	if c.ByCertificate() {
		put("leftcert", c.Certificate.Nickname)
		put("leftsendcert", "always") // a peer that has our issuer's certificate alone need not ask for ours
	}
	if !pair.Host {
		put("leftsubnet", pair.Local)
	}
	// The routes are ours: the daemon's script would need a shell, and take them away with the tunnel.
	put("leftupdown", "%disabled")
	put("right", c.PeerAddress)
	put("rightid", c.PeerID)
	if !pair.Host {
		put("rightsubnet", pair.Peer)
	}
	if c.ByCertificate() {
		put("rightca", c.Certificate.PeerCA)
		put("authby", c.Certificate.AuthBy)
	} else {
		put("authby", "secret")
	}
	put("ikev2", map[string]string{"v1": "no", "v2": "yes"}[c.IKE.Version])
	if c.IKE.Aggressive {
		put("aggressive", "yes")
	}
	put("ike", c.IKE.Proposals)
	if c.IPsec.Protocol == "ah" {
		// `ah=` alone is refused by 4.10 and means something else before 5.3.
		put("phase2", "ah")
		put("phase2alg", c.IPsec.Proposals)
	} else {
		put("esp", c.IPsec.Proposals)
	}
	put("pfs", map[bool]string{false: "yes", true: "no"}[c.IPsec.NoPFS])
	put("type", map[bool]string{false: "tunnel", true: "transport"}[c.IPsec.Transport])
	put("ikelifetime", seconds(c.IKE.Lifetime))
	put("salifetime", seconds(c.IPsec.Lifetime))
	// The default of 540 s with its fuzz of 100 % leaves short lifetimes no time at all.
	put("rekeymargin", seconds(max(1, min(540, min(c.IKE.Lifetime, c.IPsec.Lifetime)/4))))
	if c.DPD.Interval > 0 {
		put("dpdaction", c.DPD.Action)
		if c.IKE.Version == "v1" {
			put("dpddelay", seconds(c.DPD.Interval))
			put("dpdtimeout", seconds(Unanswered(c.DPD)))
		} else {
			delay, interval, timeout := Liveness(c.DPD) // IKEv2 ignores dpdtimeout
			if former {
				delay = c.DPD.Interval
				interval, timeout = retransmission(1000 * unanswered(c.DPD))
			}
			put("dpddelay", seconds(delay))
			put("retransmit-interval", strconv.Itoa(interval))
			put("retransmit-timeout", seconds(timeout))
		}
	}
	// The notification makes the peer delete all other SAs with us. IKEv2 sends it with an IKE SA that replaces none; a rekey does not
	// authenticate again (RFC 7296, section 2.4). IKEv1 sends it with every IKE SA that it initiates, so a rekey would drop the
	// tunnels. Libreswan 4.10 and 5.2 have no setting that limits it to the first IKE SA after a start.
	put("initial-contact", map[bool]string{true: "yes", false: "no"}[c.IKE.Version == "v2" || former])
	put("fragmentation", "yes")
	put("auto", Auto(c.ResponseOnly))
	sum := sha256.Sum256(append([]byte(c.Alias()+"\x00"+c.Certificate.Digest), c.PSK.Reveal()...))
	fmt.Fprintf(&b, "# key %s\n", hex.EncodeToString(sum[:8]))
	return b.Bytes()
}

// Unanswered is how many seconds IKEv1 waits for an answer, so that a peer that falls silent is down at the timeout: it is
// asked when it was not heard for the interval, and it is asked twice at least.
func Unanswered(d config.DPD) int { return max(d.Timeout-d.Interval, min(d.Timeout, d.Interval+1)) }

// patience is the least time, in seconds, that a peer gets to answer: it may be at work on a large group.
const patience = 4

// longestAttempt is the most seconds for which pluto retransmits an IKEv2 message. It waits for half of that before the last
// retransmission, and starts with a new IKE SA afterwards. So a peer that is absent gets a message every 60 seconds at least.
const longestAttempt = 119

// Liveness returns, for IKEv2, after how many seconds of silence pluto asks a peer, after how many ms it repeats a message for the first time,
// and after how many seconds it gives up. A silent peer is given up at the timeout.
//
// The retransmission is that of all messages, the first one to an absent peer included. So with a timeout that is much
// longer than the interval, pluto asks later, not for longer.
func Liveness(d config.DPD) (delay, interval, timeout int) {
	left := unanswered(d)
	if left <= longestAttempt {
		interval, timeout = retransmission(1000 * left)
		return d.Interval, interval, timeout
	}
	interval, timeout = retransmission(1000 * longestAttempt)
	return d.Timeout - longestAttempt, interval, timeout
}

// unanswered is how many seconds IKEv2 waits for an answer.
func unanswered(d config.DPD) int { return max(d.Timeout-d.Interval, min(patience, d.Timeout)) }

// retransmission returns after how many ms a packet is repeated for the first time, and after how many seconds it is given up, for about
// so many ms in all. pluto waits that long once more, then twice as long, and so on, and looks at the end of each wait
// whether the time is over (double_delay in its retransmit.c): the waits have to end where the time does.
func retransmission(left int) (interval, timeout int) {
	waits := 1
	for interval = left; interval >= 1000; interval /= 2 {
		waits *= 2
	}
	return interval, interval * waits / 1000
}

// Networks reads the subnets back out of what Conn wrote; of one in transport mode there are none.
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

// Auto is what the daemon does with a conn: it starts it, or waits for its peer (add).
func Auto(responseOnly bool) string {
	if responseOnly {
		return "add"
	}
	return "start"
}

// Secrets is ipsec.secrets: the pre-shared key of every pair of identities, in hex, since every other form refuses some byte and the
// daemon logs a line that it refuses.
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
