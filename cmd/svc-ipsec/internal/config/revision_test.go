package config

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// connectionsJSON returns a document with the given connections.
func connectionsJSON(connections ...string) json.RawMessage {
	return json.RawMessage(`{"externalIps":["192.0.2.1"],"connections":[` + strings.Join(connections, ",") + `]}`)
}

func connectionJSON(id string, more string) string {
	return `{"id":"` + id + `","peerAddress":"192.0.2.9","localCidrs":["10.1.0.0/24"],"psk":"k"` + more + `}`
}

// revert calls Revert until it replaces nothing, as ADD does.
func revert(t *testing.T, document, lastValid json.RawMessage) (*Revision, *Configuration) {
	t.Helper()
	r, err := NewRevision(document, lastValid)
	if err != nil {
		t.Fatal(err)
	}
	for {
		c, err := Decode(r.Document())
		if err != nil {
			t.Fatal(err)
		}
		c.Accepted = Accepted(lastValid, nil)
		c.Resolve(r.Standing)
		if !r.Revert(c) {
			return r, c
		}
	}
}

func TestRefusedEditIsReplacedByLastValidForm(t *testing.T) {
	a, b := connectionJSON("a", `,"peerCidrs":["10.2.0.0/24"]`), connectionJSON("b", `,"peerCidrs":["10.3.0.0/24"]`)
	bad := connectionJSON("a", `,"peerCidrs":["10.2.0.0/24"],"mtu":1`)
	swapped := []string{
		connectionJSON("a", `,"peerCidrs":["10.3.0.0/24"],"mtu":1`),
		connectionJSON("b", `,"peerCidrs":["10.2.0.0/24"]`),
	}
	for _, r := range []struct {
		name      string
		document  json.RawMessage
		lastValid json.RawMessage
		edits     []int    // the indexes of the connections whose edits are refused
		wanted    []string // the peer networks of the connections that run
		refused   []string // the ids of the refused connections
		valid     []string // the ids of the connections that Valid returns
	}{
		{"valid document", connectionsJSON(a, b), connectionsJSON(a, b), nil, []string{"10.2.0.0/24", "10.3.0.0/24"},
			nil, []string{"a", "b"}},
		{"a bad edit", connectionsJSON(bad, b), connectionsJSON(a, b), []int{0}, []string{"10.2.0.0/24", "10.3.0.0/24"},
			nil, []string{"a", "b"}},
		{"a bad edit of a connection at another index", connectionsJSON(b, bad), connectionsJSON(a, b), []int{1},
			[]string{"10.3.0.0/24", "10.2.0.0/24"}, nil, []string{"b", "a"}},
		{"a bad new connection", connectionsJSON(bad, b), connectionsJSON(b), nil, []string{"10.3.0.0/24"},
			[]string{"a"}, []string{"b"}},
		{"no last valid document", connectionsJSON(bad, b), nil, nil, []string{"10.3.0.0/24"}, []string{"a"},
			[]string{"b"}},
		{"a removed connection is not restored", connectionsJSON(b), connectionsJSON(a, b), nil,
			[]string{"10.3.0.0/24"}, nil, []string{"b"}},
		{"an unchanged bad connection stays refused", connectionsJSON(bad, b), connectionsJSON(bad, b), nil,
			[]string{"10.3.0.0/24"}, []string{"a"}, []string{"b"}},
		{"a misspelt id", connectionsJSON(strings.Replace(a, `"id"`, `"idd"`, 1), b), connectionsJSON(a, b), []int{0},
			[]string{"10.2.0.0/24", "10.3.0.0/24"}, nil, []string{"a", "b"}},
		{"a misspelt id of a new connection", connectionsJSON(a, b, strings.Replace(a, `"id"`, `"idd"`, 1)),
			connectionsJSON(a, b), nil, []string{"10.2.0.0/24", "10.3.0.0/24"}, []string{"connections[2]"},
			[]string{"a", "b"}},
		{"a copy with the same id", connectionsJSON(a, strings.Replace(a, "10.2.", "10.4.", 1), b),
			connectionsJSON(a, b),
			nil, []string{"10.2.0.0/24", "10.3.0.0/24"}, []string{"connections[1]"}, []string{"a", "b"}},
		{"a connection gets the network of one whose edit is bad", connectionsJSON(swapped...), connectionsJSON(a, b),
			[]int{0, 1}, []string{"10.2.0.0/24", "10.3.0.0/24"}, nil, []string{"a", "b"}},
		{"a connection that is not an object", connectionsJSON(`"x"`, b), connectionsJSON(a, b), []int{0},
			[]string{"10.2.0.0/24", "10.3.0.0/24"}, nil, []string{"a", "b"}},
	} {
		t.Run(r.name, func(t *testing.T) {
			revision, c := revert(t, r.document, r.lastValid)
			var wanted, refused, valid []string
			for i := range c.Connections {
				if connection := &c.Connections[i]; connection.Refused == nil {
					wanted = append(wanted, connection.PeerCIDRs[0].String())
				} else {
					refused = append(refused, connection.ID)
				}
			}
			left, err := Decode(revision.Valid(c))
			if err != nil {
				t.Fatal(err)
			}
			for _, connection := range left.Connections {
				valid = append(valid, connection.ID)
			}
			if !slices.Equal(wanted, r.wanted) || !slices.Equal(refused, r.refused) || !slices.Equal(valid, r.valid) ||
				len(revision.RefusedEdits) != len(r.edits) {
				t.Errorf("%v run, %v are refused, %v are valid, edits %v",
					wanted, refused, valid, revision.RefusedEdits)
			}
			for _, i := range r.edits {
				if revision.RefusedEdits[placeOf(i)] == "" {
					t.Errorf("edits %v", revision.RefusedEdits)
				}
			}
			if len(r.edits) == 0 && string(revision.Document()) != string(r.document) {
				t.Errorf("the document was changed: %s", revision.Document())
			}
		})
	}
}

