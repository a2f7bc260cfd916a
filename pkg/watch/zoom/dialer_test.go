package zoom

import "testing"

func TestServersAreTriedInTurnWithAPauseAfterEachRound(t *testing.T) {
	rounds := 0
	o := serverOrder{allFailed: func() { rounds++ }}
	if err := o.Init([]string{"a", "b", "c"}); err != nil {
		t.Fatal(err)
	}
	tried := func(n int) (all string) {
		for range n {
			server, rest := o.Next()
			if rest {
				all += "-"
			}
			all += server
		}
		return all
	}
	if got := tried(7); got != "abc-abc-a" || rounds != 2 {
		t.Error(got, rounds)
	}
	o.Connected()
	if got := tried(4); got != "bca-b" {
		t.Error(got)
	}
}
