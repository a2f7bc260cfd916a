package render

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config/configtest"
)

// TestRandomConfigurationIsReadBack parses the rendered text with readConns.
func TestRandomConfigurationIsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		document := configtest.Random().Draw(t, "document")
		text, secrets := renderAll(t, document)
		conns, err := readConns(text)
		if err != nil {
			t.Fatalf("%v", err)
		}
		checkConns(t, document, conns, func(m configtest.Meaning, c conn) []string {
			ipsec := canonical("esp", c.keys["esp"])
			if c.keys["phase2"] == "ah" {
				ipsec = canonical("ah", c.keys["phase2alg"])
			}
			return append(compareOmittedKeys(m, c), compareSettings(m, c, canonical("ike", c.keys["ike"]), ipsec)...)
		})
		checkSecrets(t, document, secrets)
	})
}

// TestLibreswanReadsRandomConfiguration parses the rendered text with Libreswan's own parser, and the proposals with
// `ipsec algparse`.
func TestLibreswanReadsRandomConfiguration(t *testing.T) {
	ipsec, dir := configtest.Libreswan(t), t.TempDir()
	parsed := map[string]string{}
	rapid.Check(t, func(t *rapid.T) {
		document := configtest.Random().Draw(t, "document")
		text, _ := renderAll(t, document)
		checkConns(t, document, libreswanReads(t, ipsec, dir, text), func(m configtest.Meaning, c conn) []string {
			kind := map[bool]string{false: "esp", true: "ah"}[m.AH]
			return compareSettings(m, c, algparse(t, ipsec, parsed, m.Version, "ike", c.keys["ike"]),
				algparse(t, ipsec, parsed, m.Version, kind, c.keys[kind]))
		})
	})
}

func renderAll(t *rapid.T, document configtest.Document) (text, secrets string) {
	c, err := config.Decode(json.RawMessage(document.Text))
	if err != nil {
		t.Fatalf("document refused: %v", err)
	}
	c.Found.Names = map[string]config.Name{}
	for name, address := range document.Names {
		c.Found.Names[name] = config.Name{Address: address}
	}
	c.Resolve(nil)
	for _, connection := range c.Connections {
		if connection.Refused != nil {
			t.Fatalf("connection refused: %v", connection.Refused)
		}
	}
	for _, connection := range c.Wanted() {
		for _, pair := range connection.Pairs() {
			text += string(Conn(connection, pair))
		}
	}
	return text, string(Secrets(c.Wanted()))
}

// checkConns checks that there are exactly the conns of the connections that are up, in their order and with unique
// names, and compares the settings of each.
func checkConns(t *rapid.T, document configtest.Document, conns []conn,
	compare func(configtest.Meaning, conn) []string,
) {
	names := map[string]bool{}
	for _, m := range document.Connections {
		if !m.Up {
			continue
		}
		pairs := max(1, len(m.Pairs))
		if len(conns) < pairs {
			t.Fatalf("%s has %d conns, not %d", m.ID, len(conns), pairs)
		}
		for i, c := range conns[:pairs] {
			left, right := "", ""
			if !m.Transport {
				left, right = m.Pairs[i][0].String(), m.Pairs[i][1].String()
			}
			faults := append(compare(m, c), difference("leftsubnet", left, c.keys["leftsubnet"]),
				difference("rightsubnet", right, c.keys["rightsubnet"]))
			faults = append(faults, difference("connalias", conns[0].keys["connalias"], c.keys["connalias"]))
			if text := strings.Join(faults, ""); text != "" || names[c.name] ||
				!strings.HasPrefix(c.name, c.keys["connalias"]+"-") {
				t.Fatalf("conn %s of %s: %s\n%v", c.name, m.ID, text, c.keys)
			}
			names[c.name] = true
		}
		conns = conns[pairs:]
	}
	if len(conns) > 0 {
		t.Fatalf("%d conns too many: %v", len(conns), conns)
	}
}

func difference(key string, want, got any) string {
	if want == got {
		return ""
	}
	return fmt.Sprintf("%s is %v, not %v; ", key, got, want)
}

