package config

import (
	"encoding/json"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// use is a set of places where an algorithm is accepted. In Libreswan 4.10 and 5 the accepted algorithms depend on the
// IKE version, and on whether they are for IKE, ESP or AH.
type use uint8

const (
	useIKEv1 use = 1 << iota
	useIKEv2
	useESPv1
	useESPv2
	useAHv1
	useAHv2

	useIKE = useIKEv1 | useIKEv2
	useESP = useESPv1 | useESPv2
	useAH  = useAHv1 | useAHv2
)

// algorithm is one row of the tables below.
type algorithm struct {
	value string // in Neutron and in the document
	name  string // in Libreswan
	use   use
	// aead marks ciphers that protect integrity themselves. An ESP proposal with such a cipher has no integrity
	// algorithm. In an IKE proposal the integrity algorithm then selects the pseudo-random function.
	aead bool
}

// These tables list all algorithms that a document may name. A test compares them with `ipsec algparse`. Algorithms
// that are not listed are refused: DES and MD5, and the groups 1, 2 and 22 to 30.
var (
	encryptions = []algorithm{
		{"aes-128", "aes128", useIKE | useESP, false},
		{"aes-192", "aes192", useIKE | useESP, false},
		{"aes-256", "aes256", useIKE | useESP, false},
		{"aes-128-ctr", "aes_ctr128", useIKE | useESP, false},
		{"aes-192-ctr", "aes_ctr192", useIKE | useESP, false},
		{"aes-256-ctr", "aes_ctr256", useIKE | useESP, false},
		{"aes-128-ccm-8", "aes_ccm_a128", useESP, true},
		{"aes-192-ccm-8", "aes_ccm_a192", useESP, true},
		{"aes-256-ccm-8", "aes_ccm_a256", useESP, true},
		{"aes-128-ccm-12", "aes_ccm_b128", useESP, true},
		{"aes-192-ccm-12", "aes_ccm_b192", useESP, true},
		{"aes-256-ccm-12", "aes_ccm_b256", useESP, true},
		{"aes-128-ccm-16", "aes_ccm_c128", useESP, true},
		{"aes-192-ccm-16", "aes_ccm_c192", useESP, true},
		{"aes-256-ccm-16", "aes_ccm_c256", useESP, true},
		{"aes-128-gcm-8", "aes_gcm_a128", useIKEv2 | useESP, true},
		{"aes-192-gcm-8", "aes_gcm_a192", useIKEv2 | useESP, true},
		{"aes-256-gcm-8", "aes_gcm_a256", useIKEv2 | useESP, true},
		{"aes-128-gcm-12", "aes_gcm_b128", useIKEv2 | useESP, true},
		{"aes-192-gcm-12", "aes_gcm_b192", useIKEv2 | useESP, true},
		{"aes-256-gcm-12", "aes_gcm_b256", useIKEv2 | useESP, true},
		{"aes-128-gcm-16", "aes_gcm_c128", useIKEv2 | useESP, true},
		{"aes-192-gcm-16", "aes_gcm_c192", useIKEv2 | useESP, true},
		{"aes-256-gcm-16", "aes_gcm_c256", useIKEv2 | useESP, true},
		{"chacha20poly1305", "chacha20_poly1305", useIKEv2 | useESPv2, true},
		{"3des", "3des", useIKE | useESP, false}, // RFC 8221: legacy
	}
	integrities = []algorithm{
		{"sha256", "sha2_256", useIKE | useESP | useAH, false},
		{"sha384", "sha2_384", useIKE | useESP | useAH, false},
		{"sha512", "sha2_512", useIKE | useESP | useAH, false},
		{"aes-xcbc", "aes_xcbc", useIKEv2 | useESP | useAH, false},
		{"aes-cmac", "aes_cmac", useESP | useAH, false},
		{"sha1", "sha1", useIKE | useESP | useAH, false}, // RFC 8221: legacy
	}
	groups = []algorithm{
		{"group14", "modp2048", useIKE | useESP | useAH, false},
		{"group15", "modp3072", useIKE | useESP | useAH, false},
		{"group16", "modp4096", useIKE | useESP | useAH, false},
		{"group17", "modp6144", useIKE | useESP | useAH, false},
		{"group18", "modp8192", useIKE | useESP | useAH, false},
		{"group19", "dh19", useIKE | useESPv2 | useAHv2, false},
		{"group20", "dh20", useIKE | useESPv2 | useAHv2, false},
		{"group21", "dh21", useIKE | useESPv2 | useAHv2, false},
		{"group31", "dh31", useIKE | useESPv2 | useAHv2, false},
		{"group5", "modp1536", useIKE | useESP | useAH, false}, // RFC 8247: SHOULD NOT
		{noGroup, "", useESP | useAH, false},
	}
)

// noGroup is the value of pfs that disables perfect forward secrecy: the keys of a Child SA are derived from the IKE
// SA, without a Diffie-Hellman exchange of their own.
const noGroup = "none"

// pick returns the row of table that the JSON value raw names, or the row of defaultValue if raw is absent. The row
// must be accepted in the place where. AH does not encrypt, but Neutron's policies always name a cipher. So for AH pick
// accepts any known cipher, which is then ignored.
func pick(key string, raw json.RawMessage, table []algorithm, defaultValue string, where use) (algorithm, error) {
	value, err := text(key, raw)
	if err != nil {
		return algorithm{}, err
	}
	if value == "" {
		value = defaultValue
	}
	ignored := where&useAH != 0 && table[0].use&useAH == 0
	var allowed []string
	for _, a := range table {
		if a.use&where == 0 && !ignored {
			continue
		}
		if a.value == value {
			return a, nil
		}
		allowed = append(allowed, a.value)
	}
	return algorithm{}, &spec.Fault{Key: key, Value: value, Allowed: strings.Join(allowed, ", ") + where.clause()}
}

// clause returns the suffix of error texts that names the place, for a use with a single place.
func (u use) clause() string {
	return map[use]string{
		useIKEv1: " (IKEv1)",
		useIKEv2: " (IKEv2)",
		useESPv1: " (ESP with IKEv1)",
		useESPv2: " (ESP with IKEv2)",
		useAHv1:  " (AH with IKEv1)",
		useAHv2:  " (AH with IKEv2)",
	}[u]
}

// compose returns one proposal in Libreswan's syntax, without the parts that do not apply to where.
func compose(encryption, integrity, group algorithm, where use) string {
	text := encryption.name + "-" + integrity.name
	switch {
	case where&useAH != 0:
		text = integrity.name
	case where&useESP != 0 && encryption.aead:
		text = encryption.name
	}
	if group.value != noGroup {
		text += ";" + group.name
	}
	return text
}
