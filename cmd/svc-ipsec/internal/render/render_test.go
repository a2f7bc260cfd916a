package render

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
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
	c.Resolve(func(string) bool { return false })
	for _, connection := range c.Connections {
		if connection.Refused != nil {
			t.Fatal(connection.Refused)
		}
	}
	return c.Wanted()
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
