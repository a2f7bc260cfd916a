package config

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// withKeyFields returns document(""), decoded, with fields in the place of psk.
func withKeyFields(t *testing.T, fields string) *Configuration {
	t.Helper()
	c, err := Decode(json.RawMessage(strings.Replace(string(document("")), `"psk":"secret-of-test"`, fields, 1)))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestBinaryKeyIsNotAltered(t *testing.T) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for _, key := range [][]byte{{0}, []byte("a\nb\n"), all, []byte(strings.Repeat("k", MaxSecret))} {
		c := withKeyFields(t, `"pskBase64":"`+base64.StdEncoding.EncodeToString(key)+`"`)
		c.Resolve(nil)
		if refused := c.Connections[0].Refused; refused != nil || string(c.Connections[0].PSK.Reveal()) != string(key) {
			t.Errorf("%d bytes: %v", len(key), refused)
		}
		c = withKeyFields(t, `"pskFile":"/etc/keys/a"`)
		c.Found.Files = map[string]File{"/etc/keys/a": {Content: spec.NewSecret(key)}}
		c.Resolve(nil)
		if refused := c.Connections[0].Refused; refused != nil || string(c.Connections[0].PSK.Reveal()) != string(key) {
			t.Errorf("%d bytes in a file: %v", len(key), refused)
		}
	}
}

func TestKeyFaultsDoNotContainTheKey(t *testing.T) {
	const hidden = "c2VjcmV0LW9mLXRlc3Q" // secret-of-test in base64, without the padding
	for _, test := range []struct{ fields, want string }{
		{`"mtu":1500`, `connections[0].psk "": allowed: exactly one of psk, pskBase64, pskFile`},
		{`"psk":"secret-of-test","pskBase64":"` + hidden + `="`, `.psk "psk and pskBase64": allowed: exactly one`},
		{`"pskBase64":"` + hidden + `"`, `.pskBase64 "[secret]": allowed: 1 to 1000 bytes in base64`},
		{`"pskBase64":"` + hidden + `=\n"`, ".pskBase64"},
		{`"pskBase64":"` + hidden[:18] + `R=="`, ".pskBase64"}, // bits beyond the last byte
		{`"pskBase64":"-_-_"`, ".pskBase64"},
		{`"pskBase64":""`, ".pskBase64"},
		{`"pskBase64":7`, ".pskBase64"},
		{`"pskBase64":"` + strings.Repeat("AAAA", 334) + `"`, ".pskBase64"},
		{`"pskFile":"secret-of-test"`, `.pskFile "[hidden]": allowed: an absolute path`},
		{`"pskFile":"/etc/../x"`, `.pskFile "/etc/../x"`},
		{`"pskFile":"/etc/x\ny"`, ".pskFile"},
		{`"pskFile":"/"`, ".pskFile"},
		{`"pskFile":["/x"]`, ".pskFile"},
		{`"pskFile":"/etc/none"`, `connections[0].pskFile "/etc/none": no such file`},
		{`"pskFile":"/etc/unread"`, `connections[0].pskFile "/etc/unread": was not read`},
	} {
		c := withKeyFields(t, test.fields)
		c.Found.Files = map[string]File{"/etc/none": {Fault: "no such file"}}
		c.Resolve(nil)
		refused := fmt.Sprint(c.Connections[0].Refused)
		if !strings.Contains(refused, test.want) || strings.Contains(refused, hidden[:8]) ||
			strings.Contains(refused, "secret-of") || strings.Contains(refused, "\n") {
			t.Errorf("%s: got %s, want %s", test.fields, refused, test.want)
		}
	}
}

func TestKeyOfUnreadableFileIsKept(t *testing.T) {
	c := withKeyFields(t, `"pskFile":"/etc/keys/a"`)
	c.Found.Files = map[string]File{"/etc/keys/a": {Content: spec.NewSecret([]byte("last")), Fault: "no such file"}}
	c.Resolve(nil)
	if connection := c.Connections[0]; connection.Refused != nil || string(connection.PSK.Reveal()) != "last" {
		t.Errorf("%v", connection.Refused)
	}
}

func TestKeysFromDocumentAndFileAreCompared(t *testing.T) {
	other := strings.NewReplacer(`"id":"a"`, `"id":"b"`, "10.2.0.0", "10.3.0.0",
		`"psk":"secret-of-test"`, `"pskFile":"/k"`).Replace(plain)
	for content, same := range map[string]bool{"secret-of-test": true, "secret-of-test\n": false} {
		c, err := Decode(
			json.RawMessage(`{"externalIps":["192.0.2.1"],"connections":[{` + plain + `},{` + other + `}]}`))
		if err != nil {
			t.Fatal(err)
		}
		if files := c.PSKFiles(); len(files) != 1 || files[0] != "/k" {
			t.Errorf("files %v", files)
		}
		c.Found.Files = map[string]File{"/k": {Content: spec.NewSecret([]byte(content))}}
		c.Resolve(nil)
		if (c.Connections[1].Refused == nil) != same {
			t.Errorf("%q: %v", content, c.Connections[1].Refused)
		}
	}
}

func TestConnectionThatIsDownNeedsNoFile(t *testing.T) {
	c := withKeyFields(t, `"pskFile":"/k","adminStateUp":false`)
	c.Resolve(nil)
	if len(c.PSKFiles()) != 0 || c.Connections[0].Refused != nil {
		t.Errorf("files %v, %v", c.PSKFiles(), c.Connections[0].Refused)
	}
}
