package config

import (
	"encoding/json"
	"strings"
	"testing"
)

const byCertificate = `"authMode":"certificate",` +
	`"certificate":{"certificateFile":"/c","privateKeyFile":"/k","caFile":"/a"}`

func TestConnectionUsesContentsOfCertificateFiles(t *testing.T) {
	good := Certificate{Nickname: "svc-1-2", AuthBy: "rsasig", PeerCA: "%same", Digest: "d"}
	with := func(change func(*Certificate)) Certificate { c := good; change(&c); return c }
	for _, test := range []struct {
		fields string
		found  Certificate
		want   string // part of the fault, or "" if the connection is accepted
	}{
		{byCertificate, good, ""},
		{byCertificate + `,"localId":"left.example.org","peerId":"C=FR, CN=right"`, good, ""},
		{byCertificate, with(func(c *Certificate) { c.PeerCA = "C=FR, CN=ca" }), ""},
		{byCertificate, with(func(c *Certificate) { c.PeerCA = "CN=a\nleftupdown=x" }),
			"connections[0].certificate.caFile"},
		// The certificate is from an earlier read.
		{byCertificate, with(func(c *Certificate) { c.Fault = "privateKeyFile \"/k\": no such file" }), ""},
		{byCertificate, Certificate{Fault: "privateKeyFile \"/k\": no such file"},
			`connections[0].certificate: privateKeyFile "/k": no such file`},
		{byCertificate + `,"ikePolicy":{"ikeVersion":"v1"}`, good, ""},
		{byCertificate + `,"ikePolicy":{"ikeVersion":"v1"}`, with(func(c *Certificate) { c.AuthBy = "ecdsa" }),
			"an ECDSA key: allowed: RSA, with ikeVersion v1"},
		{byCertificate + `,"psk":"secret-of-test"`, good,
			`connections[0].psk "[secret]": allowed: none with authMode certificate`},
		{byCertificate + `,"peerId":"@#0102"`, good,
			`connections[0].peerId "@#0102": allowed: with authMode certificate what a certificate can hold`},
		{`"authMode":"certificate"`, good, `connections[0].certificate "absent": allowed: an object`},
		{`"authMode":"certificate","certificate":{"certificateFile":"/c","privateKeyFile":"/k"}`, good,
			"connections[0].certificate.caFile"},
		{`"authMode":"certificate","certificate":{"certificateFile":"/c","privateKeyFile":"k","caFile":"/a"}`, good,
			`certificate.privateKeyFile "[hidden]": allowed: an absolute path`},
		{`"authMode":"certificate","certificate":{"certFile":"/c"}`, good,
			`certificate: unknown key "certFile": allowed: certificateFile, privateKeyFile, caFile`},
		{`"authMode":"eap","psk":"k"`, good, "allowed: psk, certificate"},
		{`"psk":"k","certificate":{}`, good, `connections[0].certificate "an object": allowed: none with authMode psk`},
		{strings.Replace(byCertificate, `"/c"`, `"/other"`, 1), good,
			`connections[0].certificate.certificateFile "/other": was not read`},
	} {
		c := withKeyFields(t, test.fields)
		c.Found.Certificates = map[CertificateFiles]Certificate{{"/c", "/k", "/a"}: test.found}
		c.Resolve(nil)
		connection := c.Connections[0]
		refused := connection.Refused
		if test.want == "" {
			if refused != nil || connection.Certificate.Nickname != "svc-1-2" || connection.LocalID.Kind() == kindIPv4 {
				t.Errorf("%s: %v: %+v", test.fields, refused, connection)
			}
			continue
		}
		if refused == nil || !strings.Contains(refused.Error(), test.want) ||
			strings.Contains(refused.Error(), "secret-of") {
			t.Errorf("%s: got %v, want %s", test.fields, refused, test.want)
		}
	}
}

func TestPeerAddressHasOneKindOfAuthentication(t *testing.T) {
	replace := func(document string, oldnew ...string) string {
		return strings.NewReplacer(oldnew...).Replace(document)
	}
	other := replace(plain, `"id":"a"`, `"id":"b"`, "10.2.0.0", "10.3.0.0", `"psk":"secret-of-test"`, byCertificate)
	third := replace(other, `"id":"b"`, `"id":"c"`, "10.3.0.0", "10.4.0.0", `"/c"`, `"/d"`)
	same := replace(other, `"id":"b"`, `"id":"d"`, "10.3.0.0", "10.5.0.0")
	connections := strings.Join([]string{other, plain, third, same}, `},{`)
	c, err := Decode(json.RawMessage(`{"externalIps":["192.0.2.1"],"connections":[{` + connections + `}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if files := c.Certificates(); len(files) != 2 {
		t.Errorf("files %v", files)
	}
	c.Found.Certificates = map[CertificateFiles]Certificate{
		{"/c", "/k", "/a"}: {Nickname: "svc-1-2", AuthBy: "rsasig", PeerCA: "%same", Digest: "d"},
		{"/d", "/k", "/a"}: {Nickname: "svc-1-3", AuthBy: "rsasig", PeerCA: "%same", Digest: "e"},
	}
	c.Resolve(nil)
	for i, want := range []string{"", "authenticates otherwise", "authenticates otherwise", ""} {
		refused := c.Connections[i].Refused
		if (refused == nil) != (want == "") || refused != nil && !strings.Contains(refused.Error(), want) {
			t.Errorf("connection %d: got %v, want %q", i, refused, want)
		}
	}
}
