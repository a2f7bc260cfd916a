package main

import "testing"

func TestTheLastLineIsThatOfTheDaemonThatEnded(t *testing.T) {
	const journal = `{"MESSAGE":"new one starts","_SYSTEMD_INVOCATION_ID":"2"}
{"MESSAGE":[1,2],"_SYSTEMD_INVOCATION_ID":"1"}
{"MESSAGE":" \t ","_SYSTEMD_INVOCATION_ID":"1"}
{"MESSAGE":null,"_SYSTEMD_INVOCATION_ID":"1"}
{"MESSAGE":"cannot\nopen\u001b[1m x ","_SYSTEMD_INVOCATION_ID":"1"}
{"MESSAGE":"before","_SYSTEMD_INVOCATION_ID":"1"}
`
	if got := lastMessage([]byte(journal), func(i string) bool { return i != "2" }); got != "cannot open [1m x" {
		t.Errorf("%q", got)
	}
	if got := lastMessage([]byte(journal), func(string) bool { return true }); got != "new one starts" {
		t.Errorf("%q", got)
	}
	if got := lastMessage([]byte("no JSON\n"), func(string) bool { return true }); got != "" {
		t.Errorf("%q", got)
	}
}
