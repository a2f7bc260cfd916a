package render

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config/configtest"
)

// may says which settings a key can change. What is not here changes none: it is refused, or shown alone.
var may = map[string][]string{
	"id":          {"connalias", "# key"},
	"localId":     {"leftid"},
	"peerId":      {"rightid"},
	"psk":         {"# key"},
	"localCidrs":  {"leftsubnet"},
	"peerCidrs":   {"rightsubnet"},
	"peerAddress": {"right"},
	"externalIps": {"left"},
}

// TestAHostileValueIsRefusedOrStaysInItsPlace puts every hostile value into every place of the full document, and as
// another key into each of its objects. It is refused, for its connection alone and with the key's name; or everything
// that is written is as without it, but for the one word that the key stands for. Libreswan's own reader sees the same.
func TestAHostileValueIsRefusedOrStaysInItsPlace(t *testing.T) {
	plain := rendered(t, []byte(configtest.Full))
	var accepted []hostileCase
	total := 0
	for i, place := range configtest.Places(configtest.Full) {
		reasons := map[string]bool{}
		for j, value := range configtest.Hostile() {
			if place.Connection == 1 && (i+j)%4 != 0 {
				continue // what the first one's keys do is done by the same code: some are enough
			}
			if place.Object && value[0] != '"' {
				continue // no key can be that
			}
			total++
			h := hostileCase{place: place, value: value}
			h.configuration, h.err = config.Decode(place.With(value))
			if h.err == nil {
				h.configuration.Resolve(nil)
			}
			if reason := h.refused(t); reason != "" {
				reasons[reason] = true
				continue
			}
			if place.Object {
				t.Errorf("%s: accepted as a key", h)
				continue
			}
			accepted = append(accepted, h)
			h.compare(t, plain)
		}
		if place.Key == "psk" && len(reasons) != 1 {
			t.Errorf("%s: the reason changes with the value: %v", place.Path, slices.Collect(maps.Keys(reasons)))
		}
	}
	t.Logf("%d of %d are accepted", len(accepted), total)
	t.Run("as Libreswan reads it", func(t *testing.T) { compareWithLibreswan(t, accepted) })
}

// hostileCase is one value in one place, and what was made of the document.
type hostileCase struct {
	place         configtest.Place
	value         string
	configuration *config.Configuration
	err           error
}

func (h hostileCase) String() string { return fmt.Sprintf("%s: %.90s", h.place.Path, h.value) }

// refused returns the reason; "" if nothing is refused.
func (h hostileCase) refused(t *testing.T) string {
	t.Helper()
	err := h.err
	if err == nil {
		for i, connection := range h.configuration.Connections {
			if connection.Refused == nil {
				continue
			}
			if i != h.place.Connection {
				t.Errorf("%s: costs connection %d: %v", h, i, connection.Refused)
			}
			err = connection.Refused
		}
	} else if h.place.Connection >= 0 {
		t.Errorf("%s: the whole document is refused: %v", h, err)
	}
	if err == nil {
		return ""
	}
	reason := err.Error()
	if strings.ContainsFunc(reason, func(r rune) bool { return !unicode.IsPrint(r) }) || len(reason) > 1000 {
		t.Errorf("%s: the reason is not one line: %q", h, reason)
	}
	if !strings.Contains(reason, h.place.Key) || !strings.Contains(reason, ": allowed: ") {
		t.Errorf("%s: the reason does not name the key: %s", h, reason)
	}
	return reason
}

// rendered are the conns of a document, by connection, as the strict reader reads them.
func rendered(t *testing.T, document []byte) [][]conn {
	t.Helper()
	c, err := config.Decode(document)
	if err != nil {
		t.Fatal(err)
	}
	c.Resolve(nil)
	return conns(t, c)
}

func conns(t *testing.T, c *config.Configuration) (all [][]conn) {
	t.Helper()
	for _, connection := range c.Wanted() {
		var text strings.Builder
		for _, pair := range connection.Pairs() {
			text.Write(Conn(connection, pair))
		}
		read, err := readConns(text.String())
		if err != nil {
			t.Errorf("%v", err)
		}
		all = append(all, read)
	}
	return all
}

var hashed = regexp.MustCompile(`^h[0-9a-f]{32}$`)

