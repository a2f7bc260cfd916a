package network

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
)

// The networks of wide contain those of narrow, which has another peer.
const (
	wide = `{"id":"wide","peerAddress":"198.51.100.2","localCidrs":["10.1.0.0/16"],"peerCidrs":["10.0.0.0/8"],` +
		`"psk":"k"}`
	narrow = `{"id":"narrow","peerAddress":"198.51.100.3","localCidrs":["10.1.0.0/16"],"peerCidrs":["10.3.0.0/24"],` +
		`"psk":"k"}`
)

func guardOf(t *testing.T, connections ...string) Guard {
	t.Helper()
	c, err := config.Decode(json.RawMessage(`{"externalIps":["203.0.113.1","2001:db8::1"],"connections":[` +
		strings.Join(connections, ",") + `]}`))
	if err != nil {
		t.Fatal(err)
	}
	c.Resolve(nil)
	return newGuard(c)
}

func TestAmbiguousEntries(t *testing.T) {
	const decides = "10.1.0.0/16 > 10.3.0.0/24 by 198.51.100.3"
	for _, test := range []struct {
		name        string
		connections []string
		want        string
	}{
		{"one connection", []string{wide}, ""},
		{"the narrow connection decides", []string{wide, narrow}, decides},
		{"the order of the connections is irrelevant", []string{narrow, wide}, decides},
		{"networks that do not overlap", []string{narrow, strings.Replace(wide, "10.0.0.0/8", "11.0.0.0/8", 1)}, ""},
		{"local networks that do not overlap", []string{narrow, strings.Replace(wide, "10.1.0.0/16", "10.2.0.0/16", 1)},
			""},
		{"networks of one connection", []string{strings.Replace(wide, `"10.0.0.0/8"`, `"10.0.0.0/8","10.3.0.0/24"`, 1)},
			""},
		{"a connection that is administratively down does not decide",
			[]string{wide, strings.Replace(narrow, `"psk"`, `"adminStateUp":false,"psk"`, 1)}, ""},
		{"a refused connection decides", []string{
			wide, strings.Replace(narrow, `"psk":"k"`, `"pskFile":"/nowhere/key"`, 1),
		},
			"10.1.0.0/16 > 10.3.0.0/24 by none"},
		{"a connection with an invalid local network decides",
			[]string{wide, strings.Replace(narrow, `10.1.0.0/16`, `10.1.0.0`, 1)},
			"10.1.0.0/16 > 10.3.0.0/24 by none"},
		{"a connection with an unknown key decides", []string{wide, strings.Replace(narrow, `"psk"`, `"pks"`, 1)},
			"10.1.0.0/16 > 10.3.0.0/24 by none"},
		{"a connection with an unknown key and another local network does not",
			[]string{wide, strings.NewReplacer(`"psk"`, `"pks"`, "10.1.0.0/16", "10.9.0.0/16").Replace(narrow)}, ""},
		{"two refused connections", []string{strings.Replace(wide, `"psk"`, `"pks"`, 1),
			strings.Replace(narrow, `"psk"`, `"pks"`, 1)}, ""},
		{"the longer local prefix decides", []string{narrow, strings.Replace(wide, "10.1.0.0/16", "10.1.5.0/24", 1)},
			"10.1.5.0/24 > 10.0.0.0/8 by 198.51.100.2"},
		{"three connections", []string{wide, narrow,
			`{"id":"host","peerAddress":"198.51.100.4","localCidrs":["10.1.7.7/32"],"peerCidrs":["10.3.0.7/32"],` +
				`"psk":"k"}`},
			"10.1.7.7/32 > 10.3.0.7/32 by 198.51.100.4, " + decides},
		{"two connections to the same peer", []string{wide, strings.Replace(narrow, "198.51.100.3", "198.51.100.2", 1)},
			"10.1.0.0/16 > 10.3.0.0/24 by 198.51.100.2 indistinct"},
		{"IPv6", []string{`{"id":"wide","peerAddress":"2001:db8::2","localCidrs":["fd01::/64"],"peerCidrs":["::/0"],` +
			`"psk":"k"}`,
			`{"id":"narrow","peerAddress":"198.51.100.3","localCidrs":["fd01::/64"],"peerCidrs":["fd02::/64"],` +
				`"psk":"k"}`},
			"fd01::/64 > fd02::/64 by 198.51.100.3"},
		{"0.0.0.0/0", []string{strings.Replace(wide, "10.1.0.0/16", "0.0.0.0/0", 1),
			strings.Replace(narrow, "10.1.0.0/16", "0.0.0.0/0", 1)}, "0.0.0.0/0 > 10.3.0.0/24 by 198.51.100.3"},
		{"transport mode", []string{strings.NewReplacer("10.1.0.0/16", "203.0.113.0/24", "10.0.0.0/8",
			"198.51.100.0/24").Replace(wide),
			`{"id":"host","peerAddress":"198.51.100.3","psk":"k","ipsecPolicy":{"encapsulationMode":"transport"}}`},
			"203.0.113.1/32 > 198.51.100.3/32 by 198.51.100.3 indistinct"},
	} {
		var got []string
		for _, e := range guardOf(t, test.connections...).Entries {
			gateway := "none"
			if e.Gateway.IsValid() {
				gateway = e.Gateway.String()
			}
			text := fmt.Sprintf("%s > %s by %s", e.source, e.destination, gateway)
			if e.Indistinct {
				text += " indistinct"
			}
			got = append(got, text)
		}
		if strings.Join(got, ", ") != test.want {
			t.Errorf("%s: got %v, want %q", test.name, got, test.want)
		}
	}
}

