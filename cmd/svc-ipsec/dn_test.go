package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// TestDaemonAcceptsDistinguishedNamesOfOpenSSL compares the identities that the daemon prints with the distinguished
// names in the form that OpenSSL prints for a certificate.
func TestDaemonAcceptsDistinguishedNamesOfOpenSSL(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-dn")
	names := []struct{ given, shown string }{
		{"C = FR, O = Example, CN = paris", "C=FR, O=Example, CN=paris"},
		{`C = FR, O = "Example, Inc.", CN = paris`, `C=FR, O=Example\, Inc., CN=paris`},
		{`O=a \" \\ \+ b/c\=`, `O=a \" \\ \+ b/c\=`},
		{"C=FR, O=Société", `C=FR, O=Soci\C3\A9t\C3\A9`},
		{"CN=" + strings.Repeat("é", 100), ""},
	}
	var connections []string
	for i, name := range names {
		quoted, err := json.Marshal(name.given)
		if err != nil {
			t.Fatal(err)
		}
		connections = append(connections, siteOf(fmt.Sprintf("c%d", i), i+2, `,"peerId":`+string(quoted)))
	}
	c.configuration = documentOf(connections...)
	c.must("ADD")
	for i, connection := range c.health().Connections {
		if strings.Contains(connection.Reason, "Id") {
			t.Errorf("%s: %s", names[i].given, connection.Reason)
		}
	}
	journal := sh(t, "journalctl", "--no-pager", "-o", "cat", "-u", "svc-"+c.name)
	contains(t, "the log of the daemon", journal, "loading secrets")
	status := c.whack("--status")
	if conns := serials(status); len(conns) != len(names) {
		t.Errorf("conns %v", conns)
	}
	for _, name := range names {
		contains(t, "the status", status, name.shown)
	}
	secrets := sh(t, "grep", "-c", "PSK", "/run/svc-ipsec/vpn-dn/etc/ipsec.secrets")
	if strings.TrimSpace(secrets) != fmt.Sprint(len(names)) {
		t.Errorf("%s keys", secrets)
	}
}
