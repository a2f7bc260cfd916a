package libreswan

import (
	"os"
	"os/exec"
	"path/filepath"
)

// Tools are the programs that a container needs, by absolute path.
type Tools struct {
	Pluto, Addconn, Whack string
	IPsec                 string // the script that makes the key database
	NFT                   string
	NSEnter, Setpriv      string // util-linux: they start the daemon in its namespaces, with few rights
	// Needed only for connections by certificate.
	Certutil, PK12util string
}

// Where distributions and Libreswan's own build put its programs.
var libexec = []string{"/usr/libexec/ipsec", "/usr/lib/ipsec", "/usr/local/libexec/ipsec"}

// The directories that hold programs whatever PATH a runtime hands on.
var programs = []string{"/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin"}

// FindTools looks for the programs and lists those that are missing, in the words of an operator.
func FindTools() (Tools, []string) {
	t := Tools{
		Pluto:   find("pluto", libexec),
		Addconn: find("addconn", libexec),
		Whack:   find("whack", libexec),
		IPsec:   find("ipsec", programs),
		NFT:     find("nft", programs),
		NSEnter: find("nsenter", programs),
		Setpriv: find("setpriv", programs),

		Certutil: find("certutil", programs),
		PK12util: find("pk12util", programs),
	}
	var missing []string
	for _, tool := range []struct{ path, name string }{
		{t.Pluto, "pluto (Libreswan)"}, {t.Addconn, "addconn (Libreswan)"}, {t.Whack, "whack (Libreswan)"}, {t.IPsec, "ipsec (Libreswan)"},
		{t.NFT, "nft (nftables)"}, {t.NSEnter, "nsenter (util-linux)"}, {t.Setpriv, "setpriv (util-linux)"},
	} {
		if tool.path == "" {
			missing = append(missing, tool.name)
		}
	}
	return t, missing
}

func find(name string, dirs []string) string {
	for _, dir := range dirs {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path
		}
	}
	if path, err := exec.LookPath(name); err == nil && filepath.IsAbs(path) {
		return path
	}
	return ""
}
