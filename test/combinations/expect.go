package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
)

// The kernel's names of the algorithms in the table. The length of a key in the kernel includes the salt, which counter
// modes have.
var (
	ciphers = []struct {
		word  *regexp.Regexp // matches the name in the table, with the bits of the key and the bytes of the check value
		name  string         // the name in the kernel
		salt  int            // bytes of the salt
		bits  int            // bits of the key, if the name in the table does not contain them
		check int            // bits of the integrity check value, if the name in the table does not contain them
	}{
		{regexp.MustCompile(`^aes-(\d+)$`), "cbc(aes)", 0, 0, 0},
		{regexp.MustCompile(`^aes-(\d+)-ctr$`), "rfc3686(ctr(aes))", 4, 0, 0},
		{regexp.MustCompile(`^aes-(\d+)-ccm-(\d+)$`), "rfc4309(ccm(aes))", 3, 0, 0},
		{regexp.MustCompile(`^aes-(\d+)-gcm-(\d+)$`), "rfc4106(gcm(aes))", 4, 0, 0},
		{regexp.MustCompile(`^chacha20poly1305$`), "rfc7539esp(chacha20,poly1305)", 4, 256, 128},
		{regexp.MustCompile(`^3des$`), "cbc(des3_ede)", 0, 192, 0},
	}
	integrities = map[string]string{
		"sha1": "hmac(sha1)/96", "sha256": "hmac(sha256)/128", "sha384": "hmac(sha384)/192",
		"sha512": "hmac(sha512)/256", "aes-xcbc": "xcbc(aes)/96", "aes-cmac": "cmac(aes)/96",
	}
)

// describe returns the protocol, the mode and the algorithms of an association in the format of want, without keys.
func describe(s netlink.XfrmState) string {
	parts := []string{s.Proto.String(), s.Mode.String()}
	if s.Aead != nil {
		parts = append(parts, fmt.Sprintf("%s/%d key %d", s.Aead.Name, s.Aead.ICVLen, 8*len(s.Aead.Key)))
	}
	if s.Crypt != nil && s.Crypt.Name != "ecb(cipher_null)" {
		parts = append(parts, fmt.Sprintf("%s key %d", s.Crypt.Name, 8*len(s.Crypt.Key)))
	}
	if s.Auth != nil {
		parts = append(parts, fmt.Sprintf("%s/%d", s.Auth.Name, s.Auth.TruncateLen))
	}
	if s.Encap != nil {
		parts = append(parts, "in UDP")
	}
	return strings.Join(parts, " ")
}

// want returns the result of describe for an association that has the parameters of the row.
func (r row) want() string {
	parts := []string{r.child.protocol, r.child.mode}
	aead := false
	if r.child.protocol == "esp" {
		for _, c := range ciphers {
			m := c.word.FindStringSubmatch(r.child.cipher)
			if m == nil {
				continue
			}
			bits, check := c.bits, c.check
			if len(m) > 1 {
				bits, _ = strconv.Atoi(m[1])
			}
			if len(m) > 2 {
				check, _ = strconv.Atoi(m[2])
				check *= 8
			}
			name := c.name
			if aead = check > 0; aead {
				name += fmt.Sprintf("/%d", check)
			}
			parts = append(parts, fmt.Sprintf("%s key %d", name, bits+8*c.salt))
		}
	}
	if !aead {
		parts = append(parts, integrities[r.child.integrity])
	}
	if r.way == "nat" {
		parts = append(parts, "in UDP")
	}
	return strings.Join(parts, " ")
}

// wantIKE returns the line of the daemon's status for an IKE SA that was negotiated with the IKE policy of the row.
func (r row) wantIKE() string {
	cipher := strings.ToUpper(strings.ReplaceAll(r.ike.cipher, "-", "_"))
	if m := regexp.MustCompile(`^AES_(\d+)(?:_(GCM|CTR)(_\d+)?)?$`).FindStringSubmatch(cipher); m != nil {
		mode := m[2]
		if mode == "" {
			mode = "CBC"
		}
		cipher = "AES_" + mode + m[3] + "_" + m[1]
	}
	names := map[string]string{"3DES": "3DES_CBC_192", "CHACHA20POLY1305": "CHACHA20_POLY1305_256"}
	if name, ok := names[cipher]; ok {
		cipher = name
	}
	integrity := map[string]string{
		"sha1": "HMAC_SHA1", "sha256": "HMAC_SHA2_256", "sha384": "HMAC_SHA2_384", "sha512": "HMAC_SHA2_512",
		"aes-xcbc": "AES_XCBC",
	}[r.ike.integrity]
	group := map[string]string{
		"group5": "MODP1536", "group14": "MODP2048", "group15": "MODP3072", "group16": "MODP4096",
		"group17": "MODP6144",
		"group18": "MODP8192", "group19": "DH19", "group20": "DH20", "group21": "DH21", "group31": "DH31",
	}[r.ike.group]
	return "IKE" + r.ike.version + " algorithm newest: " + cipher + "-" + integrity + "-" + group
}
