package configtest

import "slices"

// Use is a place where algorithms are negotiated: IKE, ESP or AH, with an IKE version.
type Use string

// The uses.
const (
	IKEv1 Use = "IKEv1"
	IKEv2 Use = "IKEv2"
	ESPv1 Use = "ESPv1"
	ESPv2 Use = "ESPv2"
	AHv1  Use = "AHv1"
	AHv2  Use = "AHv2"
)

// Algorithm is a value of a document, with the names of the algorithm in Libreswan's status.
type Algorithm struct {
	Value string
	IKE   string // the name in IKE proposals
	IPsec string // the name in ESP and AH proposals
	AEAD  bool
	Uses  []Use
}

var (
	all      = []Use{IKEv1, IKEv2, ESPv1, ESPv2, AHv1, AHv2}
	ciphers  = []Use{IKEv1, IKEv2, ESPv1, ESPv2}
	espAlone = []Use{ESPv1, ESPv2}
	notIKEv1 = []Use{IKEv2, ESPv1, ESPv2}
	elliptic = []Use{IKEv1, IKEv2, ESPv2, AHv2}
)

// Algorithms holds all algorithms that a document can name, by the key in the document. The first one is the default.
var Algorithms = map[string][]Algorithm{
	"encryptionAlgorithm": {
		{"aes-256", "AES_CBC_256", "AES_CBC_256", false, ciphers},
		{"aes-192", "AES_CBC_192", "AES_CBC_192", false, ciphers},
		{"aes-128", "AES_CBC_128", "AES_CBC_128", false, ciphers},
		{"aes-256-ctr", "AES_CTR_256", "AES_CTR_256", false, ciphers},
		{"aes-192-ctr", "AES_CTR_192", "AES_CTR_192", false, ciphers},
		{"aes-128-ctr", "AES_CTR_128", "AES_CTR_128", false, ciphers},
		{"aes-128-ccm-8", "", "AES_CCM_8_128", true, espAlone},
		{"aes-192-ccm-8", "", "AES_CCM_8_192", true, espAlone},
		{"aes-256-ccm-8", "", "AES_CCM_8_256", true, espAlone},
		{"aes-128-ccm-12", "", "AES_CCM_12_128", true, espAlone},
		{"aes-192-ccm-12", "", "AES_CCM_12_192", true, espAlone},
		{"aes-256-ccm-12", "", "AES_CCM_12_256", true, espAlone},
		{"aes-128-ccm-16", "", "AES_CCM_16_128", true, espAlone},
		{"aes-192-ccm-16", "", "AES_CCM_16_192", true, espAlone},
		{"aes-256-ccm-16", "", "AES_CCM_16_256", true, espAlone},
		{"aes-128-gcm-8", "AES_GCM_8_128", "AES_GCM_8_128", true, notIKEv1},
		{"aes-192-gcm-8", "AES_GCM_8_192", "AES_GCM_8_192", true, notIKEv1},
		{"aes-256-gcm-8", "AES_GCM_8_256", "AES_GCM_8_256", true, notIKEv1},
		{"aes-128-gcm-12", "AES_GCM_12_128", "AES_GCM_12_128", true, notIKEv1},
		{"aes-192-gcm-12", "AES_GCM_12_192", "AES_GCM_12_192", true, notIKEv1},
		{"aes-256-gcm-12", "AES_GCM_12_256", "AES_GCM_12_256", true, notIKEv1},
		{"aes-128-gcm-16", "AES_GCM_16_128", "AES_GCM_16_128", true, notIKEv1},
		{"aes-192-gcm-16", "AES_GCM_16_192", "AES_GCM_16_192", true, notIKEv1},
		{"aes-256-gcm-16", "AES_GCM_16_256", "AES_GCM_16_256", true, notIKEv1},
		{"chacha20poly1305", "CHACHA20_POLY1305", "CHACHA20_POLY1305", true, []Use{IKEv2, ESPv2}},
		{"3des", "3DES_CBC", "3DES_CBC", false, ciphers},
	},
	"authAlgorithm": {
		{"sha256", "HMAC_SHA2_256", "HMAC_SHA2_256_128", false, all},
		{"sha384", "HMAC_SHA2_384", "HMAC_SHA2_384_192", false, all},
		{"sha512", "HMAC_SHA2_512", "HMAC_SHA2_512_256", false, all},
		{"aes-xcbc", "AES_XCBC", "AES_XCBC_96", false, []Use{IKEv2, ESPv1, ESPv2, AHv1, AHv2}},
		{"aes-cmac", "", "AES_CMAC_96", false, []Use{ESPv1, ESPv2, AHv1, AHv2}},
		{"sha1", "HMAC_SHA1", "HMAC_SHA1_96", false, all},
	},
	"pfs": {
		{"group14", "MODP2048", "MODP2048", false, all},
		{"group15", "MODP3072", "MODP3072", false, all},
		{"group16", "MODP4096", "MODP4096", false, all},
		{"group17", "MODP6144", "MODP6144", false, all},
		{"group18", "MODP8192", "MODP8192", false, all},
		{"group19", "DH19", "DH19", false, elliptic},
		{"group20", "DH20", "DH20", false, elliptic},
		{"group21", "DH21", "DH21", false, elliptic},
		{"group31", "DH31", "DH31", false, elliptic},
		{"group5", "MODP1536", "MODP1536", false, all},
		{"none", "", "", false, []Use{ESPv1, ESPv2, AHv1, AHv2}},
	},
}

// In lists the algorithms that are valid for a key of a policy for this use.
func In(key string, use Use) []Algorithm {
	unusable := func(a Algorithm) bool { return !slices.Contains(a.Uses, use) }
	return slices.DeleteFunc(slices.Clone(Algorithms[key]), unusable)
}
