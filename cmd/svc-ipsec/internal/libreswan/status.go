package libreswan

import (
	"strconv"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/internal/lazyregexp"
)

// Conn is the state of one conn in the daemon.
type Conn struct {
	Unoriented bool   // no interface has its local address
	OurKind    string // ID_FQDN, …
	OurID      string
	TheirKind  string
	TheirID    string
	Algorithms string // negotiated for the IKE SA and the Child SA; "" if there is none
	// Negotiating means that an exchange with the peer is in progress. Either end may have started it.
	Negotiating bool
	// IKE means that an IKE SA of this conn is established.
	IKE bool
	// Orphaned means that the Child SA is still installed, but its IKE SA was deleted, so the peer has no Child SA any
	// more. 4.10 leaves it behind when the conn that established a shared IKE SA is deleted.
	Orphaned bool
}

// Traffic has the counters of an installed Child SA, in bytes, and the time when it was added.
type Traffic struct {
	Since   time.Time
	In, Out uint64
}

var (
	// Libreswan 4 puts a number before each line, Libreswan 5 does not. The name of an instance of a conn is followed
	// by [n].
	statusLine  = lazyregexp.New(`^(?:[0-9]{3} )?"([A-Za-z0-9_-]{1,80})"(?:\[[0-9]+\])?: +(.*)$`)
	trafficLine = lazyregexp.New(`^(?:[0-9]{3} )?#[0-9]+: "([A-Za-z0-9_-]{1,80})"(?:\[[0-9]+\])?, (.*)$`)
	// A state of a conn (#1: "a-0-0":500 …), or one that waits for its IKE SA (#1: pending CHILD SA for "a-0-0" …).
	stateLine = lazyregexp.New(
		`^(?:[0-9]{3} )?#([0-9]+): (pending [^"]*)?"([A-Za-z0-9_-]{1,80})"(?:\[[0-9]+\])?(.*)$`)
	parent        = lazyregexp.New(`\(established Child SA\);.* newest;.* IKE SA #([0-9]+);`)
	algorithmLine = lazyregexp.New(`^([A-Za-z0-9]+) algorithm newest: ([A-Za-z0-9_-]+);?(?: pfsgroup=.*)?$`)
	idLine        = lazyregexp.New(
		`our idtype: ([A-Z0-9_]+); our id=(.*?);+ their idtype: ([A-Z0-9_]+); their id=(.*?);?$`)
)

// ParseStatus parses the output of `whack --status`, with or without --trafficstatus. It skips unknown lines, because
// each release adds some.
func ParseStatus(output string) map[string]Conn {
	conns := map[string]Conn{}
	states, parents := map[string]bool{}, map[string]string{}
	for line := range strings.Lines(output) {
		line = strings.TrimRight(line, "\r\n")
		if m := stateLine.FindStringSubmatch(line); m != nil {
			// A line of --trafficstatus, or the second line of a Child SA. Neither contains the state.
			if strings.HasPrefix(m[4], ", ") || strings.Contains(m[4], " Traffic: ") {
				continue
			}
			states[m[1]] = true
			if p := parent.FindStringSubmatch(m[4]); p != nil {
				parents[m[3]] = p[1]
			}
			conn, ok := conns[m[3]]
			if !ok {
				continue
			}
			if m[2] != "" || !strings.Contains(m[4], "established") {
				conn.Negotiating = true
			}
			// The texts are those of IKEv2, of IKEv1 in 4.10, and of IKEv1 in 5.2.
			if strings.Contains(m[4], "(established IKE SA)") || strings.Contains(m[4], "(IKE SA established)") ||
				strings.Contains(m[4], "(ISAKMP SA established)") {
				conn.IKE = true
			}
			conns[m[3]] = conn
			continue
		}
		m := statusLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		conn, rest := conns[m[1]], m[2]
		switch algorithms := algorithmLine.FindStringSubmatch(rest); {
		case algorithms != nil:
			conn.Algorithms = strings.TrimPrefix(conn.Algorithms+", "+algorithms[1]+" "+algorithms[2], ", ")
		// Libreswan 5 names the end that is unoriented: "host: unoriented; …".
		case strings.HasPrefix(strings.TrimPrefix(rest, "host: "), "unoriented;"):
			conn.Unoriented = true
		case strings.Contains(rest, "our idtype: "):
			if ids := idLine.FindStringSubmatch(rest); ids != nil {
				conn.OurKind, conn.OurID, conn.TheirKind, conn.TheirID = ids[1], ids[2], ids[3], ids[4]
			}
		}
		conns[m[1]] = conn
	}
	for name, ike := range parents {
		if conn, ok := conns[name]; ok && !states[ike] {
			conn.Orphaned = true
			conns[name] = conn
		}
	}
	return conns
}

// hasChildSA reports whether a status contains an established Child SA of IKEv2 or IKEv1.
func hasChildSA(status string) bool {
	return strings.Contains(status, "established Child SA") || strings.Contains(status, "IPsec SA established") ||
		strings.Contains(status, " Traffic: ")
}

// ParseTraffic parses the output of `whack --trafficstatus`, with or without --status. It has one line for each
// installed Child SA. While one Child SA replaces another, both are listed: the bytes are added, and the earlier time
// is used.
func ParseTraffic(output string) map[string]Traffic {
	all := map[string]Traffic{}
	for line := range strings.Lines(output) {
		m := trafficLine.FindStringSubmatch(strings.TrimRight(line, "\r\n"))
		if m == nil || !strings.Contains(m[2], "add_time=") {
			continue
		}
		traffic, again := all[m[1]]
		for field := range strings.SplitSeq(m[2], ", ") {
			key, value, _ := strings.Cut(field, "=")
			n, err := strconv.ParseUint(value, 10, 64)
			if err != nil {
				continue
			}
			switch key {
			case "add_time":
				if since := time.Unix(int64(min(n, 1<<40)), 0); !again || since.Before(traffic.Since) {
					traffic.Since = since
				}
			case "inBytes":
				traffic.In += n
			case "outBytes":
				traffic.Out += n
			}
		}
		all[m[1]] = traffic
	}
	return all
}
