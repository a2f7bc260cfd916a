package libreswan

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// TestLastFailuresOfMismatchedPeers parses the logs of two daemons with mismatched configurations. Each heading has the
// mismatch and the expected reason.
func TestLastFailuresOfMismatchedPeers(t *testing.T) {
	for _, name := range []string{"log-4.10.txt", "log-5.2.txt"} {
		sections := strings.Split("\n"+fixture(t, name), "\n# ")[1:]
		if len(sections) != 26 {
			t.Errorf("%s: %d sections", name, len(sections))
		}
		for _, section := range sections {
			heading, log, _ := strings.Cut(section, "\n")
			what, want, _ := strings.Cut(heading, ": ")
			if got := LastFailures(log)["c-0-0"]; got != want {
				t.Errorf("%s: %s: %q, want %q", name, what, got, want)
			}
		}
	}
}

func TestRetransmissionDoesNotReplaceReason(t *testing.T) {
	const unreachable = `"a-0-0" #1: STATE_MAIN_I1: sendto on eth0 failed; errno 111: Connection refused` + "\n"
	const broken = `"a-0-0" #1: STATE_MAIN_I3: retransmission; will wait 0.5 seconds for response` + "\n"
	const refused, retransmission, added = `"a-0-0" #9: ignoring IKE_SA_INIT response containing NO_PROPOSAL_CHOSEN ` +
		`notification` + "\n",
		`"a-0-0" #9: IKE_SA_INIT_I: retransmission; will wait 1 seconds for response` + "\n",
		`"a-0-0": added IKEv2 connection` + "\n"
	for _, test := range []struct{ log, want string }{
		{retransmission, "no answer from the peer"},
		{refused + retransmission, "NO_PROPOSAL_CHOSEN"},
		{retransmission + refused, "NO_PROPOSAL_CHOSEN"},
		{refused + added, ""},
		{unreachable + retransmission, "the peer refuses UDP"},
		{unreachable + broken + retransmission, "no answer from the peer"},
		{unreachable + broken, "AUTHENTICATION_FAILED"}, // the peer has answered in between
		{refused + broken, "NO_PROPOSAL_CHOSEN"},
		{broken + unreachable, "the peer refuses UDP"},
		{refused + added + retransmission, "no answer from the peer"},
	} {
		if got := LastFailures(test.log)["a-0-0"]; got != test.want {
			t.Errorf("%q: got %q, want %q", test.log, got, test.want)
		}
	}
}

// TestLastFailuresOfFailedNegotiations parses the logs of two daemons whose negotiation failed, for each kind of
// failure. negotiation_test.go of svc-ipsec recorded them with SVC_TEST_RECORD=FILE, in the sandbox of each release.
func TestLastFailuresOfFailedNegotiations(t *testing.T) {
	for _, name := range []string{"negotiations-4.10.txt", "negotiations-5.2.txt"} {
		sections := strings.Split("\n"+fixture(t, name), "\n# ")[1:]
		if len(sections) < 60 {
			t.Errorf("%s: %d sections", name, len(sections))
		}
		for _, section := range sections {
			heading, log, _ := strings.Cut(section, "\n")
			what, want, _ := strings.Cut(heading, ": ")
			reasons := LastFailures(log)
			got := reasons["c-0-0"]
			if refused := reasons["100.100.100.2"]; refused != "" && (got == "" || got == NoAnswer) {
				got = refused
			}
			if got != want {
				t.Errorf("%s: %s: %q, want %q", name, what, got, want)
			}
		}
	}
}

func TestRefusedPacketIsReasonOfItsPeer(t *testing.T) {
	const refused = `packet from 200.200.200.2:500: initial Main Mode message received but no connection has been ` +
		`authorized with authby=PSK and xauth=no` + "\n"
	const refusedIPv6 = `packet from [2001:db8::2]:4500: ISAKMP_v2_IKE_SA_INIT message received on [2001:db8::1]:500 ` +
		`but no suitable connection found with IKEv2 policy` + "\n"
	const other = `packet from 200.200.200.3:500: INFORMATIONAL response has no corresponding IKE SA; message dropped` +
		"\n"
	const added = `"a-0-0": added IKEv1 connection` + "\n"
	for _, test := range []struct {
		log  string
		want []string
	}{
		{refused + refusedIPv6 + other, []string{"200.200.200.2", "2001:db8::2"}},
		{refused + added, nil},
		{refused + added + refused, []string{"200.200.200.2"}},
		{`packet from nowhere: no suitable connection found`, nil},
	} {
		if got := slices.Sorted(maps.Keys(LastFailures(test.log))); !slices.Equal(got, test.want) {
			t.Errorf("%q: got %v, want %v", test.log, got, test.want)
		}
	}
}
