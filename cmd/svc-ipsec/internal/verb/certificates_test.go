package verb

import (
	"strings"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/pluto"
)

func TestWithoutItsProgramsAConnectionByCertificateSaysWhatIsMissing(t *testing.T) {
	files := config.CertificateFiles{Certificate: "/none/c", PrivateKey: "/none/k", CA: "/none/a"}
	for _, test := range []struct {
		tools pluto.Tools
		says  string
	}{
		{pluto.Tools{PK12util: "/usr/bin/pk12util"}, "missing on this host: certutil (Debian: libnss3-tools)"},
		{pluto.Tools{Certutil: "/usr/bin/certutil"}, "missing on this host: pk12util (Debian: libnss3-tools)"},
		{pluto.Tools{Certutil: "/usr/bin/certutil", PK12util: "/usr/bin/pk12util"}, `certificateFile "/none/c": no such file`},
	} {
		c := &change{tools: test.tools}
		if fault := c.readCertificates([]config.CertificateFiles{files}, nil, time.Now())[files].Fault; !strings.Contains(fault, test.says) || len(c.credentials) != 0 {
			t.Errorf("got %q, want %s", fault, test.says)
		}
	}
}
