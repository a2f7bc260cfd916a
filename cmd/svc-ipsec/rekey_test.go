package main

import (
	"fmt"
	"regexp"
	"strconv"
	"testing"
	"time"
)

// logged returns the number of matches of pattern in the log of the container's daemon.
func (c *container) logged(pattern string) int {
	text := tryShell("journalctl", "--no-pager", "-o", "cat", "-u", "svc-"+c.name)
	return len(regexp.MustCompile(`(?m)`+pattern).FindAllString(text, -1))
}

// TestFirstContactAndRekeys takes two minutes. The container with the absent peer is created first, so that its waiting
// time overlaps with the rekeys.
func TestFirstContactAndRekeys(t *testing.T) {
	requireSandbox(t)
	absent := newContainer(t, "vpn-absent")
	absent.configuration = oneEnd(t, true, "absent", `"dpd":{"interval":30,"timeout":1200}`)
	absent.must("ADD")
	t.Run("IKEv1", func(t *testing.T) { rekeyIsNoInitialContact(t, "v1", `(IKE|ISAKMP) SA established`, 0) })
	t.Run("IKEv2", func(t *testing.T) { rekeyIsNoInitialContact(t, "v2", `initiator (rekeyed|established) IKE SA`, 1) })
	t.Run("an absent peer is contacted every minute", func(t *testing.T) {
		absent.t = t
		absent.checkRetryInterval()
	})
}

// rekeyIsNoInitialContact waits for a rekey of an IKE SA. On an INITIAL_CONTACT the peer deletes all other SAs with
// this host, so a rekey with INITIAL_CONTACT would interrupt the tunnels. first is the number of INITIAL_CONTACT
// notifications that are sent with the first IKE SA.
func rekeyIsNoInitialContact(t *testing.T, version, rekeyed string, first int) {
	left, right := sites(t)
	end := func(isLeft bool, id string) string {
		return oneEnd(t, isLeft, id+version, fmt.Sprintf(`"ikePolicy":{"ikeVersion":%q,"lifetime":60}`, version))
	}
	right.configuration, left.configuration = end(false, "right"), end(true, "left")
	right.must("ADD")
	left.must("ADD")
	ofLeft := `^"left` + version + `-0-0" #\d+: ` // the log of the unit contains the daemon of the other version too
	// The IKE SA is rekeyed after 30 to 45 s.
	for deadline := time.Now().Add(5 * time.Minute); left.logged(ofLeft+rekeyed) < 2; time.Sleep(time.Second) {
		if time.Now().After(deadline) {
			t.Fatal("no second IKE SA in five minutes")
		}
	}
	if n := left.logged(ofLeft + "sending INITIAL_CONTACT"); n != first {
		t.Errorf("INITIAL_CONTACT was sent %d times, want %d", n, first)
	}
}

// checkRetryInterval waits for the second attempt to contact an absent peer. It reads from pluto's log how long pluto
// waited for an answer.
func (c *container) checkRetryInterval() {
	c.t.Helper()
	const attempt = `#\d+: sent IKE_SA_INIT request`
	for deadline := time.Now().Add(5 * time.Minute); c.logged(attempt) < 2; time.Sleep(time.Second) {
		if time.Now().After(deadline) {
			c.t.Fatal("no second attempt in five minutes")
		}
	}
	text := tryShell("journalctl", "--no-pager", "-o", "cat", "-u", "svc-"+c.name)
	longest := 0.0
	for _, m := range regexp.MustCompile(`retransmission; will wait ([0-9.]+) seconds`).FindAllStringSubmatch(text,
		-1) {
		wait, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			c.t.Fatal(err)
		}
		longest = max(longest, wait)
	}
	if longest < 30 || longest > 60 {
		c.t.Errorf("pluto waited up to %v s for an answer", longest)
	}
}
