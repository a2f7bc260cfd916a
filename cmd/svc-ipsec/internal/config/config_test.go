package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config/configtest"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// plainFields are the members of a valid connection with only the required keys.
var plainFields = []string{
	`"id":"a"`, `"peerAddress":"192.0.2.9"`, `"localCidrs":["10.1.0.0/24"]`, `"peerCidrs":["10.2.0.0/24"]`,
	`"psk":"secret-of-test"`,
}

var plain = strings.Join(plainFields, ",")

// document returns a document with one connection, which has the members of plain and of more. A key of more replaces
// the same key of plain.
func document(more string) json.RawMessage {
	fields := plain
	if more != "" {
		key, _, _ := strings.Cut(more, ":")
		kept := []string{}
		for _, field := range plainFields {
			if !strings.HasPrefix(field, key+":") {
				kept = append(kept, field)
			}
		}
		fields = strings.Join(append(kept, more), ",")
	}
	return json.RawMessage(`{"externalIps":["192.0.2.1","2001:db8::1"],"connections":[{` + fields + `}]}`)
}

func TestPlainConnectionGetsDefaults(t *testing.T) {
	c, err := Decode(document(""))
	if err != nil {
		t.Fatal(err)
	}
	c.Resolve(nil)
	connection := c.Connections[0]
	if connection.Refused != nil {
		t.Fatal(connection.Refused)
	}
	want := Connection{ID: "a", Up: true, MTU: 1500, DPD: DPD{"hold", 30, 120},
		IKE:   IKEPolicy{Version: "v2", Proposals: "aes256-sha2_256;modp2048", Lifetime: 3600},
		IPsec: IPsecPolicy{Protocol: "esp", Proposals: "aes256-sha2_256;modp2048", Lifetime: 3600}}
	if connection.IKE != want.IKE || connection.IPsec != want.IPsec || connection.DPD != want.DPD ||
		connection.MTU != want.MTU || connection.ResponseOnly {
		t.Errorf("got %+v", connection)
	}
	if connection.LocalID.String() != "192.0.2.1" || connection.PeerID.String() != "192.0.2.9" {
		t.Errorf("ids %s and %s", connection.LocalID, connection.PeerID)
	}
}

func TestDocumentFaultNamesTheKey(t *testing.T) {
	for _, test := range []struct{ document, want string }{
		{`[]`, `configuration "a list": allowed: an object`},
		{`{"conections":[]}`, `configuration: unknown key "conections": allowed: id, name, description, externalIps`},
		{`{"externalIPs":[]}`, `unknown key "externalIPs"`},
		{`{"id":"a","id":"b"}`, `configuration: key "id": allowed: each key once`},
		{`{"externalIps":["192.0.2.1","192.0.2.2"]}`,
			`configuration.externalIps "192.0.2.2": allowed: at most one address of each family`},
		{`{"externalIps":["fe80::1"]}`, "link-local"},
		{`{"externalMac":"ff:ff:ff:ff:ff:ff"}`, "configuration.externalMac"},
		{`{"connections":{}}`, "configuration.connections"},
	} {
		_, err := Decode(json.RawMessage(test.document))
		var fault *spec.Fault
		if !errors.As(err, &fault) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %s", test.document, err, test.want)
		}
	}
}

