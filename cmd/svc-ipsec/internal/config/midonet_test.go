package config

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestMidoNetPageListsRefusals compares the refused values that docs/midonet.md lists with the faults of Decode.
func TestMidoNetPageListsRefusals(t *testing.T) {
	page, err := os.ReadFile("../../../../docs/midonet.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ more, reason, page string }{
		{`"ikePolicy":{"pfs":"group2"}`, `ikePolicy.pfs "group2": allowed: group14`,
			"`pfs \"group2\": allowed: group14`"},
		{`"ipsecPolicy":{"pfs":"group2"}`, `ipsecPolicy.pfs "group2": allowed: group14`,
			"`pfs \"group2\": allowed: group14`"},
		{`"ipsecPolicy":{"transformProtocol":"ah-esp"}`, `transformProtocol "ah-esp": allowed: esp, ah`,
			"`transformProtocol \"ah-esp\": allowed: esp, ah`"},
		{`"ipsecPolicy":{"encapsulationMode":"transport"}`, `allowed: none with encapsulationMode transport`,
			"allowed: none with encapsulationMode transport`"},
		{`"ikePolicy":{"lifetime":86401}`, `lifetime "86401": allowed: a number from `,
			"`lifetime …: allowed: a number from`"},
		{`"ipsecPolicy":{"lifetime":86401}`, `lifetime "86401": allowed: a number from `,
			"`lifetime …: allowed: a number from`"},
		{`"dpd":{"action":"hold","interval":30,"timeout":30}`, `dpd.timeout "30": allowed: a number from 31`,
			"`dpd.timeout …: allowed: a number from`"},
		{`"peerId":"a b"`, `peerId "a b": allowed: an IP address, `, "`peerId …: allowed: an IP address, …`"},
		{`"psk":""`, `psk "[secret]": allowed: a string of 1 to 1000 bytes`,
			"`psk \"[secret]\": allowed: a string of 1 to 1000 bytes`"},
	} {
		c, err := Decode(document(test.more))
		if err != nil {
			t.Errorf("%s: the document is refused: %v", test.more, err)
			continue
		}
		c.Resolve(nil)
		if refused := c.Connections[0].Refused; refused == nil || !strings.Contains(refused.Error(), test.reason) {
			t.Errorf("%s: %v, want %s", test.more, refused, test.reason)
		}
		if !strings.Contains(string(page), test.page) {
			t.Errorf("docs/midonet.md does not contain %s", test.page)
		}
	}
	connections := strings.Repeat(`{"id":"a"},`, maxConnections) + `{"id":"a"}`
	_, err = Decode(json.RawMessage(`{"connections":[` + connections + `]}`))
	reason := fmt.Sprintf(`allowed: a list of at most %d`, maxConnections)
	if err == nil || !strings.Contains(err.Error(), "connections") || !strings.Contains(err.Error(), reason) ||
		!strings.Contains(string(page), "`connections …: "+reason) {
		t.Errorf("too many connections: %v", err)
	}
}
