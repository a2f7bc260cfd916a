package main

import (
	"fmt"
	"strings"
	"testing"
)

// TestPeerIsNotifiedBeforeItsRouteIsRemoved removes connections in several ways. A peer that gets no delete
// notification keeps its SAs until its own dead peer detection, and traffic is lost until then.
func TestPeerIsNotifiedBeforeItsRouteIsRemoved(t *testing.T) {
	requireSandbox(t)
	const (
		connection = `{"id":%q,"peerAddress":%q,"localCidrs":[%q],"peerCidrs":[%q],"psk":"k",` +
			`"dpd":{"interval":600,"timeout":1200}%s}`
		document = `{"externalIps":[%q],"externalMac":%q,"connections":[%s]}`
	)
	left, right := sites(t)
	to := func(peer, more string) string {
		return fmt.Sprintf(connection, "right", peer, "10.1.0.0/24", "10.2.0.0/24", more)
	}
	other := fmt.Sprintf(connection, "other", "200.200.200.9", "10.1.0.0/24", "10.9.0.0/24", "")
	hasIKESA := func(c *container) bool {
		states := c.whack("--showstates")
		// The texts are those of IKEv2, of IKEv1 in Libreswan 4, and of IKEv1 in Libreswan 5.
		for _, text := range []string{"established IKE SA", "IKE SA established", "ISAKMP SA established"} {
			if strings.Contains(states, text) {
				return true
			}
		}
		return false
	}
	for _, version := range []string{"v2", "v1"} {
		policy := fmt.Sprintf(`,"ikePolicy":{"ikeVersion":%q}`, version)
		right.configuration = fmt.Sprintf(document, "200.200.200.2", "02:00:00:00:02:02",
			fmt.Sprintf(connection, "left", "100.100.100.2", "10.2.0.0/24", "10.1.0.0/24",
				`,"initiator":"response-only"`+policy))
		right.must("ADD")
		for _, test := range []struct {
			what, before string
			after        string
		}{
			{"one of two connections is removed", to("200.200.200.2", policy) + "," + other, other},
			{"the last connection is removed", to("200.200.200.2", policy), ""},
			{"the last connection gets the administrative state down", to("200.200.200.2", policy),
				to("200.200.200.2", policy+`,"adminStateUp":false`)},
			{"the peer gets another address", to("200.200.200.2", policy), to("200.200.200.33", policy)},
			{"the container is removed", to("200.200.200.2", policy), "DEL"},
		} {
			when := "IKE" + version + ", " + test.what
			left.configuration = fmt.Sprintf(document, "100.100.100.2", "02:00:00:00:01:02", test.before)
			left.must("ADD")
			eventually(t, when+": the peer has an IKE SA", func() bool { return hasIKESA(right) })
			if test.after == "DEL" {
				left.must("DEL")
			} else {
				left.configuration = fmt.Sprintf(document, "100.100.100.2", "02:00:00:00:01:02", test.after)
				left.must("ADD")
				left.must("CHECK")
				if routes := sh(t, "ip", "-n", left.name, "route"); strings.Contains(routes, "200.200.200.2 ") {
					t.Errorf("%s: the route to the peer remains:\n%s", when, routes)
				}
			}
			eventually(t, when+": the peer has no IKE SA any more", func() bool { return !hasIKESA(right) })
		}
	}
}