// compareSettings compares the settings that both parsers return.
func compareSettings(m configtest.Meaning, c conn, ike, ipsec string) (faults []string) {
	dpdTimeout := 0
	if m.Version == "v1" {
		dpdTimeout = max(m.DPDTimeout-m.DPDInterval, min(m.DPDTimeout, m.DPDInterval+1))
	}
	for _, s := range []struct {
		key       string
		want, got any
	}{
		{"ike", m.IKE, ike}, {"esp", m.IPsec, ipsec},
		{"left", m.Local.String(), c.keys["left"]}, {"right", m.Peer.String(), c.keys["right"]},
		{"leftid", m.LocalID.Text, c.keys["leftid"]}, {"rightid", m.PeerID.Text, c.keys["rightid"]},
		{"leftupdown", "%disabled", c.keys["leftupdown"]}, {"rightupdown", "", c.keys["rightupdown"]},
		{"ikev2", map[string]string{"v1": "no", "v2": "yes"}[m.Version], c.keys["ikev2"]},
		{"aggressive", m.Aggressive, c.keys["aggressive"] == "yes"},
		{"ah", m.AH, c.keys["phase2"] == "ah"},
		{"type", map[bool]string{false: "tunnel", true: "transport"}[m.Transport], c.keys["type"]},
		{"auto", map[bool]string{false: "start", true: "add"}[m.ResponseOnly], c.keys["auto"]},
		{"pfs", map[bool]string{true: "yes", false: "no"}[m.PFS], c.keys["pfs"]},
		{"ikelifetime", m.IKELifetime, parseSeconds(c.keys["ikelifetime"])},
		{"salifetime", m.IPsecLifetime, parseSeconds(c.keys["salifetime"])},
		{"dpdtimeout", dpdTimeout, parseSeconds(c.keys["dpdtimeout"])},
	} {
		faults = append(faults, difference(s.key, s.want, s.got))
	}
	if margin := parseSeconds(c.keys["rekeymargin"]); margin < 1 || margin > min(m.IKELifetime, m.IPsecLifetime) {
		faults = append(faults, fmt.Sprintf("a rekeymargin of %d s; ", margin))
	}
	delay := parseSeconds(c.keys["dpddelay"])
	if m.Version == "v1" || m.DPDTimeout-m.DPDInterval < 120 {
		faults = append(faults, difference("dpddelay", m.DPDInterval, delay))
	}
	if m.Version == "v2" && m.DPDInterval > 0 {
		interval, _ := strconv.Atoi(c.keys["retransmit-interval"])
		timeout := parseSeconds(c.keys["retransmit-timeout"])
		faults = append(faults, deadlineFault(delay, m.DPDTimeout, interval, timeout), retryFault(interval, timeout))
		if delay < m.DPDInterval || delay >= m.DPDTimeout {
			faults = append(faults,
				fmt.Sprintf("the peer is asked after %d s, with an interval of %d and a timeout of %d s; ",
					delay, m.DPDInterval, m.DPDTimeout))
		}
	}
	return faults
}

// deadlineFault returns a message if a silent peer is not declared dead at the timeout. It may be declared dead up to
// half a second earlier; for a long timeout, as much earlier as rounding of the waits causes. The computation follows
// pluto's.
func deadlineFault(interval, timeout, retransmit, giveUp int) string {
	if retransmit < 1 || giveUp < 1 {
		return fmt.Sprintf("repeated after %d ms, given up after %d s; ", retransmit, giveUp)
	}
	waited := retransmit
	for waited < giveUp*1000 {
		waited *= 2
	}
	want := 1000 * max(timeout-interval, min(4, timeout))
	if waited > want || waited < want-max(500, want/200) {
		return fmt.Sprintf("given up after %d ms, not %d; ", waited, want)
	}
	return ""
}

// retryFault returns a message if an absent peer gets no packet for more than a minute. The computation follows
// pluto's.
func retryFault(retransmit, giveUp int) string {
	wait, waited := retransmit, retransmit
	for retransmissions := 0; waited < giveUp*1000; retransmissions++ {
		if retransmissions > 0 && 2*wait < giveUp*1000 {
			wait *= 2
		}
		waited += wait
	}
	if wait > 60_000 {
		return fmt.Sprintf("%d ms without a packet for an absent peer; ", wait)
	}
	return ""
}

