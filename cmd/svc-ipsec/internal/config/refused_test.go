package config

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// TestRefusedConnectionReasons compares the faults with test/combinations/refused.tsv. The tests in that directory add
// each of these connections to a container with active tunnels.
func TestRefusedConnectionReasons(t *testing.T) {
	const good = `{"id":"c0","peerAddress":"200.200.200.2",` +
		`"localCidrs":["10.1.0.0/24"],"peerCidrs":["10.2.0.0/24"],"psk":"the key of edit 1"}`
	text, err := os.ReadFile("../../../../test/combinations/refused.tsv")
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		count++
		keys, want, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		other := map[string]any{"id": "refused", "psk": "another key", "peerAddress": "198.51.100.9",
			"localCidrs": []string{"10.1.0.0/24"}, "peerCidrs": []string{"10.99.0.0/24"}}
		if err := json.Unmarshal([]byte(keys), &other); err != nil {
			t.Fatalf("%s: %v", keys, err)
		}
		refused, _ := json.Marshal(other)
		c, err := Decode(json.RawMessage(`{"externalIps":["100.100.100.2","2001:db8:1::2"],` +
			`"connections":[` + good + `,` + string(refused) + `]}`))
		if err != nil {
			t.Errorf("%s: the document is refused: %v", keys, err)
			continue
		}
		c.Resolve(nil)
		if c.Connections[0].Refused != nil {
			t.Errorf("%s: the other connection is refused: %v", keys, c.Connections[0].Refused)
		}
		got := "nothing"
		if c.Connections[1].Refused != nil {
			got = strings.Replace(c.Connections[1].Refused.Error(), "connections[1]", "connections[N]", 1)
		}
		if got != want {
			t.Errorf("%s:\n got  %s\n want %s", keys, got, want)
		}
	}
	if count < 40 {
		t.Errorf("%d connections are refused, want at least 40", count)
	}
}
