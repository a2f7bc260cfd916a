package render

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func decodeWanted(t *testing.T, document string) []*config.Connection {
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

// resolve sets addresses and certificates for all names and paths in a document.
func resolve(c *config.Configuration) {
	c.Found.Names = map[string]config.Name{}
	for i, name := range c.PeerNames() {
		c.Found.Names[name] = config.Name{Address: netip.AddrFrom4([4]byte{200, 200, 200, byte(9 + i)})}
	}
	c.Found.Certificates = map[config.CertificateFiles]config.Certificate{}
	for i, files := range c.Certificates() {
		c.Found.Certificates[files] = []config.Certificate{
			{Nickname: "svc-a44b40523a3d7b28-27b809ad6039b77d", AuthBy: "rsasig", PeerCA: "%same", Digest: "1"},
			{Nickname: "svc-cb612727a895d057-0976c50896b29a87", AuthBy: "ecdsa", PeerCA: "C=FR, O=Example, CN=ca",
				Digest: "2"},
		}[i]
	}
	// Release 0.1.0 accepted a lifetime of one second.
	c.Accepted = func(*config.Connection) bool { return true }
	c.Resolve(nil)
}

func TestGoldenFiles(t *testing.T) {
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
		wanted := decodeWanted(t, string(document))
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

func TestConnChangesWithSecret(t *testing.T) {
	document, err := os.ReadFile("testdata/ikev2.json")
	if err != nil {
		t.Fatal(err)
	}
	a := decodeWanted(t, string(document))
	b := decodeWanted(t, strings.Replace(string(document), `"psk": "`, `"psk": "x`, 1))
	if bytes.Equal(Conn(a[0], a[0].Pairs()[0]), Conn(b[0], b[0].Pairs()[0])) {
		t.Error("the file does not change with the secret")
	}
	renamed := decodeWanted(t, strings.Replace(string(document), `"name": "`, `"name": "x`, 1))
	if !bytes.Equal(Conn(a[0], a[0].Pairs()[0]), Conn(renamed[0], renamed[0].Pairs()[0])) {
		t.Error("the file changes with the name, so a rename would interrupt the tunnel")
	}
}

// TestPeerNameIsNotWritten tests that the daemon never resolves names, which would block its only thread.
func TestPeerNameIsNotWritten(t *testing.T) {
	document, err := os.ReadFile("testdata/ikev2.json")
	if err != nil {
		t.Fatal(err)
	}
	c, err := config.Decode(
		json.RawMessage(strings.Replace(string(document), `"200.200.200.2"`, `"name-of-the.peer"`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	c.Found.Names = map[string]config.Name{"name-of-the.peer": {Address: netip.MustParseAddr("200.200.200.2")}}
	c.Resolve(nil)
	named, plain := &c.Connections[0], decodeWanted(t, string(document))[0]
	if named.Refused != nil || !bytes.Equal(Conn(named, named.Pairs()[0]), Conn(plain, plain.Pairs()[0])) ||
		!bytes.Equal(Secrets([]*config.Connection{named}), Secrets([]*config.Connection{plain})) {
		t.Errorf("%v: got\n%s", named.Refused, Conn(named, named.Pairs()[0]))
	}
}

func TestLivenessWithLongTimeout(t *testing.T) {
	for _, test := range []struct {
		interval, timeout         int
		delay, retransmit, giveUp int
	}{
		{30, 120, 30, 703, 89},
		{30, 149, 30, 929, 118},
		{30, 150, 31, 929, 118},
		{30, 1200, 1081, 929, 118},
		{3600, 14400, 14281, 929, 118},
		{1, 86400, 86281, 929, 118},
		{1, 2, 1, 500, 2},
	} {
		delay, retransmit, giveUp := Liveness(config.DPD{Interval: test.interval, Timeout: test.timeout})
		if delay != test.delay || retransmit != test.retransmit || giveUp != test.giveUp {
			t.Errorf("interval %d, timeout %d: request after %d s, retransmitted after %d ms, given up after %d s",
				test.interval, test.timeout, delay, retransmit, giveUp)
		}
		if fault := deadlineFault(delay, test.timeout, retransmit, giveUp) +
			retryFault(retransmit, giveUp); fault != "" {
			t.Errorf("interval %d, timeout %d: %s", test.interval, test.timeout, fault)
		}
	}
}

// TestFormerConn compares with the files of 0.1.0, because its containers have to be recognized.
func TestFormerConn(t *testing.T) {
	for _, test := range []struct{ document, line, former string }{
		{`"ikePolicy":{"ikeVersion":"v1"}`, "initial-contact=no", "initial-contact=yes"},
		{`"dpd":{"interval":30,"timeout":1200}`, "retransmit-timeout=118s", "retransmit-timeout=1169s"},
		{`"dpd":{"interval":30,"timeout":1200}`, "dpddelay=1081s", "dpddelay=30s"},
		{`"mtu":1400`, "initial-contact=yes", "initial-contact=yes"},
	} {
		c := decodeWanted(t, `{"externalIps":["100.100.100.2"],"connections":[{"id":"a",`+
			`"peerAddress":"200.200.200.2","localCidrs":["10.1.0.0/24"],
			"peerCidrs":["10.2.0.0/24"],"psk":"k",`+test.document+`}]}`)[0]
		now, former := string(Conn(c, c.Pairs()[0])), string(FormerConn(c, c.Pairs()[0]))
		if !strings.Contains(now, test.line+"\n") || !strings.Contains(former, test.former+"\n") {
			t.Errorf("%s: files:\n%s\n%s", test.document, now, former)
		}
	}
}
