package libreswan

import (
	"os"
	"os/exec"
	"path/filepath"
)

// Tools are the programs that a container needs, by absolute path.
type Tools struct {
	Pluto, Addconn, Whack string
	IPsec                 string // the script that creates the key database
	NFT                   string
	NSEnter, Setpriv      string // util-linux; they start the daemon in its namespaces with few privileges
	// Needed only for connections with certificates.
	Certutil, PK12util string
}

// libexecDirs are the directories of Libreswan's programs in distributions and in Libreswan's own build.
var libexecDirs = []string{"/usr/libexec/ipsec", "/usr/lib/ipsec", "/usr/local/libexec/ipsec"}

// programDirs are searched before PATH, because a runtime may pass any PATH.
var programDirs = []string{"/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin"}

// FindTools finds the programs. It also returns the missing ones, each with the name of its package.
func FindTools() (Tools, []string) {
	t := Tools{
		Pluto:   find("pluto", libexecDirs),
		Addconn: find("addconn", libexecDirs),
		Whack:   find("whack", libexecDirs),
		IPsec:   find("ipsec", programDirs),
		NFT:     find("nft", programDirs),
		NSEnter: find("nsenter", programDirs),
		Setpriv: find("setpriv", programDirs),

		Certutil: find("certutil", programDirs),
		PK12util: find("pk12util", programDirs),
	}
	var missing []string
	for _, tool := range []struct{ path, name string }{
		{t.Pluto, "pluto (Libreswan)"}, {t.Addconn, "addconn (Libreswan)"},
		{t.Whack, "whack (Libreswan)"}, {t.IPsec, "ipsec (Libreswan)"},
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
