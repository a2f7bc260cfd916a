package config

import (
	"encoding/json"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// use is where an algorithm may stand: Libreswan 4.10 and 5 differ by IKE version, and between IKE, ESP and AH.
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

// algorithm is one row of the table: Neutron's word, Libreswan's, and where it is accepted. AEAD ciphers protect
// integrity themselves: in ESP they stand alone, in IKE the integrity algorithm is the pseudo-random function.
type algorithm struct {
	value string
	name  string
	use   use
	aead  bool
}

// The one table. `ipsec algparse` judges it in a test. What is missing is refused: DES and MD5, groups 1, 2 and 22 to 30.
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

// noGroup stands for keys of the tunnel that come from those of the IKE SA, without another Diffie-Hellman exchange.
const noGroup = "none"

// pick finds the algorithm that a value names. AH does not encrypt: there any known cipher is accepted and ignored, since
// Neutron's policies always name one.
func pick(key string, raw json.RawMessage, table []algorithm, otherwise string, where use) (algorithm, error) {
	value, err := text(key, raw)
	if err != nil {
		return algorithm{}, err
	}
	if value == "" {
		value = otherwise
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

func (u use) clause() string {
	return map[use]string{useIKEv1: " (IKEv1)", useIKEv2: " (IKEv2)", useESPv1: " (ESP with IKEv1)", useESPv2: " (ESP with IKEv2)",
		useAHv1: " (AH with IKEv1)", useAHv2: " (AH with IKEv2)"}[u]
}

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
