package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
)

// The kernel's words for the table's. A cipher's key has its bits; those of a counter mode also a salt.
var (
	ciphers = []struct {
		word  *regexp.Regexp
		name  string
		salt  int // bytes
		bits  int // where the word has none
		check int // bits of the check value, where the cipher has one and the word does not say
	}{
		{regexp.MustCompile(`^aes-(\d+)$`), "cbc(aes)", 0, 0, 0},
		{regexp.MustCompile(`^aes-(\d+)-ctr$`), "rfc3686(ctr(aes))", 4, 0, 0},
		{regexp.MustCompile(`^aes-(\d+)-ccm-(\d+)$`), "rfc4309(ccm(aes))", 3, 0, 0},
		{regexp.MustCompile(`^aes-(\d+)-gcm-(\d+)$`), "rfc4106(gcm(aes))", 4, 0, 0},
		{regexp.MustCompile(`^chacha20poly1305$`), "rfc7539esp(chacha20,poly1305)", 4, 256, 128},
		{regexp.MustCompile(`^3des$`), "cbc(des3_ede)", 0, 192, 0},
	}
	integrities = map[string]string{
		"sha1": "hmac(sha1)/96", "sha256": "hmac(sha256)/128", "sha384": "hmac(sha384)/192", "sha512": "hmac(sha512)/256",
		"aes-xcbc": "xcbc(aes)/96", "aes-cmac": "cmac(aes)/96",
	}
)

// shown is an association in the words that want uses, without its keys.
func shown(s netlink.XfrmState) string {
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

// want is what shown says of an association of the row's.
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

// wantIKE is how the daemon's status names what it negotiated with the row's IKE policy.
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
	integrity := map[string]string{"sha1": "HMAC_SHA1", "sha256": "HMAC_SHA2_256", "sha384": "HMAC_SHA2_384", "sha512": "HMAC_SHA2_512",
		"aes-xcbc": "AES_XCBC"}[r.ike.integrity]
	group := map[string]string{"group5": "MODP1536", "group14": "MODP2048", "group15": "MODP3072", "group16": "MODP4096", "group17": "MODP6144",
		"group18": "MODP8192", "group19": "DH19", "group20": "DH20", "group21": "DH21", "group31": "DH31"}[r.ike.group]
	return "IKE" + r.ike.version + " algorithm newest: " + cipher + "-" + integrity + "-" + group
}
