package config

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// accepted lists the rows of table that are accepted in the place where.
func accepted(table []algorithm, where use) []algorithm {
	return slices.DeleteFunc(slices.Clone(table), func(a algorithm) bool { return a.use&where == 0 })
}

// TestLibreswanAcceptsListsOfProposals combines each algorithm of the tables with others in lists of proposals.
func TestLibreswanAcceptsListsOfProposals(t *testing.T) {
	accepts := libreswan(t)
	for _, where := range everyUse {
		ciphers, integrities, groups := accepted(encryptions, where), accepted(integrities, where),
			accepted(groups, where)
		if len(ciphers) == 0 {
			ciphers = encryptions // AH ignores the cipher
		}
		length := max(len(ciphers), len(integrities), len(groups))
		for start := 0; start < length; start += maxProposals / 2 {
			var list, two []proposal
			for i := start; i < start+maxProposals; i++ {
				p := proposal{ciphers[i%len(ciphers)], integrities[i%len(integrities)], groups[start%len(groups)]}
				if where&useIKE != 0 {
					p.group = groups[i%len(groups)]
				}
				list = append(list, p)
			}
			if text := formatProposals(list, where); !accepts(where, text) {
				t.Errorf("%s%s: libreswan refuses the list", text, where.clause())
			}
			two = append(two, list[0], list[1])
			two[1].group = groups[(start+1)%len(groups)]
			text := formatProposals(two, where)
			got, want := accepts(where, text), where&useIKE != 0
			if got != want || (oneGroup("", two) == nil) == (two[0].group != two[1].group) {
				t.Errorf("%s%s: two groups: Libreswan accepts them: %v, want %v", text, where.clause(), got, want)
			}
		}
	}
}

func TestProposalsKeepTheirOrder(t *testing.T) {
	const list = `"proposals":[{"encryptionAlgorithm":"aes-256-gcm-16","pfs":"group19"},{},` +
		`{"encryptionAlgorithm":"aes-128","authAlgorithm":"sha1"}]`
	for _, test := range []struct{ policy, ike, ipsec string }{
		{`"ikePolicy":{` + list + `}`, "aes_gcm_c256-sha2_256;dh19,aes256-sha2_256;modp2048,aes128-sha1;modp2048",
			"aes256-sha2_256;modp2048"},
		{`"ipsecPolicy":{` + strings.Replace(list, "group19", "group14", 1) + `}`, "aes256-sha2_256;modp2048",
			"aes_gcm_c256;modp2048,aes256-sha2_256;modp2048,aes128-sha1;modp2048"},
		{`"ipsecPolicy":{"transformProtocol":"ah",` +
			`"proposals":[{"encryptionAlgorithm":"aes-128"},{},{"authAlgorithm":"sha512"}]}`,
			"aes256-sha2_256;modp2048", "sha2_256;modp2048,sha2_512;modp2048"},
		{`"ikePolicy":{"ikeVersion":"v1","phase1NegotiationMode":"aggressive","proposals":[{"pfs":"group5"}]}`,
			"aes256-sha2_256;modp1536", "aes256-sha2_256;modp2048"},
		{`"ikePolicy":{"proposals":null,"pfs":"group15"}`, "aes256-sha2_256;modp3072", "aes256-sha2_256;modp2048"},
	} {
		c, err := Decode(document(test.policy))
		if err != nil {
			t.Fatal(err)
		}
		connection := c.Connections[0]
		if connection.Refused != nil || connection.IKE.Proposals != test.ike ||
			connection.IPsec.Proposals != test.ipsec {
			t.Errorf("%s: %v: %s and %s", test.policy, connection.Refused, connection.IKE.Proposals,
				connection.IPsec.Proposals)
		}
	}
}

func TestInvalidListOfProposalsIsRefused(t *testing.T) {
	for _, test := range []struct{ policy, want string }{
		{`"ikePolicy":{"proposals":[]}`, `ikePolicy.proposals "an empty list": allowed: a list of 1 to 8`},
		{`"ikePolicy":{"proposals":{}}`, `ikePolicy.proposals "an object"`},
		{`"ikePolicy":{"proposals":[` + strings.TrimSuffix(strings.Repeat("{},", 9), ",") + `]}`, "at most 8"},
		{`"ikePolicy":{"proposals":[{}],"pfs":"group14"}`, `ikePolicy.pfs "a string": allowed: none beside proposals`},
		{`"ikePolicy":{"proposals":[{"lifetime":5}]}`, `ikePolicy.proposals[0]: unknown key "lifetime"`},
		{`"ikePolicy":{"ikeVersion":"v1","proposals":[{},{"encryptionAlgorithm":"aes-256-gcm-16"}]}`,
			`ikePolicy.proposals[1].encryptionAlgorithm "aes-256-gcm-16"`},
		{`"ikePolicy":{"ikeVersion":"v1","phase1NegotiationMode":"aggressive","proposals":[{},{"pfs":"group5"}]}`,
			`ikePolicy.proposals "2 proposals": allowed: exactly one`},
		{`"ipsecPolicy":{"proposals":[{},{"pfs":"group19"}]}`,
			`ipsecPolicy.proposals[1].pfs "group19": allowed: group14`},
	} {
		c, err := Decode(json.RawMessage(document(test.policy)))
		if err != nil {
			t.Fatal(err)
		}
		if refused := c.Connections[0].Refused; refused == nil || !strings.Contains(refused.Error(), test.want) {
			t.Errorf("%s: got %v, want %s", test.policy, refused, test.want)
		}
	}
}
