package config

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config/configtest"
)

var everyUse = []use{useIKEv1, useIKEv2, useESPv1, useESPv2, useAHv1, useAHv2}

// libreswan returns a function that reports whether the installed Libreswan accepts a list of proposals.
func libreswan(t *testing.T) func(where use, text string) bool {
	t.Helper()
	ipsec := configtest.Libreswan(t)
	return func(where use, text string) bool {
		version := map[bool]string{true: "-v1", false: "-v2"}[where&(useIKEv1|useESPv1|useAHv1) != 0]
		kind := "ike"
		if where&useESP != 0 {
			kind = "esp"
		} else if where&useAH != 0 {
			kind = "ah"
		}
		return exec.Command(ipsec, "algparse", version, "-pfs=yes", kind+"="+text).Run() == nil
	}
}

// TestLibreswanAcceptsExactlyTheTable compares each cell of the tables with the installed Libreswan.
func TestLibreswanAcceptsExactlyTheTable(t *testing.T) {
	accepts := libreswan(t)
	check := func(text string, where use, a algorithm) {
		if got, want := accepts(where, text), a.use&where != 0; got != want {
			t.Errorf("%s%s: accepted by Libreswan: %v, by the table: %v", text, where.clause(), got, want)
		}
	}
	first := func(table []algorithm) algorithm { return table[0] }
	for _, where := range everyUse {
		if where&useAH == 0 {
			for _, a := range encryptions {
				check(compose(a, first(integrities), first(groups), where), where, a)
			}
		}
		for _, a := range integrities {
			check(compose(first(encryptions), a, first(groups), where), where, a)
		}
		for _, a := range groups {
			if a.value == noGroup && where&useIKE != 0 {
				continue // the proposal has no group then, and Libreswan adds its default groups
			}
			check(compose(first(encryptions), first(integrities), a, where), where, a)
		}
	}
}

// TestRandomDocumentsUseAllAlgorithms fails if a new algorithm is missing in the random documents of configtest.
func TestRandomDocumentsUseAllAlgorithms(t *testing.T) {
	uses := map[configtest.Use]use{
		configtest.IKEv1: useIKEv1, configtest.IKEv2: useIKEv2,
		configtest.ESPv1: useESPv1, configtest.ESPv2: useESPv2,
		configtest.AHv1: useAHv1, configtest.AHv2: useAHv2,
	}
	for key, table := range map[string][]algorithm{
		"encryptionAlgorithm": encryptions, "authAlgorithm": integrities, "pfs": groups,
	} {
		for testUse, where := range uses {
			var got, want []string
			for _, a := range configtest.In(key, testUse) {
				got = append(got, a.Value)
			}
			for _, a := range table {
				if a.use&where != 0 {
					want = append(want, a.value)
				}
			}
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("%s%s: configtest has %v, the table %v", key, where.clause(), got, want)
			}
		}
	}
}

func TestRefusedAlgorithmFaultListsAllowedOnes(t *testing.T) {
	for _, test := range []struct{ policy, key, value, allowed string }{
		{`"ikePolicy":{"ikeVersion":"v1","encryptionAlgorithm":"aes-256-gcm-16"}`, "ikePolicy.encryptionAlgorithm",
			"aes-256-gcm-16", "(IKEv1)"},
		{`"ikePolicy":{"pfs":"group2"}`, "ikePolicy.pfs", "group2", "group14"},
		{`"ikePolicy":{"authAlgorithm":"aes-cmac"}`, "ikePolicy.authAlgorithm", "aes-cmac", "sha256"},
		{`"ipsecPolicy":{"authAlgorithm":"md5"}`, "ipsecPolicy.authAlgorithm", "md5", "sha256"},
		{`"ikePolicy":{"ikeVersion":"v1"},"ipsecPolicy":{"pfs":"group19"}`, "ipsecPolicy.pfs", "group19",
			"(ESP with IKEv1)"},
		{`"ipsecPolicy":{"transformProtocol":"ah-esp"}`, "ipsecPolicy.transformProtocol", "ah-esp", "esp, ah"},
	} {
		c, err := Decode(document(test.policy))
		if err != nil {
			t.Fatalf("%s: the document is refused: %v", test.policy, err)
		}
		refused := c.Connections[0].Refused
		if refused == nil {
			t.Errorf("%s: not refused", test.policy)
			continue
		}
		for _, part := range []string{test.key, test.value, test.allowed} {
			if !strings.Contains(refused.Error(), part) {
				t.Errorf("%s: %q does not contain %q", test.policy, refused, part)
			}
		}
	}
}
