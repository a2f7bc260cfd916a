package zoom

import (
	"net/url"
	"slices"
	"testing"
	"time"
)

func TestParseURL(t *testing.T) {
	for text, want := range map[string]Location{
		"zk://h1,h2:2182/midonet": {
			Servers: []string{"h1:2181", "h2:2182"}, SessionTimeout: 30 * time.Second, Rescan: 5 * time.Minute},
		"zk://10.0.0.1:2181": {
			Servers: []string{"10.0.0.1:2181"}, SessionTimeout: 30 * time.Second, Rescan: 5 * time.Minute},
		"zk://[2001:db8::1]:2181/m?container=leave&sessionTimeout=5s&rescan=1m": {
			Servers: []string{"[2001:db8::1]:2181"}, LeaveContainer: true, SessionTimeout: 5 * time.Second,
			Rescan: time.Minute},
	} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseURL(u)
		if err != nil || !slices.Equal(got.Servers, want.Servers) || got.LeaveContainer != want.LeaveContainer ||
			got.SessionTimeout != want.SessionTimeout || got.Rescan != want.Rescan {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
}

func TestInvalidURLsAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		"zk://,h1:2181/m":            `server "": allowed: ` + serverAllowed,
		"zk:///m":                    `server "": allowed: ` + serverAllowed,
		"zk://h1:99999/m":            `server "h1:99999": allowed: ` + serverAllowed,
		"zk://u:pw@h1/m":             `URL "zk://u:xxxxx@h1/m": allowed: ` + Form + ": no user, no fragment",
		"zk://h1/m?container=take":   `container "take": allowed: leave: the agent writes the host's container node`,
		"zk://h1/m?sessionTimeout=1": `sessionTimeout "1": allowed: a time from 1s to 2m0s, like 30s`,
		"zk://h1/m?rescan=2h":        `rescan "2h": allowed: a time from 100ms to 1h0m0s, like 30s`,
		"zk://h1/m?session=2s":       `option "session": allowed: container, rescan, sessionTimeout`,
		"zk://h1/m?rescan=1s&rescan": `rescan "1s ": allowed: one value`,
		"zk://h1/a%20b": `root "/a b": allowed: a path of letters, digits, '_', '.' and '-', ` +
			`like /midonet`,
	} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseURL(u); err == nil || err.Error() != want {
			t.Errorf("%s: %v", text, err)
		}
	}
}
