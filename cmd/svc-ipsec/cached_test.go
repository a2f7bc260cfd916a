package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestKeyOfMissingFileIsKept(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-kept")
	path := filepath.Join(t.TempDir(), "key")
	put := func(key string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(key), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	add := func(network int) (kept, edited, message string) {
		t.Helper()
		c.configuration = fmt.Sprintf(oneConnection, fmt.Sprintf(`,
			{"id":"file","peerAddress":"200.200.200.7","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.7.0.0/24"],`+
			`"pskFile":%q},
			{"id":"edited","peerAddress":"200.200.200.8","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.8.%d.0/24"],`+
			`"psk":"k"}`,
			path, network))
		c.must("ADD")
		message = c.health().Message
		c.must("CHECK")
		if got := c.health().Message; got != message {
			t.Errorf("the message of CHECK is %q, that of ADD is %q", got, message)
		}
		all := serials(c.whack("--status"))
		return all["file-0-0"], all["edited-0-0"], message
	}
	secrets := func() string {
		t.Helper()
		text, err := os.ReadFile("/run/svc-ipsec/vpn-kept/etc/ipsec.secrets")
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	put("first-key-of-the-ground-test\n")
	kept, edited, message := add(1)
	if kept == "" || strings.Contains(message, "pskFile") {
		t.Fatalf("serial %q, message %q", kept, message)
	}
	before := secrets()
	for i, change := range []func(){
		func() { _ = os.Remove(path) }, func() {}, func() { put(""); _ = os.Chmod(path, 0o644) },
	} {
		change()
		now, other, message := add(2 + i)
		if now != kept || other == edited || secrets() != before {
			t.Errorf("change %d: the conn was loaded again (%s, %s), or the edited one was not (%s, %s)",
				i, kept, now, edited, other)
		}
		contains(t, "the message", message, fmt.Sprintf("pskFile %q cannot be read, the last key is kept: ", path))
		edited = other
	}
	_ = os.Remove(path)
	put("second-key-of-the-ground-test\n")
	now, other, message := add(4)
	if now == "" || now == kept || other != edited || secrets() == before || strings.Contains(message, "pskFile") {
		t.Errorf("another key: serials %s, before %s; %s, before %s; message %q", now, kept, other, edited, message)
	}
	// There is no earlier key for a file that was never read.
	_ = os.Remove(path)
	path += "-of-another"
	now, other, _ = add(4)
	if now != "" || other != edited {
		t.Errorf("serials %q and %s, before %s", now, other, edited)
	}
	contains(t, "the reason", c.health().Connections[1].Reason, "connections[1].pskFile ", "no such file")
}

func TestCertificateWithMissingKeyFileIsKept(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-keptcert")
	ca := newAuthority(t, "ca", nil)
	certificate := ca.issue("left", newKey(t, "rsa"), time.Now().Add(time.Hour), ca)
	key, away := filepath.Join(ca.dir, "left.key"), filepath.Join(ca.dir, "away")
	network := 0
	add := func() (serial, message string) {
		t.Helper()
		network++
		c.configuration = leftCertificate(certificate, fmt.Sprintf(`},{"id":"edited","peerAddress":"200.200.200.8",`+
			`"localCidrs":["10.1.0.0/24"],"peerCidrs":["10.8.%d.0/24"],"psk":"k"`, network))
		c.must("ADD")
		message = c.health().Message
		all := serials(c.whack("--status"))
		if all["edited-0-0"] == "" {
			t.Errorf("the edited conn is not loaded: %v", all)
		}
		return all["cert-0-0"], message
	}
	first, message := add()
	if first == "" || strings.Contains(message, "certificate") {
		t.Fatalf("serial %q, message %q: %s", first, message, c.health().Connections[0].Reason)
	}
	want := fmt.Sprintf("certificateFile %q cannot be taken, the last certificate is kept: "+
		"privateKeyFile %q: no such file", filepath.Join(ca.dir, "left.pem"), key)
	keysInDatabase := func() string {
		t.Helper()
		return sh(t, "certutil", "-K", "-d", "sql:/run/svc-ipsec/vpn-keptcert/nss")
	}
	if err := os.Rename(key, away); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		serial, message := add()
		if serial != first {
			t.Errorf("the conn was loaded again: %q, before %q", serial, first)
		}
		contains(t, "the message", message, want)
		c.must("CHECK")
		contains(t, "CHECK's message", c.health().Message, want)
	}

	// A restarted daemon has the certificate in its key database.
	sh(t, "systemctl", "stop", "svc-vpn-keptcert")
	serial, message := add()
	if serial == "" {
		t.Errorf("the conn is not loaded after a restart: %s", c.health().Connections[0].Reason)
	}
	contains(t, "the message", message, want)
	if database := keysInDatabase(); len(inDatabase.FindAllString(database, -1)) != 1 {
		t.Errorf("the key database has\n%s", database)
	}

	// Without the key database, the certificate cannot be kept.
	sh(t, "systemctl", "stop", "svc-vpn-keptcert")
	if err := os.RemoveAll("/run/svc-ipsec/vpn-keptcert/nss"); err != nil {
		t.Fatal(err)
	}
	if serial, _ := add(); serial != "" {
		t.Errorf("a conn without its certificate is loaded: %s", serial)
	}
	contains(t, "the reason", c.health().Connections[0].Reason,
		"certificate: not imported: privateKeyFile "+fmt.Sprintf("%q", key))
	if err := os.Rename(away, key); err != nil {
		t.Fatal(err)
	}
	before, message := add()
	if before == "" || strings.Contains(message, "certificate") {
		t.Errorf("after the file was restored: serial %q, message %q", before, message)
	}
	certificate = ca.issue("left", newKey(t, "rsa"), time.Now().Add(time.Hour), ca)
	if serial, _ := add(); serial == "" || serial == before {
		t.Errorf("another certificate: serial %q, before %q", serial, before)
	}
	if database := keysInDatabase(); len(inDatabase.FindAllString(database, -1)) != 1 {
		t.Errorf("the key database has\n%s", database)
	}
	c.must("CHECK")
}