func TestConnectionFaultRefusesOnlyThatConnection(t *testing.T) {
	const good = `{"id":"good","peerAddress":"192.0.2.8",` +
		`"localCidrs":["10.1.0.0/24"],"peerCidrs":["10.8.0.0/24"],"psk":"k"}`
	for _, test := range []struct{ more, want string }{
		{`"mtu":67`, "connections[0].mtu"},
		{`"peerCidrs":["2001:db8:2::/64"],"mtu":1279`, "from 1280 to"},
		{`"peerCidrs":["2001:db8:2::/64"]`, "families"},
		{`"colour":"red"`, `connections[0]: unknown key "colour": allowed: id, name`},
		{`"psk":""`, "connections[0].psk"},
		{`"psk":7`, "connections[0].psk"},
		{`"psk":"\ud800"`, "connections[0].psk"},
		{
			`"peerAddress":"vpn.example.org"`,
			`connections[0].peerAddress "vpn.example.org": was not looked up: allowed: `,
		},
		{`"peerAddress":"192.0.2.300"`,
			`connections[0].peerAddress "192.0.2.300": ` +
				`allowed: an IPv4 or IPv6 address, or a host name whose last label is not a number`},
		{`"peerAddress":"` + strings.Repeat("a.", 127) + `"`, "peerAddress"},
		{`"peerAddress":"192.0.2.1; touch x"`, "connections[0].peerAddress"},
		{`"peerAddress":"192.0.2.1"`, "another address than the external one"},
		{`"peerAddress":"127.0.0.1"`, "connections[0].peerAddress"},
		{`"peerAddress":"fe80::1"`, "connections[0].peerAddress"},
		{`"peerAddress":"255.255.255.255"`, "connections[0].peerAddress"},
		{`"peerId":"a\nleftupdown=/bin/sh"`, "connections[0].peerId"},
		{`"initiator":"both"`, "bi-directional, response-only"},
		{`"dpd":{"interval":30,"timeout":30}`, "connections[0].dpd.timeout"},
		{`"dpd":{"action":"none"}`, "hold, clear, restart, restart-by-peer, disabled"},
		{`"dpd":{"delay":1}`, `dpd: unknown key "delay"`},
		{`"ikePolicy":{"lifetime":86401}`, "ikePolicy.lifetime"},
		{`"ikePolicy":{"lifetime":0}`, "ikePolicy.lifetime"},
		{`"ikePolicy":{"phase1NegotiationMode":"aggressive"}`, "main, for ikeVersion v2"},
		{`"ipsecPolicy":{"encapsulationMode":"transport"}`, "transport"},
		{`"localCidrs":[]`, "localCidrs"},
		{`"peerCidrs":["10.0.0.0/33"]`, "peerCidrs"},
		{`"authMode":"certificate"`, "authMode"},
	} {
		raw := strings.TrimSuffix(string(document(test.more)), "]}") + `,` + good + `]}`
		c, err := Decode(json.RawMessage(raw))
		if err != nil {
			t.Errorf("%s: the document is refused: %v", test.more, err)
			continue
		}
		c.Resolve(nil)
		refused := c.Connections[0].Refused
		if refused == nil || !strings.Contains(refused.Error(), test.want) {
			t.Errorf("%s: got %v, want %s", test.more, refused, test.want)
		}
		if strings.Contains(fmt.Sprint(refused), "secret-of-test") {
			t.Errorf("%s: the fault contains the secret: %v", test.more, refused)
		}
		if c.Connections[1].Refused != nil {
			t.Errorf("%s: the other connection is refused too: %v", test.more, c.Connections[1].Refused)
		}
	}
}

