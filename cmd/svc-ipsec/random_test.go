package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config/configtest"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/render"
)

// waitsForPeer is the reason of a response-only connection whose peer has not initiated.
const waitsForPeer = "initiator is response-only, and the peer has not initiated"

// absentPeerReasons are the reasons of a connection whose peer does not exist.
var absentPeerReasons = []string{"no answer from the peer", "no route to the peer", waitsForPeer}

// documentCount is the number of random documents.
const documentCount = 40

// TestRandomConfigurations reconfigures one container with one random document after another, and compares the status
// of its daemon with the expected meaning of each document.
func TestRandomConfigurations(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-random")
	for seed := range documentCount {
		document := configtest.Random().Example(seed)
		c.configuration = document.Text
		lines := ""
		for name, address := range document.Names {
			lines += address.String() + " " + name + "\n"
		}
		hosts(t, lines)
		c.must("ADD")
		for i, connection := range c.health().Connections {
			m := document.Connections[i]
			if m.Up && connection.Reason != "" && !slices.Contains(absentPeerReasons, connection.Reason) {
				t.Errorf("%s: %s", m.ID, connection.Reason)
			}
		}
		var want, got []string
		status := ""
		if slices.ContainsFunc(document.Connections, func(m configtest.Meaning) bool { return m.Up }) {
			status = c.whack("--status")
			got = loaded(status)
		}
		for _, m := range document.Connections {
			if !strings.Contains(status, "action:") {
				// Libreswan 5 has no dpdaction and always behaves as with hold. The lifetime of an SA is longer than
				// its margin of a second.
				m.DPDAction, m.IKELifetime, m.IPsecLifetime = "", max(2, m.IKELifetime), max(2, m.IPsecLifetime)
			}
			if m.Up {
				want = append(want, expected(m)...)
			}
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("document %d: the daemon has\n%s\nnot\n%s", seed, strings.Join(got, "\n"),
				strings.Join(want, "\n"))
		}
		c.must("CHECK")
	}
}

// expected returns the conns of a connection, one line for each, in the format of loaded.
func expected(m configtest.Meaning) (lines []string) {
	policy := []string{map[string]string{"v1": "IKEv1", "v2": "IKEv2"}[m.Version], "PSK",
		map[bool]string{false: "ENCRYPT", true: "AUTHENTICATE"}[m.AH],
		map[bool]string{true: "TUNNEL"}[!m.Transport], map[bool]string{true: "PFS"}[m.PFS]}
	if m.Aggressive {
		policy = append(policy, "AGGRESSIVE")
	}
	slices.Sort(policy)
	dpd := config.DPD{Interval: m.DPDInterval, Timeout: m.DPDTimeout}
	delay, timeout := m.DPDInterval, render.IKEv1DPDTimeout(dpd)
	if m.Version == "v2" {
		delay, _, timeout = render.Liveness(dpd)
	}
	dead := fmt.Sprintf("%s after %d of %d", m.DPDAction, timeout, delay)
	if m.DPDInterval == 0 {
		dead = "never"
	}
	// Libreswan prints key ids and distinguished names in another form, so their texts are not compared.
	shown := func(id configtest.Identity) string {
		if id.Kind == "ID_KEY_ID" || id.Kind == "ID_DER_ASN1_DN" {
			return id.Kind
		}
		return id.Kind + " " + id.Text
	}
	rest := fmt.Sprint(m.Local, " ", m.Peer, "; ", shown(m.LocalID), "; ", shown(m.PeerID), "; ",
		strings.Trim(strings.Join(policy, "+"), "+"), "; ", m.IKE, "; ", m.IPsec, "; ",
		m.IKELifetime, "; ", m.IPsecLifetime, "; ", dead)
	if m.Transport {
		return []string{"none none; " + rest}
	}
	for _, pair := range m.Pairs {
		lines = append(lines, fmt.Sprint(pair[0], " ", pair[1], "; ", rest))
	}
	return lines
}

var (
	connLine = regexp.MustCompile(`(?m)^(?:000 )?"([^"]+)": +(.*)$`)
	ends     = regexp.MustCompile(
		`^(?:(\S+)===)?([0-9a-f.:]+?)(?:\[.*?\])?\.\.\.([0-9a-f.:]+)(?:\[.*\])?(?:===(\S+?))?; `)
	details = []*regexp.Regexp{
		regexp.MustCompile(`our idtype: (\S+); our id=(.*?); their idtype: (\S+); their id=(.*)$`),
		regexp.MustCompile(`^policy: (\S+);$`),
		regexp.MustCompile(`^IKE algorithms: (.+)$`), regexp.MustCompile(`^(?:ESP|AH) algorithms: (.+)$`),
		regexp.MustCompile(`^ike_life: ([0-9]+)s; ipsec_life: ([0-9]+)s;`),
		regexp.MustCompile(`^dpd: (active|passive); (?:action:(\S+); )?delay:([0-9]+)s; timeout:([0-9]+)s`),
		regexp.MustCompile(`^liveness: (active|passive); (?:dpdaction:(\S+); )?` +
			`dpddelay:([0-9]+)s; retransmit-timeout:([0-9]+)s`),
	}
)

// loaded returns one line for each conn in the daemon's status.
func loaded(status string) (lines []string) {
	about, order := map[string][]string{}, []string{}
	for _, m := range connLine.FindAllStringSubmatch(status, -1) {
		if about[m[1]] == nil {
			order = append(order, m[1])
		}
		about[m[1]] = append(about[m[1]], m[2])
	}
	for _, name := range order {
		lines = append(lines, loadedConn(about[name]))
	}
	return lines
}

func loadedConn(about []string) string {
	end := ends.FindStringSubmatch(about[0])
	if end == nil {
		return about[0]
	}
	none := func(network string) string {
		if network == "" {
			return "none"
		}
		return network
	}
	found := make([][]string, len(details))
	for i, detail := range details {
		for _, line := range about {
			if m := detail.FindStringSubmatch(line); m != nil {
				found[i] = m
			}
		}
	}
	ids, policy, ike, ipsec, lives, dead := found[0], found[1], found[2], found[3], found[4], found[5]
	if dead == nil {
		dead = found[6]
	}
	if ids == nil || policy == nil || ike == nil || ipsec == nil || lives == nil || dead == nil {
		return strings.Join(about, "\n")
	}
	shown := func(kind, text string) string {
		if kind == "ID_KEY_ID" || kind == "ID_DER_ASN1_DN" {
			return kind
		}
		return kind + " " + text
	}
	// These flags do not come from the configuration. Libreswan 5 prints TRANSPORT, where 4.10 only omits TUNNEL.
	ignored := []string{"UP", "IKE_FRAG_ALLOW", "ESN_NO", "ESN_YES", "TRANSPORT"}
	flags := slices.DeleteFunc(strings.Split(policy[1], "+"), func(flag string) bool {
		return slices.Contains(ignored, flag)
	})
	slices.Sort(flags)
	after := fmt.Sprintf("%s after %s of %s", dead[2], dead[4], dead[3])
	if dead[1] == "passive" {
		after = "never"
	}
	return fmt.Sprint(none(end[1]), " ", none(end[4]), "; ", end[2], " ", end[3], "; ",
		shown(ids[1], ids[2]), "; ", shown(ids[3], ids[4]), "; ",
		strings.Join(flags, "+"), "; ", ike[1], "; ", ipsec[1], "; ", lives[1], "; ", lives[2], "; ", after)
}
