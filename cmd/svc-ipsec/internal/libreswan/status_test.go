package libreswan

import (
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

func fixture(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestParseStatusOfBothReleases(t *testing.T) {
	want := map[string]Conn{
		"a-0-0": {OurKind: "ID_IPV4_ADDR", OurID: "100.100.100.2", TheirKind: "ID_FQDN", TheirID: "@paris",
			Negotiating: true},
		"b-0-0": {Unoriented: true, OurKind: "ID_DER_ASN1_DN", OurID: `C=FR, O=Example\; Corp, CN=x`,
			TheirKind: "ID_IPV4_ADDR", TheirID: "200.200.200.3"},
	}
	for _, name := range []string{"status-4.10.txt", "status-5.2.txt"} {
		if got := ParseStatus(fixture(t, name)); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

func TestParseStatusAlgorithmsAndNegotiations(t *testing.T) {
	const conn = `"a-0-0": 10.1.0.0/24===100.100.100.2...200.200.200.2===10.2.0.0/24; erouted; eroute owner: #2
"a-0-0":   IKE algorithms: AES_CBC_256-HMAC_SHA2_256-MODP2048
"a-0-0":   IKEv2 algorithm newest: AES_CBC_256-HMAC_SHA2_256-MODP2048
"a-0-0":   ESP algorithm newest: AES_GCM_16_256-NONE; pfsgroup=<Phase1>
"b-0-0": 10.1.0.0/24===100.100.100.2...200.200.200.3===10.3.0.0/24; unrouted; eroute owner: #0
`
	for _, states := range []string{
		`#1: "a-0-0":500 STATE_V2_ESTABLISHED_IKE_SA (established IKE SA); REKEY in 2746s; newest; idle;
#2: "a-0-0":500 STATE_V2_ESTABLISHED_CHILD_SA (established Child SA); newest; eroute owner; IKE SA #1; idle;
#4: "b-0-0":500 STATE_V2_PARENT_I2 (sent IKE_AUTH request); RETRANSMIT in 3s; idle;
`,
		`#1: "a-0-0":500 ESTABLISHED_IKE_SA (established IKE SA); REKEY in 2746s; newest; idle;
#2: "a-0-0":500 ESTABLISHED_CHILD_SA (established Child SA); newest; eroute owner; IKE SA #1; idle;
#4: "b-0-0"[1] 192.0.2.1:500 IKE_AUTH_I (sent IKE_AUTH request); RETRANSMIT in 3s; idle;
`,
		`#9: pending CHILD SA for "b-0-0"
`,
		`#1: "a-0-0":500 STATE_MAIN_I4 (IKE SA established); REPLACE in 2746s; newest; lastdpd=0s(seq in:0 out:0); idle;
#4: "b-0-0":500 STATE_MAIN_I1 (sent Main Mode request); RETRANSMIT in 3s; idle;
`,
		`#1: "a-0-0":500 MAIN_I4 (ISAKMP SA established); REPLACE in 2746s; newest; idle;
#4: "b-0-0":500 MAIN_I1 (sent Main Mode request); RETRANSMIT in 3s; idle;
`,
	} {
		for _, prefix := range []string{"000 ", ""} {
			output := prefix + strings.ReplaceAll(strings.TrimSpace(conn+states), "\n", "\n"+prefix)
			want := map[string]Conn{
				"a-0-0": {
					Algorithms: "IKEv2 AES_CBC_256-HMAC_SHA2_256-MODP2048, ESP AES_GCM_16_256-NONE",
					IKE:        !strings.Contains(states, "pending"),
				},
				"b-0-0": {Negotiating: true},
			}
			if got := ParseStatus(output); !reflect.DeepEqual(got, want) {
				t.Errorf("%q: got %+v", output, got)
			}
		}
	}
}

// The output of 4.10 after the conn that established the IKE SA was deleted, and after a new IKE SA was established.
func TestChildSAWithoutIKESAIsOrphaned(t *testing.T) {
	const conn = `000 "a-0-0": 10.1.0.0/24===100.100.100.2...200.200.200.2===10.2.0.0/24; erouted; eroute owner: #3
000 "b-0-0": 10.1.1.0/24===100.100.100.2...200.200.200.2===10.2.1.0/24; erouted; eroute owner: #2
`
	const orphan = `000 #3: "a-0-0":500 STATE_V2_ESTABLISHED_CHILD_SA (established Child SA); LIVENESS in 26s; REKEY ` +
		`in 2576s; REPLACE in 3596s; newest; eroute owner; IKE SA #1; idle;
000 #3: "a-0-0" esp.3618757b@200.200.200.2 esp.949660b2@100.100.100.2 tun.0@200.200.200.2 tun.0@100.100.100.2 ` +
		`Traffic: ESPin=0B ESPout=0B ESPmax=2^63B
`
	for states, want := range map[string]bool{
		orphan: true,
		orphan + `000 #1: "b-0-0":500 STATE_V2_ESTABLISHED_IKE_SA (established IKE SA); REKEY in 2549s; REPLACE in ` +
			`3596s; newest; idle;
`: false,
		strings.Replace(orphan, "newest; eroute owner; ", "", 1) +
			`000 #4: "b-0-0":500 STATE_V2_ESTABLISHED_IKE_SA (established IKE SA); REKEY in 2549s; REPLACE in 3596s; ` +
			`newest; idle;
000 #5: "a-0-0":500 STATE_V2_ESTABLISHED_CHILD_SA (established Child SA); LIVENESS in 26s; newest; eroute owner; IKE ` +
			`SA #4; idle;
`: false,
		`000 #3: "a-0-0":500 STATE_QUICK_I2 (IPsec SA established); REPLACE in 28s; newest; eroute owner; isakmp#1; ` +
			`idle;
`: false,
	} {
		got := ParseStatus(conn + states)
		if got["a-0-0"].Orphaned != want || got["b-0-0"].Orphaned {
			t.Errorf("%s: %+v", states, got)
		}
	}
}

func TestParseStatusAndTrafficInOneAnswer(t *testing.T) {
	const output = `000 "a-0-0": 10.1.0.0/24===100.100.100.2...200.200.200.2===10.2.0.0/24; erouted; eroute owner: #2
000 #1: "a-0-0":500 STATE_V2_ESTABLISHED_IKE_SA (established IKE SA); REKEY in 2746s; newest; idle;
000 #2: "a-0-0":500 STATE_V2_ESTABLISHED_CHILD_SA (established Child SA); newest; eroute owner; IKE SA #1; idle;
000 #2: "a-0-0" esp.3618757b@200.200.200.2 esp.949660b2@100.100.100.2 Traffic: ESPin=84B ESPout=84B ESPmax=2^63B
006 #2: "a-0-0", type=ESP, add_time=1700000000, inBytes=84, outBytes=84, maxBytes=2^63B, id='@paris'
`
	if got, want := ParseStatus(output), (map[string]Conn{"a-0-0": {IKE: true}}); !reflect.DeepEqual(got, want) {
		t.Errorf("status: %+v", got)
	}
	want := map[string]Traffic{"a-0-0": {time.Unix(1700000000, 0), 84, 84}}
	if got := ParseTraffic(output); !reflect.DeepEqual(got, want) {
		t.Errorf("traffic: %+v", got)
	}
}

func TestParseTrafficOfBothReleases(t *testing.T) {
	for _, prefix := range []string{"006 ", ""} {
		output := prefix +
			`#2: "a-0-0", type=ESP, add_time=1700000000, inBytes=84, outBytes=168, maxBytes=2^63B, id='@paris'` + "\n" +
			prefix + `#9: "a-0-0"[2], type=ESP, add_time=1700000300, inBytes=1, outBytes=2, maxBytes=2^63B, ` +
			`id='@paris', lease=10.0.0.1/32` + "\n" +
			prefix + `#3: "b-0-0", type=ESP, add_time=0, inBytes=0, outBytes=0, id='C=FR, inBytes=9'` + "\n"
		got := ParseTraffic(output)
		if want := (Traffic{time.Unix(1700000000, 0), 85, 170}); got["a-0-0"] != want {
			t.Errorf("%q: got %+v", prefix, got["a-0-0"])
		}
		if _, ok := got["b-0-0"]; !ok || len(got) != 2 {
			t.Errorf("%q: got %+v", prefix, got)
		}
	}
}

func TestFailuresInLog(t *testing.T) {
	log := `"b-0-0": failed to add connection: IKE encryption algorithm 'aes_ccm_a256' is not supported
"c-0-0": failed to add IKEv1 connection: global ikev1-policy does not allow IKEv1 connections
"a-0-0" #1: STATE_V2_PARENT_I1: retransmission; will wait 0.5 seconds for response
"a-0-0" #1: IKE SA authentication request rejected by peer: AUTHENTICATION_FAILED
"d-0-0" #3: IKE_AUTH response rejected Child SA with TS_UNACCEPTABLE
"d-0-0" #5: initiator established Child SA using #1; IPsec tunnel [10.1.0.0-10.1.0.255:0-65535 0]
ERROR: "e-0-0" #4: netlink response for Add SA esp.446cda23@100.100.100.2: Protocol not supported (errno 93)
"f-0-0"[1] 192.0.2.1 #4: NO_PROPOSAL_CHOSEN
"g-0-0"[1] 2001:db8:2::2 #5: NO_PROPOSAL_CHOSEN
loading secrets from "/run/x"
`
	wantLoad := map[string]string{"b-0-0": "IKE encryption algorithm 'aes_ccm_a256' is not supported",
		"c-0-0": "global ikev1-policy does not allow IKEv1 connections"}
	if got := LoadFailures(log); !reflect.DeepEqual(got, wantLoad) {
		t.Errorf("load failures %v", got)
	}
	want := map[string]string{"a-0-0": "AUTHENTICATION_FAILED", "e-0-0": "the kernel refused the SA",
		"f-0-0": "NO_PROPOSAL_CHOSEN", "g-0-0": "NO_PROPOSAL_CHOSEN"}
	if got := LastFailures(log); !reflect.DeepEqual(got, want) {
		t.Errorf("last failures %v", got)
	}
}

// FuzzParse searches for panics, and for conn names that this plugin never writes.
func FuzzParse(f *testing.F) {
	f.Add(fixture(f, "status-4.10.txt"))
	f.Add(fixture(f, "status-5.2.txt"))
	f.Add(`006 #2: "a-0-0", type=ESP, add_time=99999999999999999999, inBytes=84`)
	f.Add(`"x"[1] 1.2.3.4 #3: TS_UNACCEPTABLE`)
	f.Fuzz(func(t *testing.T, output string) {
		var names []string
		for name := range ParseStatus(output) {
			names = append(names, name)
		}
		for name := range ParseTraffic(output) {
			names = append(names, name)
		}
		for name := range LoadFailures(output) {
			names = append(names, name)
		}
		for name := range LastFailures(output) {
			names = append(names, name)
		}
		for _, name := range names {
			for _, r := range name {
				if r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') {
					t.Fatalf("name %q", name)
				}
			}
		}
	})
}

// 4.10 accepts both options in one call; 5.2 evaluates only the first one.
func TestQueryOfBothReleases(t *testing.T) {
	const status = `"a-0-0": 10.1.0.0/24===100.100.100.2...200.200.200.2===10.2.0.0/24; erouted; eroute owner: #2
#1: "a-0-0":500 ESTABLISHED_IKE_SA (established IKE SA); newest; idle;
#2: "a-0-0":500 ESTABLISHED_CHILD_SA (established Child SA); newest; eroute owner; IKE SA #1; idle;`
	const traffic = `#2: "a-0-0", type=ESP, add_time=1700000000, inBytes=84, outBytes=84`
	for name, script := range map[string]string{
		"4.10": "case $3$4 in --status--trafficstatus) cat <<'END'\n" + status + "\n" + traffic +
			"\nEND\n;; *) exit 1 ;; esac\n",
		"5.2": "case $3$4 in --status*) cat <<'END'\n" + status + "\nEND\n;; --trafficstatus) cat <<'END'\n" + traffic +
			"\nEND\n;; *) exit 1 ;; esac\n",
	} {
		d, _ := fakeDaemon(t)
		if err := os.WriteFile(d.Tools.Whack, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
			t.Fatal(err)
		}
		answer, err := d.Control().Query(t.Context())
		if err != nil || answer.Traffic["a-0-0"].In != 84 {
			t.Errorf("%s: %+v, %v", name, answer, err)
		}
	}
}
