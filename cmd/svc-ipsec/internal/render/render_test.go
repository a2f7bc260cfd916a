package render

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
)

var update = flag.Bool("update", false, "write the golden files anew")

func read(t *testing.T, document string) []*config.Connection {
	t.Helper()
	c, err := config.Decode(json.RawMessage(document))
	if err != nil {
		t.Fatal(err)
	}
	resolve(c)
	for _, connection := range c.Connections {
		if connection.Refused != nil {
			t.Fatal(connection.Refused)
		}
	}
	return c.Wanted()
}

// resolve finds everything that a document points at.
func resolve(c *config.Configuration) {
	c.Found.Names = map[string]config.Name{}
	for i, name := range c.PeerNames() {
		c.Found.Names[name] = config.Name{Address: netip.AddrFrom4([4]byte{200, 200, 200, byte(9 + i)})}
	}
	c.Found.Certificates = map[config.CertificateFiles]config.Certificate{}
	for i, files := range c.Certificates() {
		c.Found.Certificates[files] = []config.Certificate{
			{Nickname: "svc-a44b40523a3d7b28-27b809ad6039b77d", AuthBy: "rsasig", PeerCA: "%same", Digest: "1"},
			{Nickname: "svc-cb612727a895d057-0976c50896b29a87", AuthBy: "ecdsa", PeerCA: "C=FR, O=Example, CN=ca", Digest: "2"},
		}[i]
	}
	c.Resolve(func(string) bool { return false })
}

func TestConnsAndSecretsAreTheGoldenOnes(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.json")
	if err != nil || len(paths) == 0 {
		t.Fatal("no documents", err)
	}
	for _, path := range paths {
		document, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		wanted := read(t, string(document))
		for _, connection := range wanted {
			for _, pair := range connection.Pairs() {
				got.Write(Conn(connection, pair))
			}
		}
		got.Write(Secrets(wanted))
		golden := strings.TrimSuffix(path, ".json") + ".golden"
		if *update {
			if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%s: got\n%s", golden, got.Bytes())
		}
	}
}

func TestAnotherSecretMakesAnotherConn(t *testing.T) {
	document, err := os.ReadFile("testdata/ikev2.json")
	if err != nil {
		t.Fatal(err)
	}
	a := read(t, string(document))
	b := read(t, strings.Replace(string(document), `"psk": "`, `"psk": "x`, 1))
	if bytes.Equal(Conn(a[0], a[0].Pairs()[0]), Conn(b[0], b[0].Pairs()[0])) {
		t.Error("the same file")
	}
	renamed := read(t, strings.Replace(string(document), `"name": "`, `"name": "x`, 1))
	if !bytes.Equal(Conn(a[0], a[0].Pairs()[0]), Conn(renamed[0], renamed[0].Pairs()[0])) {
		t.Error("a new name makes another file: the tunnel would drop for it")
	}
}

// TestAPeersNameReachesNoFile keeps the daemon from looking names up: its only thread would stand still for it.
func TestAPeersNameReachesNoFile(t *testing.T) {
	document, err := os.ReadFile("testdata/ikev2.json")
	if err != nil {
		t.Fatal(err)
	}
	c, err := config.Decode(json.RawMessage(strings.Replace(string(document), `"200.200.200.2"`, `"name-of-the.peer"`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	c.Found.Names = map[string]config.Name{"name-of-the.peer": {Address: netip.MustParseAddr("200.200.200.2")}}
	c.Resolve(func(string) bool { return false })
	named, plain := &c.Connections[0], read(t, string(document))[0]
	if named.Refused != nil || !bytes.Equal(Conn(named, named.Pairs()[0]), Conn(plain, plain.Pairs()[0])) ||
		!bytes.Equal(Secrets([]*config.Connection{named}), Secrets([]*config.Connection{plain})) {
		t.Errorf("%v: got\n%s", named.Refused, Conn(named, named.Pairs()[0]))
	}
}

var hostile = []string{
	"x\n\tleftupdown=/bin/touch /x", "x\r\nleftupdown=/x", `x"`, `"`, `\`, "x\x00y", `"; touch x`, "leftupdown=x", "$(touch x)", "`touch x`", "%any", "%fromfile",
	"x y", "x\ty", "#x", "../../x", "\xff\xfe", "p\u0430ris", "x\u2028y", "include /etc/passwd", strings.Repeat("a", 64<<10), "'; drop", "{a,b}", "a:b", "@#", "@~x",
}

// TestNoStringReachesAFileUnchecked puts each hostile string into each string of a document. Whatever is still accepted
// must make conns of the known keys alone, one a line.
func TestNoStringReachesAFileUnchecked(t *testing.T) {
	for _, name := range []string{"ikev2", "certificate"} {
		t.Run(name, func(t *testing.T) { putHostile(t, "testdata/"+name+".json") })
	}
}

func putHostile(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for line := range strings.Lines(string(Conn(read(t, string(text))[0], read(t, string(text))[0].Pairs()[0]))) {
		key, _, _ := strings.Cut(strings.TrimSpace(line), "=")
		known[key] = true
	}
	for _, value := range hostile {
		for n := 0; ; n++ {
			var document any
			if err := json.Unmarshal(text, &document); err != nil {
				t.Fatal(err)
			}
			left := n
			if !replace(&document, value, &left) {
				break
			}
			raw, err := json.Marshal(document)
			if err != nil {
				t.Fatal(err)
			}
			c, err := config.Decode(raw)
			if err != nil {
				continue
			}
			resolve(c)
			for _, connection := range c.Wanted() {
				for _, pair := range connection.Pairs() {
					check(t, value, known, Conn(connection, pair))
				}
				secrets := string(Secrets([]*config.Connection{connection}))
				if connection.ByCertificate() {
					if secrets != "" {
						t.Errorf("%q makes the secrets %q", value, secrets)
					}
				} else if strings.Count(secrets, "\n") != 1 || !strings.Contains(secrets, " : PSK 0x") {
					t.Errorf("%q makes the secrets %q", value, secrets)
				}
			}
		}
	}
}

func check(t *testing.T, value string, known map[string]bool, conn []byte) {
	t.Helper()
	for i, line := range slices.Collect(strings.Lines(string(conn))) {
		key, _, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch {
		case i == 0 && strings.HasPrefix(line, "conn ") && len(strings.Fields(line)) == 2:
		case strings.HasPrefix(line, "# key "):
		case known[key] && line[0] == '\t' && (len(strings.Fields(line)) == 1 || strings.Count(line, `"`) == 2):
		default:
			t.Errorf("%.80q makes the line %.200q", value, line)
		}
	}
}

// replace puts value in the place of the n-th string.
func replace(node *any, value string, n *int) bool {
	switch v := (*node).(type) {
	case string:
		if *n--; *n < 0 {
			*node = value
			return true
		}
	case []any:
		for i := range v {
			if replace(&v[i], value, n) {
				return true
			}
		}
	case map[string]any:
		keys := make([]string, 0, len(v))
		for key := range v {
			keys = append(keys, key)
		}
		slices.Sort(keys)
		for _, key := range keys {
			child := v[key]
			done := replace(&child, value, n)
			v[key] = child
			if done {
				return true
			}
		}
	}
	return false
}
