package endpoint

import (
	"strings"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/render"
)

// Connections a and b cannot run together. Connection a already runs. Connection b is new and precedes a in the
// document.
func TestRunningConnectionIsPreferredToNewOne(t *testing.T) {
	const a, b = `{"id":"a","peerAddress":"192.0.2.2","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.2.0.0/24"],` +
		`"psk":"k"%s}`,
		`{"id":"b","peerAddress":"192.0.2.2","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.3.0.0/24"],"psk":"k",` +
			`"ikePolicy":{"ikeVersion":"v1"}}`
	read := func(connections ...string) *config.Configuration {
		t.Helper()
		c, err := config.Decode([]byte(`{"externalIps":["192.0.2.1"],"connections":[` + strings.Join(connections,
			",") + `]}`))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	runs := func(name string, c *config.Configuration, ids string) {
		t.Helper()
		var got []string
		for _, connection := range c.Wanted() {
			got = append(got, connection.ID)
		}
		if strings.Join(got, " ") != ids {
			t.Errorf("%s: %v run, want %s", name, got, ids)
		}
	}
	before, edited := strings.Replace(a, "%s", "", 1),
		strings.Replace(a, "%s", `,"mtu":1400,"ikePolicy":{"pfs":"group15"}`, 1)
	first := read(before)
	first.Resolve(nil)
	loaded := map[string][]byte{}
	for _, connection := range first.Wanted() {
		for _, pair := range connection.Pairs() {
			loaded[pair.Conn] = render.Conn(connection, pair)
		}
	}

	// Older versions did not record the choice, so it follows from the conns that are loaded.
	next := read(b, edited)
	next.Resolve(CompareLoaded(loaded, nil))
	runs("ADD after an older version", next, "a")
	last := read(b, before)
	last.Resolve(CompareLastADD(loaded, nil))
	runs("CHECK after an older version", last, "a")

	// The daemon refuses the edited form of a.
	chosen := Chosen(next.Wanted())
	none := map[string][]byte{}
	for _, verb := range []func(map[string][]byte,
		map[string]string) func(*config.Connection) config.Standing{CompareLoaded, CompareLastADD} {
		again := read(b, edited)
		again.Resolve(verb(none, chosen))
		runs("after a refusal", again, "a")
	}

	// An ADD of b alone deleted a, loaded b, and failed. CHECK uses the previous document.
	alone := read(b)
	alone.Resolve(nil)
	for _, pair := range alone.Connections[0].Pairs() {
		none[pair.Conn] = render.Conn(&alone.Connections[0], pair)
	}
	again := read(b, edited)
	again.Resolve(CompareLastADD(none, chosen))
	runs("CHECK after an ADD that failed", again, "a")

	// If two connections have the same ID, their place in the document identifies them.
	twice := read(strings.Replace(b, `"b"`, `"a"`, 1), edited)
	twice.Resolve(CompareLastADD(none, chosen))
	if twice.Connections[0].Refused == nil || twice.Connections[1].Refused != nil {
		t.Errorf("with the same ID: %v, %v", twice.Connections[0].Refused, twice.Connections[1].Refused)
	}
}
