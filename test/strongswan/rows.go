package main

import (
	"fmt"
	"time"
)

// row has the configurations of both ends and the expected results.
type row struct {
	name   string
	always bool   // make test runs the row too
	fault  string // a known fault of the product because of which the row must fail
	nat    bool   // the router between our end and the peer translates our address

	// ours has the connections of our end. Each is a JSON object that is merged over base.
	ours []string
	// peer is merged into the connection `ours` of baseConf, and peerConnections into its section `connections`.
	peer, peerConnections string

	initiate *step // makes the peer initiate, if our end does not
	down     bool  // no tunnel is expected to come up

	// Expected results when the tunnel is up.
	ike, child string      // fields of the IKE SA and of its Child SAs in swanctl --list-sas --raw
	children   int         // the number of these Child SAs; default: 1
	kernel     string      // texts in ip xfrm state of the container, separated by "; "
	reach      [][2]string // pairs of addresses that reach each other; default: 10.1.0.10 and 10.2.0.10

	steps []step // run after the tunnel is up
}

// pairs returns the pairs of addresses that reach each other.
func (r row) pairs() [][2]string {
	if r.reach == nil {
		return [][2]string{{"10.1.0.10", "10.2.0.10"}}
	}
	return r.reach
}

// peerIdentities returns the settings of the peer for the identities of both ends.
func peerIdentities(left, right string) string {
	return "local { id = " + right + " }\nremote { id = " + left + " }\n"
}

const dn = `"C=FR, O=Example, CN=`

// quickDPD makes our end detect within 20 seconds that the peer does not answer.
const quickDPD = `"dpd": {"action": "restart", "interval": 5, "timeout": 20}`