// compare wants the document to be what it is without the hostile value, but for what the key may change.
func (h hostileCase) compare(t *testing.T, plain [][]conn) {
	t.Helper()
	c := h.configuration
	got := conns(t, c)
	if len(got) != len(plain) && h.place.Key != "adminStateUp" {
		t.Errorf("%s: %d connections", h, len(got))
		return
	}
	names := map[string]bool{}
	for i, connection := range c.Wanted() {
		for j, pair := range got[i] {
			alias, want := pair.keys["connalias"], plain[i][min(j, len(plain[i])-1)]
			if alias != connection.ID && !hashed.MatchString(alias) || !strings.HasPrefix(pair.name, alias+"-") || names[pair.name] {
				t.Errorf("%s: a conn is named %q", h, pair.name)
			}
			names[pair.name] = true
			for key := range mergeKeys(pair.keys, want.keys) {
				changed := pair.keys[key] != want.keys[key]
				allowed := slices.Contains(may[h.place.Key], key) && (h.place.Connection == i || h.place.Connection < 0)
				if changed && !allowed {
					t.Errorf("%s: %s of %s is %q, was %q", h, key, pair.name, pair.keys[key], want.keys[key])
				}
			}
		}
	}
	h.compareSecrets(t)
}

func mergeKeys(a, b map[string]string) map[string]bool {
	keys := map[string]bool{}
	for _, m := range []map[string]string{a, b} {
		for key := range m {
			keys[key] = true
		}
	}
	return keys
}

var secretLine = regexp.MustCompile(`^("[ -!#-~]+"|[!#-~]+) ("[ -!#-~]+"|[!#-~]+) : PSK 0x(([0-9a-f]{2})+)$`)

// compareSecrets wants one line for each connection, with its ids and its own bytes.
func (h hostileCase) compareSecrets(t *testing.T) {
	t.Helper()
	c := h.configuration
	var want []string
	for _, connection := range c.Wanted() {
		want = append(want, fmt.Sprintf("%s %s %x", connection.LocalID, connection.PeerID, given(t, h, connection)))
	}
	var got []string
	for line := range strings.SplitSeq(strings.TrimSuffix(string(Secrets(c.Wanted())), "\n"), "\n") {
		m := secretLine.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("%s: a line of the secrets is %.200q", h, line)
		}
		got = append(got, m[1]+" "+m[2]+" "+m[3])
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s: the secrets are not those that were given", h)
	}
}

// given is the key of a connection as it stands in the document.
func given(t *testing.T, h hostileCase, connection *config.Connection) []byte {
	t.Helper()
	var document struct {
		Connections []struct {
			PeerAddress string
			PSK         string
		}
	}
	if err := json.Unmarshal(h.place.With(h.value), &document); err != nil {
		t.Fatal(err)
	}
	for _, c := range document.Connections {
		if c.PeerAddress == connection.PeerAddress.String() {
			return []byte(c.PSK)
		}
	}
	t.Fatalf("%s: no connection to %s", h, connection.PeerAddress)
	return nil
}

// compareWithLibreswan lets Libreswan read all that was accepted, in few runs, and wants the same conns with the same
// words. A conn's name is its place in the list here, since all are the same otherwise.
func compareWithLibreswan(t *testing.T, accepted []hostileCase) {
	ipsec := readwriteconf(t)
	const chunk = 500
	for cases := range slices.Chunk(accepted, chunk) {
		var text strings.Builder
		var want []conn
		for n, h := range cases {
			for i, connection := range h.configuration.Wanted() {
				if i != h.place.Connection && h.place.Connection >= 0 {
					continue // it is as without the hostile value: compare has seen to that
				}
				for j, pair := range connection.Pairs() {
					own := string(Conn(connection, pair))
					read, err := readConns(own)
					if err != nil || len(read) != 1 {
						t.Fatal(h, err)
					}
					name := fmt.Sprintf("c%d-%d-%d-%s", n, i, j, read[0].name)
					text.WriteString(strings.Replace(own, "conn "+read[0].name+"\n", "conn "+name+"\n", 1))
					want = append(want, conn{name, read[0].keys})
				}
			}
		}
		got := libreswanReads(t, ipsec, t.TempDir(), text.String())
		if len(got) != len(want) {
			t.Fatalf("%d conns were read, not %d", len(got), len(want))
		}
		for i, w := range want {
			if got[i].name != w.name {
				t.Errorf("conn %d is %q, not %q", i, got[i].name, w.name)
			}
			for _, key := range []string{"left", "leftid", "leftsubnet", "leftupdown", "right", "rightid", "rightsubnet", "connalias", "ike", "type", "auto", "ikev2", "aggressive"} {
				if got[i].keys[key] != w.keys[key] {
					t.Errorf("%s: %s is %q, not %q", w.name, key, got[i].keys[key], w.keys[key])
				}
			}
			for key := range got[i].keys {
				if strings.HasPrefix(key, "right") && w.keys[key] == "" || got[i].keys["leftupdown"] != "%disabled" {
					t.Errorf("%s: it has %s=%s", w.name, key, got[i].keys[key])
				}
			}
		}
	}
}
