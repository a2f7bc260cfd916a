package render

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config/configtest"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// may says which settings a key can change. What is not here changes none: it is refused, or shown alone.
var may = map[string][]string{
	"id":          {"connalias", "# key"},
	"localId":     {"leftid"},
	"peerId":      {"rightid"},
	"psk":         {"# key"},
	"localCidrs":  {"leftsubnet"},
	"peerCidrs":   {"rightsubnet"},
	"peerAddress": {"right"}, // of an address; a name reaches no file
	"pskBase64":   {"# key"},
	"externalIps": {"left"},
}

// TestAHostileValueIsRefusedOrStaysInItsPlace puts every hostile value into every place of the full document, and as
// another key into each of its objects. It is refused, for its connection alone and with the key's name; or everything
// that is written is as without it, but for the one word that the key stands for. Libreswan's own reader sees the same.
func TestAHostileValueIsRefusedOrStaysInItsPlace(t *testing.T) {
	plain := rendered(t, []byte(configtest.Full))
	var accepted []hostileCase
	total := 0
	places := configtest.Places(configtest.Full)
	for i, place := range places {
		few := configtest.Few(places, i)
		reasons := map[string]bool{}
		for j, value := range configtest.Hostile() {
			if few && (i+j)%4 != 0 {
				continue
			}
			if place.Object && value[0] != '"' {
				continue // no key can be that
			}
			total++
			h := hostileCase{place: place, value: value}
			h.configuration, h.err = config.Decode(place.With(value))
			if h.err == nil {
				find(h.configuration)
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
		if strings.HasPrefix(place.Key, "psk") && place.Key != "pskFile" && len(reasons) != 1 {
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
	find(c)
	c.Resolve(nil)
	return conns(t, c)
}

// find finds what the document points at, always the same, whatever it is called: a name or a path reaches no file.
func find(c *config.Configuration) {
	c.Found = config.Found{Files: map[string]config.File{}, Certificates: map[config.CertificateFiles]config.Certificate{}, Names: map[string]config.Name{}}
	for _, name := range c.PeerNames() {
		i := slices.IndexFunc(c.Connections, func(c config.Connection) bool { return c.PeerName == name })
		c.Found.Names[name] = config.Name{Address: netip.MustParseAddr(configtest.Peers[i])}
	}
	for _, path := range c.PSKFiles() {
		c.Found.Files[path] = config.File{Content: spec.NewSecret(keyInFile)}
	}
	for _, files := range c.Certificates() {
		c.Found.Certificates[files] = config.Certificate{Nickname: "svc-a44b40523a3d7b28-27b809ad6039b77d", AuthBy: "rsasig", PeerCA: "C=FR, O=Example, CN=ca", Digest: "1"}
	}
}

var keyInFile = []byte("a key \" of\n any bytes \xff")

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
				allowed := (key != "right" || connection.PeerName == "") && slices.Contains(may[h.place.Key], key) && (h.place.Connection == i || h.place.Connection < 0)
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

// compareSecrets wants one line for each connection that has a key, with its ids and its own bytes.
func (h hostileCase) compareSecrets(t *testing.T) {
	t.Helper()
	c := h.configuration
	var want []string
	keys := given(t, h)
	for i, connection := range c.Connections {
		if connection.Up && connection.Refused == nil && keys[i] != nil {
			want = append(want, fmt.Sprintf("%s %s %x", connection.LocalID, connection.PeerID, keys[i]))
		}
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

// given are the keys of the connections as they stand in the document, or in the file that it names; nil: a connection has
// none.
func given(t *testing.T, h hostileCase) (keys [][]byte) {
	t.Helper()
	var document struct {
		Connections []struct {
			PSK       *string
			PSKBase64 []byte
			PSKFile   *string
		}
	}
	if err := json.Unmarshal(h.place.With(h.value), &document); err != nil {
		t.Fatal(err)
	}
	for _, c := range document.Connections {
		switch {
		case c.PSK != nil:
			keys = append(keys, []byte(*c.PSK))
		case c.PSKFile != nil:
			keys = append(keys, keyInFile)
		default:
			keys = append(keys, c.PSKBase64)
		}
	}
	return keys
}

// compareWithLibreswan lets Libreswan read all that was accepted, in few runs, and wants the same conns with the same
// words. A conn's name is its place in the list here, since all are the same otherwise.
func compareWithLibreswan(t *testing.T, accepted []hostileCase) {
	ipsec := configtest.Libreswan(t)
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
			for _, key := range []string{"left", "leftid", "leftsubnet", "leftupdown", "right", "rightid", "rightsubnet", "connalias", "ike", "esp", "type", "auto", "ikev2", "aggressive",
				"leftcert", "rightca"} {
				if key == "esp" && w.keys["phase2"] == "ah" {
					continue // it calls AH's so too
				}
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