// compareOmittedKeys compares the settings that Libreswan's parser does not print.
func compareOmittedKeys(m configtest.Meaning, c conn) []string {
	return []string{difference("dpdaction", m.DPDAction, c.keys["dpdaction"]),
		difference("authby", "secret", c.keys["authby"]),
		difference("fragmentation", "yes", c.keys["fragmentation"]),
		difference("initial-contact", map[string]string{"v1": "no", "v2": "yes"}[m.Version], c.keys["initial-contact"])}
}

// parseSeconds parses 90s, or the milliseconds that readwriteconf prints. It returns 0 for an empty string.
func parseSeconds(s string) int {
	if text, ok := strings.CutSuffix(s, "s"); ok {
		n, _ := strconv.Atoi(text)
		return n
	}
	n, _ := strconv.Atoi(s)
	return n / 1000
}

var (
	cipherName = regexp.MustCompile(`^aes(?:_(ctr|ccm|gcm))?(?:_([abc]))?(128|192|256)$`)
	icv        = map[string]string{"a": "8_", "b": "12_", "c": "16_", "": ""}
	truncated  = map[string]string{"HMAC_SHA2_256": "_128", "HMAC_SHA2_384": "_192", "HMAC_SHA2_512": "_256",
		"HMAC_SHA1": "_96", "AES_XCBC": "_96", "AES_CMAC": "_96"}
)

// canonical converts the proposals of a file to the form of Libreswan's status.
func canonical(kind, proposals string) string {
	var list []string
	for proposal := range strings.SplitSeq(proposals, ",") {
		list = append(list, canonicalOne(kind, proposal))
	}
	return strings.Join(list, ", ")
}

func canonicalOne(kind, proposal string) string {
	protection, group, _ := strings.Cut(proposal, ";")
	parts := strings.Split(protection, "-")
	integrity := strings.ToUpper(parts[len(parts)-1])
	if strings.HasPrefix(integrity, "SHA") {
		integrity = "HMAC_" + integrity
	}
	if kind != "ike" {
		integrity += truncated[integrity]
	}
	encryption := strings.ToUpper(parts[0])
	if m := cipherName.FindStringSubmatch(parts[0]); m != nil {
		encryption = "AES_" + strings.ToUpper(cmp.Or(m[1], "cbc")) + "_" + icv[m[2]] + m[3]
	} else if parts[0] == "3des" {
		encryption = "3DES_CBC"
	}
	text := encryption + "-" + integrity
	switch {
	case kind == "ah":
		text = integrity
	case len(parts) == 1:
		text = encryption + "-NONE"
	}
	if group != "" {
		text += "-" + strings.ToUpper(group)
	}
	return text
}

var parsedLine = regexp.MustCompile(`(?m)^\t(\S+)$`)

// algparse returns Libreswan's interpretation of proposals.
func algparse(t *rapid.T, ipsec string, cache map[string]string, version, kind, proposal string) string {
	arguments := "-" + version + " " + kind + "=" + proposal
	if cache[arguments] == "" {
		output, err := exec.Command(ipsec, "algparse", "-"+version, "-pfs=yes", kind+"="+proposal).CombinedOutput()
		var parsed []string
		for _, m := range parsedLine.FindAllSubmatch(output, -1) {
			parsed = append(parsed, string(m[1]))
		}
		if err != nil || parsed == nil {
			t.Fatalf("algparse %s: %v: %s", arguments, err, output)
		}
		cache[arguments] = strings.Join(parsed, ", ")
	}
	return cache[arguments]
}

// checkSecrets checks that there is a line with the bytes of the key for each pair of identities of a connection that
// is up.
func checkSecrets(t *rapid.T, document configtest.Document, secrets string) {
	var want []string
	for _, m := range document.Connections {
		line := fmt.Sprintf("%s %s : PSK 0x%s", quotedID(m.LocalID), quotedID(m.PeerID),
			hex.EncodeToString([]byte(m.PSK)))
		if m.Up && !slices.Contains(want, line) {
			want = append(want, line)
		}
	}
	if got := strings.Split(strings.TrimSuffix(secrets, "\n"), "\n"); len(want) > 0 && !slices.Equal(got, want) ||
		len(want) == 0 && secrets != "" {
		t.Fatalf("the secrets are %q, not %q", got, want)
	}
}

func quotedID(id configtest.Identity) string {
	if id.Kind == "ID_DER_ASN1_DN" {
		return `"` + id.Text + `"`
	}
	return id.Text
}
