package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config/configtest"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// key holds the JSON members for a pre-shared key in the configurations of the two ends, and for a key whose last
// character is different.
type key struct{ name, left, right, wrong string }

// text returns a key that both ends have as a string.
func text(name, s string) key {
	last, size := utf8.DecodeLastRuneInString(s)
	other := "z"
	if last == 'z' {
		other = "y"
	}
	own := `"psk":` + configtest.Quoted(s)
	return key{name, own, own, `"psk":` + configtest.Quoted(s[:len(s)-size]+other)}
}

// encoded returns a key that both ends have in base64.
func encoded(name string, b []byte) key {
	write := func(b []byte) string { return `"pskBase64":"` + base64.StdEncoding.EncodeToString(b) + `"` }
	other := bytes.Clone(b)
	other[len(b)-1] ^= 1
	return key{name, write(b), write(b), write(other)}
}

func keys() []key {
	random := rand.New(rand.NewPCG(1, 2))
	letters := func(n int) string {
		var b strings.Builder
		for b.Len() < n {
			b.WriteByte(byte(' ' + random.IntN('~'-' '+1)))
		}
		return b.String()
	}
	var low, runes strings.Builder
	for r := rune(0); r < 0x100; r++ {
		low.WriteRune(r)
	}
	for runes.Len() < 500 {
		if r := rune(random.IntN(utf8.MaxRune + 1)); utf8.ValidRune(r) {
			runes.WriteRune(r)
		}
	}
	randomBytes := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(random.IntN(256))
		}
		return b
	}
	either := text("a string on the left, base64 on the right", "the same bytes \u00fc")
	either.right = encoded("", []byte("the same bytes \u00fc")).right
	return []key{
		encoded("the byte 0", []byte{0}), encoded("the byte 255", []byte{255}),
		encoded("invalid UTF-8", []byte("\xff\xfe\n\x00\"")), either,
		text("1 byte", "x"), text("a quote", `"`), text("an apostrophe", "'"), text("a backslash", `\`),
		text("a newline", "\n"), text("a blank", " "), text("NUL", "\x00"),
		text("quotes", `say "no" and 'no'`), text("lines", "one\ntwo\r\n\tthree\n"),
		text("the end of a line of secrets", "x\" \n%any : PSK \"y"),
		text("Libreswan's prefix of hexadecimal keys", "0x6b6579"), text("Libreswan's prefix of base64 keys", "0sa2V5"),
		text("Libreswan's keyword %any", "%any"), text("UTF-8", "ключ für 鍵 🔑"),
		text("the first 256 characters", low.String()), text("random characters", runes.String()),
		text("16 bytes", letters(16)), text("512 bytes", letters(512)),
		text("512 bytes in characters of two bytes", strings.Repeat("éü", 128)), text("1000 bytes", letters(1000)),
		encoded("32 random bytes", randomBytes(32)), encoded("512 random bytes", randomBytes(512)),
		encoded("1000 random bytes", randomBytes(1000)),
	}
}

// oneTunnel returns the configuration of one end of a tunnel.
func oneTunnel(external, peer, local, remote, psk, more string) string {
	return fmt.Sprintf(`{"externalIps":[%q],"connections":[{"id":"k","peerAddress":%q,"localCidrs":[%q],`+
		`"peerCidrs":[%q],`+
		`%s%s}]}`, external, peer, local, remote, psk, more)
}

var establishedIKE = regexp.MustCompile(`#([0-9]+): "k-0-0":[0-9]+ ` +
	`.*(?:established IKE SA|IKE SA established|ISAKMP SA established)`)

// established returns the number of the newest established IKE SA, or 0 if there is none.
func (c *container) established() (newest int) {
	c.t.Helper()
	for _, m := range establishedIKE.FindAllStringSubmatch(c.whack("--showstates"), -1) {
		n, _ := strconv.Atoi(m[1])
		newest = max(newest, n)
	}
	return newest
}

// TestEveryKeyAuthenticates reconfigures both ends with one key after another. An established IKE SA shows that the
// keys are equal. Traffic is not tested, because it needs a kernel with ESP.
func TestEveryKeyAuthenticates(t *testing.T) {
	requireSandbox(t)
	left, right := sites(t)
	set := func(c *container, psk, more string) {
		t.Helper()
		if c == left {
			c.configuration = oneTunnel("100.100.100.2", "200.200.200.2", "10.1.0.0/24", "10.2.0.0/24", psk, more)
		} else {
			c.configuration = oneTunnel("200.200.200.2", "100.100.100.2", "10.2.0.0/24", "10.1.0.0/24", psk,
				more+`,"initiator":"response-only"`)
		}
		c.must("ADD")
	}
	before := [2]int{}
	authenticates := func(what string) {
		t.Helper()
		eventually(t, what+": an IKE SA at both ends", func() bool {
			l, r := left.established(), right.established()
			if l <= before[0] || r <= before[1] {
				return false
			}
			before = [2]int{l, r}
			return true
		})
	}
	for _, k := range keys() {
		set(right, k.right, "")
		set(left, k.left, "")
		authenticates(k.name)
		set(left, k.wrong, "")
		eventually(t, k.name+" with another last character: AUTHENTICATION_FAILED at both ends", func() bool {
			return left.failsToAuthenticate() && right.failsToAuthenticate()
		})
		if left.established() > 0 || right.established() > 0 {
			t.Errorf("%s: a wrong key authenticates", k.name)
		}
	}
	for _, version := range []string{
		`,"ikePolicy":{"ikeVersion":"v1"}`, `,"ikePolicy":{"ikeVersion":"v1","phase1NegotiationMode":"aggressive"}`,
	} {
		for _, k := range keys()[len(keys())-7:] {
			set(right, k.right, version)
			set(left, k.left, version)
			authenticates("IKEv1: " + k.name)
		}
	}
	left.must("DEL")
	right.must("DEL")
}

func (c *container) failsToAuthenticate() bool {
	c.t.Helper()
	c.must("CHECK")
	h := c.health()
	return h.Connections[0].Status == spec.Down && strings.Contains(h.Connections[0].Reason, "AUTHENTICATION_FAILED")
}