func TestBlockPriorities(t *testing.T) {
	var got []string
	blocks := guardOf(t, wide, narrow).blocks(GuardPolicies)
	for _, s := range slices.SortedFunc(maps.Keys(blocks),
		func(a, b selector) int { return cmp.Or(blocks[a]-blocks[b], b.source.Bits()-a.source.Bits()) }) {
		got = append(got, fmt.Sprintf("%s > %s %d", s.source, s.destination, blocks[s]))
	}
	// pluto 4.10 gives the policy of narrow the priority 1761489, and that of wide 1761521.
	want := "10.1.0.0/16 > 10.3.0.0/24 1761490, 10.1.0.0/16 > 10.0.0.0/8 2147483646, 0.0.0.0/0 > 10.3.0.0/24 2147483646"
	if strings.Join(got, ", ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
	if blocks := guardOf(t, wide, narrow).blocks(GuardTable); len(blocks) != 0 {
		t.Errorf("with nftables: %v", blocks)
	}
	same := guardOf(t, wide, strings.Replace(narrow, "198.51.100.3", "198.51.100.2", 1)).blocks(GuardTable)
	if len(same) != 1 {
		t.Errorf("with nftables, which cannot distinguish the two tunnels: %v", same)
	}
}

func TestUnionKeepsOrderOfEntries(t *testing.T) {
	one, other := guardOf(t, wide, narrow), guardOf(t, wide, strings.Replace(narrow, "198.51.100.3", "198.51.100.4", 1))
	rules := string(one.Union(other).Rules())
	want := `    ip saddr 10.1.0.0/16 ip daddr 10.3.0.0/24 ipsec out ip daddr 198.51.100.3 accept
    ip saddr 10.1.0.0/16 ip daddr 10.3.0.0/24 ipsec out ip daddr 198.51.100.4 accept
    ip saddr 10.1.0.0/16 ip daddr 10.3.0.0/24 rt ipsec exists counter drop
`
	if !strings.Contains(rules, want) {
		t.Errorf("got\n%s", rules)
	}
	if union := one.Union(one); len(union.Entries) != 1 {
		t.Errorf("union with itself: %v", union.Entries)
	}
}

func TestGuardHasPolicies(t *testing.T) {
	for _, row := range []struct {
		name    string
		entries []entry
		kind    string
		want    bool
	}{
		{"nftables distinguishes all networks", []entry{{}}, GuardTable, false},
		{"nftables cannot distinguish two networks", []entry{{}, {Indistinct: true}}, GuardTable, true},
		{"the kernel has no nftables", []entry{{}}, GuardPolicies, true},
		{"nothing is guarded", nil, GuardPolicies, false},
	} {
		if got := (Guard{Entries: row.entries}).HasPolicies(row.kind); got != row.want {
			t.Errorf("%s: %v", row.name, got)
		}
	}
}