func TestFaultOfEarlierReleaseIsToleratedOnlyInUnchangedSetting(t *testing.T) {
	short := connectionJSON("a", `,"peerCidrs":["10.2.0.0/24"],"ikePolicy":{"lifetime":5}`)
	for _, r := range []struct {
		name                string
		document, lastValid json.RawMessage
		inside              string
		refused             string
	}{
		{"unchanged", connectionsJSON(short), connectionsJSON(short), "", ""},
		{"at another index", connectionsJSON(connectionJSON("b", `,"peerCidrs":["10.3.0.0/24"]`), short),
			connectionsJSON(short), "", ""},
		{"another value", connectionsJSON(strings.Replace(short, ":5", ":6", 1)), connectionsJSON(short), "",
			"lifetime"},
		{"an additional fault",
			connectionsJSON(strings.Replace(short, `["10.2.0.0/24"]`, `["10.2.0.0/24","240.0.0.0/8"]`, 1)),
			connectionsJSON(short), "", "lifetime"},
		{"a new connection", connectionsJSON(short), nil, "", "lifetime"},
		{"our own address as the peer's", connectionsJSON(connectionJSON("a", `,"peerCidrs":["10.2.0.0/24"]`)), nil,
			"192.0.2.9", "another address than the container's own"},
		{"our own address as the peer's, as before",
			connectionsJSON(connectionJSON("a", `,"peerCidrs":["10.2.0.0/24"]`)),
			connectionsJSON(connectionJSON("a", `,"peerCidrs":["10.2.0.0/24"]`)), "192.0.2.9", ""},
	} {
		t.Run(r.name, func(t *testing.T) {
			c, err := Decode(r.document)
			if err != nil {
				t.Fatal(err)
			}
			if r.inside != "" {
				c.InternalAddresses = append(c.InternalAddresses, netip.MustParseAddr(r.inside))
			}
			c.Accepted = Accepted(r.lastValid, c.InternalAddresses)
			c.Resolve(nil)
			connection := &c.Connections[len(c.Connections)-1]
			switch {
			case r.refused == "" && (connection.Refused != nil || len(connection.Tolerated) == 0):
				t.Errorf("refused: %v, tolerated: %v", connection.Refused, connection.Tolerated)
			case r.refused != "" && (connection.Refused == nil ||
				!strings.Contains(connection.Refused.Error(), r.refused)):
				t.Errorf("refused: %v, want %s", connection.Refused, r.refused)
			}
		})
	}
}