func TestSecretIsNotAltered(t *testing.T) {
	for _, secret := range []string{"x", `"`, "a\nb", "\x00", `\`, "ünï", "\ufffd", strings.Repeat("k", 1000)} {
		quoted, _ := json.Marshal(secret)
		c, err := Decode(document(`"psk":` + string(quoted)))
		if err != nil || c.Connections[0].Refused != nil {
			t.Errorf("%q: %v %v", secret, err, c.Connections[0].Refused)
			continue
		}
		if got := string(c.Connections[0].PSK.Reveal()); got != secret {
			t.Errorf("%q became %q", secret, got)
		}
	}
}

func TestIdentityTypes(t *testing.T) {
	for _, test := range []struct{ given, kind, text string }{
		{"192.0.2.9", kindIPv4, "192.0.2.9"},
		{"2001:DB8:0::9", kindIPv6, "2001:db8::9"},
		{"vpn.example.org", kindFQDN, "@vpn.example.org"},
		{"@vpn.example.org", kindFQDN, "@vpn.example.org"},
		{"@192.0.2.9", kindFQDN, "@192.0.2.9"},
		{"joe@example.org", kindUserFQDN, "joe@example.org"},
		{"@#0102FF", kindKeyID, "@#0102ff"},
		{"@[branch-7]", kindKeyID, "@[branch-7]"},
		{"C=FR,O=Example Corp, CN=paris", kindDN, `"C=FR, O=Example Corp, CN=paris"`},
	} {
		raw, _ := json.Marshal(test.given)
		id, err := identity("peerId", raw)
		if err != nil || id.Kind() != test.kind || id.String() != test.text {
			t.Errorf("%s: %s %s %v, want %s %s", test.given, id.Kind(), id, err, test.kind, test.text)
		}
	}
	for _, bad := range []string{
		"%any", "@#zz", "@#012", "a b", "@a=b", `C="FR"`, "C=FR\nleftupdown=x", "@", "a@", "ex\u0430mple.org", "x;y",
		"$(id)", "a\x00", "@[a]b]", "C=FR/CN=x", "leftupdown=/bin/sh", strings.Repeat("a", 256), "CN=",
		"fe80::1%eth0", "::", "0.0.0.0",
	} {
		raw, _ := json.Marshal(bad)
		if id, err := identity("peerId", raw); err == nil {
			t.Errorf("%q is accepted as %s %s", bad, id.Kind(), id)
		}
	}
}

func TestConflictingConnectionsAreRefused(t *testing.T) {
	two := func(a, b string) *Configuration {
		c, err := Decode(json.RawMessage(`{"externalIps":["192.0.2.1"],"connections":[{` + a + `},{` + b + `}]}`))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	other := strings.Replace(strings.Replace(plain, `"a"`, `"b"`, 1), "10.2.0.0/24", "10.3.0.0/24", 1)
	for _, test := range []struct{ b, want string }{
		{other, ""},
		{strings.Replace(other, "secret-of-test", "another", 1), "same local and peer id with another key"},
		{other + `,"ikePolicy":{"pfs":"group15"}`, "one IKE policy for a peer address"},
		{strings.Replace(other, "10.3.0.0/24", "10.2.0.0/24", 1), "carries 10.1.0.0/24 to 10.2.0.0/24 already"},
		{strings.Replace(other, `"b"`, `"a"`, 1), "an id that no other connection has"},
	} {
		for _, standings := range [][2]Standing{
			{New, New}, {New, Edited}, {New, Unchanged}, {Edited, Unchanged}, {Unchanged, Edited},
			{Unchanged, Unchanged},
		} {
			c := two(plain, test.b)
			c.Resolve(func(one *Connection) Standing {
				if one == &c.Connections[0] {
					return standings[0]
				}
				return standings[1]
			})
			kept, refused := c.Connections[0].Refused, c.Connections[1].Refused
			if standings[1] > standings[0] {
				kept, refused = refused, kept // the connection with the higher standing is kept
			}
			if kept != nil || !refusedWith(refused, test.want) {
				t.Errorf("standing %v, want %q: kept %v, refused %v", standings, test.want, kept, refused)
			}
			if c.Connections[0].ID == c.Connections[1].ID {
				t.Errorf("both are %q in the status", c.Connections[0].ID)
			}
		}
	}
}

// refusedWith reports whether the text of refused contains want, or whether refused is nil if want is "".
func refusedWith(refused error, want string) bool {
	if refused == nil || want == "" {
		return refused == nil && want == ""
	}
	return strings.Contains(refused.Error(), want)
}

func TestEqualIdentitiesInDifferentForms(t *testing.T) {
	for _, test := range []struct {
		a, b string
		same bool
	}{
		{"@[abc]", "@#616263", true},
		{"@#0aFF", "@#0AfF", true},
		{"@[abc]", "@[ABC]", false},
		{"@[abc]", "@abc", false},
		{"paris.example.org", "@PARIS.example.org", true},
		{"joe@Example.org", "joe@example.org", true},
		{"192.0.2.9", "@192.0.2.9", false},
		{"2001:DB8:0::9", "2001:db8::9", true},
		{"C=FR, E=joe@example.org", "C=FR,emailAddress=joe@example.org", true},
		{"Email=a@b, E=c@d", "emailAddress=a@b, Email=c@d", true},
		{"C=FR, CN=Paris", "C=FR, CN=paris", true},
		{"C=FR, CN=paris", "C=FR, O=paris", false},
	} {
		a, b := identityOf(t, test.a), identityOf(t, test.b)
		if a.Same(b) != test.same || b.Same(a) != test.same {
			t.Errorf("%s and %s are the same: %v", test.a, test.b, a.Same(b))
		}
	}
}

func identityOf(t *testing.T, s string) Identity {
	t.Helper()
	raw, _ := json.Marshal(s)
	id, err := identity("peerId", raw)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// TestAmbiguousKeysAreRefused has two connections to one peer with different keys. With ikeVersion v1 the daemon needs
// the key before it knows the identity of the peer.
func TestAmbiguousKeysAreRefused(t *testing.T) {
	for _, test := range []struct{ ids, policy, want string }{
		{`@[abc] @#616263`, ``,
			`configuration.connections[1].psk: connection "a" has the same local and peer id with another key: ` +
				`allowed: one key for a pair of ids`},
		{`C=FR,E=x C=FR,Email=x`, ``, `connection "a" has the same local and peer id with another key`},
		{`@[abc] @[abcd]`, ``, ``},
		{`@one @two`, `"ikeVersion":"v1"`,
			`configuration.connections[1].psk: connection "a" to the same peerAddress 192.0.2.9 has another key: ` +
				`allowed: one key for a peer address with ikeVersion v1 in main mode`},
		{`@one @two`, `"ikeVersion":"v1","phase1NegotiationMode":"aggressive"`, ``},
	} {
		first, second, _ := strings.Cut(test.ids, " ")
		c, err := Decode(fmt.Appendf(nil, `{"externalIps":["192.0.2.1"],"connections":[
			{"id":"a","peerAddress":"192.0.2.9","peerId":%[1]q,"localCidrs":["10.1.0.0/24"],"peerCidrs":["10.2.0.0/24"],
				"psk":"one","ikePolicy":{%[3]s}},
			{"id":"b","peerAddress":"192.0.2.9","peerId":%[2]q,"localCidrs":["10.1.0.0/24"],"peerCidrs":["10.3.0.0/24"],
				"psk":"two","ikePolicy":{%[3]s}}]}`,
			first, second, test.policy))
		if err != nil {
			t.Fatal(err)
		}
		c.Resolve(nil)
		refused := c.Connections[1].Refused
		if c.Connections[0].Refused != nil || !refusedWith(refused, test.want) {
			t.Errorf("%s, %s: refused %v, and %v", test.ids, test.policy, refused, c.Connections[0].Refused)
		}
	}
}