// table has all rows.
var table = []row{
	// IKEv2, algorithms.
	{
		name: "IKEv2 with the defaults of svc-ipsec", always: true,
		ike: "version=2 encr-alg=AES_CBC encr-keysize=256 integ-alg=HMAC_SHA2_256_128 prf-alg=PRF_HMAC_SHA2_256 " +
			"dh-group=MODP_2048",
		child: "mode=TUNNEL protocol=ESP encr-alg=AES_CBC encr-keysize=256 integ-alg=HMAC_SHA2_256_128 " +
			"local-ts=[10.2.0.0/24] remote-ts=[10.1.0.0/24]",
		kernel: "mode tunnel; cbc(aes); hmac(sha256)",
		steps:  []step{isActive},
	},
	{
		name: "IKEv2 with AES-128-GCM-16 and group 19",
		ours: []string{`{"ikePolicy": {"encryptionAlgorithm": "aes-128-gcm-16", "pfs": "group19"},
			"ipsecPolicy": {"encryptionAlgorithm": "aes-128-gcm-16", "pfs": "group19"}}`},
		peer: `proposals = aes128gcm16-prfsha256-ecp256
			children { net { esp_proposals = aes128gcm16-ecp256 } }`,
		ike:    "version=2 encr-alg=AES_GCM_16 encr-keysize=128 prf-alg=PRF_HMAC_SHA2_256 dh-group=ECP_256",
		child:  "encr-alg=AES_GCM_16 encr-keysize=128",
		kernel: "rfc4106(gcm(aes))",
		steps:  []step{localRekeysChild(lossless)},
	},
	{
		name: "IKEv2 with ChaCha20-Poly1305 and group 31",
		ours: []string{`{"ikePolicy": {"encryptionAlgorithm": "chacha20poly1305", "pfs": "group31"},
			"ipsecPolicy": {"encryptionAlgorithm": "chacha20poly1305", "pfs": "group31"}}`},
		peer: `proposals = chacha20poly1305-prfsha256-x25519
			children { net { esp_proposals = chacha20poly1305-x25519 } }`,
		ike:    "version=2 encr-alg=CHACHA20_POLY1305 dh-group=CURVE_25519",
		child:  "encr-alg=CHACHA20_POLY1305",
		kernel: "rfc7539esp(chacha20,poly1305)",
		steps:  []step{localRekeysChild(lossless)},
	},
	{
		name: "IKEv2 with AES-192, SHA-384 and group 20",
		ours: []string{`{"ikePolicy": {"encryptionAlgorithm": "aes-192", "authAlgorithm": "sha384", "pfs": "group20"},
			"ipsecPolicy": {"encryptionAlgorithm": "aes-192", "authAlgorithm": "sha384", "pfs": "group20"}}`},
		peer: `proposals = aes192-sha384-ecp384
			children { net { esp_proposals = aes192-sha384-ecp384 } }`,
		ike:    "version=2 encr-alg=AES_CBC encr-keysize=192 integ-alg=HMAC_SHA2_384_192 dh-group=ECP_384",
		child:  "encr-alg=AES_CBC encr-keysize=192 integ-alg=HMAC_SHA2_384_192",
		kernel: "hmac(sha384)",
		steps:  []step{localRekeysChild(lossless)},
	},
	{
		name: "IKEv2 with SHA-512 and group 21",
		ours: []string{`{"ikePolicy": {"authAlgorithm": "sha512", "pfs": "group21"},
			"ipsecPolicy": {"authAlgorithm": "sha512", "pfs": "group21"}}`},
		peer: `proposals = aes256-sha512-ecp521
			children { net { esp_proposals = aes256-sha512-ecp521 } }`,
		ike:    "version=2 integ-alg=HMAC_SHA2_512_256 prf-alg=PRF_HMAC_SHA2_512 dh-group=ECP_521",
		child:  "integ-alg=HMAC_SHA2_512_256",
		kernel: "hmac(sha512)",
		steps:  []step{localRekeysChild(lossless)},
	},
	{
		name: "IKEv2 with 3DES, SHA-1 and group 5",
		ours: []string{`{"ikePolicy": {"encryptionAlgorithm": "3des", "authAlgorithm": "sha1", "pfs": "group5"},
			"ipsecPolicy": {"encryptionAlgorithm": "3des", "authAlgorithm": "sha1", "pfs": "group5"}}`},
		peer: `proposals = 3des-sha1-modp1536
			children { net { esp_proposals = 3des-sha1-modp1536 } }`,
		ike:    "version=2 encr-alg=3DES_CBC integ-alg=HMAC_SHA1_96 dh-group=MODP_1536",
		child:  "encr-alg=3DES_CBC integ-alg=HMAC_SHA1_96",
		kernel: "cbc(des3_ede); hmac(sha1)",
		steps:  []step{localRekeysChild(lossless)},
	},
	{
		name: "IKEv2 with AES-XCBC",
		ours: []string{`{"ikePolicy": {"encryptionAlgorithm": "aes-128", "authAlgorithm": "aes-xcbc"},
			"ipsecPolicy": {"encryptionAlgorithm": "aes-128", "authAlgorithm": "aes-xcbc"}}`},
		peer: `proposals = aes128-aesxcbc-prfaesxcbc-modp2048
			children { net { esp_proposals = aes128-aesxcbc-modp2048 } }`,
		ike:    "version=2 encr-keysize=128 integ-alg=AES_XCBC_96 prf-alg=PRF_AES128_XCBC",
		child:  "integ-alg=AES_XCBC_96",
		kernel: "xcbc(aes)",
	},
	{
		name: "IKEv2 with AES-CTR",
		ours: []string{`{"ikePolicy": {"encryptionAlgorithm": "aes-128-ctr"},
			"ipsecPolicy": {"encryptionAlgorithm": "aes-256-ctr"}}`},
		peer: `proposals = aes128ctr-sha256-modp2048
			children { net { esp_proposals = aes256ctr-sha256-modp2048 } }`,
		ike:    "version=2 encr-alg=AES_CTR encr-keysize=128",
		child:  "encr-alg=AES_CTR encr-keysize=256",
		kernel: "rfc3686(ctr(aes))",
	},
	{
		name:   "IKEv2 with ESP of AES-256-CCM-16",
		ours:   []string{`{"ipsecPolicy": {"encryptionAlgorithm": "aes-256-ccm-16"}}`},
		peer:   `children { net { esp_proposals = aes256ccm16-modp2048 } }`,
		child:  "encr-alg=AES_CCM_16 encr-keysize=256",
		kernel: "rfc4309(ccm(aes))",
	},
	{
		name:   "IKEv2 with ESP of AES-CMAC",
		ours:   []string{`{"ipsecPolicy": {"encryptionAlgorithm": "aes-128", "authAlgorithm": "aes-cmac"}}`},
		peer:   `children { net { esp_proposals = aes128-aescmac-modp2048 } }`,
		child:  "encr-keysize=128 integ-alg=AES_CMAC_96",
		kernel: "cmac(aes)",
	},
	{
		name:   "IKEv2 with AH",
		ours:   []string{`{"ipsecPolicy": {"transformProtocol": "ah"}}`},
		peer:   `children { net { ah_proposals = sha256-modp2048 } }`,
		child:  "protocol=AH integ-alg=HMAC_SHA2_256_128",
		kernel: "proto ah",
	},
	{
		name: "IKEv2 with group 16",
		ours: []string{`{"ikePolicy": {"pfs": "group16"}, "ipsecPolicy": {"pfs": "group16"}}`},
		peer: `proposals = aes256-sha256-modp4096
			children { net { esp_proposals = aes256-sha256-modp4096 } }`,
		ike:   "version=2 dh-group=MODP_4096",
		steps: []step{localRekeysChild(lossless)},
	},
	{
		name:  "IKEv2 with group 15 for IKE and group 16 for ESP, our end rekeys",
		fault: "G7", // Libreswan 4.10 proposes the group of the IKE SA in a rekey of the Child SA
		ours:  []string{`{"ikePolicy": {"pfs": "group15"}, "ipsecPolicy": {"pfs": "group16"}}`},
		peer: `proposals = aes256-sha256-modp3072
			children { net { esp_proposals = aes256-sha256-modp4096 } }`,
		ike:   "version=2 dh-group=MODP_3072",
		steps: []step{localRekeysChild(lossless)},
	},
	{
		name: "the second of our proposals is the peer's only one",
		ours: []string{`{"ikePolicy": {"proposals": [{"encryptionAlgorithm": "aes-256-gcm-16", "pfs": "group19"}, {}]},
			"ipsecPolicy": {"proposals": [{"encryptionAlgorithm": "aes-256-gcm-16"}, ` +
			`{"encryptionAlgorithm": "aes-128"}]}}`},
		peer:  `children { net { esp_proposals = aes128-sha256-modp2048 } }`,
		ike:   "version=2 encr-alg=AES_CBC dh-group=MODP_2048",
		child: "encr-alg=AES_CBC encr-keysize=128",
	},
	{
		name: "the peer proposes many algorithms",
		ours: []string{`{"initiator": "response-only"}`},
		peer: "proposals = aes128gcm16-prfsha512-x25519, aes128-aes256-sha1-sha256-modp1024-modp2048-ecp256\n" +
			"children { net { esp_proposals = aes128gcm16, aes256-sha1-sha256-modp2048 } }",
		initiate: peerInitiates,
		ike:      "version=2 encr-alg=AES_CBC encr-keysize=256 integ-alg=HMAC_SHA2_256_128 dh-group=MODP_2048",
		child:    "encr-alg=AES_CBC encr-keysize=256 integ-alg=HMAC_SHA2_256_128",
	},

	// Modes, families and networks.
	{
		name:   "IKEv2 in transport mode",
		ours:   []string{`{"ipsecPolicy": {"encapsulationMode": "transport"}, "localCidrs": null, "peerCidrs": null}`},
		peer:   "children { net {\nmode = transport\nlocal_ts = dynamic\nremote_ts = dynamic\n} }",
		child:  "mode=TRANSPORT protocol=ESP",
		kernel: "mode transport",
		reach:  [][2]string{{"100.100.100.2", "200.200.200.2"}},
	},
	{
		name:  "networks of IPv6 through IPv4",
		ours:  []string{`{"localCidrs": ["fd01:0:0:1::/64"], "peerCidrs": ["fd02:0:0:1::/64"]}`},
		peer:  "children { net {\nlocal_ts = fd02:0:0:1::/64\nremote_ts = fd01:0:0:1::/64\n} }",
		child: "local-ts=[fd02:0:0:1::/64] remote-ts=[fd01:0:0:1::/64]",
		reach: [][2]string{{"fd01:0:0:1::10", "fd02:0:0:1::10"}},
	},
	{
		name: "networks of IPv6 and IPv4 through IPv6",
		ours: []string{`{"peerAddress": "2001:db8:2::2", "localCidrs": ["10.1.0.0/24", "fd01:0:0:1::/64"],
			"peerCidrs": ["10.2.0.0/24", "fd02:0:0:1::/64"]}`},
		peer: peerIdentities("2001:db8:1::2", "2001:db8:2::2") +
			"local_addrs = 2001:db8:2::2\nremote_addrs = 2001:db8:1::2\n" +
			"children { net6 {\nlocal_ts = fd02:0:0:1::/64\nremote_ts = fd01:0:0:1::/64\n" +
			"esp_proposals = aes256-sha256-modp2048\n} }",
		ike:      "version=2 local-host=2001:db8:2::2",
		children: 2,
		reach:    [][2]string{{"10.1.0.10", "10.2.0.10"}, {"fd01:0:0:1::10", "fd02:0:0:1::10"}},
	},
	{
		name: "two networks at each end are four Child SAs of one IKE SA", always: true,
		ours: []string{
			`{"localCidrs": ["10.1.0.0/24", "10.1.1.0/24"], "peerCidrs": ["10.2.0.0/24", "10.2.1.0/24"]}`,
		},
		peer:     "children { net {\nlocal_ts = 10.2.0.0/24, 10.2.1.0/24\nremote_ts = 10.1.0.0/24, 10.1.1.0/24\n} }",
		children: 4,
		reach: [][2]string{
			{"10.1.0.10", "10.2.0.10"}, {"10.1.0.10", "10.2.1.10"}, {"10.1.1.10", "10.2.0.10"},
			{"10.1.1.10", "10.2.1.10"},
		},
		steps: []step{isActive},
	},
	{
		name:  "one large network behind the peer",
		ours:  []string{`{"localCidrs": ["10.1.0.0/24"], "peerCidrs": ["10.2.0.0/16"]}`},
		peer:  "children { net {\nlocal_ts = 10.2.0.0/16\n} }",
		child: "local-ts=[10.2.0.0/16]",
		reach: [][2]string{{"10.1.0.10", "10.2.200.10"}},
	},
	{
		name: "response-only: the peer puts four networks into one Child SA", down: true,
		ours: []string{`{"localCidrs": ["10.1.0.0/24"], "peerCidrs": ["10.2.0.0/24", "10.2.1.0/24", "10.2.2.0/24", ` +
			`"10.2.3.0/24"],
			"initiator": "response-only"}`},
		peer:     "children { net {\nlocal_ts = 10.2.0.0/24, 10.2.1.0/24, 10.2.2.0/24, 10.2.3.0/24\n} }",
		initiate: peerInitiates,
		reach: [][2]string{
			{"10.1.0.10", "10.2.0.10"}, {"10.1.0.10", "10.2.1.10"}, {"10.1.0.10", "10.2.2.10"},
			{"10.1.0.10", "10.2.3.10"},
		},
		steps: []step{allUpOrReason},
	},

	// Identities and certificates.
	{
		name: "identities that are host names",
		ours: []string{`{"localId": "left.example.org", "peerId": "right.example.org"}`},
		peer: peerIdentities("left.example.org", "right.example.org"),
		ike:  "version=2 local-id=right.example.org remote-id=left.example.org",
	},
	{
		name: "identities that are mail addresses",
		ours: []string{`{"localId": "vpn@left.example.org", "peerId": "vpn@right.example.org"}`},
		peer: peerIdentities("vpn@left.example.org", "vpn@right.example.org"),
		ike:  "version=2 local-id=vpn@right.example.org remote-id=vpn@left.example.org",
	},
	{
		name: "identities that are key ids",
		ours: []string{`{"localId": "@[branch-7/left]", "peerId": "@[branch-7/right]"}`},
		peer: peerIdentities("keyid:branch-7/left", "keyid:branch-7/right"),
		ike:  "version=2 remote-id=branch-7/left",
	},
	{
		name: "identities that are distinguished names",
		ours: []string{`{"localId": "C=FR, O=Example, CN=left", "peerId": "C=FR, O=Example, CN=right"}`},
		peer: peerIdentities(dn+`left"`, dn+`right"`),
		ike:  "version=2 remote-id=C=FR,",
	},
	{
		name: "certificates with RSA keys, identities are their subjects",
		ours: []string{`{"authMode": "certificate", "peerId": "C=FR, O=Example, CN=right",
			"certificate": {"certificateFile": "` + certificateDirectory +
			`/rsa.pem", "privateKeyFile": "` + certificateDirectory + `/rsa-key.pem", "caFile": "` +
			certificateDirectory + `/rsa-ca.pem"}}`},
		peer: "local {\nauth = pubkey\ncerts = rsa.pem\nid = " + dn + "right\"\n}\nremote {\nauth = pubkey\nid = " +
			dn + "left\"\n}",
		ike: "version=2 remote-id=C=FR,",
	},
	{
		name: "certificates with ECDSA keys, identities are host names in them",
		ours: []string{`{"authMode": "certificate", "localId": "left.example.org", "peerId": "right.example.org",
			"certificate": {"certificateFile": "` + certificateDirectory +
			`/ecdsa.pem", "privateKeyFile": "` + certificateDirectory + `/ecdsa-key.pem", "caFile": "` +
			certificateDirectory + `/ecdsa-ca.pem"}}`},
		peer: "local {\nauth = pubkey\ncerts = ecdsa.pem\nid = right.example.org\n}\nremote {\nauth = pubkey\n" +
			"id = left.example.org\n}",
		ike: "version=2 local-id=right.example.org remote-id=left.example.org",
	},
	{
		name: "IKEv1 with certificates",
		ours: []string{`{"ikePolicy": {"ikeVersion": "v1"}, "authMode": "certificate", "peerId": "C=FR, O=Example, ` +
			`CN=right",
			"certificate": {"certificateFile": "` + certificateDirectory +
			`/rsa.pem", "privateKeyFile": "` + certificateDirectory + `/rsa-key.pem", "caFile": "` +
			certificateDirectory + `/rsa-ca.pem"}}`},
		peer: "version = 1\nlocal {\nauth = pubkey\ncerts = rsa.pem\nid = " + dn +
			"right\"\n}\nremote {\nauth = pubkey\nid = " + dn + "left\"\n}",
		ike: "version=1 remote-id=C=FR,",
	},

	// IKEv1.
	{
		name: "IKEv1 in main mode", always: true,
		ours: []string{`{"ikePolicy": {"ikeVersion": "v1"}}`},
		peer: "version = 1",
		ike:  "version=1 encr-alg=AES_CBC encr-keysize=256 dh-group=MODP_2048",
		child: "mode=TUNNEL protocol=ESP encr-alg=AES_CBC encr-keysize=256 integ-alg=HMAC_SHA2_256_128 " +
			"dh-group=MODP_2048",
		steps: []step{isActive},
	},
	{
		name: "IKEv1 in aggressive mode with host names", always: true,
		ours: []string{`{"localId": "left.example.org", "peerId": "right.example.org",
			"ikePolicy": {"ikeVersion": "v1", "phase1NegotiationMode": "aggressive"}}`},
		peer: "version = 1\naggressive = yes\n" + peerIdentities("left.example.org", "right.example.org"),
		ike:  "version=1 local-id=right.example.org remote-id=left.example.org",
	},
	{
		name: "IKEv1 in aggressive mode with mail addresses, strongSwan initiates",
		ours: []string{`{"initiator": "response-only", "localId": "vpn@left.example.org", ` +
			`"peerId": "vpn@right.example.org",
			"ikePolicy": {"ikeVersion": "v1", "phase1NegotiationMode": "aggressive"}}`},
		peer:     "version = 1\naggressive = yes\n" + peerIdentities("vpn@left.example.org", "vpn@right.example.org"),
		initiate: peerInitiates,
		ike:      "version=1 remote-id=vpn@left.example.org",
	},
	{
		name: "IKEv1 with 3DES, SHA-1 and group 5",
		ours: []string{`{"ikePolicy": {"ikeVersion": "v1", "encryptionAlgorithm": "3des", "authAlgorithm": "sha1", ` +
			`"pfs": "group5"},
			"ipsecPolicy": {"encryptionAlgorithm": "3des", "authAlgorithm": "sha1", "pfs": "group5"}}`},
		peer:  "version = 1\nproposals = 3des-sha1-modp1536\nchildren { net { esp_proposals = 3des-sha1-modp1536 } }",
		ike:   "version=1 encr-alg=3DES_CBC integ-alg=HMAC_SHA1_96 dh-group=MODP_1536",
		child: "encr-alg=3DES_CBC integ-alg=HMAC_SHA1_96 dh-group=MODP_1536",
	},
	{
		name: "IKEv1 with ESP of AES-256-GCM-16",
		ours: []string{`{"ikePolicy": {"ikeVersion": "v1", "encryptionAlgorithm": "aes-128", "authAlgorithm": "sha1"},
			"ipsecPolicy": {"encryptionAlgorithm": "aes-256-gcm-16"}}`},
		peer: "version = 1\nproposals = aes128-sha1-modp2048\n" +
			"children { net { esp_proposals = aes256gcm16-modp2048 } }",
		ike:   "version=1 encr-keysize=128 integ-alg=HMAC_SHA1_96",
		child: "encr-alg=AES_GCM_16 encr-keysize=256",
	},
	{
		name: "IKEv1 with two networks behind the peer",
		ours: []string{`{"ikePolicy": {"ikeVersion": "v1"}, "peerCidrs": ["10.2.0.0/24", "10.2.1.0/24"]}`},
		peer: "version = 1\nchildren { net1 {\nlocal_ts = 10.2.1.0/24\nremote_ts = 10.1.0.0/24\n" +
			"esp_proposals = aes256-sha256-modp2048\n} }",
		ike:      "version=1",
		children: 2,
		reach:    [][2]string{{"10.1.0.10", "10.2.0.10"}, {"10.1.0.10", "10.2.1.10"}},
	},

	// The peer initiates.
	{
		name:     "strongSwan initiates, our end is response-only",
		ours:     []string{`{"initiator": "response-only"}`},
		initiate: peerInitiates,
		ike:      "version=2 initiator=yes",
		peer:     "",
		steps:    []step{isActive},
	},
	{
		name:     "IKEv1: strongSwan initiates, our end is response-only",
		ours:     []string{`{"initiator": "response-only", "ikePolicy": {"ikeVersion": "v1"}}`},
		peer:     "version = 1",
		initiate: peerInitiates,
		ike:      "version=1 initiator=yes",
	},
	{
		name:     "strongSwan initiates when there is traffic",
		ours:     []string{`{"initiator": "response-only"}`},
		peer:     "children { net { start_action = trap } }",
		initiate: peerTraffic,
		ike:      "version=2 initiator=yes",
	},

	// NAT. Our end is behind the router.
	{
		name: "NAT before our end", always: true, nat: true,
		peer:   "remote_addrs = 192.0.2.1",
		ike:    "version=2 remote-host=192.0.2.1 nat-remote=yes",
		child:  "encap=yes",
		kernel: "encap type espinudp",
		steps:  []step{localRekeysChild(lossless), localRekeysIKE(lossless)},
	},
	{
		name: "IKEv1 in main mode with NAT before our end", nat: true,
		ours:   []string{`{"ikePolicy": {"ikeVersion": "v1"}}`},
		peer:   "version = 1\nremote_addrs = 192.0.2.1",
		ike:    "version=1 remote-host=192.0.2.1 nat-remote=yes",
		child:  "encap=yes",
		kernel: "encap type espinudp",
	},
	{
		name: "IKEv1 in aggressive mode with NAT before our end", nat: true,
		ours: []string{`{"localId": "left.example.org", "peerId": "right.example.org",
			"ikePolicy": {"ikeVersion": "v1", "phase1NegotiationMode": "aggressive"}}`},
		peer: "version = 1\naggressive = yes\nremote_addrs = 192.0.2.1\n" +
			peerIdentities("left.example.org", "right.example.org"),
		ike:    "version=1 remote-host=192.0.2.1 nat-remote=yes",
		kernel: "encap type espinudp",
	},
	{
		name:   "strongSwan wants UDP encapsulation without NAT",
		peer:   "encap = yes",
		child:  "encap=yes",
		kernel: "encap type espinudp",
	},

	// Rekeys.
	{
		name: "IKEv2: our end rekeys, no packet is lost", always: true,
		steps: []step{localRekeysChild(lossless), localRekeysIKE(lossless), localRekeysChild(lossless)},
	},
	{
		name: "IKEv2: strongSwan rekeys", always: true,
		steps: []step{peerRekeysChild(shortGap), peerRekeysIKE(shortGap), peerRekeysChild(shortGap)},
	},
	{
		name:  "IKEv2: strongSwan authenticates again",
		peer:  "children { net { start_action = start } }",
		steps: []step{peerReauthenticates(shortGap)},
	},
	{
		name: "IKEv2: four Child SAs, our end rekeys the IKE SA", children: 4,
		ours:  []string{`{"localCidrs": ["10.1.0.0/24", "10.1.1.0/24"], "peerCidrs": ["10.2.0.0/24", "10.2.1.0/24"]}`},
		peer:  "children { net {\nlocal_ts = 10.2.0.0/24, 10.2.1.0/24\nremote_ts = 10.1.0.0/24, 10.1.1.0/24\n} }",
		reach: [][2]string{{"10.1.0.10", "10.2.0.10"}, {"10.1.1.10", "10.2.1.10"}},
		steps: []step{localRekeysIKE(lossless), localRekeysChild(lossless), stillReachable},
	},
	{
		name:  "IKEv1: strongSwan rekeys",
		ours:  []string{`{"ikePolicy": {"ikeVersion": "v1"}}`},
		peer:  "version = 1",
		steps: []step{peerRekeysChild(shortGap), peerRekeysIKE(shortGap), peerRekeysChild(shortGap)},
	},
	{
		// Libreswan refuses to rekey IKEv1 by whack.
		name:  "IKEv1: our end rekeys the Child SA, whose lifetime is 60 s",
		ours:  []string{`{"ikePolicy": {"ikeVersion": "v1"}, "ipsecPolicy": {"lifetime": 60}}`},
		peer:  "version = 1",
		steps: []step{pingFor(100*time.Second, shortGap, "Child SA")},
	},
	{
		name:  "IKEv1: our end rekeys the IKE SA, whose lifetime is 60 s",
		ours:  []string{`{"ikePolicy": {"ikeVersion": "v1", "lifetime": 60}}`},
		peer:  "version = 1",
		steps: []step{pingFor(100*time.Second, shortGap, "IKE SA")},
	},
	{
		name:  "IKEv1: an IKE lifetime of 180 s and an IPsec lifetime of 60 s",
		ours:  []string{`{"ikePolicy": {"ikeVersion": "v1", "lifetime": 180}, "ipsecPolicy": {"lifetime": 60}}`},
		peer:  "version = 1",
		steps: []step{pingFor(220*time.Second, shortGap, "IKE SA", "Child SA")},
	},
	{
		name:  "IKEv2: an IKE lifetime of 120 s and an IPsec lifetime of 60 s",
		ours:  []string{`{"ikePolicy": {"lifetime": 120}, "ipsecPolicy": {"lifetime": 60}}`},
		steps: []step{pingFor(150*time.Second, lossless, "IKE SA", "Child SA")},
	},
	{
		name:  "IKEv2: the peer's ESP proposal has no group, nor has ours, our end rekeys",
		ours:  []string{`{"ipsecPolicy": {"pfs": "none"}}`},
		peer:  "children { net { esp_proposals = aes256-sha256 } }",
		steps: []step{localRekeysChild(lossless), localRekeysIKE(lossless)},
	},
	{
		// The peer refuses each rekey of a Child SA, so each of them exists until its lifetime ends.
		name:  "IKEv2: the peer's ESP proposal has no group, ours has one and a lifetime of 60 s",
		ours:  []string{`{"ipsecPolicy": {"lifetime": 60}}`},
		peer:  "children { net { esp_proposals = aes256-sha256 } }",
		steps: []step{pingFor(200*time.Second, 20*time.Second, "IKE SA", "Child SA")},
	},

	// Changes of our configuration.
	{
		name: "the last connection is administratively down for 30 s", always: true,
		steps: []step{adminDownUp},
	},
	{
		name:  "IKEv1: the last connection is administratively down for 30 s",
		ours:  []string{`{"ikePolicy": {"ikeVersion": "v1"}}`},
		peer:  "version = 1",
		steps: []step{adminDownUp},
	},
	{
		name: "one of two connections to two peers is removed", always: true,
		ours:            []string{`{}`, `{"peerAddress": "200.200.200.3", "peerCidrs": ["10.2.1.0/24"]}`},
		peerConnections: otherPeer,
		children:        1,
		reach:           [][2]string{{"10.1.0.10", "10.2.0.10"}},
		steps: []step{
			reachable("10.1.0.10", "10.2.1.10"), removeConnection(1, "received DELETE for IKE_SA other", lossless),
		},
	},
	{
		// Both connections share an IKE SA. If it belongs to the removed one, the other one is initiated again at once.
		name: "one of two connections to one peer is removed",
		ours: []string{`{}`, `{"peerCidrs": ["10.2.1.0/24"]}`},
		peer: `children { second {
			local_ts = 10.2.1.0/24
			remote_ts = 10.1.0.0/24
			esp_proposals = aes256-sha256-modp2048
		} }`,
		children: 2,
		steps:    []step{reachable("10.1.0.10", "10.2.1.10"), removeConnection(1, "received DELETE", shortGap)},
	},
	{
		name:  "the only connection is removed",
		steps: []step{removeAll},
	},
	{
		name:            "the peer's address is changed",
		peerConnections: otherAddress,
		steps:           []step{changePeerAddress("200.200.200.3")},
	},

	// Failures and attacks.
	{
		name:  "half-open requests from the peer's address",
		steps: []step{halfOpen, stillReachable, isActive},
	},
	{
		name: "strongSwan is killed and started", always: true,
		ours:  []string{`{` + quickDPD + `}`},
		steps: []step{killPeer(stepTimeout), isActive},
	},
	{
		name:  "IKEv1: strongSwan is killed and started",
		ours:  []string{`{"ikePolicy": {"ikeVersion": "v1"}, ` + quickDPD + `}`},
		peer:  "version = 1",
		steps: []step{killPeer(stepTimeout)},
	},
	{
		name:  "strongSwan is stopped and started",
		ours:  []string{`{` + quickDPD + `}`},
		steps: []step{stopPeer},
	},
	{
		name:  "our daemon is killed",
		steps: []step{killDaemon},
	},
	{
		name:  "IKEv1: our daemon is killed",
		ours:  []string{`{"ikePolicy": {"ikeVersion": "v1"}}`},
		peer:  "version = 1",
		steps: []step{killDaemon},
	},
	{
		name: "the keys differ", down: true,
		ours:  []string{`{"psk": "another key"}`},
		steps: []step{staysDown("AUTHENTICATION_FAILED")},
	},
	{
		name: "the proposals differ", down: true,
		peer:  "proposals = aes128-sha1-modp2048",
		steps: []step{staysDown("NO_PROPOSAL_CHOSEN")},
	},
	{
		name: "the networks differ", down: true,
		peer:  "children { net { local_ts = 10.2.9.0/24 } }",
		steps: []step{staysDown("TS_UNACCEPTABLE")},
	},
}

// otherPeer is a second peer at another address, and otherAddress is the same peer at another address.
var (
	otherPeer    = other("net1", "10.2.1.0/24")
	otherAddress = other("net", "10.2.0.0/24")
)

// other returns a connection of strongSwan at its second address, with one child for a network.
func other(child, network string) string {
	return fmt.Sprintf(`	other {
		version = 2
		local_addrs = 200.200.200.3
		remote_addrs = 100.100.100.2
		proposals = aes256-sha256-modp2048
		local {
			auth = psk
			id = 200.200.200.3
		}
		remote {
			auth = psk
			id = 100.100.100.2
		}
		children {
			%s {
				local_ts = %s
				remote_ts = 10.1.0.0/24
				esp_proposals = aes256-sha256-modp2048
			}
		}
	}`, child, network)
}
