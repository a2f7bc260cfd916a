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

// allowedChanges lists the settings that a key may change. Other keys change no setting: they are refused or only
// displayed.
var allowedChanges = map[string][]string{
	"id":          {"connalias", "# key"},
	"localId":     {"leftid"},
	"peerId":      {"rightid"},
	"psk":         {"# key"},
	"localCidrs":  {"leftsubnet"},
	"peerCidrs":   {"rightsubnet"},
	"peerAddress": {"right"}, // only an address; a name is not written to any file
	"pskBase64":   {"# key"},
	"externalIps": {"left"},
}

// TestHostileValueIsRefusedOrContained puts every hostile value into every place of the full document, and as another
// key into each of its objects. Either the value is refused, for its own connection only and with the name of the key.
// Or all output is the same as without the value, except for the settings of that key. Libreswan's own parser must
// return the same.
func TestHostileValueIsRefusedOrContained(t *testing.T) {
	plain := renderDocument(t, []byte(configtest.Full))
	var accepted []hostileCase
	total := 0
	places := configtest.Places(configtest.Full)
	for i, place := range places {
		sampled := configtest.Few(places, i)
		reasons := map[string]bool{}
		for j, value := range configtest.Hostile() {
			if sampled && (i+j)%4 != 0 {
				continue
			}
			if place.Object && value[0] != '"' {
				continue // not valid as a key
			}
			total++
			h := hostileCase{place: place, value: value}
			h.configuration, h.err = config.Decode(place.With(value))
			if h.err == nil {
				resolveReferences(h.configuration)
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

// hostileCase is one value in one place, and the result of decoding the document.
type hostileCase struct {
	place         configtest.Place
	value         string
	configuration *config.Configuration
	err           error
}

func (h hostileCase) String() string { return fmt.Sprintf("%s: %.90s", h.place.Path, h.value) }

// refused returns the reason of the refusal, or "" if nothing is refused.
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

// renderDocument returns the conns of a document, by connection, as parsed by readConns.
func renderDocument(t *testing.T, document []byte) [][]conn {
	t.Helper()
	c, err := config.Decode(document)
	if err != nil {
		t.Fatal(err)
	}
	resolveReferences(c)
	c.Resolve(nil)
	return renderConns(t, c)
}

// resolveReferences sets the same addresses, keys and certificates for every document, whatever names and paths it
// contains, because names and paths are not written to any file.
func resolveReferences(c *config.Configuration) {
	c.Found = config.Found{
		Files:        map[string]config.File{},
		Certificates: map[config.CertificateFiles]config.Certificate{},
		Names:        map[string]config.Name{},
	}
	for _, name := range c.PeerNames() {
		i := slices.IndexFunc(c.Connections, func(c config.Connection) bool { return c.PeerName == name })
		c.Found.Names[name] = config.Name{Address: netip.MustParseAddr(configtest.Peers[i])}
	}
	for _, path := range c.PSKFiles() {
		c.Found.Files[path] = config.File{Content: spec.NewSecret(fileKey)}
	}
	for _, files := range c.Certificates() {
		c.Found.Certificates[files] = config.Certificate{
			Nickname: "svc-a44b40523a3d7b28-27b809ad6039b77d", AuthBy: "rsasig", PeerCA: "C=FR, O=Example, CN=ca",
			Digest: "1",
		}
	}
}

var fileKey = []byte("a key \" of\n any bytes \xff")

func renderConns(t *testing.T, c *config.Configuration) (all [][]conn) {
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

// compare checks that the document gives the same output as without the hostile value, except for the settings that the
// key may change.
func (h hostileCase) compare(t *testing.T, plain [][]conn) {
	t.Helper()
	c := h.configuration
	got := renderConns(t, c)
	if len(got) != len(plain) && h.place.Key != "adminStateUp" {
		t.Errorf("%s: %d connections", h, len(got))
		return
	}
	names := map[string]bool{}
	for i, connection := range c.Wanted() {
		for j, pair := range got[i] {
			alias, want := pair.keys["connalias"], plain[i][min(j, len(plain[i])-1)]
			if alias != connection.ID && !hashed.MatchString(alias) || !strings.HasPrefix(pair.name, alias+"-") ||
				names[pair.name] {
				t.Errorf("%s: a conn is named %q", h, pair.name)
			}
			names[pair.name] = true
			for key := range mergeKeys(pair.keys, want.keys) {
				changed := pair.keys[key] != want.keys[key]
				allowed := (key != "right" || connection.PeerName == "") &&
					slices.Contains(allowedChanges[h.place.Key], key) &&
					(h.place.Connection == i || h.place.Connection < 0)
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

// compareSecrets checks that there is one line for each connection with a key, with its IDs and the bytes of its key.
func (h hostileCase) compareSecrets(t *testing.T) {
	t.Helper()
	c := h.configuration
	var want []string
	keys := pskBytes(t, h)
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

// pskBytes returns the keys of the connections, from the document or from the file that it names. A key is nil if the
// connection has none.
func pskBytes(t *testing.T, h hostileCase) (keys [][]byte) {
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
			keys = append(keys, fileKey)
		default:
			keys = append(keys, c.PSKBase64)
		}
	}
	return keys
}

// compareWithLibreswan lets Libreswan parse everything that was accepted, in few runs, and checks that the conns and
// their settings are the same. The conns are renamed to their position in the list, because they would have the same
// names otherwise.
func compareWithLibreswan(t *testing.T, accepted []hostileCase) {
	ipsec := configtest.Libreswan(t)
	const chunk = 500
	for cases := range slices.Chunk(accepted, chunk) {
		var text strings.Builder
		var want []conn
		for n, h := range cases {
			for i, connection := range h.configuration.Wanted() {
				if i != h.place.Connection && h.place.Connection >= 0 {
					continue // same as without the hostile value, which compare has checked
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
			for _, key := range []string{
				"left", "leftid", "leftsubnet", "leftupdown", "right", "rightid", "rightsubnet", "connalias",
				"ike", "esp", "type", "auto", "ikev2", "aggressive", "leftcert", "rightca",
			} {
				if key == "esp" && w.keys["phase2"] == "ah" {
					continue // Libreswan prints the proposals of AH under esp, too
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