func TestLoadedSubnetKeepsItsNumber(t *testing.T) {
	networks := func(local, peer string) Networks {
		return Networks{netip.MustParsePrefix(local), netip.MustParsePrefix(peer)}
	}
	loaded := map[string]Networks{
		"a-0-0":   networks("10.1.0.0/24", "10.2.0.0/24"),
		"a-0-1":   networks("10.1.0.0/24", "10.3.0.0/24"),
		"a-0-2":   networks("10.1.0.0/24", "10.4.0.0/24"),
		"a-1-7-9": networks("10.1.0.0/24", "10.4.0.0/24"), // of a connection a-1
	}
	for _, test := range []struct{ local, peer, want string }{
		{`"10.1.0.0/24"`, `"10.2.0.0/24","10.3.0.0/24","10.4.0.0/24"`,
			"a-0-0 10.2.0.0/24, a-0-1 10.3.0.0/24, a-0-2 10.4.0.0/24"},
		{`"10.1.0.0/24"`, `"10.4.0.0/24","10.3.0.0/24"`, "a-0-2 10.4.0.0/24, a-0-1 10.3.0.0/24"},
		{`"10.1.0.0/24"`, `"10.5.0.0/24","10.3.0.0/24","10.6.0.0/24"`,
			"a-0-0 10.5.0.0/24, a-0-1 10.3.0.0/24, a-0-2 10.6.0.0/24"},
		{`"10.9.0.0/24","10.1.0.0/24"`, `"10.3.0.0/24"`, "a-1-1 10.3.0.0/24, a-0-1 10.3.0.0/24"},
	} {
		c, err := Decode([]byte(`{"externalIps":["192.0.2.1"],"connections":[{"id":"a","peerAddress":"192.0.2.9",` +
			`"psk":"k",` +
			`"localCidrs":[` + test.local + `],"peerCidrs":[` + test.peer + `]}]}`))
		if err != nil {
			t.Fatal(err)
		}
		c.Loaded = loaded
		c.Resolve(nil)
		var got []string
		for _, pair := range c.Connections[0].Pairs() {
			got = append(got, pair.Conn+" "+pair.Peer.String())
		}
		if text := strings.Join(got, ", "); text != test.want {
			t.Errorf("%s to %s:\ngot  %s\nwant %s", test.local, test.peer, text, test.want)
		}
	}
}

