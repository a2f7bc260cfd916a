package main

import (
	"fmt"
	"regexp"
	"testing"
	"time"
)

// logged returns how many lines of a container's daemon match.
func (c *subject) logged(pattern string) int {
	text := tryShell("journalctl", "--no-pager", "-o", "cat", "-u", "svc-"+c.name)
	return len(regexp.MustCompile(`(?m)`+pattern).FindAllString(text, -1))
}

// An INITIAL_CONTACT makes the peer delete all other SAs with us, so with a rekey it would drop the tunnels.
func TestARekeyOfTheIKESAIsNoInitialContact(t *testing.T) {
	onGround(t)
	for version, test := range map[string]struct {
		rekeyed string
		first   int // with the first IKE SA
	}{
		"v1": {`(IKE|ISAKMP) SA established`, 0},
		"v2": {`initiator (rekeyed|established) IKE SA`, 1},
	} {
		t.Run("IKE"+version, func(t *testing.T) {
			left, right := sites(t)
			ofLeft := `^"left` + version + `-0-0" #\d+: ` // the daemon of the other version had the same unit
			end := func(external, id, peer, local, remote, initiator string) string {
				return fmt.Sprintf(`{"externalIps":[%q],"connections":[{"id":%q,"peerAddress":%q,"localCidrs":[%q],"peerCidrs":[%q],"initiator":%q,
					"psk":"a key-of-the-ground-test","ikePolicy":{"ikeVersion":%q,"lifetime":60}}]}`, external, id+version, peer, local, remote, initiator, version)
			}
			right.configuration = end("200.200.200.2", "right", "100.100.100.2", "10.2.0.0/24", "10.1.0.0/24", "response-only")
			left.configuration = end("100.100.100.2", "left", "200.200.200.2", "10.1.0.0/24", "10.2.0.0/24", "bi-directional")
			right.must("ADD")
			left.must("ADD")
			// It is rekeyed after 30 to 45 s.
			for deadline := time.Now().Add(5 * time.Minute); left.logged(ofLeft+test.rekeyed) < 2; time.Sleep(time.Second) {
				if time.Now().After(deadline) {
					t.Fatal("no second IKE SA in five minutes")
				}
			}
			if n := left.logged(ofLeft + "sending INITIAL_CONTACT"); n != test.first {
				t.Errorf("%d times INITIAL_CONTACT, want %d", n, test.first)
			}
		})
	}
}
