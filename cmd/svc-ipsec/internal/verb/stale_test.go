package verb

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/libreswan"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/lookup"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/state"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

func writeFile(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func TestLastKeyIsUsedIfFileIsUnreadable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	last := map[string]config.File{path: {Content: spec.NewSecret([]byte("last"))}}
	for _, test := range []struct {
		name        string
		make        func()
		last        map[string]config.File
		key, faults string
	}{
		{"the file is missing", func() { _ = os.Remove(path) }, last, "last", "no such file"},
		{"the file was already missing", func() {},
			map[string]config.File{path: {Content: spec.NewSecret([]byte("last")), Fault: "gone"}}, "last",
			"no such file"},
		{"other users can read the file", func() { writeFile(t, path, "new", 0o644) }, last, "last", "mode 0644"},
		{"the file is still empty", func() { writeFile(t, path, "", 0o600) }, last, "last", "an empty file"},
		{"the file has only a newline", func() { writeFile(t, path, "\n", 0o600) }, last, "last", "0 bytes"},
		{"the key was changed", func() { writeFile(t, path, "new\n", 0o600) }, last, "new", ""},
		{"the file is missing and there is no last key", func() { _ = os.Remove(path) }, nil, "", "no such file"},
	} {
		test.make()
		in := inputs{keys: lookup.OpenKeyFiles("/nonexistent"), last: config.Found{Files: test.last}}
		got := in.readKeys([]string{path})[path]
		if string(got.Content.Reveal()) != test.key || (got.Fault == "") != (test.faults == "") ||
			!strings.Contains(got.Fault, test.faults) {
			t.Errorf("%s: key %q, fault %q", test.name, got.Content.Reveal(), got.Fault)
		}
	}
}

// issueCertificate writes the files of a new certificate that expires at ends, of its key, and of a new CA.
func issueCertificate(t *testing.T, dir string, ends time.Time) config.CertificateFiles {
	t.Helper()
	files := config.CertificateFiles{Certificate: filepath.Join(dir, "c"), PrivateKey: filepath.Join(dir, "k"),
		CA: filepath.Join(dir, "a")}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true}
	own := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "left"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: ends}
	for path, template := range map[string]*x509.Certificate{files.CA: ca, files.Certificate: own} {
		der, err := x509.CreateCertificate(rand.Reader, template, ca, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, path, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), 0o644)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, files.PrivateKey, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), 0o600)
	return files
}

func TestLastCertificateIsUsedUntilItExpires(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	files := issueCertificate(t, dir, now.Add(time.Hour))
	read := func(last config.Certificate, at time.Time) config.Certificate {
		in := &inputs{keys: lookup.OpenKeyFiles("/nonexistent"),
			tools: libreswan.Tools{Certutil: "/usr/bin/certutil", PK12util: "/usr/bin/pk12util"},
			last:  config.Found{Certificates: map[config.CertificateFiles]config.Certificate{files: last}}}
		return in.readCertificates([]config.CertificateFiles{files}, at)[files]
	}
	last := read(config.Certificate{}, now)
	if last.Nickname == "" || last.Fault != "" {
		t.Fatalf("%+v", last)
	}
	key, err := os.ReadFile(files.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name     string
		make     func()
		at       time.Time
		kept     bool
		contains string
	}{
		{"the key file is missing", func() { _ = os.Remove(files.PrivateKey) }, now, true, "privateKeyFile"},
		{"the key file is missing and the certificate has expired", func() {}, now.Add(2 * time.Hour), false,
			"no such file"},
		{"the certificate was renewed, but not yet the key", func() {
			issueCertificate(t, dir, now.Add(2*time.Hour))
			writeFile(t, files.PrivateKey, string(key), 0o600)
		}, now, true, "the key is not the certificate's"},
		{"the certificate is incomplete", func() {
			writeFile(t, files.Certificate, "-----BEGIN CERTIFICATE-----\n", 0o644)
		},
			now, true,
			"certificateFile"},
		{"the new certificate has expired", func() { issueCertificate(t, dir, now.Add(-time.Minute)) }, now, false,
			"the certificate has expired"},
	} {
		test.make()
		got := read(last, test.at)
		want := last
		if !test.kept {
			want = config.Certificate{}
		}
		want.Fault = got.Fault
		if got != want || !strings.Contains(got.Fault, test.contains) {
			t.Errorf("%s: got %+v, want %q", test.name, got, test.contains)
		}
	}
	issueCertificate(t, dir, now.Add(time.Hour))
	if got := read(last, now); got.Fault != "" || got.Nickname == last.Nickname {
		t.Errorf("another certificate: %+v", got)
	}
}

func TestStaleInputsAreReportedAndRecorded(t *testing.T) {
	files := config.CertificateFiles{Certificate: "/c", PrivateKey: "/k", CA: "/a"}
	found := config.Found{
		Names: map[string]config.Name{"b.example": {
			Address: netip.MustParseAddr("192.0.2.1"), Fault: "no answer from DNS",
		},
			"a.example": {Fault: "no such host"}},
		Files: map[string]config.File{"/k\n": {
			Content: spec.NewSecret([]byte("secret-of-test")), Fault: "no such file",
		},
			"/none": {Fault: "no such file"}, "/good": {Content: spec.NewSecret([]byte("secret-of-test"))}},
		Certificates: map[config.CertificateFiles]config.Certificate{
			files: {Nickname: "svc-1-2", Digest: "d", NotAfter: time.Now().Add(time.Hour).Round(time.Second).UTC(),
				Fault: `privateKeyFile "/k": no such file`},
			{Certificate: "/d"}: {Fault: "no such file"}},
	}
	want := []string{"peer name b.example: no answer from DNS: its last address 192.0.2.1 is used",
		`pskFile "/k\n" cannot be read, the last key is kept: no such file`,
		`certificateFile "/c" cannot be taken, the last certificate is kept: privateKeyFile "/k": no such file`}
	if got := staleInputs(found); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	dir := &state.Directory{Path: t.TempDir()}
	recorded := &state.State{Attachment: state.Attachment{Network: "n", ContainerID: "c"}, Found: state.NewFound(found)}
	if err := dir.Save(recorded); err != nil {
		t.Fatal(err)
	}
	recorded, err := dir.Load()
	if err != nil {
		t.Fatal(err)
	}
	again := recorded.Found.Config()
	if !slices.Equal(staleInputs(again), want) || again.Certificates[files] != found.Certificates[files] ||
		string(again.Files["/k\n"].Content.Reveal()) != "secret-of-test" {
		t.Errorf("got %+v", again)
	}
}