func TestResolveMakesIDsUnique(t *testing.T) {
	good := func(id string) string { return `{` + strings.Replace(plain, `"id":"a"`, `"id":"`+id+`"`, 1) + `}` }
	for _, test := range []struct {
		connections string
		ids         []string
	}{
		{good("a") + `,` + good("a") + `,{"id":"a","adminStateUp":false},{"id":"a","mtu":"x"},{"name":"none"}`,
			[]string{"a", "connections[1]", "connections[2]", "connections[3]", "connections[4]"}},
		{`{"name":"none"},` + good("connections[0]"), []string{"connections[0]'", "connections[0]"}},
		{`{"id":"a","mtu":"x"},` + good("a"), []string{"connections[0]", "a"}},
	} {
		c, err := Decode([]byte(`{"externalIps":["192.0.2.1"],"connections":[` + test.connections + `]}`))
		if err != nil {
			t.Fatal(err)
		}
		c.Resolve(nil)
		var ids []string
		for _, connection := range c.Connections {
			ids = append(ids, connection.ID)
		}
		if !slices.Equal(ids, test.ids) {
			t.Errorf("%s:\ngot  %q\nwant %q", test.connections, ids, test.ids)
		}
	}
}

// TestNumberOfPairsIsLimited uses the largest document that the other limits permit. It has more pairs than the status
// of a daemon can be read for within the deadline of a verb. A connection that runs must be kept, and Resolve must be
// fast.
func TestNumberOfPairsIsLimited(t *testing.T) {
	var connections []string
	for i := range maxConnections {
		var local, peer []string
		for j := range 16 {
			local = append(local, fmt.Sprintf(`"10.0.%d.0/24"`, j))
			peer = append(peer, fmt.Sprintf(`"11.%d.%d.0/24"`, i, j))
		}
		connections = append(connections,
			fmt.Sprintf(`{"id":"c%[1]d","peerAddress":"198.18.0.%[1]d","peerId":"@c%[1]d",`+
				`"localCidrs":[%[2]s],"peerCidrs":[%[3]s],"psk":"k"}`, i, strings.Join(local, ","),
				strings.Join(peer, ",")))
	}
	c, err := Decode([]byte(`{"externalIps":["192.0.2.1"],"connections":[` + strings.Join(connections, ",") + `]}`))
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	c.Resolve(func(one *Connection) Standing {
		if one.ID == "c200" {
			return Unchanged
		}
		return New
	})
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("Resolve took %s", took)
	}
	pairs := 0
	for _, connection := range c.Wanted() {
		pairs += len(connection.Pairs())
	}
	if pairs != maxAllPairs || c.Connections[200].Refused != nil {
		t.Errorf("%d pairs, and the running connection is refused with %v", pairs, c.Connections[200].Refused)
	}
	const want = "configuration.connections[255].peerCidrs: 2304 pairs of subnets with those of the other " +
		"connections: allowed: at most 2048"
	if reason := fmt.Sprint(c.Connections[255].Refused); reason != want {
		t.Error(reason)
	}
}

