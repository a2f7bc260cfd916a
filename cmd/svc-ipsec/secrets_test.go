package main

import (
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// keyFile writes a key to a file that only root can read, and returns its path.
func keyFile(t *testing.T, content string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "keys") // a short name, because reasons are truncated
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "key")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestKeyFileIsReadByEachADDAndNoCHECK(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-file")
	const key = "\x00a key\"of-the-ground-test\n"
	path := keyFile(t, key+"\n")
	c.configuration = fmt.Sprintf(oneConnection, fmt.Sprintf(`,
		{"id":"file","peerAddress":"200.200.200.3","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.3.0.0/24"],`+
		`"pskFile":%q},
		{"id":"base64","peerAddress":"200.200.200.4","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.4.0.0/24"],
			"pskBase64":"AP8K"}`, path))
	c.must("ADD")
	secrets, err := os.ReadFile("/run/svc-ipsec/vpn-file/etc/ipsec.secrets")
	if err != nil {
		t.Fatal(err)
	}
	contains(t, "the keys", string(secrets), "200.200.200.3 : PSK 0x"+hex.EncodeToString([]byte(key))+"\n",
		"200.200.200.4 : PSK 0x00ff0a\n")
	c.requirePrivateFiles()
	before := serials(c.whack("--status"))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	c.must("CHECK")
	if h := c.health(); h.Connections[1].Reason != "" && strings.Contains(h.Connections[1].Reason, "pskFile") {
		t.Errorf("CHECK read the file: %s", h.Connections[1].Reason)
	}
	c.must("ADD")
	contains(t, "the message", c.health().Message, "pskFile "+fmt.Sprintf("%q", path), "no such file")
	if after := serials(c.whack("--status")); !maps.Equal(after, before) {
		t.Errorf("conns %v, before %v", after, before)
	}
	c.must("CHECK")
	contains(t, "the message of CHECK", c.health().Message, "pskFile")
	if err := os.WriteFile(path, []byte("another key-of-the-ground-test"), 0o644); err != nil {
		t.Fatal(err)
	}
	c.must("ADD")
	contains(t, "the message", c.health().Message, "mode 0644", "only root can read")
	if after := serials(c.whack("--status")); !maps.Equal(after, before) {
		t.Errorf("a key that other users can read was accepted: conns %v, before %v", after, before)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	c.must("ADD")
	now := serials(c.whack("--status"))
	if now["file-0-0"] == "" || now["file-0-0"] == before["file-0-0"] || now["first-0-0"] != before["first-0-0"] {
		t.Errorf("conns %v, before %v", now, before)
	}
	const secret = "of-the-ground-test"
	journal := sh(t, "journalctl", "--no-pager", "-o", "export")
	if strings.Contains(journal, secret) || strings.Contains(journal, hex.EncodeToString([]byte(secret))) {
		t.Error("the journal contains a secret")
	}
}
