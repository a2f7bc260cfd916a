package verb

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/libreswan"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/lookup"
)

func TestMissingNSSToolIsNamedAsReason(t *testing.T) {
	files := config.CertificateFiles{Certificate: "/none/c", PrivateKey: "/none/k", CA: "/none/a"}
	for _, test := range []struct {
		tools    libreswan.Tools
		contains string
	}{
		{libreswan.Tools{PK12util: "/usr/bin/pk12util"}, "missing on this host: certutil (Debian: libnss3-tools)"},
		{libreswan.Tools{Certutil: "/usr/bin/certutil"}, "missing on this host: pk12util (Debian: libnss3-tools)"},
		{libreswan.Tools{Certutil: "/usr/bin/certutil", PK12util: "/usr/bin/pk12util"},
			`certificateFile "/none/c": no such file`},
	} {
		in := &inputs{keys: lookup.OpenKeyFiles("/nonexistent"), tools: test.tools}
		if fault := in.readCertificates([]config.CertificateFiles{files},
			time.Now())[files].Fault; !strings.Contains(fault, test.contains) || len(in.credentials) != 0 {
			t.Errorf("got %q, want %s", fault, test.contains)
		}
	}
}

func TestCertificateFilesMustBeInKeyDirectory(t *testing.T) {
	dir, configuration := t.TempDir(), filepath.Join(t.TempDir(), "key-directory")
	writeFile(t, configuration, dir+"\n", 0o644)
	good := issueCertificate(t, dir, time.Now().Add(time.Hour))
	elsewhere := issueCertificate(t, t.TempDir(), time.Now().Add(time.Hour))
	read := func(files config.CertificateFiles) string {
		in := &inputs{keys: lookup.OpenKeyFiles(configuration),
			tools: libreswan.Tools{Certutil: "/usr/bin/certutil", PK12util: "/usr/bin/pk12util"}}
		return in.readCertificates([]config.CertificateFiles{files}, time.Now())[files].Fault
	}
	if fault := read(good); fault != "" {
		t.Errorf("all files inside: %s", fault)
	}
	for name, files := range map[string]config.CertificateFiles{
		"certificateFile": {Certificate: elsewhere.Certificate, PrivateKey: good.PrivateKey, CA: good.CA},
		"privateKeyFile":  {Certificate: good.Certificate, PrivateKey: "/etc/none", CA: good.CA},
		"caFile":          {Certificate: good.Certificate, PrivateKey: good.PrivateKey, CA: "/etc"},
	} {
		if fault := read(files); !strings.HasPrefix(fault, name+" ") ||
			!strings.HasSuffix(fault, ": allowed: a file below "+dir) {
			t.Errorf("%s outside: got %q", name, fault)
		}
	}
}