func TestPairsHaveOneFamilyAndUniqueNames(t *testing.T) {
	raw := string(document(`"localCidrs":["10.1.0.5/24","2001:db8:1::/64","10.1.0.0/24"]`))
	raw = strings.Replace(raw, `"peerCidrs":["10.2.0.0/24"]`, `"peerCidrs":["10.2.0.0/24","2001:db8:2::/64"]`, 1)
	c, err := Decode(json.RawMessage(raw))
	if err != nil || c.Connections[0].Refused != nil {
		t.Fatal(err, c.Connections[0].Refused)
	}
	var names []string
	for _, pair := range c.Connections[0].Pairs() {
		names = append(names, pair.Conn+" "+pair.Local.String()+" "+pair.Peer.String())
	}
	want := "a-0-0 10.1.0.0/24 10.2.0.0/24,a-1-1 2001:db8:1::/64 2001:db8:2::/64"
	if got := strings.Join(names, ","); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestAliasesAreUnique(t *testing.T) {
	ids := []string{
		"a", "A", "a-0-0", "ä", "a b", strings.Repeat("x", 200), "-a", "7f1c0000-0000-4000-8000-000000000001",
	}
	ids = append(ids, (&Connection{ID: "ä"}).Alias())
	seen := map[string]string{}
	for _, id := range ids {
		alias := (&Connection{ID: id}).Alias()
		if other, ok := seen[alias]; ok {
			t.Errorf("%q and %q have the same alias %s", id, other, alias)
		}
		seen[alias] = id
		if !plainAlias.MatchString(alias) {
			t.Errorf("%q has the invalid alias %s", id, alias)
		}
	}
}

// fillFound fills Found with values for all files and names that a document references.
func fillFound(c *Configuration) {
	c.Found = Found{
		Files: map[string]File{}, Certificates: map[CertificateFiles]Certificate{}, Names: map[string]Name{},
	}
	for i, name := range c.PeerNames() {
		c.Found.Names[name] = Name{Address: netip.AddrFrom4([4]byte{203, 0, 113, byte(i)})}
	}
	for _, path := range c.PSKFiles() {
		c.Found.Files[path] = File{Content: spec.NewSecret([]byte("a key \" of\n any bytes \xff"))}
	}
	for _, files := range c.Certificates() {
		c.Found.Certificates[files] = Certificate{
			Nickname: "svc-1-2", AuthBy: "rsasig", PeerCA: "C=FR,CN=ca", Digest: "d",
		}
	}
}

// TestFullDocumentHasAllKeys fails if configtest.Full lacks a key. The tests with hostile strings would not test that
// key.
func TestFullDocumentHasAllKeys(t *testing.T) {
	tables := map[string][]string{
		"": configurationKeys, "connections": connectionKeys, "dpd": dpdKeys, "ikePolicy": ikeKeys,
		"ipsecPolicy": ipsecKeys, "proposals": proposalKeys, "certificate": certificateKeys,
	}
	full := configtest.Keys()
	for object, keys := range tables {
		if want := slices.Sorted(slices.Values(keys)); !slices.Equal(full[object], want) {
			t.Errorf("%q has the keys %v, the document %v", object, want, full[object])
		}
		delete(full, object)
	}
	if len(full) > 0 {
		t.Errorf("objects without a table: %v", full)
	}
	c, err := Decode([]byte(configtest.Full))
	if err != nil {
		t.Fatal(err)
	}
	fillFound(c)
	c.Resolve(nil)
	for _, connection := range c.Connections {
		if connection.Refused != nil {
			t.Error(connection.Refused)
		}
	}
}

// FuzzDecode finds panics, and accepted values that would end a line or become several words in a configuration file.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{}`, string(document("")), string(document(`"peerId":"@[a]"`)), string(document(`"localId":"C=FR, CN=x"`)),
		string(document(`"peerAddress":"a.example"`)), configtest.Full, `{"connections":[{"id":7}]}`, `null`,
		`{"connections":[null]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := Decode(raw)
		if err != nil {
			return
		}
		fillFound(c)
		c.Resolve(nil)
		for _, connection := range c.Wanted() {
			for _, value := range []string{
				connection.LocalID.String(), connection.PeerID.String(), connection.Alias(), connection.IKE.Proposals,
				connection.IPsec.Proposals,
			} {
				inner := strings.TrimSuffix(strings.TrimPrefix(value, `"`), `"`)
				if value == "" || strings.ContainsAny(inner, "\"\n\r\x00\\") ||
					inner == value && strings.ContainsAny(value, " \t") {
					t.Errorf("%q is not a single word", value)
				}
			}
		}
	})
}

func TestMissingExternalIPIsNamedInEachConnection(t *testing.T) {
	other := strings.NewReplacer(`"id":"a"`, `"id":"b"`, "192.0.2.9", "vpn.example.org", "10.2.0.0", "10.3.0.0",
		`"psk":"secret-of-test"`, `"pskFile":"/missing"`).Replace(plain)
	c, err := Decode([]byte(`{"connections":[{` + plain + `},{` + other + `}]}`))
	if err != nil {
		t.Fatal(err)
	}
	c.Resolve(nil)
	want := `configuration.externalIps "": allowed: an address of the peer's family, or one of each family`
	for _, connection := range c.Connections {
		if connection.Refused == nil || connection.Refused.Error() != want {
			t.Errorf("%s: %v", connection.ID, connection.Refused)
		}
	}
}
